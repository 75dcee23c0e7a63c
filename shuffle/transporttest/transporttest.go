// Package transporttest checks an implementation of [shuffle.Transport]: first by itself, against the
// promises in the interface's documentation, and then with the whole shuffle on top, at 1, 2, 3, 5 and 8
// ranks, also with faults injected. Every test fails on a buffer or goroutine that is left behind, and on a
// wait of 30 seconds.
package transporttest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/faulty"
)

// Make makes the endpoints of size ranks, by rank, that know each other. The suite closes them.
type Make func(t *testing.T, size int) []shuffle.Transport

// Sizes are the numbers of ranks that the suite uses.
var Sizes = []int{1, 2, 3, 5, 8}

// Run runs the suite. With -short it leaves out the larger cases.
func Run(t *testing.T, makeTransports Make) {
	t.Run("transport", func(t *testing.T) { runTransport(t, makeTransports, Sizes[1:]) })
	t.Run("shuffle", func(t *testing.T) { runShuffle(t, makeTransports) })
	t.Run("faulty", func(t *testing.T) { runFaulty(t, makeTransports) })
}

// RunTransport runs the part of the suite that needs nothing but the transport, with these numbers of ranks: enough
// for a second configuration of a transport that has passed the whole.
func RunTransport(t *testing.T, makeTransports Make, sizes ...int) {
	runTransport(t, makeTransports, sizes)
}

// RunRank runs the part of the suite that a rank can run in a process of its own, on its endpoint, which it closes.
// Every rank must call it.
func RunRank(t *testing.T, tr shuffle.Transport) {
	c := startCluster(t, tr.Size())
	c.join(t, tr, nil, 0)
	size := tr.Size()
	for i, parts := range []int{1, 5, 100} {
		for _, rows := range []int{0, 9, 20_000} {
			d := &table{base: uint64(i) << 32, rows: rows, parts: parts, ranks: size, tasks: 2, chunk: 1000}
			o := shuffle.Options{Op: shuffle.OpID(i), TotalParts: parts}
			if rows == 9 {
				o.SpillMemoryLimit, o.ReceiveWindow, o.MaxChunk = 1, 32<<10, 16<<10
			}
			c.shuffleAll(o, func(r int, s *shuffle.Shuffler) { d.insert(c, r, s) },
				func(r int, s *shuffle.Shuffler) { d.check(c, r, s) })
		}
	}
	testConcurrent(t, c)
	testEmpty(t, c)
	testReuse(t, c)
	testWaiters(t, c)
	testAttempts(t, c)
	if size > 1 {
		testLateRank(t, c)
	}
	// A rank that has finished closes its endpoint. No other must need it any more.
	c.shuffleAll(shuffle.Options{TotalParts: 1}, nil, nil)
}

// patience is how long a test waits for anything.
const patience = 2 * time.Minute

// cluster is a set of ranks under test.
type cluster struct {
	*testing.T
	ctx     context.Context
	alloc   *mem.Checked
	comms   []*shuffle.Communicator // by rank; nil for one in another process
	budgets []*mem.Budget           // by rank; nil without a limit
	spill   string
}

// newCluster starts size ranks. limit is the memory limit of a process: all ranks share one budget if the
// transport hands buffers over, and have one each if it copies. 0 means none.
func newCluster(t *testing.T, makeTransports Make, size int, limit int64) *cluster {
	t.Helper()
	c := startCluster(t, size)
	var shared *mem.Budget
	for r, tr := range makeTransports(t, size) {
		if tr.Rank() != r || tr.Size() != size {
			t.Fatalf("endpoint %d says that it is rank %d of %d", r, tr.Rank(), tr.Size())
		}
		if shared == nil || tr.Features().Offers {
			shared = mem.NewBudget(limit)
		}
		c.join(t, tr, shared, limit)
	}
	return c
}

// startCluster makes a cluster of size ranks, of which none is there yet.
func startCluster(t *testing.T, size int) *cluster {
	t.Helper()
	leakCheck(t)
	c := &cluster{
		T: t, alloc: mem.NewChecked(t, mem.Host()), spill: t.TempDir(),
		comms: make([]*shuffle.Communicator, size), budgets: make([]*mem.Budget, size),
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c.ctx = ctx
	watch := time.AfterFunc(patience, func() {
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
		t.Logf("waited %s; goroutines:\n%s", patience, b.String())
	})
	t.Cleanup(func() {
		var wg sync.WaitGroup
		for _, comm := range c.comms {
			if comm != nil {
				wg.Go(func() { _ = comm.Close() })
			}
		}
		wg.Wait()
		watch.Stop()
		cancel()
	})
	return c
}

// join starts the communicator of one rank.
func (c *cluster) join(t *testing.T, tr shuffle.Transport, budget *mem.Budget, limit int64) {
	t.Helper()
	if limit > 0 {
		c.budgets[tr.Rank()] = budget
	}
	comm, err := shuffle.NewCommunicator(tr)
	if err != nil {
		t.Fatal(err)
	}
	c.comms[tr.Rank()] = comm
}

// leakCheck fails the test if it leaves goroutines behind. It must come before other clean-ups.
func leakCheck(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if !t.Failed() {
			goleak.VerifyNone(t, ignore)
		}
	})
}

// open starts an operation on one rank, with the cluster's memory and folders where o has none.
func (c *cluster) open(r int, o shuffle.Options) *shuffle.Shuffler {
	c.Helper()
	s, err := c.tryOpen(r, o)
	if err != nil {
		c.Errorf("rank %d: %v", r, err)
		return nil
	}
	return s
}

func (c *cluster) tryOpen(r int, o shuffle.Options) (*shuffle.Shuffler, error) {
	o.Comm = c.comms[r]
	if o.Alloc == nil {
		o.Alloc = c.alloc
	}
	if o.Budget == nil {
		o.Budget = c.budgets[r]
	}
	if o.SpillDir == "" {
		o.SpillDir = c.spill
	}
	return shuffle.New(o)
}

// each runs f on every rank of this process at once and waits for all.
func (c *cluster) each(f func(r int)) {
	c.Helper()
	var wg sync.WaitGroup
	for r, comm := range c.comms {
		if comm != nil {
			wg.Go(func() { f(r) })
		}
	}
	wg.Wait()
}

// shuffleAll runs one operation on all ranks: f inserts, then everything is finished and awaited, and check
// sees the shuffler. The shufflers are closed.
func (c *cluster) shuffleAll(o shuffle.Options, insert, check func(r int, s *shuffle.Shuffler)) {
	c.Helper()
	c.each(func(r int) {
		s := c.open(r, o)
		if s == nil {
			return
		}
		defer s.Close()
		if insert != nil {
			insert(r, s)
		}
		c.ok(r, s.InsertFinished(c.ctx))
		if !c.ok(r, s.Wait(c.ctx)) {
			return
		}
		if check != nil {
			check(r, s)
		}
	})
}

func (c *cluster) ok(r int, err error) bool {
	c.Helper()
	if err != nil {
		c.Errorf("rank %d: %v", r, err)
	}
	return err == nil
}

// withFaults wraps what makeTransports makes.
func withFaults(makeTransports Make, spec string, seed uint64) Make {
	return func(t *testing.T, size int) []shuffle.Transport {
		t.Helper()
		ts, err := faulty.Wrap(makeTransports(t, size), spec, seed)
		if err != nil {
			t.Fatal(err)
		}
		return ts
	}
}

func forSizes(t *testing.T, sizes []int, f func(t *testing.T, size int)) {
	for _, size := range sizes {
		t.Run(fmt.Sprintf("ranks=%d", size), func(t *testing.T) { f(t, size) })
	}
}
