package tcp

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

var testSecret = []byte("0123456789abcdef0123456789abcdef")

// startRanks lets the ranks of a job meet on loopback addresses, and returns what each Connect returned. change
// may alter the options of one rank. Those that met are closed at the end of the test.
func startRanks(t testing.TB, ctx context.Context, size int, change func(o *Options)) ([]*Transport, []error) {
	t.Helper()
	listeners, addrs := make([]*Listener, size), make([]string, size)
	for r := range size {
		var err error
		if listeners[r], err = Listen("127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		addrs[r] = listeners[r].Addr()
	}
	ts, errs := make([]*Transport, size), make([]error, size)
	var wg sync.WaitGroup
	for r := range size {
		wg.Go(func() {
			o := Options{Job: "test", Rank: r, Addrs: addrs, Listener: listeners[r], Spec: "same"}
			if change != nil {
				change(&o)
			}
			ts[r], errs[r] = Connect(ctx, o)
		})
	}
	wg.Wait()
	t.Cleanup(func() { // at once: one would wait for what another does not take
		for _, tr := range ts {
			if tr != nil {
				wg.Go(func() { _ = tr.Close() })
			}
		}
		wg.Wait()
	})
	return ts, errs
}

// connectRanks is startRanks for ranks that must meet.
func connectRanks(t testing.TB, size int, change func(o *Options)) []*Transport {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ts, errs := startRanks(t, ctx, size, change)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return ts
}

// makeRanks is what the conformance suite needs.
func makeRanks(change func(o *Options)) func(t *testing.T, size int) []shuffle.Transport {
	return func(t *testing.T, size int) []shuffle.Transport {
		t.Helper()
		var out []shuffle.Transport
		for _, tr := range connectRanks(t, size, change) {
			out = append(out, tr)
		}
		return out
	}
}
