//go:build ucx && cgo

package ucx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

var testSecret = []byte("0123456789abcdef0123456789abcdef")

// ways are what the tests have UCX use: shared memory, and TCP over the loopback interface.
var ways = map[string]map[string]string{
	"shm": {"TLS": "posix,cma"},
	"tcp": {"TLS": "tcp", "NET_DEVICES": "lo"},
}

// contexts are open ones, by way.
var contexts = make(map[string]*Context)

func TestMain(m *testing.M) {
	idleMost = 8 // all ranks are in this process
	for name, set := range ways {
		c, err := Open(Config{Set: set})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		contexts[name] = c
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		for _, c := range contexts {
			if err := c.Close(); err != nil && code == 0 {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
		os.Exit(code)
	}))
}

// forWays runs a test once for each way.
func forWays(t *testing.T, f func(t *testing.T, way string)) {
	for _, way := range []string{"shm", "tcp"} {
		t.Run(way, func(t *testing.T) { f(t, way) })
	}
}

// startRanks lets the ranks of a job meet, and returns what each Connect returned. change may alter the options of one rank. Those
// that met are closed at the end of the test.
func startRanks(t testing.TB, ctx context.Context, way string, size int, change func(o *Options)) ([]*Transport, []error) {
	t.Helper()
	ports, addrs := make([]*Port, size), make([]string, size)
	for r := range size {
		var err error
		if ports[r], err = contexts[way].Listen(); err != nil {
			t.Fatal(err)
		}
		addrs[r] = ports[r].Addr()
	}
	ts, errs := make([]*Transport, size), make([]error, size)
	var wg sync.WaitGroup
	for r := range size {
		wg.Go(func() {
			o := Options{Job: "test", Rank: r, Addrs: addrs, Spec: "same", Secret: testSecret}
			if change != nil {
				change(&o)
			}
			ts[r], errs[r] = ports[r].Connect(ctx, o)
		})
	}
	wg.Wait()
	t.Cleanup(func() { // at once: one would wait for what another does not take
		for r, tr := range ts {
			if errs[r] == nil {
				wg.Go(func() { _ = tr.Close() })
			}
		}
		wg.Wait()
	})
	return ts, errs
}

// connectRanks is startRanks for ranks that must meet.
func connectRanks(t testing.TB, way string, size int, change func(o *Options)) []*Transport {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ts, errs := startRanks(t, ctx, way, size, change)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return ts
}

// makeRanks is what the conformance suite needs.
func makeRanks(way string, change func(o *Options)) func(t *testing.T, size int) []shuffle.Transport {
	return func(t *testing.T, size int) []shuffle.Transport {
		t.Helper()
		var out []shuffle.Transport
		for _, tr := range connectRanks(t, way, size, change) {
			out = append(out, tr)
		}
		return out
	}
}

// waitEvent polls until an event of some kind comes and returns it. Others are an error, except confirmations.
func waitEvent(t testing.TB, tr *Transport, kind shuffle.EventKind) shuffle.Event {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		var events [1]shuffle.Event
		n, err := tr.Poll(events[:])
		if err != nil {
			t.Fatal(err)
		}
		switch ev := events[0]; {
		case n == 1 && ev.Kind == kind:
			return ev
		case n == 1 && ev.Kind != shuffle.EventSent:
			t.Fatalf("event %+v instead of kind %d", ev, kind)
		case n == 1:
			continue
		}
		select {
		case <-tr.Ready():
		case <-timeout:
			t.Fatalf("no event of kind %d in 30 s", kind)
		}
	}
}
