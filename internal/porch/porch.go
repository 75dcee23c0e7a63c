// Package porch bounds how many callers of a listener are greeted at once without letting those who say nothing keep the others out:
// when the porch is full, whoever has stood there longest is sent away. A rank of a job greets in milliseconds and is never the one;
// a stranger who opens connections and says nothing only takes the places of his own.
package porch

import (
	"errors"
	"sync"
)

// ErrSentAway is what there is to say of a caller who was.
var ErrSentAway = errors.New("it has not said who it is, and others want to")

// Porch has room for so many. Its methods are safe for concurrent use.
type Porch struct {
	mu     sync.Mutex
	room   int
	first  uint64 // number of who came first of those who are there, or a smaller one
	next   uint64
	guests map[uint64]func()
	sent   int64
}

// New returns a porch with room for n callers, at least 1.
func New(n int) *Porch { return &Porch{room: max(1, n), guests: make(map[uint64]func())} }

// Enter lets a caller in. sendAway is called, once at most, when others need the place: it ends the greeting, and must not block.
// leave is called when the greeting is over.
func (p *Porch) Enter(sendAway func()) (leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.guests) >= p.room {
		if away, ok := p.guests[p.first]; ok {
			delete(p.guests, p.first)
			p.sent++
			away()
		}
		p.first++
	}
	n := p.next
	p.next++
	p.guests[n] = sendAway
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.guests, n)
	}
}

// SentAway returns how many were.
func (p *Porch) SentAway() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}
