package collective_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/collective"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

// all fails the test unless every rank has failed with an error that has the text.
func all(t *testing.T, errs []error, text string) {
	t.Helper()
	for r, err := range errs {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("rank %d: %v, want %q", r, err, text)
		}
	}
}

// Ranks that make different calls find the same fault on all ranks, whichever rank differs.
func TestDisagree(t *testing.T) {
	const long = collective.LongVector
	sum := collective.Sum[uint64]()
	type call = func(ctx context.Context, g *collective.Group) error
	barrier := func(ctx context.Context, g *collective.Group) error { return g.Barrier(ctx) }
	reduce := func(n int, op collective.Op[uint64]) call {
		return func(ctx context.Context, g *collective.Group) error {
			return collective.AllReduce(ctx, g, make([]uint64, n), op)
		}
	}
	for _, tc := range []struct {
		name       string
		most, some call
		text       []string
	}{
		{"kind", barrier, reduce(3, sum), []string{"Barrier", "AllReduce (sum of 3 uint64)"}},
		{"large", reduce(long, sum), barrier, []string{"Barrier", fmt.Sprintf("AllReduce (sum of %d uint64)", long)}},
		{"length", reduce(3, sum), reduce(4, sum), []string{"sum of 3", "sum of 4"}},
		{"short and long", reduce(3, sum), reduce(20000, sum), []string{"sum of 3", "sum of 20000"}},
		{"two long", reduce(20001, sum), reduce(20000, sum), []string{"sum of 20001", "sum of 20000"}},
		{"function", reduce(3, sum), reduce(3, collective.Max[uint64]()), []string{"sum of", "max of"}},
		{"type", reduce(3, sum), func(ctx context.Context, g *collective.Group) error {
			return collective.AllReduce(ctx, g, make([]float64, 3), collective.Sum[float64]())
		}, []string{"3 uint64", "3 float64"}},
		{"root", func(ctx context.Context, g *collective.Group) error {
			_, err := g.Broadcast(ctx, 0, []byte("x"))
			return err
		}, func(ctx context.Context, g *collective.Group) error {
			_, err := g.Broadcast(ctx, 1, []byte("y"))
			return err
		}, []string{"from rank 0", "from rank 1"}},
	} {
		for _, odd := range []int{0, 2, 4} {
			for _, copies := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/odd=%d/copy=%v", tc.name, odd, copies), func(t *testing.T) {
					errs := setup{size: 5, copy: copies, chunk: 4 << 10}.run(t, func(ctx context.Context, g *collective.Group) error {
						if err := g.Barrier(ctx); err != nil {
							return err
						}
						do := tc.most
						if g.Rank() == odd {
							do = tc.some
						}
						err := do(ctx, g)
						if again := g.Barrier(ctx); again == nil || err == nil || again.Error() != err.Error() {
							return fmt.Errorf("after %v comes %v", err, again)
						}
						return err
					})
					for _, text := range append(tc.text, "rank 0 makes", fmt.Sprintf("and rank %d makes", max(1, odd))) {
						all(t, errs, text)
					}
					for r, err := range errs {
						if !errors.Is(err, collective.ErrDisagree) {
							t.Errorf("rank %d: %v", r, err)
						}
					}
				})
			}
		}
	}
}

// Whatever goes wrong on one rank ends the call on all, with an error that names that rank.
func TestOneRankFails(t *testing.T) {
	boom := errors.New("boom")
	for _, tc := range []struct {
		name string
		odd  func(ctx context.Context, g *collective.Group) error
		text string
	}{
		{"close", func(_ context.Context, g *collective.Group) error { return g.Close() }, "rank 2 left the group"},
		{"abort", func(_ context.Context, g *collective.Group) error { g.Abort(boom); return nil }, "rank 2 gave up: boom"},
		{"parts", func(ctx context.Context, g *collective.Group) error {
			_, err := g.AllToAll(ctx, make([][]byte, 2))
			return err
		}, "rank 2, call 4, AllToAll: 2 parts for"},
		{"root", func(ctx context.Context, g *collective.Group) error {
			_, err := g.Gather(ctx, -1, nil)
			return err
		}, "root -1 is not one of"},
		{"ctx", func(ctx context.Context, g *collective.Group) error {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(boom)
			return g.Barrier(ctx)
		}, "rank 2, call 4, Barrier: shuffle"},
		{"panic", func(ctx context.Context, g *collective.Group) (err error) {
			defer func() { err = fmt.Errorf("recovered %v", recover()) }()
			bad := collective.Op[int64]{Name: "bad", Into: func(_, _ []int64) { panic(boom) }}
			return collective.AllReduce(ctx, g, make([]int64, 1), bad)
		}, ""},
	} {
		for _, size := range []int{3, 8} {
			t.Run(fmt.Sprintf("%s/ranks=%d", tc.name, size), func(t *testing.T) {
				errs := setup{size: size}.run(t, func(ctx context.Context, g *collective.Group) error {
					for range 3 {
						if err := g.Barrier(ctx); err != nil {
							return fmt.Errorf("too early: %w", err)
						}
					}
					if g.Rank() == 2 {
						if err := tc.odd(ctx, g); err != nil {
							return err
						}
					}
					return g.Barrier(ctx)
				})
				all(t, errs, tc.text)
				for r, err := range errs {
					if r != 2 && !errors.Is(err, shuffle.ErrAborted) && !errors.Is(err, collective.ErrDisagree) {
						t.Errorf("rank %d: %v", r, err)
					}
				}
			})
		}
	}
}

// A rank that leaves does not end the call before on ranks that are still in it.
func TestLeaveAfterLastCall(t *testing.T) {
	for range 50 {
		ok(t, setup{size: 5}.run(t, func(ctx context.Context, g *collective.Group) error {
			for range 3 {
				if err := g.Barrier(ctx); err != nil {
					return err
				}
			}
			return nil // and the group is closed, by some ranks before others are out of the barrier
		}))
	}
}

// A rank that cannot get the memory for its result fails, and the others with it, at the latest in their next call.
func TestNoMemory(t *testing.T) {
	for _, copies := range []bool{false, true} {
		s := setup{size: 4, limit: 128 << 10, chunk: 4 << 10, copy: copies, wait: 100 * time.Millisecond}
		errs := s.run(t, func(ctx context.Context, g *collective.Group) error {
			var kept []*collective.Received
			defer func() {
				for _, r := range kept {
					r.Release()
				}
			}()
			for range 100 {
				r, err := g.AllGather(ctx, make([]byte, 5000))
				if err != nil {
					return err
				}
				kept = append(kept, r)
			}
			return nil
		})
		all(t, errs, "no memory became free")
	}
}

// Ranks that hold all memory themselves get an error when a call needs some.
func TestMemoryHeld(t *testing.T) {
	s := setup{size: 3, budget: mem.NewBudget(90 << 10), chunk: 4 << 10, wait: 100 * time.Millisecond}
	all(t, s.run(t, func(ctx context.Context, g *collective.Group) error {
		held, err := s.budget.Reserve(ctx, "test", 30<<10)
		if err != nil {
			return err
		}
		defer held.Release()
		if err := g.Barrier(ctx); err != nil { // which needs none
			return fmt.Errorf("too early: %w", err)
		}
		if err := collective.AllReduce(ctx, g, []int64{1}, collective.Sum[int64]()); err != nil {
			return err
		}
		return errors.New("there was memory")
	}), "no memory became free")
}

// Faults of the transport end calls on all ranks; nothing hangs, and nothing is kept.
func TestFaults(t *testing.T) {
	for _, faults := range []string{"kill@1=#40", "drop@2=#25", "corrupt@0=#30", "failpost@3=#20", "corrupt=2%", "drop=2%"} {
		for seed := range uint64(3) {
			s := setup{size: 5, faults: faults, seed: seed, chunk: 512, copy: seed%2 == 1}
			t.Run(fmt.Sprintf("%s/seed=%d", faults, seed), func(t *testing.T) {
				all(t, s.run(t, func(ctx context.Context, g *collective.Group) error {
					vec := make([]int64, 1000)
					for {
						if err := collective.AllReduce(ctx, g, vec, collective.Sum[int64]()); err != nil {
							return err
						}
						r, err := g.AllGather(ctx, make([]byte, 700))
						if err != nil {
							return err
						}
						r.Release()
					}
				}), "rank ")
			})
		}
	}
}

func TestMisuse(t *testing.T) {
	ok(t, setup{size: 1}.run(t, func(ctx context.Context, g *collective.Group) error {
		err := collective.AllReduce(ctx, g, []int64{1}, collective.Op[int64]{})
		if err == nil || !strings.Contains(err.Error(), "Into is missing") {
			return fmt.Errorf("no function: %v", err)
		}
		if err := g.Close(); err != nil {
			return err
		}
		return g.Close()
	}))
	errs := setup{size: 2}.run(t, func(ctx context.Context, g *collective.Group) error {
		op := collective.Op[int64]{Name: "calls", Into: func(acc, x []int64) {
			if g.Rank() == 0 {
				if err := g.Barrier(ctx); !errors.Is(err, collective.ErrBusy) {
					panic(err)
				}
			}
		}}
		if err := collective.AllReduce(ctx, g, []int64{1}, op); err != nil {
			return err
		}
		return g.Barrier(ctx) // rank 1 may have had all it needed
	})
	all(t, errs, collective.ErrBusy.Error())
	errs = setup{size: 2}.run(t, func(ctx context.Context, g *collective.Group) error {
		if err := g.Close(); err != nil {
			return err
		}
		return g.Barrier(ctx)
	})
	all(t, errs, "closed")
}

func TestOptions(t *testing.T) {
	if _, err := collective.New(collective.Options{}); err == nil || !strings.Contains(err.Error(), "Comm is missing") {
		t.Error(err)
	}
	c, err := shuffle.NewCommunicator(inproc.New(1, inproc.Options{})[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for want, o := range map[string]collective.Options{
		"MaxChunk is 12": {MaxChunk: 12},
		"SpillDir":       {SpillDir: "/does/not/exist"},
		"Op is":          {Op: shuffle.MaxOps},
		"more than the":  {MaxChunk: 1 << 10, Budget: mem.NewBudget(100)},
	} {
		o.Comm = c
		if _, err := collective.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
