package transporttest

import (
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/invariants"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// peakAlloc measures how many bytes were allocated at one time, whatever any budget believes.
type peakAlloc struct {
	mem.Allocator

	mu         sync.Mutex
	live, peak int64
}

func (p *peakAlloc) Alloc(n int) (*mem.Buffer, error) {
	b, err := p.Allocator.Alloc(n)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.live += int64(n)
	p.peak = max(p.peak, p.live)
	p.mu.Unlock()
	return mem.Around(b, func(*mem.Buffer) {
		p.mu.Lock()
		p.live -= int64(n)
		p.mu.Unlock()
		b.Release()
	}), nil
}

func runMemory(t *testing.T, mk Make) {
	t.Run("tiny budget", func(t *testing.T) {
		sizes := Sizes
		if invariants.Enabled {
			sizes = []int{1, 3, 8}
		}
		forSizes(t, sizes, func(t *testing.T, size int) { testTinyBudget(t, mk, size, shuffle.Options{TotalParts: 3 * size}, 6, 0) })
	})
	t.Run("slow consumer", func(t *testing.T) {
		testTinyBudget(t, mk, 3, shuffle.Options{TotalParts: 6}, 2, 2*time.Millisecond)
	})
	t.Run("skew", func(t *testing.T) {
		// Nine tenths of the bytes are in one partition, of one rank.
		forSizes(t, []int{2, 5}, func(t *testing.T, size int) {
			testTinyBudget(t, mk, size, shuffle.Options{
				TotalParts: 10, Owner: func(part, _, size int) int { return max(0, part-10+size) % size },
			}, 3, 0)
		})
	})
	t.Run("one at a time", func(t *testing.T) { testStreamMemory(t, mk) })
	t.Run("two operations", func(t *testing.T) { testTwoOperations(t, mk) })
}

// Ranks move many times the memory limit of 1 MiB in chunks of up to 256 KiB, reading partitions as
// streams: it ends, nothing is lost, and the bytes allocated never exceed the limit. See the proof in
// shuffle/memory.go.
func testTinyBudget(t *testing.T, mk Make, size int, o shuffle.Options, times int, slow time.Duration) {
	const limit, chunkRows = 1 << 20, 256 << 10 / 8
	c := newCluster(t, mk, size, limit)
	allocs := make([]*peakAlloc, size)
	var shared *peakAlloc
	for r := range allocs {
		if shared == nil || c.budgets[r] != c.budgets[0] {
			shared = &peakAlloc{Allocator: c.alloc}
		}
		allocs[r] = shared
	}
	budgets := 1
	if c.budgets[0] != c.budgets[size-1] {
		budgets = size
		times = min(times, 2)
	}
	if testing.Short() || invariants.Enabled {
		times = min(times, 2)
	}
	rows := times * limit / 8 * budgets
	d := &table{rows: rows, parts: o.TotalParts, ranks: size, tasks: 2, chunk: chunkRows}
	var mu sync.Mutex
	var total shuffle.Statistics
	c.each(func(r int) {
		o := o
		o.Alloc = allocs[r]
		s := c.open(r, o)
		if s == nil {
			return
		}
		defer s.Close()
		d.insert(c, r, s)
		c.ok(r, s.InsertFinished(c.ctx))
		if !c.ok(r, s.Wait(c.ctx)) {
			return
		}
		for _, part := range s.LocalPartitions() {
			time.Sleep(slow)
			c.ok(r, d.checkStream(c, s, part))
		}
		mu.Lock()
		defer mu.Unlock()
		total = total.Add(s.Statistics())
	})
	for r, a := range allocs {
		if a.peak > limit {
			t.Errorf("rank %d: %d bytes were allocated at one time, the limit is %d", r, a.peak, int64(limit))
		}
	}
	if least := int64(rows*8 - budgets*limit); total.Spilled.Bytes < least {
		t.Errorf("only %d bytes were spilled, at least %d must have been", total.Spilled.Bytes, least)
	}
}

// Reading a partition larger than the budget as a stream needs memory for one chunk only; extracting it as a
// whole is refused.
func testStreamMemory(t *testing.T, mk Make) {
	const limit = 1 << 20
	c := newCluster(t, mk, 1, limit)
	d := &table{rows: 4 * limit / 8, parts: 2, ranks: 1, chunk: 64 << 10 / 8}
	s := c.open(0, shuffle.Options{TotalParts: 2})
	defer s.Close()
	d.insert(c, 0, s)
	c.ok(0, s.InsertFinished(c.ctx))
	c.ok(0, s.Wait(c.ctx))
	if _, err := s.Extract(c.ctx, 0); err == nil {
		t.Error("two megabytes were extracted into one")
	}
	c.ok(0, d.checkStream(c, s, 0))
	s.Spill(limit)
	c.ok(0, d.checkStream(c, s, 1))
	if st := s.Statistics(); st.Unspilled.Bytes < 4*limit {
		t.Errorf("%+v", st)
	}
}

// Two operations share one budget and starve neither.
func testTwoOperations(t *testing.T, mk Make) {
	const limit = 2 << 20
	c := newCluster(t, mk, 3, limit)
	c.each(func(r int) {
		var wg sync.WaitGroup
		for op := range 2 {
			wg.Go(func() {
				d := &table{base: uint64(op) << 40, rows: limit / 8, parts: 6, ranks: 3, tasks: 2, chunk: 32 << 10 / 8}
				s := c.open(r, shuffle.Options{Op: shuffle.OpID(op), TotalParts: 6, MaxChunk: 64 << 10})
				if s == nil {
					return
				}
				defer s.Close()
				d.insert(c, r, s)
				c.ok(r, s.InsertFinished(c.ctx))
				if !c.ok(r, s.Wait(c.ctx)) {
					return
				}
				for _, part := range s.LocalPartitions() {
					c.ok(r, d.checkStream(c, s, part))
				}
			})
		}
		wg.Wait()
	})
}
