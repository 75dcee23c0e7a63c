package tcp

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Transport is one rank's end of the links to all others. It is made by [Connect].
type Transport struct {
	opts    Options
	hub     *link.Hub
	peers   []*peer // by rank; nil for this rank
	links   sync.WaitGroup
	closing sync.Once
}

// newTransport starts the links. conns has a connection for every other rank, windows what each gave this rank
// credit for.
func newTransport(o Options, conns []net.Conn, windows []int) *Transport {
	t := &Transport{
		opts: o, peers: make([]*peer, len(o.Addrs)),
		hub: link.NewHub(link.Config{Name: "tcp", Rank: o.Rank, Size: len(o.Addrs), Window: o.window(), Prefix: frameSize}),
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
func (t *Transport) Rank() int { return t.hub.Rank() }

// Size returns the number of ranks.
func (t *Transport) Size() int { return t.hub.Size() }

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
		cut := time.AfterFunc(t.opts.CloseTimeout, func() {
			for _, p := range t.peers {
				if p != nil {
					p.cut()
				}
			}
		})
		t.links.Wait()
		cut.Stop()
		t.hub.Signal() // whoever sleeps on Ready finds out
	})
	return nil
}
