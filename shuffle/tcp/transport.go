package tcp

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Transport is one rank's end of the links to all others. It is made by [Connect].
type Transport struct {
	rank, size int
	opts       Options
	ready      chan struct{}
	peers      []*peer // by rank; nil for this rank
	links      sync.WaitGroup
	closing    sync.Once

	// mu guards all that follows and, unless said otherwise, the fields of the peers. It is held for moments
	// only, never while anything waits, and no buffer is released under it.
	mu     sync.Mutex
	closed bool
	inbox  inbox
	lent   []lent // what the events of the last Poll refer to
}

// lent is memory that the caller may look at until its next Poll.
type lent struct {
	peer    *peer
	header  []byte
	payload []*mem.Buffer
}

// newTransport starts the links. conns has a connection for every other rank, windows what each gave this rank
// credit for.
func newTransport(o Options, conns []net.Conn, windows []int) *Transport {
	t := &Transport{
		rank: o.Rank, size: len(o.Addrs), opts: o,
		ready: make(chan struct{}, 1), peers: make([]*peer, len(o.Addrs)),
	}
	for r, c := range conns {
		if c != nil {
			t.peers[r] = newPeer(t, r, c, windows[r])
		}
	}
	for _, p := range t.peers {
		if p != nil {
			t.links.Go(p.run)
		}
	}
	return t
}

// Rank returns this rank's number.
func (t *Transport) Rank() int { return t.rank }

// Size returns the number of ranks.
func (t *Transport) Size() int { return t.size }

// Features says that messages with a payload are offered.
func (t *Transport) Features() shuffle.Features { return shuffle.Features{Offers: true} }

// Alloc makes a buffer of ordinary memory, the only tier there is; from it the system sends without a copy of
// the program's.
func (t *Transport) Alloc(tier mem.Tier, n int) (*mem.Buffer, error) {
	if tier != t.opts.Alloc.Tier() {
		return nil, fmt.Errorf("tcp: no memory of tier %s, only %s: %w", tier, t.opts.Alloc.Tier(), mem.ErrNoMemory)
	}
	return t.opts.Alloc.Alloc(n)
}

// Ready returns the channel that yields a value when events may have appeared.
func (t *Transport) Ready() <-chan struct{} { return t.ready }

func (t *Transport) signal() { wake(t.ready) }

// wake makes a channel of one place yield, without waiting.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Post starts operations, as the interface says. The error names what is wrong with them, or wraps
// [shuffle.ErrClosed].
func (t *Transport) Post(ops []shuffle.Op) error {
	var drop []*mem.Buffer
	t.mu.Lock()
	err := t.admit(ops)
	for i := range ops {
		op := &ops[i]
		switch {
		case err != nil:
			drop = append(drop, op.Payload...)
		case op.Kind == shuffle.OpSend:
			drop = t.peers[op.Peer].post(op, drop)
		default:
			drop = t.peers[op.Peer].answer(op, drop)
		}
	}
	t.mu.Unlock()
	releaseAll(drop)
	return err
}

// admit checks operations before any of them is started. The lock is held.
func (t *Transport) admit(ops []shuffle.Op) error {
	if t.closed {
		return fmt.Errorf("tcp: rank %d: %w", t.rank, shuffle.ErrClosed)
	}
	for i := range ops {
		if r := ops[i].Peer; r >= 0 && r < t.size && r != t.rank {
			t.peers[r].batch = 0
		}
	}
	for i := range ops {
		op := &ops[i]
		if op.Peer < 0 || op.Peer >= t.size || op.Peer == t.rank {
			return fmt.Errorf("tcp: rank %d posts to rank %d of %d", t.rank, op.Peer, t.size)
		}
		for _, b := range op.Payload {
			if b.Len() != len(b.Bytes()) {
				return fmt.Errorf("tcp: rank %d posts a buffer in %s memory, which cannot be read", t.rank, b.Tier())
			}
		}
		p := t.peers[op.Peer]
		switch op.Kind {
		case shuffle.OpSend:
			if len(op.Header) > shuffle.MaxHeader || len(op.Payload) > shuffle.MaxPieces {
				return fmt.Errorf("tcp: rank %d posts a header of %d bytes and %d pieces of payload",
					t.rank, len(op.Header), len(op.Payload))
			}
			p.batch++
			if !p.gone && p.posted-p.reported+p.batch > shuffle.MaxInFlight {
				return fmt.Errorf("tcp: rank %d has more than %d messages under way to rank %d",
					t.rank, shuffle.MaxInFlight, op.Peer)
			}
		case shuffle.OpAccept:
			if n := total(op.Payload); p.offering != 0 && op.Cookie == p.offering && n != p.in(op.Cookie).size {
				return fmt.Errorf("tcp: rank %d accepts %d bytes from rank %d with buffers of %d",
					t.rank, p.in(op.Cookie).size, op.Peer, n)
			}
		case shuffle.OpRefuse:
		default:
			return fmt.Errorf("tcp: rank %d posts an operation of kind %d", t.rank, op.Kind)
		}
	}
	return nil
}

// Poll reports what has happened, as the interface says. The error wraps [shuffle.ErrClosed].
func (t *Transport) Poll(events []shuffle.Event) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, fmt.Errorf("tcp: rank %d: %w", t.rank, shuffle.ErrClosed)
	}
	t.takeBack()
	for n < len(events) && t.inbox.n > 0 {
		e := t.inbox.pop()
		p := t.peers[e.peer]
		ev := &events[n]
		n++
		switch e.kind {
		case shuffle.EventMessage:
			m := p.in(e.number)
			if m.state == refused {
				n--
			} else {
				*ev = shuffle.Event{Kind: e.kind, Peer: e.peer, Header: m.header, Payload: m.payload}
			}
			t.lent = append(t.lent, lent{p, m.header, m.payload})
			p.room += cost(len(m.header))
			p.taken = e.number
			*m = incoming{}
			wake(p.work)
		case shuffle.EventOffer:
			m := p.in(e.number)
			*ev = shuffle.Event{Kind: e.kind, Peer: e.peer, Cookie: e.number, Size: m.size, Header: m.header}
		case shuffle.EventSent:
			*ev = shuffle.Event{Kind: e.kind, Peer: e.peer, Cookie: p.out(e.number).cookie}
			p.reported = e.number
		case shuffle.EventPeerDown:
			*ev = shuffle.Event{Kind: e.kind, Peer: e.peer, Err: p.err}
		}
	}
	return n, nil
}

// takeBack ends the life of what the last Poll lent. The lock is held.
func (t *Transport) takeBack() {
	for i := range t.lent {
		l := &t.lent[i]
		if l.header != nil {
			l.peer.headers.give(l.header)
		}
		if l.payload != nil {
			clear(l.payload)
			l.peer.lists = append(l.peer.lists, l.payload[:0])
		}
		*l = lent{}
	}
	t.lent = t.lent[:0]
}

// Close tells the peers, gives them what was posted before, for at most Options.CloseTimeout, and ends. It
// always returns nil.
func (t *Transport) Close() error {
	t.closing.Do(func() {
		var drop []*mem.Buffer
		t.mu.Lock()
		t.closed = true
		for _, p := range t.peers {
			if p == nil {
				continue
			}
			for n := p.taken + 1; n <= p.delivered; n++ {
				drop = append(drop, p.in(n).payload...)
			}
			wake(p.work)
		}
		t.mu.Unlock()
		releaseAll(drop)
		cut := time.AfterFunc(t.opts.CloseTimeout, func() {
			for _, p := range t.peers {
				if p != nil {
					p.cut()
				}
			}
		})
		t.links.Wait()
		cut.Stop()
		t.signal() // whoever sleeps on Ready finds out
	})
	return nil
}

func total(bufs []*mem.Buffer) (n int64) {
	for _, b := range bufs {
		n += int64(b.Len())
	}
	return n
}

// inbox is a queue of events, a ring whose length is a power of two. It is bounded because each peer has at
// most shuffle.MaxInFlight messages and as many confirmations in it, and three other events.
type inbox struct {
	ring  []note
	first int
	n     int
}

// note is an event whose details are with the peer.
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
