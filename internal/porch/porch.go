// Package porch bounds how many callers of a listener are greeted at once without letting those who say nothing keep the others out:
// when the porch is full, one of those goes who have come from the address that most have come from, the one who has stood there
// longest. A rank of a job greets in a few round trips and then is known; a stranger who opens connections and says nothing takes the
// places of his own, unless he has many addresses.
package porch

import (
	"errors"
	"net"
	"slices"
	"sync"
)

// ErrSentAway is what there is to say of a caller who was.
var ErrSentAway = errors.New("it has not said who it is, and others want to")

// Porch has room for so many. Its methods are safe for concurrent use.
type Porch struct {
	mu     sync.Mutex
	room   int
	guests []*guest // as they came
	from   map[string]int
	sent   int64
}

type guest struct {
	from     string
	sendAway func()
}

// New returns a porch with room for n callers, at least 1.
func New(n int) *Porch { return &Porch{room: max(1, n), from: make(map[string]int)} }

// Enter lets a caller in. sendAway is called, once at most, when others need the place: it ends the greeting, and must not block.
// leave is called when the greeting is over.
func (p *Porch) Enter(from net.Addr, sendAway func()) (leave func()) {
	g := &guest{from: from.String(), sendAway: sendAway}
	if host, _, err := net.SplitHostPort(g.from); err == nil {
		g.from = host
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.guests) >= p.room {
		away := p.guests[0]
		for _, o := range p.guests {
			if p.from[o.from] > p.from[away.from] {
				away = o
			}
		}
		p.remove(away)
		p.sent++
		away.sendAway()
	}
	p.guests = append(p.guests, g)
	p.from[g.from]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.remove(g)
	}
}

// remove takes a guest out, if it is there. The lock is held.
func (p *Porch) remove(g *guest) {
	i := slices.Index(p.guests, g)
	if i < 0 {
		return
	}
	p.guests = slices.Delete(p.guests, i, i+1)
	if p.from[g.from]--; p.from[g.from] == 0 {
		delete(p.from, g.from)
	}
}

// SentAway returns how many were.
func (p *Porch) SentAway() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}
