//go:build ucx && cgo

package ucx

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Transport is one rank's end of the links to all others. It is made by [Port.Connect].
//
// One goroutine, run, owns the worker and everything below it; Post, Poll and Close talk to it through the Hub and wake it.
type Transport struct {
	o    Options
	hub  *link.Hub
	port *Port
	w    *worker
	addr []address

	closing sync.Once
	cut     atomic.Bool   // what is not done yet is given up
	leave   atomic.Bool   // whoever is not there yet is not waited for
	met     chan struct{} // all ranks are there, or never will be
	done    chan struct{} // run has ended, and everything is released

	ended bool    // the worker is about to end; guarded by the Hub
	dirty []*peer // peers whose work may have something to do; guarded by the Hub

	// What follows belongs to run, and meetErr and absent to all once met is closed.
	peers    []*peer // by rank; nil for this rank
	missing  int     // ranks that have not said hello
	meetErr  error
	absent   string // ranks that did not come
	meeting  bool
	alive    int // links that have not ended
	now      time.Time
	ticked   time.Time
	ops      []op   // for the next round
	rounds   uint64 // from 1 on
	spare    []op   // memory for those of the one after
	events   []event
	slots    []slot
	free     []uint64 // indexes of slots
	blocks   blocks
	settling []*peer
	spent    []*mem.Buffer
	orphans  []*mem.Buffer // of links that ended while UCX may still use their memory
	lengths  []int64
	parts    [][]byte
	strange  int // frames of no rank
}

// slot is what an operation of UCX is for.
type slot struct {
	p      *peer
	kind   uint64
	number uint64 // of the message
	want   uint64 // bytes
	block  block
	using  *registration // of the memory
	bare   uint64        // the address, if memory is registered and this is not
}

// eventsMost is how many events a round returns.
const eventsMost = 256

func newTransport(p *Port, o Options, addrs []address) (*Transport, error) {
	size := len(addrs)
	t := &Transport{
		o: o, port: p, w: p.w, addr: addrs, met: make(chan struct{}), done: make(chan struct{}), meeting: true, rounds: 1,
		peers: make([]*peer, size), missing: size - 1, alive: size - 1, events: make([]event, eventsMost),
		hub: link.NewHub(link.Config{
			Name: "ucx", Rank: o.Rank, Size: size, Window: o.window(), Inline: inlineMost, Device: p.c.cuda,
		}),
	}
	if err := p.w.links(size); err != nil {
		return nil, err
	}
	for r := range addrs {
		if r == o.Rank {
			continue
		}
		if err := p.w.connect(r, addrs[r].worker); err != nil {
			return nil, fmt.Errorf("ucx: rank %d has no way to rank %d: %w", o.Rank, r, err)
		}
		if err := t.newPeer(r); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (o *Options) window() int { return link.Window(o.ReceiveBudget, len(o.Addrs)) }

// Rank returns this rank's number.
func (t *Transport) Rank() int { return t.hub.Rank() }

// Size returns the number of ranks.
func (t *Transport) Size() int { return t.hub.Size() }

// Features says that messages with a payload are offered.
func (t *Transport) Features() shuffle.Features { return shuffle.Features{Offers: true} }

// Alloc makes a buffer of ordinary memory. Payloads may be in the memory of a CUDA device too, if UCX knows such; that comes from
// whoever owns the device.
func (t *Transport) Alloc(tier mem.Tier, n int) (*mem.Buffer, error) {
	if tier != t.o.Alloc.Tier() {
		return nil, fmt.Errorf("ucx: no memory of tier %s, only %s: %w", tier, t.o.Alloc.Tier(), mem.ErrNoMemory)
	}
	return t.o.Alloc.Alloc(n)
}

// Ready returns the channel that yields a value when events may have appeared.
func (t *Transport) Ready() <-chan struct{} { return t.hub.Ready() }

// Post starts operations, as the interface says. The error names what is wrong with them, or wraps
// [shuffle.ErrClosed].
func (t *Transport) Post(ops []shuffle.Op) error { return t.hub.Post(ops) }

// Poll reports what has happened, as the interface says. The error wraps [shuffle.ErrClosed].
func (t *Transport) Poll(events []shuffle.Event) (int, error) { return t.hub.Poll(events) }

// Close tells the peers, gives them what was posted before, for at most Options.CloseTimeout, and ends. It
// always returns nil.
func (t *Transport) Close() error {
	t.closing.Do(func() {
		t.hub.Close()
		t.look()
		force := time.AfterFunc(t.o.CloseTimeout, func() { t.end() })
		<-t.done
		force.Stop()
		t.hub.Signal() // whoever sleeps on Ready finds out
	})
	<-t.done
	return nil
}

// end gives up what is not done yet.
func (t *Transport) end() {
	t.cut.Store(true)
	t.look()
}

// look has run look around.
func (t *Transport) look() {
	t.hub.Lock()
	defer t.hub.Unlock()
	t.wake()
}

// wake has run look around. The lock is held.
func (t *Transport) wake() {
	if !t.ended {
		t.w.wake()
	}
}
