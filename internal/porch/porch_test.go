package porch

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
)

// at is an address, of which only the host counts.
func at(host int) net.Addr {
	return &net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(host)), Port: 1 + rand.IntN(60_000)}
}

// Of one address those go who have waited longest, and nobody who has left.
func TestOldestGoes(t *testing.T) {
	p := New(3)
	var away []int
	leave := make([]func(), 8)
	for i := range leave {
		leave[i] = p.Enter(at(1), func() { away = append(away, i) })
		if i == 1 {
			leave[i]()
		}
	}
	if want := []int{0, 2, 3, 4}; !slices.Equal(away, want) || p.SentAway() != 4 {
		t.Errorf("sent away %v, want %v", away, want)
	}
	for _, l := range leave {
		l()
		l() // again does no harm
	}
	if len(p.guests) != 0 || len(p.from) != 0 {
		t.Errorf("%d are still there", len(p.guests))
	}
}

// A crowd of one address sends itself away and nobody else.
func TestCrowdGoes(t *testing.T) {
	p := New(10)
	var away []string
	enter := func(name string, host int) { p.Enter(at(host), func() { away = append(away, name) }) }
	enter("rank 1", 1)
	enter("rank 2", 2)
	for i := range 100 {
		enter(fmt.Sprint(i), 9)
		if i == 50 {
			enter("rank 3", 3)
		}
	}
	if len(away) != 93 || slices.ContainsFunc(away, func(s string) bool { return len(s) > 2 }) || !slices.IsSortedFunc(away, func(a, b string) int {
		return len(a) - len(b)
	}) {
		t.Errorf("%d were sent away: %v", len(away), away)
	}
}

func TestConcurrently(t *testing.T) {
	p := New(4)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for range 200 {
				leave := p.Enter(at(i%7), func() {})
				leave()
			}
		})
	}
	all.Wait()
	if len(p.guests) != 0 || len(p.from) != 0 {
		t.Errorf("%d are still there", len(p.guests))
	}
}
