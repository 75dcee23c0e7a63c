package shuffle_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/faulty"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ranks starts n ranks in this process and one operation on each.
func ranks(t *testing.T, n int, o shuffle.Options) (context.Context, []*shuffle.Shuffler) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	var alloc mem.Allocator = mem.NewChecked(t, mem.Host())
	if o.Alloc == nil {
		o.Alloc = alloc
	}
	if o.SpillDir == "" {
		o.SpillDir = t.TempDir()
	}
	var ss []*shuffle.Shuffler
	for _, tr := range inproc.New(n, inproc.Options{}) {
		c, err := shuffle.NewCommunicator(tr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		o.Comm = c
		s, err := shuffle.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		ss = append(ss, s)
	}
	return ctx, ss
}

func fill(t *testing.T, ctx context.Context, s *shuffle.Shuffler, part, size int) {
	t.Helper()
	b, err := s.Alloc(ctx, size)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Bytes() {
		b.Bytes()[i] = byte(i + part)
	}
	if err := s.Insert(ctx, shuffle.Chunk{Partition: part, Rows: 1, Meta: []byte("m"), Data: b}); err != nil {
		t.Fatal(err)
	}
}

func drain(t *testing.T, ctx context.Context, s *shuffle.Shuffler, part, want int) {
	t.Helper()
	chunks, err := s.Extract(ctx, part)
	if err != nil || len(chunks) != want {
		t.Fatalf("partition %d: %d chunks, want %d: %v", part, len(chunks), want, err)
	}
	for _, c := range chunks {
		for i, v := range c.Data.Bytes() {
			if v != byte(i+part) {
				t.Fatalf("partition %d: byte %d is %d", part, i, v)
			}
		}
	}
	shuffle.ReleaseAll(chunks)
}

// Spill takes what is asked for and not much more, from the partition that is needed last, and the large
// chunks of it first.
func TestSpillChoosesVictims(t *testing.T) {
	ctx, ss := ranks(t, 1, shuffle.Options{TotalParts: 3})
	s := ss[0]
	for part := range 3 {
		fill(t, ctx, s, part, 1000)
		for range 4 {
			fill(t, ctx, s, part, 100<<10)
		}
	}
	if freed := s.Spill(300 << 10); freed != 300<<10 || fmt.Sprint(s.OnDisk()) != "[0 0 3]" {
		t.Fatalf("%d bytes were freed, chunks on disk: %d", freed, s.OnDisk())
	}
	if freed := s.Spill(200 << 10); freed < 200<<10 || fmt.Sprint(s.OnDisk()) != "[0 1 5]" && fmt.Sprint(s.OnDisk()) != "[0 2 5]" {
		t.Fatalf("%d bytes were freed, chunks on disk: %d", freed, s.OnDisk())
	}
	if err := s.InsertFinished(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := s.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	// Partition 0 is next and 1 is open: they go last, and nothing is spilled twice.
	if freed := s.Spill(1); freed < 1 || s.OnDisk()[2] != 5 {
		t.Fatalf("%d bytes were freed, chunks on disk: %d", freed, s.OnDisk())
	}
	all := int64(3 * (1000 + 400<<10))
	s.Spill(all)
	if got := s.Statistics().Spilled.Bytes; got != all || fmt.Sprint(s.OnDisk()) != "[5 5 5]" || s.Spill(1) != 0 {
		t.Fatalf("%d of %d bytes were spilled, chunks on disk: %d", got, all, s.OnDisk())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	drain(t, ctx, s, 0, 5)
	drain(t, ctx, s, 2, 5)
}

// RapidsMPF's SpillOnInsertAndExtraction: with a limit of nothing every chunk goes to disk when it is
// inserted and comes back when it is extracted.
func TestSpillOnInsertAndExtraction(t *testing.T) {
	counting := &countingAlloc{Allocator: mem.NewChecked(t, mem.Host())}
	ctx, ss := ranks(t, 1, shuffle.Options{TotalParts: 2, SpillMemoryLimit: 1, Alloc: counting})
	s := ss[0]
	for part := range 2 {
		fill(t, ctx, s, part, 5000)
		if n := counting.live.Load(); n != 0 {
			t.Fatalf("%d bytes are in memory after insert %d", n, part)
		}
	}
	if err := s.InsertFinished(ctx); err != nil {
		t.Fatal(err)
	}
	chunks, err := s.Extract(ctx, 0)
	if err != nil || counting.live.Load() != 5000 {
		t.Fatalf("%d bytes are in memory after extract: %v", counting.live.Load(), err)
	}
	shuffle.ReleaseAll(chunks)
	drain(t, ctx, s, 1, 1)
	if n := counting.live.Load(); n != 0 {
		t.Fatalf("%d bytes are in memory at the end", n)
	}
}

type countingAlloc struct {
	mem.Allocator
	live atomic.Int64
}

func (a *countingAlloc) Alloc(n int) (*mem.Buffer, error) {
	b, err := a.Allocator.Alloc(n)
	if err != nil {
		return nil, err
	}
	a.live.Add(int64(n))
	return mem.NewHostBuffer(b.Tier(), b.Bytes(), func(*mem.Buffer) {
		a.live.Add(-int64(n))
		b.Release()
	}), nil
}

// A full disk ends the operation on all ranks with an error that says where and what to do.
func TestSpillDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	ctx, ss := ranks(t, 2, shuffle.Options{TotalParts: 2})
	fill(t, ctx, ss[0], 0, 100<<10)
	if err := ss[0].FillDisk(); err != nil {
		t.Fatal(err)
	}
	if freed := ss[0].Spill(1); freed != 0 {
		t.Errorf("%d bytes were freed", freed)
	}
	for r, s := range ss {
		err := s.Wait(ctx)
		if !errors.Is(err, shuffle.ErrAborted) || !strings.Contains(err.Error(), "no space left") ||
			!strings.Contains(err.Error(), "free space on that disk or choose another folder") {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	if err := ss[0].Err(); !errors.Is(err, shuffle.ErrSpill) {
		t.Error(err)
	}
}

// A spill file that changed is found out when a chunk is read back, whichever way.
func TestSpillDamage(t *testing.T) {
	for name, read := range map[string]func(ctx context.Context, s *shuffle.Shuffler) error{
		"extract": func(ctx context.Context, s *shuffle.Shuffler) error {
			_, err := s.Extract(ctx, 0)
			return err
		},
		"stream": func(ctx context.Context, s *shuffle.Shuffler) error {
			p, err := s.Open(0)
			if err != nil {
				return err
			}
			defer p.Close()
			for _, err := range p.Chunks(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, ss := ranks(t, 1, shuffle.Options{TotalParts: 1, Budget: mem.NewBudget(4 << 20)})
			s := ss[0]
			for range 3 {
				fill(t, ctx, s, 0, 100<<10)
			}
			if err := s.InsertFinished(ctx); err != nil {
				t.Fatal(err)
			}
			if err := s.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			s.Spill(1 << 20)
			if n, err := s.DamageSpill(); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			err := read(ctx, s)
			if !errors.Is(err, shuffle.ErrSpill) || !errors.Is(err, shuffle.ErrCorrupt) || !strings.Contains(err.Error(), "partition 0") {
				t.Error(err)
			}
		})
	}
}

// An attempt is aborted while its chunks are about to be read back: they are dropped once, and other chunks in
// the same spill file stay.
func TestAbortWhileLoading(t *testing.T) {
	const limit = 1 << 20
	budget := mem.NewBudget(limit)
	ts := inproc.New(2, inproc.Options{})
	alloc := mem.NewChecked(t, mem.Host())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	open := func(r int) *shuffle.Shuffler {
		c, err := shuffle.NewCommunicator(ts[r])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		o := shuffle.Options{Comm: c, TotalParts: 2, Alloc: alloc, Budget: budget, SpillDir: t.TempDir(), OutgoingLimit: limit}
		s, err := shuffle.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	s := open(0)
	in := s.Begin(1, 0)
	for range 3 {
		b, err := s.Alloc(ctx, 70<<10)
		if err == nil {
			err = in.Insert(ctx, shuffle.Chunk{Partition: 1, Data: b})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fill(t, ctx, s, 0, 70<<10)
	s.Spill(limit)
	all, err := budget.Reserve(ctx, "program", limit)
	if err != nil {
		t.Fatal(err)
	}
	other := open(1)
	for budget.Stats().Waiting == 0 { // until the loader waits for memory
		time.Sleep(time.Millisecond)
	}
	if err := in.Abort(); err != nil {
		t.Fatal(err)
	}
	all.Release()
	for _, s := range []*shuffle.Shuffler{s, other} {
		if err := s.InsertFinished(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	drain(t, ctx, s, 0, 1)
	drain(t, ctx, other, 1, 0)
	for deadline := time.Now().Add(10 * time.Second); budget.Stats().Used != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are still charged", budget.Stats().Used)
		}
	}
}

// Queued chunks that were spilled are read back and sent once the receiver is there.
func TestSpillQueued(t *testing.T) {
	ts := inproc.New(2, inproc.Options{})
	alloc := mem.NewChecked(t, mem.Host())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var ss [2]*shuffle.Shuffler
	open := func(r int) {
		c, err := shuffle.NewCommunicator(ts[r])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if ss[r], err = shuffle.New(shuffle.Options{Comm: c, TotalParts: 2, Alloc: alloc, SpillDir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ss[r].Close() })
	}
	open(0)
	for range 50 {
		fill(t, ctx, ss[0], 1, 70<<10)
	}
	if freed := ss[0].Spill(10 << 20); freed != 50*70<<10 {
		t.Fatalf("%d bytes of the queue were spilled", freed)
	}
	fill(t, ctx, ss[0], 1, 500)
	open(1)
	for _, s := range ss {
		if err := s.InsertFinished(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range ss {
		if err := s.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	drain(t, ctx, ss[1], 1, 51)
	if st := ss[0].Statistics(); st.Unspilled.Chunks != 50 {
		t.Errorf("%+v", st)
	}
}

// Ranks that wait do not poll.
func TestIdleRanksSleep(t *testing.T) {
	var polls atomic.Int64
	ts := inproc.New(3, inproc.Options{})
	for _, tr := range ts {
		c, err := shuffle.NewCommunicator(&pollCounter{tr, &polls})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := shuffle.New(shuffle.Options{Comm: c, TotalParts: 3})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.InsertFinished(t.Context()); err != nil && tr.Rank() > 0 {
			t.Fatal(err)
		}
	}
	// They greet each other first, which takes a while on a busy machine.
	for end := time.Now().Add(10 * time.Second); ; {
		before := polls.Load()
		time.Sleep(50 * time.Millisecond)
		n := polls.Load() - before
		if n <= 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d polls by three ranks with nothing to do", n)
		}
	}
}

type pollCounter struct {
	shuffle.Transport
	polls *atomic.Int64
}

func (p *pollCounter) Poll(events []shuffle.Event) (int, error) {
	p.polls.Add(1)
	return p.Transport.Poll(events)
}

// Whatever is going on when an operation is aborted or closed, every call returns, and nothing leaks.
func TestAbortAtAnyMoment(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	dir := t.TempDir()
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			budget := mem.NewBudget(1 << 20)
			ctx, ss := ranks(t, 3, shuffle.Options{TotalParts: 7, Budget: budget, SpillDir: dir, SpillMemoryLimit: int64(round%3) * 100_000})
			var wg sync.WaitGroup
			for r, s := range ss {
				for w := range 2 {
					wg.Go(func() {
						in := s.Begin(uint64(10*r+w), 0)
						for i := range 200 {
							b, err := s.Alloc(ctx, 10_000+i)
							if err == nil {
								err = in.Insert(ctx, shuffle.Chunk{Partition: i % 7, Rows: 1, Data: b})
							}
							if err != nil {
								return
							}
						}
						_ = in.Commit(ctx)
					})
				}
				wg.Go(func() {
					for {
						part, err := s.WaitAny(ctx)
						if err != nil {
							return
						}
						p, err := s.Open(part)
						if err != nil {
							return
						}
						for _, err := range p.Chunks(ctx) {
							if err != nil {
								break
							}
						}
						p.Close()
					}
				})
			}
			time.Sleep(time.Duration(round) * 200 * time.Microsecond)
			if round%2 == 0 {
				ss[round%3].Abort(errors.New("enough"))
			} else {
				ss[round%3].Close()
			}
			wg.Wait()
			for r, s := range ss {
				if err := s.Wait(ctx); err == nil || ctx.Err() != nil {
					t.Errorf("rank %d: %v", r, err)
				}
				s.Close()
				if held := s.Held(); held != 0 {
					t.Errorf("rank %d believes to hold %d bytes", r, held)
				}
			}
			// What was on its way when the operation ended is released when it arrives.
			for deadline := time.Now().Add(10 * time.Second); budget.Stats().Used != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d bytes are still charged", budget.Stats().Used)
				}
			}
		})
	}
}

// A reservation that finds everything under way, and so nothing to spill, is served when that arrives,
// although nobody presses again.
func TestPressureWhileUnderWay(t *testing.T) {
	const limit = 300 << 10
	budget := mem.NewBudget(limit)
	ts, err := faulty.Wrap(inproc.New(2, inproc.Options{}), "delay@1=100%:40ms", 1)
	if err != nil {
		t.Fatal(err)
	}
	alloc := mem.NewChecked(t, mem.Host())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var ss []*shuffle.Shuffler
	for _, tr := range ts {
		c, err := shuffle.NewCommunicator(tr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := shuffle.New(shuffle.Options{Comm: c, TotalParts: 2, Budget: budget, Alloc: alloc, SpillDir: t.TempDir(), MaxChunk: limit})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ss = append(ss, s)
	}
	fill(t, ctx, ss[0], 1, 200<<10)
	for ss[0].Statistics().Sent.Chunks == 0 {
		time.Sleep(time.Millisecond)
	}
	res, err := budget.Reserve(ctx, "program", 200<<10)
	if err != nil {
		t.Fatal(err)
	}
	res.Release()
	if st := ss[1].Statistics(); st.Spilled.Chunks != 1 {
		t.Errorf("%+v", st)
	}
}

// Two programs that extract partitions of more than half the budget each take turns.
func TestExtractTakesTurns(t *testing.T) {
	budget := mem.NewBudget(1 << 20)
	ctx, ss := ranks(t, 1, shuffle.Options{TotalParts: 4, Budget: budget})
	s := ss[0]
	for range 6 {
		for part := range 4 {
			fill(t, ctx, s, part, 100<<10)
		}
	}
	if err := s.InsertFinished(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			chunks, err := s.Extract(ctx, part)
			if err != nil || len(chunks) != 6 {
				t.Errorf("partition %d: %d chunks: %v", part, len(chunks), err)
			}
			time.Sleep(2 * time.Millisecond)
			shuffle.ReleaseAll(chunks)
		})
	}
	wg.Wait()
	if st := budget.Stats(); st.Peak > 1<<20 || st.Used != 0 {
		t.Errorf("%+v", st)
	}
}

// A budget without room for the receive pool of a copying transport is refused at once, with the numbers.
func TestPoolTooLarge(t *testing.T) {
	ts := inproc.New(2, inproc.Options{Copy: true})
	var cs []*shuffle.Communicator
	for _, tr := range ts {
		c, err := shuffle.NewCommunicator(tr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cs = append(cs, c)
	}
	budget := mem.NewBudget(1 << 20)
	_, err := shuffle.New(shuffle.Options{Comm: cs[0], TotalParts: 1, Budget: budget, MaxChunk: 1 << 20})
	if !errors.Is(err, mem.ErrNoMemory) || !strings.Contains(err.Error(), "ReceiveWindow") {
		t.Error(err)
	}
	if used := budget.Stats().Used; used != 0 {
		t.Errorf("%d bytes are still charged", used)
	}
}

// Statistics add up field by field.
func TestStatisticsAdd(t *testing.T) {
	a := shuffle.Statistics{Sent: shuffle.Traffic{Chunks: 1, Bytes: 2}, Wants: 3, InsertWait: 4}
	sum := a.Add(a).Add(shuffle.Statistics{Spilled: shuffle.Traffic{Chunks: 1, Bytes: 1}})
	want := shuffle.Statistics{Sent: shuffle.Traffic{Chunks: 2, Bytes: 4}, Wants: 6, InsertWait: 8, Spilled: shuffle.Traffic{Chunks: 1, Bytes: 1}}
	if sum != want {
		t.Errorf("%+v", sum)
	}
	if h := (shuffle.Hash{A: 1, B: 1<<64 - 1}).Add(shuffle.Hash{A: 2, B: 2}); !h.Sub(shuffle.Hash{A: 2, B: 2}).Equal(shuffle.Hash{A: 1, B: 1<<64 - 1}) {
		t.Error(h)
	}
	if !slices.Equal([]int64{sum.Sent.Bytes}, []int64{4}) {
		t.Error(sum)
	}
}
