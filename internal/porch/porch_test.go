package porch

import (
	"slices"
	"sync"
	"testing"
)

// Those who have waited longest go, and nobody who has left.
func TestPorch(t *testing.T) {
	p := New(3)
	var away []int
	leave := make([]func(), 10)
	for i := range leave {
		leave[i] = p.Enter(func() { away = append(away, i) })
		if i%4 == 1 {
			leave[i]() // 1, 5 and 9
		}
		if len(p.guests) > 3 {
			t.Fatalf("%d are there", len(p.guests))
		}
	}
	// 0, 2, 3 | 4 for 0 | 6 for 2 ...
	if want := []int{0, 2, 3, 4, 6}; !slices.Equal(away, want[:len(away)]) || len(away) < 3 || p.SentAway() != int64(len(away)) {
		t.Errorf("sent away %v, want a beginning of %v", away, want)
	}
	for _, l := range leave {
		l()
		l() // again does no harm
	}
	if len(p.guests) != 0 {
		t.Errorf("%d are still there", len(p.guests))
	}
}

func TestPorchConcurrently(t *testing.T) {
	p := New(4)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 200 {
				leave := p.Enter(func() {})
				leave()
			}
		})
	}
	all.Wait()
	if len(p.guests) != 0 {
		t.Errorf("%d are still there", len(p.guests))
	}
}
