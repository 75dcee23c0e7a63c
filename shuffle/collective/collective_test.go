package collective_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/collective"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

// data is what rank r has for rank to in call number call: some of it empty, some longer than a chunk.
func data(call, r, to int) []byte {
	rng := rand.New(rand.NewPCG(uint64(call)<<32|uint64(r), uint64(to)))
	b := make([]byte, []int{0, 1, 7, 64, 1000, 5000}[rng.IntN(6)])
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func check(r *collective.Received, size int, want func(from int) []byte) error {
	defer r.Release()
	for from := range size {
		w := want(from)
		if !bytes.Equal(r.Bytes(from), w) || !bytes.Equal(r.Append(nil, from), w) || r.Len(from) != len(w) {
			return fmt.Errorf("%d bytes from rank %d, want %d, or others", r.Len(from), from, len(w))
		}
	}
	return nil
}

// Every call gives what it should, one after the other and many times, whatever the transport does.
func TestCalls(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 5
	}
	for _, s := range setups() {
		t.Run(s.String(), func(t *testing.T) {
			ok(t, s.run(t, func(ctx context.Context, g *collective.Group) error {
				for n := range rounds {
					root := n % g.Size()
					all, err := g.AllGather(ctx, data(n, g.Rank(), 0))
					if err != nil {
						return err
					}
					if err := check(all, g.Size(), func(from int) []byte { return data(n, from, 0) }); err != nil {
						return fmt.Errorf("AllGather: %w", err)
					}
					var parts [][]byte
					for to := range g.Size() {
						parts = append(parts, data(n, g.Rank(), to))
					}
					if all, err = g.AllToAll(ctx, parts); err != nil {
						return err
					}
					if err := check(all, g.Size(), func(from int) []byte { return data(n, from, g.Rank()) }); err != nil {
						return fmt.Errorf("AllToAll: %w", err)
					}
					if all, err = g.Broadcast(ctx, root, data(n, g.Rank(), 0)); err != nil {
						return err
					}
					if err := check(all, g.Size(), func(from int) []byte {
						if from != root {
							return nil
						}
						return data(n, from, 0)
					}); err != nil {
						return fmt.Errorf("Broadcast: %w", err)
					}
					if all, err = g.Gather(ctx, root, data(n, g.Rank(), 0)); err != nil {
						return err
					}
					if err := check(all, g.Size(), func(from int) []byte {
						if g.Rank() != root {
							return nil
						}
						return data(n, from, 0)
					}); err != nil {
						return fmt.Errorf("Gather: %w", err)
					}
				}
				return nil
			}))
		})
	}
}

// No rank leaves a barrier before all have come to it.
func TestBarrier(t *testing.T) {
	for _, s := range setups() {
		t.Run(s.String(), func(t *testing.T) {
			var arrived atomic.Int64
			ok(t, s.run(t, func(ctx context.Context, g *collective.Group) error {
				for n := range 20 {
					arrived.Add(1)
					if err := g.Barrier(ctx); err != nil {
						return err
					}
					if got := arrived.Load(); got < int64((n+1)*g.Size()) {
						return fmt.Errorf("barrier %d opened when %d had arrived", n, got)
					}
				}
				return nil
			}))
		})
	}
}

// numbers is the vector of rank r.
func numbers[T collective.Number](r, n int, seed uint64) []T {
	rng := rand.New(rand.NewPCG(seed, uint64(r)))
	vec := make([]T, n)
	for i := range vec {
		switch v := any(vec).(type) {
		case []float64:
			// Sums of these depend on the order of addition.
			v[i] = math.Ldexp(rng.Float64()-0.5, rng.IntN(80)-40)
			if rng.IntN(100) == 0 {
				v[i] = []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0}[rng.IntN(5)]
			}
		default:
			vec[i] = T(rng.Uint64())
		}
	}
	return vec
}

// bits makes NaN and -0 comparable.
func bits[T collective.Number](vec []T) []uint64 {
	out := make([]uint64, len(vec))
	for i, v := range vec {
		switch v := any(v).(type) {
		case float64:
			out[i] = math.Float64bits(v)
		case int64:
			out[i] = uint64(v)
		case uint64:
			out[i] = v
		}
	}
	return out
}

// affine does not commute: it is the composition of x -> 2x + v, as far as that goes with one number.
func affine[T collective.Number]() collective.Op[T] {
	return collective.Op[T]{Name: "affine", Into: func(acc, x []T) {
		for i, v := range x {
			acc[i] = 2*acc[i] + v
		}
	}}
}

func testAllReduce[T collective.Number](t *testing.T, s setup, lengths []int) {
	for _, op := range []collective.Op[T]{collective.Sum[T](), collective.Min[T](), collective.Max[T](), affine[T]()} {
		ok(t, s.run(t, func(ctx context.Context, g *collective.Group) error {
			for _, n := range lengths {
				want := numbers[T](0, n, uint64(n))
				for r := 1; r < g.Size(); r++ {
					op.Into(want, numbers[T](r, n, uint64(n)))
				}
				got := numbers[T](g.Rank(), n, uint64(n))
				if err := collective.AllReduce(ctx, g, got, op); err != nil {
					return err
				}
				if !slices.Equal(bits(got), bits(want)) {
					return fmt.Errorf("%s of %d %T: not what a loop over the ranks gives", op.Name, n, got)
				}
			}
			return nil
		}))
	}
}

// The result is that of a plain loop over the ranks, bit for bit, on all ranks.
func TestAllReduce(t *testing.T) {
	long := collective.LongVector/8 + 1
	lengths := []int{0, 1, 7, 1000, long - 1, long, 2*long + 5}
	for _, s := range setups() {
		if s.chunk == 64 || s.chunk == 256 {
			s.chunk = 2048 // thousands of chunks are for TestCalls
		}
		t.Run(s.String(), func(t *testing.T) {
			testAllReduce[float64](t, s, lengths)
			if s == (setup{size: s.size}) {
				testAllReduce[int64](t, s, lengths)
				testAllReduce[uint64](t, s, lengths)
			}
		})
	}
}

// A vector larger than the memory limit is reduced in a few chunks of memory.
func TestAllReduceBounded(t *testing.T) {
	n := 200_000
	if testing.Short() {
		n = 40_000
	}
	for _, s := range []setup{{size: 5, limit: 128 << 10, chunk: 4 << 10}, {size: 5, limit: 128 << 10, chunk: 4 << 10, copy: true}} {
		t.Run(s.String(), func(t *testing.T) { testAllReduce[uint64](t, s, []int{n}) })
	}
}

// The handle says who and where it is.
func TestSession(t *testing.T) {
	sessions := make([][16]byte, 3)
	ok(t, setup{size: 3}.run(t, func(ctx context.Context, g *collective.Group) error {
		sessions[g.Rank()] = g.Session()
		if g.Size() != 3 {
			return errors.New("wrong size")
		}
		if err := g.Barrier(ctx); err != nil {
			return err
		}
		if st := g.Statistics(); st.Sent.Chunks != 2 || st.Received.Chunks != 2 || st.Self.Chunks != 1 {
			return fmt.Errorf("a barrier of three ranks moved %+v", st)
		}
		return nil
	}))
	if sessions[0] != sessions[1] || sessions[0] != sessions[2] || sessions[0] == [16]byte{} {
		t.Errorf("sessions %x", sessions)
	}
}

// Groups with ids of their own do not mix, whichever of them a rank uses first, and an id can be used for one group after
// another.
func TestGroups(t *testing.T) {
	const ranks = 3
	var wg sync.WaitGroup
	for r, tr := range inproc.New(ranks, inproc.Options{}) {
		c, err := shuffle.NewCommunicator(tr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		wg.Go(func() {
			for round := range 3 {
				var both sync.WaitGroup
				for i := range 2 {
					op := shuffle.OpID((i + r) % 2)
					g, err := collective.New(collective.Options{Comm: c, Op: op})
					if err != nil {
						t.Error(err)
						return
					}
					both.Go(func() {
						defer g.Close()
						for n := range int64(10) {
							vec := []int64{n, int64(op), int64(round)}
							if err := collective.AllReduce(t.Context(), g, vec, collective.Sum[int64]()); err != nil {
								t.Error(err)
								return
							}
							if want := []int64{ranks * n, ranks * int64(op), ranks * int64(round)}; !slices.Equal(vec, want) {
								t.Errorf("op %d, rank %d: %v, want %v", op, r, vec, want)
							}
						}
					})
				}
				both.Wait()
			}
		})
	}
	wg.Wait()
}
