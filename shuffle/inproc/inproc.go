// Package inproc connects ranks that live in one process: each has its own endpoint, and a message is handed
// over by reference. It is the transport of a single machine, and the one that tests run on.
//
// Every endpoint has one inbox, a ring of slots that are reused, guarded by one mutex. A sender puts its
// messages into the receiver's inbox; when the receiver polls them, an acknowledgement goes into the
// sender's inbox, so that at most shuffle.MaxInFlight messages of each pair are in it. Ranks may run at any
// speed: a slow one holds up to that many messages of every peer, and those wait.
package inproc

import (
	"errors"
	"fmt"
	"sync"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Options sets up a network; the zero value is usable.
type Options struct {
	// Alloc makes the buffers of Transport.Alloc. Default mem.Host().
	Alloc mem.Allocator
	// Copy makes the transport behave like a wire: payloads are offered to the receiver, which must find
	// memory for them, and copied. Then ranks can have budgets of their own.
	Copy bool
}

// New returns the endpoints of a network of size ranks, by rank; size must be at least 1.
func New(size int, o Options) []shuffle.Transport {
	if o.Alloc == nil {
		o.Alloc = mem.Host()
	}
	net := &network{opts: o, ends: make([]*endpoint, max(size, 0))}
	ts := make([]shuffle.Transport, len(net.ends))
	for r := range ts {
		e := &endpoint{net: net, rank: r, ready: make(chan struct{}, 1), inFlight: make([]int, size)}
		e.waiting = make([][]slot, size)
		e.offered = make([]*slot, size)
		net.ends[r], ts[r] = e, e
	}
	return ts
}

type network struct {
	opts Options
	ends []*endpoint
}

// endpoint is one rank's end. Fields below mu are guarded by it; peers lock it to deliver, and no two
// endpoints are ever locked at once.
type endpoint struct {
	net   *network
	rank  int
	ready chan struct{}

	mu       sync.Mutex
	closed   bool
	in       ring
	inFlight []int // messages sent to each peer and not polled by it

	// Only with Options.Copy: a message that was offered, by peer, and those that wait behind it.
	offered []*slot
	waiting [][]slot

	acks []ack // used by Poll only
}

type ack struct {
	peer   int
	cookie uint64
}

// slot is one event in an inbox.
type slot struct {
	kind    shuffle.EventKind
	peer    int
	cookie  uint64
	header  []byte
	payload []*mem.Buffer
	err     error
}

// keepHeader bounds the memory that a slot keeps for its next header.
const keepHeader = 32 << 10

// ring is a queue of slots. Slots that were popped stay untouched until recycle.
type ring struct {
	slots  []slot // length is a power of two
	first  int    // oldest slot that is not recycled
	popped int    // of those from first on
	n      int    // not popped
}

func (r *ring) at(i int) *slot { return &r.slots[(r.first+i)&(len(r.slots)-1)] }

// push returns a slot to fill in. Its header and payload are empty and have room from earlier use.
func (r *ring) push() *slot {
	if used := r.popped + r.n; used == len(r.slots) {
		next := make([]slot, max(16, 2*used))
		for i := range used {
			next[i] = *r.at(i)
		}
		r.slots, r.first = next, 0
	}
	s := r.at(r.popped + r.n)
	r.n++
	return s
}

func (r *ring) pop() *slot {
	s := r.at(r.popped)
	r.popped++
	r.n--
	return s
}

func (r *ring) recycle() {
	for range r.popped {
		s := r.at(0)
		clear(s.payload)
		*s = slot{header: s.header[:0], payload: s.payload[:0]}
		if cap(s.header) > keepHeader {
			s.header = nil
		}
		r.first++
	}
	r.first &= max(len(r.slots)-1, 0)
	r.popped = 0
}

func (e *endpoint) Rank() int { return e.rank }
func (e *endpoint) Size() int { return len(e.net.ends) }

func (e *endpoint) Features() shuffle.Features {
	return shuffle.Features{Offers: e.net.opts.Copy}
}

func (e *endpoint) Alloc(tier mem.Tier, n int) (*mem.Buffer, error) {
	if tier != e.net.opts.Alloc.Tier() {
		return nil, fmt.Errorf("inproc: no memory of tier %s, only %s: %w", tier, e.net.opts.Alloc.Tier(), mem.ErrNoMemory)
	}
	return e.net.opts.Alloc.Alloc(n)
}

func (e *endpoint) Ready() <-chan struct{} { return e.ready }

func (e *endpoint) signal() {
	select {
	case e.ready <- struct{}{}:
	default:
	}
}

func (e *endpoint) Post(ops []shuffle.Op) error {
	err := e.admit(ops)
	if err != nil {
		for i := range ops {
			releaseAll(ops[i].Payload)
		}
		return err
	}
	for i := 0; i < len(ops); {
		if ops[i].Kind != shuffle.OpSend {
			e.answer(&ops[i])
			i++
			continue
		}
		j := i + 1
		for j < len(ops) && ops[j].Kind == shuffle.OpSend && ops[j].Peer == ops[i].Peer {
			j++
		}
		e.net.ends[ops[i].Peer].receive(e.rank, ops[i:j])
		i = j
	}
	return nil
}

// admit checks operations and counts the sends among them.
func (e *endpoint) admit(ops []shuffle.Op) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return fmt.Errorf("inproc: rank %d: %w", e.rank, shuffle.ErrClosed)
	}
	for i := range ops {
		op := &ops[i]
		switch {
		case op.Peer < 0 || op.Peer >= len(e.net.ends) || op.Peer == e.rank:
			return fmt.Errorf("inproc: rank %d posts to rank %d of %d", e.rank, op.Peer, len(e.net.ends))
		case op.Kind != shuffle.OpSend:
		case len(op.Header) > shuffle.MaxHeader || len(op.Payload) > shuffle.MaxPieces:
			return fmt.Errorf("inproc: rank %d posts a header of %d bytes and %d pieces of payload",
				e.rank, len(op.Header), len(op.Payload))
		case e.inFlight[op.Peer] == shuffle.MaxInFlight:
			return fmt.Errorf("inproc: rank %d has more than %d messages under way to rank %d",
				e.rank, shuffle.MaxInFlight, op.Peer)
		default:
			e.inFlight[op.Peer]++
		}
	}
	return nil
}

// receive puts messages of one peer into this endpoint's inbox.
func (e *endpoint) receive(from int, ops []shuffle.Op) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		for i := range ops {
			releaseAll(ops[i].Payload) // the sender has been told that this rank is down
		}
		return
	}
	for i := range ops {
		op := &ops[i]
		if e.offered[from] != nil {
			s := slot{kind: shuffle.EventMessage, peer: from, cookie: op.Cookie}
			s.header = append(s.header, op.Header...)
			s.payload = append(s.payload, op.Payload...)
			e.waiting[from] = append(e.waiting[from], s)
			continue
		}
		e.arrive(slot{kind: shuffle.EventMessage, peer: from, cookie: op.Cookie, header: op.Header, payload: op.Payload})
	}
	e.mu.Unlock()
	e.signal()
}

// arrive puts one event into the inbox; a message that needs memory becomes an offer. The lock is held.
func (e *endpoint) arrive(m slot) {
	s := e.in.push()
	header, payload := append(s.header, m.header...), s.payload
	if e.net.opts.Copy && len(m.payload) > 0 {
		keep := m
		keep.header = append([]byte(nil), m.header...)
		keep.payload = append([]*mem.Buffer(nil), m.payload...)
		e.offered[m.peer] = &keep
		*s = slot{kind: shuffle.EventOffer, peer: m.peer, header: header, payload: payload}
		return
	}
	*s = slot{
		kind: m.kind, peer: m.peer, cookie: m.cookie, err: m.err,
		header: header, payload: append(payload, m.payload...),
	}
}

// answer deals with OpAccept and OpRefuse.
func (e *endpoint) answer(op *shuffle.Op) {
	e.mu.Lock()
	if e.closed || e.offered[op.Peer] == nil {
		e.mu.Unlock()
		releaseAll(op.Payload)
		return
	}
	m := e.offered[op.Peer]
	e.offered[op.Peer] = nil
	e.mu.Unlock()
	refused := op.Kind == shuffle.OpRefuse
	if !refused {
		copyPayload(op.Payload, m.payload)
	}
	releaseAll(m.payload)
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		releaseAll(op.Payload)
		return
	}
	if !refused {
		s := e.in.push()
		*s = slot{
			kind: shuffle.EventMessage, peer: m.peer, cookie: m.cookie,
			header: append(s.header, m.header...), payload: append(s.payload, op.Payload...),
		}
	}
	for len(e.waiting[op.Peer]) > 0 && e.offered[op.Peer] == nil {
		next := e.waiting[op.Peer][0]
		e.waiting[op.Peer] = e.waiting[op.Peer][1:]
		e.arrive(next)
	}
	e.mu.Unlock()
	if refused {
		e.net.ends[m.peer].sent([]ack{{e.rank, m.cookie}}, e.rank)
	}
	e.signal()
}

// copyPayload copies the bytes of one list of buffers to another of the same total length.
func copyPayload(to, from []*mem.Buffer) {
	var dst []byte
	for _, b := range from {
		for src := b.Bytes(); len(src) > 0; {
			for len(dst) == 0 {
				if len(to) == 0 {
					return
				}
				dst, to = to[0].Bytes(), to[1:]
			}
			n := copy(dst, src)
			dst, src = dst[n:], src[n:]
		}
	}
}

func releaseAll(bufs []*mem.Buffer) {
	for _, b := range bufs {
		b.Release()
	}
}

// sent tells this endpoint that a peer has taken messages.
func (e *endpoint) sent(acks []ack, by int) {
	e.mu.Lock()
	if !e.closed {
		for _, a := range acks {
			e.inFlight[by]--
			s := e.in.push()
			s.kind, s.peer, s.cookie = shuffle.EventSent, by, a.cookie
		}
	}
	e.mu.Unlock()
	e.signal()
}

func (e *endpoint) Poll(events []shuffle.Event) (int, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return 0, fmt.Errorf("inproc: rank %d: %w", e.rank, shuffle.ErrClosed)
	}
	e.in.recycle()
	n := min(len(events), e.in.n)
	e.acks = e.acks[:0]
	for i := range n {
		s := e.in.pop()
		ev := &events[i]
		*ev = shuffle.Event{Kind: s.kind, Peer: s.peer, Header: s.header, Payload: s.payload, Err: s.err}
		switch s.kind {
		case shuffle.EventSent:
			ev.Cookie = s.cookie
		case shuffle.EventMessage:
			e.acks = append(e.acks, ack{s.peer, s.cookie})
		case shuffle.EventOffer:
			for _, b := range e.offered[s.peer].payload {
				ev.Size += int64(b.Len())
			}
		}
	}
	e.mu.Unlock()
	for i := 0; i < len(e.acks); {
		j := i + 1
		for j < len(e.acks) && e.acks[j].peer == e.acks[i].peer {
			j++
		}
		e.net.ends[e.acks[i].peer].sent(e.acks[i:j], e.rank)
		i = j
	}
	return n, nil
}

var errGone = errors.New("its endpoint was closed")

func (e *endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	var drop []*mem.Buffer
	for e.in.n > 0 {
		drop = append(drop, e.in.pop().payload...)
	}
	for p := range e.waiting {
		for _, s := range e.waiting[p] {
			drop = append(drop, s.payload...)
		}
		if m := e.offered[p]; m != nil {
			drop = append(drop, m.payload...)
		}
	}
	e.in, e.waiting, e.offered = ring{}, nil, nil
	e.mu.Unlock()
	releaseAll(drop)
	for p, peer := range e.net.ends {
		if p != e.rank {
			peer.down(e.rank)
		}
	}
	return nil
}

// down tells this endpoint that a peer is gone. What it sent before is in the inbox already.
func (e *endpoint) down(by int) {
	e.mu.Lock()
	if !e.closed {
		s := slot{kind: shuffle.EventPeerDown, peer: by, err: fmt.Errorf("rank %d: %w: %w", by, errGone, shuffle.ErrClosed)}
		if e.offered[by] != nil {
			e.waiting[by] = append(e.waiting[by], s)
		} else {
			e.arrive(s)
		}
	}
	e.mu.Unlock()
	e.signal()
}
