package collective_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/collective"
	"github.com/dovetail-dedup/dovetail/shuffle/faulty"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sizes are the numbers of ranks that all calls are tried with, and a few of them for -short.
var sizes, someSizes = []int{1, 2, 3, 5, 8}, []int{1, 2, 5}

// setup says what a test's ranks run on.
type setup struct {
	size   int
	faults string // for package faulty
	seed   uint64
	copy   bool          // the transport copies, and every rank has a budget of its own
	limit  int64         // of the budget
	chunk  int64         // MaxChunk
	wait   time.Duration // MemoryWait
	budget *mem.Budget   // the one of all ranks, if the test made it
}

func (s setup) String() string {
	return fmt.Sprintf("ranks=%d/copy=%v/limit=%d/faults=%s", s.size, s.copy, s.limit, s.faults)
}

// budgets returns the budget of every rank.
func (s setup) budgets() []*mem.Budget {
	out := make([]*mem.Budget, s.size)
	for r := range out {
		if r == 0 && s.budget != nil {
			out[r] = s.budget
		} else if r == 0 || s.copy {
			out[r] = mem.NewBudget(s.limit)
		} else {
			out[r] = out[0]
		}
	}
	return out
}

// run has f do the work of every rank, and returns their errors. It fails the test if anything is left in a budget or
// allocator, or if the ranks take three minutes.
func (s setup) run(t testing.TB, f func(ctx context.Context, g *collective.Group) error) []error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	alloc := mem.NewChecked(t, mem.Host())
	transports := inproc.New(s.size, inproc.Options{Copy: s.copy, Alloc: alloc})
	if s.faults != "" {
		var err error
		if transports, err = faulty.Wrap(transports, s.faults, s.seed); err != nil {
			t.Fatal(err)
		}
	}
	budgets := s.budgets()
	errs := make([]error, s.size)
	var wg sync.WaitGroup
	comms := make([]*shuffle.Communicator, s.size)
	for r, tr := range transports {
		c, err := shuffle.NewCommunicator(tr)
		if err != nil {
			t.Fatal(err)
		}
		comms[r] = c
		g, err := collective.New(collective.Options{
			Comm: c, Run: 7, Op: 3, Epoch: 2, Budget: budgets[r], Alloc: alloc, SpillDir: t.TempDir(), MaxChunk: s.chunk,
			MemoryWait: s.wait,
		})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer g.Close()
			errs[r] = f(ctx, g)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		t.Error("the ranks were stopped after three minutes")
	}
	for _, c := range comms {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	for r, b := range budgets {
		if held := b.Stats().Used; held != 0 {
			t.Errorf("rank %d: %d bytes are left in the budget", r, held)
		}
	}
	return errs
}

// ok fails the test if any rank has failed.
func ok(t testing.TB, errs []error) {
	t.Helper()
	for r, err := range errs {
		if err != nil {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}

// setups are what all calls are tried on.
func setups() (out []setup) {
	which := sizes
	if testing.Short() {
		which = someSizes
	}
	for _, size := range which {
		out = append(out,
			setup{size: size},
			setup{size: size, chunk: 64},
			setup{size: size, copy: true, chunk: 1 << 10},
			setup{size: size, limit: 64 << 10, chunk: 4 << 10},
			setup{size: size, limit: 256 << 10, copy: true, chunk: 8 << 10},
			setup{size: size, faults: "duplicate=10%,reorder=20%,delay=5%:1ms", seed: uint64(size), chunk: 256},
			setup{size: size, faults: "duplicate=5%,delay=5%:1ms", seed: 1, copy: true, chunk: 1 << 10},
		)
	}
	return out
}
