package transporttest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/invariants"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

func runShuffle(t *testing.T, mk Make) {
	t.Run("round trip", func(t *testing.T) { testRoundTrip(t, mk, Sizes) })
	t.Run("concurrent", func(t *testing.T) {
		forSizes(t, Sizes, func(t *testing.T, size int) { testConcurrent(t, newCluster(t, mk, size, 0)) })
	})
	t.Run("empty", func(t *testing.T) {
		forSizes(t, Sizes, func(t *testing.T, size int) { testEmpty(t, newCluster(t, mk, size, 0)) })
	})
	t.Run("op id reuse", func(t *testing.T) {
		forSizes(t, Sizes, func(t *testing.T, size int) { testReuse(t, newCluster(t, mk, size, 0)) })
	})
	t.Run("waiters", func(t *testing.T) {
		forSizes(t, Sizes, func(t *testing.T, size int) { testWaiters(t, newCluster(t, mk, size, 0)) })
	})
	t.Run("misuse", func(t *testing.T) {
		forSizes(t, []int{1, 3}, func(t *testing.T, size int) { testShuffleMisuse(t, newCluster(t, mk, size, 0)) })
	})
	t.Run("statistics", func(t *testing.T) {
		forSizes(t, []int{1, 3}, func(t *testing.T, size int) { testStatistics(t, newCluster(t, mk, size, 0)) })
	})
	t.Run("timeout", func(t *testing.T) { testTimeout(t, newCluster(t, mk, 2, 0)) })
	t.Run("close", func(t *testing.T) {
		forSizes(t, Sizes, func(t *testing.T, size int) { testMultipleClose(t, newCluster(t, mk, size, 0)) })
	})
	t.Run("attempts", func(t *testing.T) {
		forSizes(t, Sizes, func(t *testing.T, size int) { testAttempts(t, newCluster(t, mk, size, 0)) })
	})
	t.Run("abort", func(t *testing.T) {
		forSizes(t, Sizes, func(t *testing.T, size int) { testAbort(t, mk, size) })
	})
	t.Run("epochs", func(t *testing.T) { testEpochs(t, newCluster(t, mk, 3, 0)) })
	t.Run("late rank", func(t *testing.T) { testLateRank(t, newCluster(t, mk, 3, 0)) })
	t.Run("different options", func(t *testing.T) { testMismatch(t, mk) })
	t.Run("memory", func(t *testing.T) { runMemory(t, mk) })
}

// testRoundTrip is RapidsMPF's matrix of partitions and rows, in memory and with everything spilled. Under
// the race detector, which makes it ten times slower, it is thinned like with -short.
func testRoundTrip(t *testing.T, mk Make, sizes []int) {
	partitions, rows := []int{1, 2, 5, 10, 100}, []int{0, 1, 9, 100, 100_000}
	if testing.Short() || invariants.Enabled {
		partitions, rows = []int{1, 5, 100}, []int{0, 9, 20_000}
	}
	forSizes(t, sizes, func(t *testing.T, size int) {
		for _, limit := range []int64{0, 1} {
			t.Run(map[int64]string{0: "host", 1: "spilling"}[limit], func(t *testing.T) {
				c := newCluster(t, mk, size, 0)
				for i, parts := range partitions {
					for j, n := range rows {
						d := &table{base: uint64(i*7+j) << 32, rows: n, parts: parts, ranks: size, tasks: 2, chunk: 1000}
						o := shuffle.Options{
							Op: shuffle.OpID(i), TotalParts: parts, SpillMemoryLimit: limit,
							Owner: []shuffle.OwnerFunc{shuffle.RoundRobin, shuffle.Contiguous}[j%2],
						}
						if limit > 0 {
							o.ReceiveWindow, o.MaxChunk = 32<<10, 16<<10 // so that credit matters too
						}
						c.shuffleAll(o, func(r int, s *shuffle.Shuffler) { d.insert(c, r, s) },
							func(r int, s *shuffle.Shuffler) { d.check(c, r, s) })
						if t.Failed() {
							t.Fatalf("%d partitions, %d rows", parts, n)
						}
					}
				}
			})
		}
	})
}

// Operations with different ids run at once on one communicator and do not mix, whoever starts them in
// which order.
func testConcurrent(t *testing.T, c *cluster) {
	for _, ops := range []int{2, 4} {
		for _, parts := range []int{1, 10, 100} {
			c.each(func(r int) {
				var wg sync.WaitGroup
				for k := range ops {
					op := (k + r) % ops // another order on every rank
					wg.Go(func() {
						d := &table{base: uint64(op+1) << 40, rows: 5000, parts: parts, ranks: len(c.comms), tasks: 2, chunk: 64}
						s := c.open(r, shuffle.Options{Op: shuffle.OpID(op), TotalParts: parts})
						if s == nil {
							return
						}
						defer s.Close()
						d.insert(c, r, s)
						c.ok(r, s.InsertFinished(c.ctx))
						if c.ok(r, s.Wait(c.ctx)) {
							d.check(c, r, s)
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// Nothing inserted; nothing but empty chunks; some partitions empty; meta without data.
func testEmpty(t *testing.T, c *cluster) {
	want := func(counts func(part int) int) func(int, *shuffle.Shuffler) {
		return func(r int, s *shuffle.Shuffler) {
			for _, part := range s.LocalPartitions() {
				chunks, err := s.Extract(c.ctx, part)
				c.ok(r, err)
				if len(chunks) != counts(part) {
					c.Errorf("partition %d has %d chunks, want %d", part, len(chunks), counts(part))
				}
				for _, ch := range chunks {
					if string(ch.Meta) != "only meta" || ch.Data != nil {
						c.Errorf("partition %d: meta %q", part, ch.Meta)
					}
				}
			}
		}
	}
	none := func(int) int { return 0 }
	c.shuffleAll(shuffle.Options{TotalParts: 10}, nil, want(none))
	c.shuffleAll(shuffle.Options{TotalParts: 10}, func(r int, s *shuffle.Shuffler) {
		for part := range 10 {
			b, err := s.Alloc(c.ctx, 0)
			c.ok(r, err)
			c.ok(r, s.Insert(c.ctx, shuffle.Chunk{Partition: part, Data: b}))
		}
	}, want(none))
	c.shuffleAll(shuffle.Options{TotalParts: 10}, func(r int, s *shuffle.Shuffler) {
		for part := 0; part < 10; part += 3 {
			c.ok(r, s.Insert(c.ctx, shuffle.Chunk{Partition: part, Meta: []byte("only meta")}, shuffle.Chunk{Partition: part}))
		}
	}, want(func(part int) int {
		if part%3 == 0 {
			return len(c.comms)
		}
		return 0
	}))
	// Fewer partitions than ranks: those without any are complete at once, and take part all the same.
	c.shuffleAll(shuffle.Options{TotalParts: 1}, func(r int, s *shuffle.Shuffler) {
		c.ok(r, s.Insert(c.ctx, shuffle.Chunk{Partition: 0, Meta: []byte("only meta")}))
	}, want(func(int) int { return len(c.comms) }))
}

// An op id is used again as soon as Wait has returned, although another rank is late.
func testReuse(t *testing.T, c *cluster) {
	for _, parts := range []int{1, len(c.comms) * 2} {
		c.each(func(r int) {
			for round := range 6 {
				if r == round%len(c.comms) {
					time.Sleep(5 * time.Millisecond)
				}
				d := &table{base: uint64(round) << 32, rows: 500, parts: parts, ranks: len(c.comms), chunk: 10}
				s := c.open(r, shuffle.Options{Op: 7, TotalParts: parts})
				if s == nil {
					return
				}
				d.insert(c, r, s)
				c.ok(r, s.InsertFinished(c.ctx))
				if c.ok(r, s.Wait(c.ctx)) {
					d.check(c, r, s)
				}
				s.Close()
			}
		})
	}
}

// Many goroutines wait for everything, for one partition and for any, before and while others insert.
func testWaiters(t *testing.T, c *cluster) {
	parts := 8 * len(c.comms)
	d := &table{rows: 4000, parts: parts, ranks: len(c.comms), chunk: 50}
	c.each(func(r int) {
		s := c.open(r, shuffle.Options{TotalParts: parts})
		if s == nil {
			return
		}
		defer s.Close()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var any []int
		local := s.LocalPartitions()
		for k := range 4 {
			wg.Go(func() { c.ok(r, s.Wait(c.ctx)) })
			wg.Go(func() { c.ok(r, s.WaitOn(c.ctx, local[k])) })
			wg.Go(func() {
				for {
					part, err := s.WaitAny(c.ctx)
					if errors.Is(err, io.EOF) || !c.ok(r, err) {
						return
					}
					mu.Lock()
					any = append(any, part)
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Millisecond)
		d.insert(c, r, s)
		c.ok(r, s.InsertFinished(c.ctx))
		wg.Wait()
		slices.Sort(any)
		if !slices.Equal(any, local) {
			c.Errorf("rank %d: WaitAny returned %v of %v", r, any, local)
		}
		if s.Finished() {
			c.Errorf("rank %d is finished before anything was extracted", r)
		}
		d.check(c, r, s)
	})
}

// What stays on the rank is no traffic, and the ledgers of the ranks agree pair by pair.
func testStatistics(t *testing.T, c *cluster) {
	const rows, parts = 3000, 12
	size := len(c.comms)
	d := &table{rows: rows, parts: parts, ranks: size, tasks: 3, chunk: 40}
	ledgers := make([]shuffle.Ledger, size)
	stats := make([]shuffle.Statistics, size)
	c.shuffleAll(shuffle.Options{TotalParts: parts}, func(r int, s *shuffle.Shuffler) { d.insert(c, r, s) },
		func(r int, s *shuffle.Shuffler) {
			ledgers[r], stats[r] = s.Ledger(), s.Statistics()
			d.check(c, r, s)
		})
	var total shuffle.Statistics
	for r, st := range stats {
		total = total.Add(st)
		l := &ledgers[r]
		if l.Tasks != 3 {
			t.Errorf("rank %d committed %d tasks", r, l.Tasks)
		}
		self := l.SentTo[r]
		if st.Self.Bytes != 8*self.Rows || st.Self.Chunks != self.Chunks {
			t.Errorf("rank %d: self traffic %+v, ledger %+v", r, st.Self, self)
		}
		if sent := l.Sent(); st.Sent.Bytes != 8*(sent.Rows-self.Rows) || st.Sent.Chunks != sent.Chunks-self.Chunks {
			t.Errorf("rank %d: sent %+v, ledger %+v", r, st.Sent, sent)
		}
		for p := range ledgers {
			if l.SentTo[p] != ledgers[p].ReceivedFrom[r] {
				t.Errorf("rank %d sent rank %d %+v, which received %+v", r, p, l.SentTo[p], ledgers[p].ReceivedFrom[r])
			}
		}
	}
	if total.Self.Bytes+total.Sent.Bytes != 8*rows || total.Received.Bytes < total.Sent.Bytes || total.Spilled.Bytes != 0 {
		t.Errorf("%+v", total)
	}
}

// A wait that times out says so, harms nothing and can be repeated.
func testTimeout(t *testing.T, c *cluster) {
	c.each(func(r int) {
		s := c.open(r, shuffle.Options{TotalParts: 4})
		if s == nil {
			return
		}
		defer s.Close()
		short, cancel := context.WithTimeout(c.ctx, 10*time.Millisecond)
		defer cancel()
		_, anyErr := s.WaitAny(short)
		for i, err := range []error{s.Wait(short), s.WaitOn(short, r), anyErr} {
			if !errors.Is(err, context.DeadlineExceeded) {
				c.Errorf("rank %d: wait %d: %v", r, i, err)
			}
		}
		c.ok(r, s.InsertFinished(c.ctx))
		c.ok(r, s.Wait(c.ctx))
		part, err := s.WaitAny(c.ctx)
		if c.ok(r, err) && part != r {
			c.Errorf("rank %d: WaitAny returned %d", r, part)
		}
	})
}

// Close is safe from ten goroutines, before and after completion, and with chunks that nobody extracted.
func testMultipleClose(t *testing.T, c *cluster) {
	d := &table{rows: 2000, parts: 16, ranks: len(c.comms), chunk: 10}
	for _, finish := range []bool{true, false} {
		c.each(func(r int) {
			s := c.open(r, shuffle.Options{TotalParts: 16})
			if s == nil {
				return
			}
			if finish {
				d.insert(c, r, s)
				c.ok(r, s.InsertFinished(c.ctx))
				c.ok(r, s.Wait(c.ctx))
			} else {
				// Other ranks may have closed, and so aborted, before or while this one inserts.
				_ = s.Insert(c.ctx, shuffle.Chunk{Partition: r, Meta: []byte("x")})
			}
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() { c.ok(r, s.Close()) })
			}
			wg.Wait()
			if err := s.Err(); !finish && err == nil || finish && !errors.Is(err, shuffle.ErrClosed) {
				c.Errorf("rank %d: error after close is %v", r, err)
			}
		})
	}
}

// Only committed attempts count, whatever other attempts of the task inserted, on the same rank or another,
// and whether they were aborted or just left.
func testAttempts(t *testing.T, c *cluster) {
	const parts = 6
	size := len(c.comms)
	d := &table{rows: 3000, parts: parts, ranks: size, chunk: 20}
	wrong := &table{base: 1 << 50, rows: 3000, parts: parts, ranks: size, chunk: 20}
	c.shuffleAll(shuffle.Options{TotalParts: parts}, func(r int, s *shuffle.Shuffler) {
		failed := s.Begin(uint64(r), 0)
		wrong.insertTask(c, r, s, failed, 0)
		c.ok(r, failed.Abort())
		// An attempt of the neighbour's task that is aborted late: its chunks arrive before, between and
		// after those that count.
		zombie := s.Begin(uint64((r+1)%size), 7)
		wrong.insertTask(c, r, s, zombie, 0)
		good := s.Begin(uint64(r), 1)
		d.insertTask(c, r, s, good, 0)
		c.ok(r, good.Commit(c.ctx))
		wrong.insertTask(c, r, s, zombie, 0)
		c.ok(r, zombie.Abort())
	}, func(r int, s *shuffle.Shuffler) { d.check(c, r, s) })
	if size == 1 || t.Failed() {
		return
	}
	// Two ranks that commit the same task are found out.
	c.each(func(r int) {
		s := c.open(r, shuffle.Options{TotalParts: parts})
		if s == nil {
			return
		}
		defer s.Close()
		in := s.Begin(5, uint32(r))
		_ = in.Insert(c.ctx, shuffle.Chunk{Partition: 0, Meta: []byte("x")})
		_ = in.Commit(c.ctx)
		_ = s.InsertFinished(c.ctx)
		if err := s.Wait(c.ctx); r == 0 && (!errors.Is(err, shuffle.ErrAborted) || !strings.Contains(err.Error(), "task 5 was committed twice")) {
			c.Errorf("rank %d: %v", r, err)
		}
	})
}

// An abort on one rank ends everything that waits on all ranks, with the reason, whatever the others do.
func testAbort(t *testing.T, mk Make, size int) {
	c := newCluster(t, mk, size, 0)
	reason := errors.New("the cat sat on the keyboard")
	c.each(func(r int) {
		s := c.open(r, shuffle.Options{TotalParts: size, OutgoingLimit: 4000, ReceiveWindow: 1000, MaxChunk: 4000})
		if s == nil {
			return
		}
		defer s.Close()
		if r == size-1 {
			time.Sleep(5 * time.Millisecond)
			s.Abort(reason)
			s.Abort(errors.New("another reason, too late"))
		}
		var err error
		switch r % 3 {
		case 0:
			err = s.Wait(c.ctx)
		case 1:
			_, err = s.WaitAny(c.ctx)
		case 2:
			in := s.Begin(uint64(r), 0)
			for err == nil { // until Insert fails
				ch := shuffle.Chunk{Partition: (r + 1) % size}
				if ch.Data, err = s.Alloc(c.ctx, 1000); err == nil {
					err = in.Insert(c.ctx, ch)
				}
				time.Sleep(100 * time.Microsecond)
			}
		}
		var abort *shuffle.AbortError
		if !errors.As(err, &abort) || abort.Rank != size-1 || !strings.Contains(err.Error(), reason.Error()) {
			c.Errorf("rank %d: %v", r, err)
		}
		if err := s.Wait(c.ctx); !errors.Is(err, shuffle.ErrAborted) {
			c.Errorf("rank %d: wait after abort: %v", r, err)
		}
	})
	// The communicator is as good as new.
	d := &table{rows: 1000, parts: 3, ranks: size, chunk: 100}
	c.shuffleAll(shuffle.Options{TotalParts: 3}, func(r int, s *shuffle.Shuffler) { d.insert(c, r, s) },
		func(r int, s *shuffle.Shuffler) { d.check(c, r, s) })
}

// Messages of an older epoch do nothing to a newer one, and an old epoch cannot be started again.
func testEpochs(t *testing.T, c *cluster) {
	old := c.open(0, shuffle.Options{Op: 3, Epoch: 1, TotalParts: 3})
	c.ok(0, old.Insert(c.ctx, shuffle.Chunk{Partition: 1, Meta: []byte("stale")}))
	defer old.Close()
	d := &table{rows: 1000, parts: 3, ranks: len(c.comms), chunk: 100}
	c.shuffleAll(shuffle.Options{Op: 3, Epoch: 2, TotalParts: 3}, func(r int, s *shuffle.Shuffler) { d.insert(c, r, s) },
		func(r int, s *shuffle.Shuffler) {
			if r == 1 {
				old.Abort(errors.New("woken from the dead"))
			}
			d.check(c, r, s)
		})
	if _, err := shuffle.New(shuffle.Options{Comm: c.comms[0], Op: 3, Epoch: 1, TotalParts: 3}); err == nil {
		t.Error("an old epoch was started")
	}
	// Another run with the same op and epoch is another operation.
	c.shuffleAll(shuffle.Options{Run: 99, Op: 3, Epoch: 1, TotalParts: 3}, func(r int, s *shuffle.Shuffler) { d.insert(c, r, s) },
		func(r int, s *shuffle.Shuffler) { d.check(c, r, s) })
}

// A rank that starts the operation long after the others have inserted and finished.
func testLateRank(t *testing.T, c *cluster) {
	d := &table{rows: 5000, parts: 30, ranks: len(c.comms), chunk: 10}
	c.each(func(r int) {
		if r == 1 {
			time.Sleep(50 * time.Millisecond)
		}
		s := c.open(r, shuffle.Options{TotalParts: 30})
		if s == nil {
			return
		}
		defer s.Close()
		d.insert(c, r, s)
		c.ok(r, s.InsertFinished(c.ctx))
		if c.ok(r, s.Wait(c.ctx)) {
			d.check(c, r, s)
		}
	})
}
