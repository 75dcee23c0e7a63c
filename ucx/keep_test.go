//go:build ucx && cgo

package ucx

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// fresh makes a way with a context of its own, without workers.
func fresh(t *testing.T, set map[string]string) string {
	t.Helper()
	c, err := Open(Config{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	const name = "fresh"
	contexts[name] = c
	t.Cleanup(func() {
		delete(contexts, name)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return name
}

// workersOf returns the workers of ranks.
func workersOf(ts []*Transport) map[*worker]bool {
	set := make(map[*worker]bool)
	for _, tr := range ts {
		set[tr.w] = true
	}
	return set
}

func closeAll(ts []*Transport) {
	var wg sync.WaitGroup
	for _, tr := range ts {
		wg.Go(func() { _ = tr.Close() })
	}
	wg.Wait()
}

// TestWorkersKept: rounds that end in good order leave their workers to the next, which has new addresses and an epoch of its own.
func TestWorkersKept(t *testing.T) {
	way := fresh(t, map[string]string{"TLS": "sysv,cma"})
	var first map[*worker]bool
	nonces := make(map[[nonceSize]byte]bool)
	for round := range 20 {
		ts := connectRanks(t, way, 3, func(o *Options) { o.Epoch = uint32(round) })
		bufs := allocate(t, mem.Host(), 2, 3<<20)
		exchange(t, ts, bufs[:1:1], bufs[1:])
		release(bufs)
		for _, tr := range ts {
			if nonce := tr.port.addr.nonce; nonces[nonce] {
				t.Fatal("an address is used again")
			} else {
				nonces[nonce] = true
			}
			if tr.strange != 0 {
				t.Errorf("round %d: %d messages of strangers", round, tr.strange)
			}
		}
		if first == nil {
			first = workersOf(ts)
		} else if now := workersOf(ts); !maps.Equal(first, now) {
			t.Errorf("round %d: other workers", round)
		}
		closeAll(ts)
	}
	// What was opened and not connected is kept, too.
	p, err := contexts[way].Listen()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if !first[p.w] || len(contexts[way].idle) != 3 {
		t.Errorf("%d workers are kept", len(contexts[way].idle))
	}
}

// TestWorkersNotKept: a rank whose round did not end in good order begins the next with a new worker, as does one that uses TCP.
func TestWorkersNotKept(t *testing.T) {
	sysv := map[string]string{"TLS": "sysv,cma"}
	for name, c := range map[string]struct {
		set map[string]string
		end func(t *testing.T, way string)
	}{
		"tcp": {ways["tcp"], func(t *testing.T, way string) {
			closeAll(connectRanks(t, way, 2, nil))
			p, err := contexts[way].Listen()
			if err != nil {
				t.Fatal(err)
			}
			p.Close()
		}},
		"cut": {sysv, func(t *testing.T, way string) {
			ts := connectRanks(t, way, 2, func(o *Options) { o.CloseTimeout = 50 * time.Millisecond })
			if err := ts[0].Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1, Payload: allocate(t, mem.Host(), 1, 3<<20)}}); err != nil {
				t.Fatal(err)
			}
			waitEvent(t, ts[1], shuffle.EventOffer)
			_ = ts[0].Close() // nobody takes it
			_ = ts[1].Close()
		}},
		"mismatch": {sysv, func(t *testing.T, way string) {
			ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
			defer stop()
			_, errs := startRanks(t, ctx, way, 2, func(o *Options) {
				if o.Rank == 1 {
					o.Spec = "another"
				}
			})
			if !errors.Is(errors.Join(errs...), shuffle.ErrMismatch) {
				t.Error(errs)
			}
		}},
		"absent": {sysv, func(t *testing.T, way string) {
			ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer stop()
			var ports [2]*Port
			var addrs []string
			for r := range ports {
				p, err := contexts[way].Listen()
				if err != nil {
					t.Fatal(err)
				}
				ports[r], addrs = p, append(addrs, p.Addr())
			}
			if _, err := ports[0].Connect(ctx, Options{Rank: 0, Addrs: addrs}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			ports[1].drop()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			way := fresh(t, c.set)
			c.end(t, way)
			if n := len(contexts[way].idle); n != 0 {
				t.Errorf("%d workers are kept", n)
			}
		})
	}
}

// TestKeptAndLate: what a rank of an earlier round says to a worker that was kept is nobody's, and the worker is not kept again.
func TestKeptAndLate(t *testing.T) {
	way := fresh(t, map[string]string{"TLS": "sysv,cma"})
	ts := connectRanks(t, way, 2, nil)
	old := Options{Job: "test", Rank: 1, Addrs: []string{ts[0].port.Addr(), ts[1].port.Addr()}, Spec: "same", Secret: testSecret}
	old.EnsureDefaults()
	was := ts[0].w
	closeAll(ts)

	ts = connectRanks(t, way, 2, func(o *Options) { o.Epoch = 1 })
	again := slices.IndexFunc(ts, func(tr *Transport) bool { return tr.w == was })
	if again < 0 {
		t.Fatal("the worker was not kept")
	}
	addrs, err := parseAddresses(&old)
	if err != nil {
		t.Fatal(err)
	}
	port, err := contexts[way].Listen()
	if err != nil {
		t.Fatal(err)
	}
	late, err := newTransport(port, old, addrs)
	if err != nil {
		t.Fatal(err)
	}
	r := &rogue{late, late.peers[0]}
	r.hub.Lock()
	r.p.work() // hello, as in the first round
	r.hub.Unlock()
	for range 200 {
		r.turn()
		time.Sleep(time.Millisecond)
	}
	r.say(r.build(frame{kind: kindBeat}))
	for range 200 {
		r.turn()
		time.Sleep(time.Millisecond)
	}
	bufs := allocate(t, mem.Host(), 2, 3<<20)
	defer release(bufs)
	exchange(t, ts, bufs[:1:1], bufs[1:]) // the round goes on
	closeAll(ts)
	if ts[again].strange == 0 {
		t.Error("nothing came late")
	}
	if slices.Contains(contexts[way].idle, was) {
		t.Error("it is kept again")
	}
	r.meeting = false
	r.shut()
}
