package link

import (
	"fmt"
	"sync"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Config says what is particular to a transport.
type Config struct {
	// Name is the transport's, with which errors begin.
	Name string
	// Rank of Size.
	Rank, Size int
	// Window is how many bytes of headers each peer may have under way to this rank.
	Window int
	// Prefix is how many bytes are left free before the header in Out.Frame.
	Prefix int
	// Inline is up to which length, header and payload together, messages are announced with their payload.
	Inline int
	// Device allows payloads in the memory of devices.
	Device bool
}

// Hub is one rank's end of the links to all others. Post, Poll and Ready are those of a [shuffle.Transport], and take the lock
// themselves.
type Hub struct {
	// Mutex guards the Hub and its Links. It is held for moments only, never while anything waits, and no buffer is released
	// under it.
	sync.Mutex
	cfg    Config
	ready  chan struct{}
	links  []*Link // by rank; nil for this rank
	closed bool
	inbox  inbox
	lent   []lent // what the events of the last Poll refer to
}

// lent is memory that the caller may look at until its next Poll.
type lent struct {
	link    *Link
	header  []byte
	payload []*mem.Buffer
}

// NewHub returns a Hub without links.
func NewHub(c Config) *Hub {
	return &Hub{cfg: c, ready: make(chan struct{}, 1), links: make([]*Link, c.Size)}
}

// Rank returns this rank's number.
func (h *Hub) Rank() int { return h.cfg.Rank }

// Size returns the number of ranks.
func (h *Hub) Size() int { return h.cfg.Size }

// Ready returns the channel that yields a value when events may have appeared.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// Signal makes Ready yield, with or without the lock.
func (h *Hub) Signal() { Wake(h.ready) }

// Closed reports whether Close was called.
func (h *Hub) Closed() bool { return h.closed }

// Wake makes a channel of one place yield, without waiting.
func Wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Post starts operations, as the interface says. The error names what is wrong with them, or wraps [shuffle.ErrClosed].
func (h *Hub) Post(ops []shuffle.Op) error {
	var drop []*mem.Buffer
	h.Lock()
	err := h.admit(ops)
	for i := range ops {
		op := &ops[i]
		switch {
		case err != nil:
			drop = append(drop, op.Payload...)
		case op.Kind == shuffle.OpSend:
			drop = h.links[op.Peer].post(op, drop)
		default:
			drop = h.links[op.Peer].answer(op, drop)
		}
	}
	h.Unlock()
	ReleaseAll(drop)
	return err
}

// admit checks operations before any of them is started.
func (h *Hub) admit(ops []shuffle.Op) error {
	name, rank, size := h.cfg.Name, h.cfg.Rank, h.cfg.Size
	if h.closed {
		return fmt.Errorf("%s: rank %d: %w", name, rank, shuffle.ErrClosed)
	}
	for i := range ops {
		if r := ops[i].Peer; r >= 0 && r < size && r != rank {
			h.links[r].batch = 0
		}
	}
	for i := range ops {
		op := &ops[i]
		if op.Peer < 0 || op.Peer >= size || op.Peer == rank {
			return fmt.Errorf("%s: rank %d posts to rank %d of %d", name, rank, op.Peer, size)
		}
		for _, b := range op.Payload {
			if b.Len() != len(b.Bytes()) && !(h.cfg.Device && b.Tier() == mem.TierDevice) {
				return fmt.Errorf("%s: rank %d posts a buffer in %s memory, which cannot be read", name, rank, b.Tier())
			}
		}
		l := h.links[op.Peer]
		switch op.Kind {
		case shuffle.OpSend:
			if len(op.Header) > shuffle.MaxHeader || len(op.Payload) > shuffle.MaxPieces {
				return fmt.Errorf("%s: rank %d posts a header of %d bytes and %d pieces of payload",
					name, rank, len(op.Header), len(op.Payload))
			}
			l.batch++
			if !l.gone && l.Posted-l.reported+l.batch > shuffle.MaxInFlight {
				return fmt.Errorf("%s: rank %d has more than %d messages under way to rank %d",
					name, rank, shuffle.MaxInFlight, op.Peer)
			}
		case shuffle.OpAccept:
			if l.offering == 0 || op.Cookie != l.offering {
				break // it answers nothing
			}
			m := l.In(op.Cookie)
			if n := Total(op.Payload); n != m.Size {
				return fmt.Errorf("%s: rank %d accepts %d bytes from rank %d with buffers of %d", name, rank, m.Size, op.Peer, n)
			}
			if m.Inline != nil && !addressable(op.Payload) {
				return fmt.Errorf("%s: rank %d accepts %d bytes from rank %d, which are here already, in %s memory",
					name, rank, m.Size, op.Peer, mem.TierDevice)
			}
		case shuffle.OpRefuse:
		default:
			return fmt.Errorf("%s: rank %d posts an operation of kind %d", name, rank, op.Kind)
		}
	}
	return nil
}

// Poll reports what has happened, as the interface says. The error wraps [shuffle.ErrClosed].
func (h *Hub) Poll(events []shuffle.Event) (n int, err error) {
	h.Lock()
	defer h.Unlock()
	if h.closed {
		return 0, fmt.Errorf("%s: rank %d: %w", h.cfg.Name, h.cfg.Rank, shuffle.ErrClosed)
	}
	h.takeBack()
	for n < len(events) && h.inbox.n > 0 {
		e := h.inbox.pop()
		l := h.links[e.peer]
		ev := &events[n]
		n++
		switch e.kind {
		case shuffle.EventMessage:
			m := l.In(e.number)
			if m.Answer == Refused {
				n--
			} else {
				*ev = shuffle.Event{Kind: e.kind, Peer: e.peer, Header: m.header, Payload: m.Payload}
			}
			h.lent = append(h.lent, lent{l, m.header, m.Payload})
			l.room += m.cost
			l.taken = e.number
			*m = In{}
			l.work()
		case shuffle.EventOffer:
			m := l.In(e.number)
			*ev = shuffle.Event{Kind: e.kind, Peer: e.peer, Cookie: e.number, Size: m.Size, Header: m.header}
		case shuffle.EventSent:
			*ev = shuffle.Event{Kind: e.kind, Peer: e.peer, Cookie: l.Out(e.number).cookie}
			l.reported = e.number
		case shuffle.EventPeerDown:
			*ev = shuffle.Event{Kind: e.kind, Peer: e.peer, Err: l.err}
		}
	}
	return n, nil
}

// takeBack ends the life of what the last Poll lent.
func (h *Hub) takeBack() {
	for i := range h.lent {
		e := &h.lent[i]
		if e.header != nil {
			e.link.Headers.give(e.header)
		}
		if e.payload != nil {
			clear(e.payload)
			e.link.lists = append(e.link.lists, e.payload[:0])
		}
		*e = lent{}
	}
	h.lent = h.lent[:0]
}

// Close makes Post and Poll fail from now on, and wakes all links. It takes the lock itself, and releases what has arrived and
// will not be polled.
func (h *Hub) Close() {
	var drop []*mem.Buffer
	h.Lock()
	h.closed = true
	for _, l := range h.links {
		if l == nil {
			continue
		}
		for n := l.taken + 1; n <= l.Delivered; n++ {
			m := l.In(n)
			drop = append(drop, m.Payload...)
			m.Payload = nil
		}
		l.work()
	}
	h.Unlock()
	ReleaseAll(drop)
}

// inbox is a queue of events, a ring whose length is a power of two. It is bounded because each peer has at
// most shuffle.MaxInFlight messages and as many confirmations in it, and three other events.
type inbox struct {
	ring  []note
	first int
	n     int
}

// note is an event whose details are with the link.
type note struct {
	kind   shuffle.EventKind
	peer   int
	number uint64
}

func (q *inbox) push(e note) {
	if q.n == len(q.ring) {
		ring := make([]note, max(64, 2*q.n))
		for i := range q.n {
			ring[i] = q.ring[(q.first+i)&(len(q.ring)-1)]
		}
		q.ring, q.first = ring, 0
	}
	q.ring[(q.first+q.n)&(len(q.ring)-1)] = e
	q.n++
}

func (q *inbox) pop() note {
	e := q.ring[q.first]
	q.first = (q.first + 1) & (len(q.ring) - 1)
	q.n--
	return e
}
