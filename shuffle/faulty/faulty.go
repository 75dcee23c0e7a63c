// Package faulty makes any transport misbehave, in ways chosen by a short text and a seed.
//
// A specification is a list of faults, separated by commas or spaces:
//
//	duplicate=10%        a message arrives twice
//	reorder=20%          a message arrives after some that were sent later
//	delay=5%:3ms         a message, and those behind it, arrive late
//	corrupt=#7           one bit of a message is flipped, in the header or the payload
//	drop=#30             a message is lost, which breaks the link: both ends are told that the other is down
//	failpost=#4          a Post fails, and with it the endpoint
//	kill=#40             the endpoint dies: its calls fail, and the peers are told that it is down
//
// The share or number counts the messages that arrive at a rank (for failpost, its calls of Post). A fault
// holds for every rank, or for one: kill@2=#40. duplicate, reorder and delay are harmless to the shuffle;
// the others must end it on all ranks, with an error that says where.
//
// What happens to the n-th message at a rank depends only on the specification, the seed, the rank and n;
// which message is the n-th depends on the goroutines' timing.
package faulty

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

var (
	// ErrLost is the reason for which a link is down after drop.
	ErrLost = errors.New("a message was lost on purpose")
	// ErrKilled is returned by an endpoint after kill.
	ErrKilled = errors.New("the rank was killed on purpose")
	// ErrPost is returned by Post after failpost.
	ErrPost = errors.New("posting failed on purpose")
)

// Wrap returns transports that misbehave as the specification says. They take over the given ones, of all ranks of a job or some:
// a lost message is told to those ends of the link that are among them.
func Wrap(ts []shuffle.Transport, spec string, seed uint64) ([]shuffle.Transport, error) {
	faults, err := parse(spec)
	if err != nil {
		return nil, err
	}
	out := make([]shuffle.Transport, len(ts))
	var ends []*endpoint
	for i, t := range ts {
		if ends == nil {
			ends = make([]*endpoint, t.Size())
		}
		e := &endpoint{
			Transport: t,
			ends:      ends,
			rng:       rand.New(rand.NewPCG(seed, uint64(t.Rank())+1)),
			ready:     make(chan struct{}, 1),
			stop:      make(chan struct{}),
			down:      make([]bool, t.Size()),
			scratch:   make([]shuffle.Event, 64),
		}
		for _, f := range faults {
			if f.rank < 0 || f.rank == t.Rank() {
				e.faults = append(e.faults, f)
			}
		}
		e.forwarding.Add(1)
		go e.forward()
		out[i], ends[t.Rank()] = e, e
	}
	return out, nil
}

// endpoint wraps one rank's transport.
type endpoint struct {
	shuffle.Transport
	ends       []*endpoint // by rank; nil for those that are not wrapped
	faults     []fault
	ready      chan struct{}
	stop       chan struct{}
	forwarding sync.WaitGroup
	closing    sync.Once

	mu       sync.Mutex
	rng      *rand.Rand
	posts    int64
	messages int64
	dead     error
	down     []bool  // peers whose link is broken
	pending  []*held // events not handed out yet, in the order they came
	scratch  []shuffle.Event
}

// held is an event on its way to the caller, with memory of its own.
type held struct {
	shuffle.Event
	due    time.Time // not before, if set
	loose  bool      // later messages of the same peer may overtake it
	after  int64     // a loose one is due when so many messages have arrived
	behind *held     // not before this one was handed out
	passed bool      // others had their turn before it
	out    bool      // handed out
}

// forward passes the inner transport's wake-ups on.
func (e *endpoint) forward() {
	defer e.forwarding.Done()
	for {
		select {
		case <-e.Transport.Ready():
			e.signal()
		case <-e.stop:
			return
		}
	}
}

func (e *endpoint) signal() {
	select {
	case e.ready <- struct{}{}:
	default:
	}
}

func (e *endpoint) Ready() <-chan struct{} { return e.ready }

// hit decides whether a fault of a kind strikes the n-th occasion.
func (e *endpoint) hit(k kind, n int64) (f fault, yes bool) {
	for _, f := range e.faults {
		if f.kind == k && (f.nth == n || f.nth == 0 && e.rng.Float64()*100 < f.percent) {
			return f, true
		}
	}
	return f, false
}

func (e *endpoint) Post(ops []shuffle.Op) error {
	e.mu.Lock()
	e.posts++
	err := e.dead
	if _, hit := e.hit(failPost, e.posts); hit && err == nil {
		e.dead = fmt.Errorf("rank %d, call %d: %w", e.Rank(), e.posts, ErrPost)
		err = e.dead
	}
	e.mu.Unlock()
	if err != nil {
		for i := range ops {
			for _, b := range ops[i].Payload {
				b.Release()
			}
		}
		return err
	}
	return e.Transport.Post(ops)
}

func (e *endpoint) Poll(events []shuffle.Event) (int, error) {
	n, err := e.Transport.Poll(e.scratch)
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.scratch[:n] {
		e.arrive(&e.scratch[i])
	}
	if err == nil {
		err = e.dead
	}
	if err != nil {
		return 0, err
	}
	if n == len(e.scratch) {
		e.signal() // there may be more
	}
	return e.handOut(events), nil
}

// arrive takes in one event and lets the faults loose on it.
func (e *endpoint) arrive(ev *shuffle.Event) {
	h := &held{Event: *ev}
	h.Header, h.Payload = slices.Clone(ev.Header), slices.Clone(ev.Payload)
	if e.down[ev.Peer] || e.dead != nil {
		release(h)
		return
	}
	if ev.Kind != shuffle.EventMessage {
		e.pending = append(e.pending, h)
		return
	}
	e.messages++
	n := e.messages
	if _, hit := e.hit(kill, n); hit {
		e.dead = fmt.Errorf("rank %d: %w", e.Rank(), ErrKilled)
		release(h)
		go e.Close() // without the lock; the peers then see that this rank is down
		return
	}
	if _, hit := e.hit(drop, n); hit {
		release(h)
		err := fmt.Errorf("message %d at rank %d, from rank %d: %w", n, e.Rank(), ev.Peer, ErrLost)
		e.sever(ev.Peer, err)
		if other := e.ends[ev.Peer]; other != nil {
			go other.severed(e.Rank(), err) // which locks the other end
		}
		return
	}
	_, twice := e.hit(duplicate, n)
	if twice {
		e.pending = append(e.pending, h, e.twin(h))
	} else {
		e.pending = append(e.pending, h)
	}
	if _, hit := e.hit(corrupt, n); hit {
		e.flip(h)
	}
	if f, hit := e.hit(delay, n); hit {
		h.due = time.Now().Add(f.wait)
		time.AfterFunc(f.wait, e.signal)
	}
	if _, hit := e.hit(reorder, n); hit {
		h.loose, h.after = true, n+1+e.rng.Int64N(4)
		h.due = time.Now().Add(reorderPatient)
		time.AfterFunc(reorderPatient, e.signal)
	}
}

// twin returns a repetition of h, to be handed out some time after it.
func (e *endpoint) twin(h *held) *held {
	t := &held{Event: h.Event, behind: h, loose: true, after: e.messages + 1 + e.rng.Int64N(8)}
	t.due = time.Now().Add(2 * reorderPatient)
	time.AfterFunc(2*reorderPatient, e.signal)
	t.Header, t.Payload = slices.Clone(h.Header), slices.Clone(h.Payload)
	for i, b := range t.Payload {
		if e.Features().Offers {
			// The memory is the receiver's, which counts with one message in it.
			t.Payload[i] = mem.NewHostBuffer(b.Tier(), slices.Clone(b.Bytes()), nil)
		} else {
			b.Retain()
		}
	}
	return t
}

// sever breaks the link to a peer as this end sees it. The lock is held.
func (e *endpoint) sever(peer int, err error) {
	if !e.down[peer] && e.dead == nil {
		e.down[peer] = true
		e.pending = append(e.pending, &held{Event: shuffle.Event{Kind: shuffle.EventPeerDown, Peer: peer, Err: err}})
	}
}

func (e *endpoint) severed(peer int, err error) {
	e.mu.Lock()
	e.sever(peer, err)
	e.mu.Unlock()
	e.signal()
}

// flip changes one bit.
func (e *endpoint) flip(h *held) {
	if len(h.Payload) > 0 && e.rng.IntN(2) == 0 {
		i := e.rng.IntN(len(h.Payload))
		old := h.Payload[i]
		data := slices.Clone(old.Bytes())
		data[e.rng.IntN(len(data))] ^= 1 << e.rng.IntN(8)
		// The old buffer may be shared with a duplicate. It lives on underneath, so that it stays charged.
		h.Payload[i] = mem.NewHostBuffer(old.Tier(), data, func(*mem.Buffer) { old.Release() })
		return
	}
	h.Header[e.rng.IntN(len(h.Header))] ^= 1 << e.rng.IntN(8)
}

// handOut stores the events that are due, in order but for those that may be overtaken.
func (e *endpoint) handOut(events []shuffle.Event) (n int) {
	now := time.Now()
	waits := make([]bool, len(e.down)) // peers with an event that later ones may not overtake
	rest := e.pending[:0]
	for _, h := range e.pending {
		due := !now.Before(h.due)
		if h.loose {
			// Not in the first turn: all that may overtake it can have come together with it.
			due = h.passed && (due || e.messages >= h.after)
		}
		if h.behind != nil && !h.behind.out {
			due = false
		}
		early := h.Kind == shuffle.EventPeerDown && slices.ContainsFunc(rest, func(o *held) bool { return o.Peer == h.Peer })
		if n == len(events) || !due || waits[h.Peer] || early {
			waits[h.Peer] = waits[h.Peer] || !h.loose
			if h.loose && !h.passed {
				h.passed = true
				e.signal() // its turn may be the next
			}
			rest = append(rest, h)
			continue
		}
		events[n] = h.Event
		h.out = true
		n++
	}
	clear(e.pending[len(rest):])
	e.pending = rest
	return n
}

func release(h *held) {
	for _, b := range h.Payload {
		b.Release()
	}
}

func (e *endpoint) Close() error {
	err := e.Transport.Close()
	e.closing.Do(func() {
		close(e.stop)
		e.forwarding.Wait()
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, h := range e.pending {
			release(h)
		}
		e.pending = nil
		if e.dead == nil {
			e.dead = fmt.Errorf("faulty: rank %d: %w", e.Rank(), shuffle.ErrClosed)
		}
	})
	e.signal()
	return err
}
