package simulate

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seeds = flag.Int("seeds", 0, "number of seeds of TestSimulate; 0 is a hundred, or few with -short")
	first = flag.Uint64("seed", 0, "the first of them; 0 chooses one")
)

// guest is built and compiled once for all tests.
var guest = sync.OnceValues(func() (*World, error) { return load(nil) })

func module() string {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "../.."
	}
	return root
}

func load(overlay map[string][]byte) (*World, error) {
	wasm, err := Build(context.Background(), module(), "pipeline", overlay)
	if err != nil {
		return nil, err
	}
	return Load(context.Background(), wasm, "")
}

// play plays seeds, two at a time, until one fails or all are played.
func play(t *testing.T, w *World, from uint64, n, maxRanks int) (failed *Outcome, played int) {
	var next, count atomic.Int64
	var mu sync.Mutex
	var all sync.WaitGroup
	events := make(map[string]int)
	for range 2 {
		all.Go(func() {
			for {
				i := next.Add(1) - 1
				mu.Lock()
				stop := failed != nil || i >= int64(n)
				mu.Unlock()
				if stop {
					return
				}
				o, err := w.Run(t.Context(), from+uint64(i), "pipeline", maxRanks)
				mu.Lock()
				switch {
				case err != nil:
					t.Error(err)
				case o.Fault != "" && (failed == nil || o.Seed < failed.Seed):
					failed = o
				}
				if err == nil {
					for k, n := range o.Events {
						events[k] += n
					}
				}
				mu.Unlock()
				count.Add(1)
			}
		})
	}
	all.Wait()
	t.Logf("%d seeds from %d: %v", count.Load(), from, events)
	return failed, int(count.Load())
}

// TestSimulate plays seeds that nobody has played before.
func TestSimulate(t *testing.T) {
	w, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	n, from := *seeds, *first
	if n == 0 {
		if n = 120; testing.Short() {
			n = 10
		}
	}
	if from == 0 {
		from = uint64(time.Now().Unix()) * 1000
	}
	most := 0 // as many as it comes to; a seed with 64 takes a minute
	switch {
	case testing.Short():
		most = 4
	case *seeds == 0:
		most = 8
	}
	if o, _ := play(t, w, from, n, most); o != nil {
		t.Fatalf("seed %d: %s\nhistory:\n%s\nplay it again: make simulate SEED=%d SEEDS=1 RANKS=%d", o.Seed, o.Fault, strings.Join(o.History, "\n"), o.Seed, most)
	}
}

// TestReplays: a seed has one history.
func TestReplays(t *testing.T) {
	w, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(3) {
		a, err := w.Run(t.Context(), seed, "pipeline", 8)
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.Run(t.Context(), seed, "pipeline", 8)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.History, b.History) || a.Virtual != b.Virtual {
			t.Errorf("seed %d had two histories:\n%s\n\n%s", seed, strings.Join(a.History, "\n"), strings.Join(b.History, "\n"))
		}
	}
}

// TestMutants: every bug that is kept here is found.
func TestMutants(t *testing.T) {
	for i := range Mutants {
		m := &Mutants[i]
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			overlay, err := m.Apply(module())
			if err != nil {
				t.Fatal(err)
			}
			if testing.Short() {
				t.Skipf("%s: make test-simulate plays it", m.Name)
			}
			w, err := load(overlay)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close(t.Context())
			o, n := play(t, w, m.Seed, 1, 5)
			if o == nil {
				o, n = play(t, w, 1, 400, 5)
				if o != nil {
					t.Logf("%s: seed %d does not find it any more; put %d into mutants.go", m.Name, m.Seed, o.Seed)
				}
			}
			if o == nil {
				t.Fatalf("%s: not found in %d seeds", m.Name, n)
			}
			sound, err := guest()
			if err != nil {
				t.Fatal(err)
			}
			if same, err := sound.Run(t.Context(), o.Seed, "pipeline", 5); err != nil || same.Fault != "" {
				t.Errorf("%s: seed %d fails without the bug, too: %v %s", m.Name, o.Seed, err, same.Fault)
			}
			fault, _, _ := strings.Cut(o.Fault, "\n")
			t.Logf("%s: found by seed %d: %s", m.Name, o.Seed, fault)
		})
	}
}
