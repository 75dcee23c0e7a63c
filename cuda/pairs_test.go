//go:build cuda

package cuda_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
	"github.com/dovetail-dedup/dovetail/lsh/kernelstest"
	"github.com/dovetail-dedup/dovetail/mem"
)

// The comparison passes the suite of all of them: with a pool and without.
func TestPairs(t *testing.T) {
	for _, tc := range []struct {
		name, sim string
		o         cuda.GPUOptions
	}{
		{name: "pool", sim: "seed=1"},
		{name: "no pool", sim: "seed=2,late=0", o: cuda.GPUOptions{PoolSize: -1, PinnedSize: -1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := openGPU(t, cudatest.Sim(t, tc.sim), tc.o)
			kernelstest.RunPairs(t, g.NewPairs)
			if s := g.Stats().Compared; s.Pairs == 0 || s.Launches == 0 || s.Texts == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Texts that there is no room for are an error that says so, and nothing of them stays; fewer then have room.
func TestPairsWithoutRoom(t *testing.T) {
	g := openGPU(t, cudatest.Sim(t, "seed=1"), cuda.GPUOptions{PoolSize: 200 << 10})
	p, err := g.NewPairs(24)
	must(t, err)
	many, _ := column(t, 40, 1000)
	few, _ := column(t, 4, 500)
	for range 3 {
		if err := p.Load(t.Context(), many); !errors.Is(err, mem.ErrNoMemory) {
			t.Fatal(err)
		}
		if used := g.Stats().Pool.Used; used != 0 {
			t.Errorf("%d bytes are in use", used)
		}
		must(t, p.Load(t.Context(), few))
	}
	must(t, p.Close())
}

// A comparison that is given up, or whose launch fails, uses no memory of others, and the next one is right.
func TestPairsLetGo(t *testing.T) {
	for seed := range 4 {
		for _, fault := range []string{"", ",launch=13"} {
			g := openGPU(t, cudatest.Sim(t, fmt.Sprintf("late=0,seed=%d%s", seed, fault)), cuda.GPUOptions{PoolSize: -1, PinnedSize: -1})
			p, err := g.NewPairs(24)
			must(t, err)
			c, texts := column(t, 5, 300)
			in, err := mem.Host().Alloc(8 * 2)
			must(t, err)
			copy(mem.Uint32s(in), []uint32{0, 3, 0, 4})
			done := 0
			for range 6 {
				err := p.Load(t.Context(), c)
				if err == nil {
					err = func() error {
						out, err := mem.Host().Alloc(16 * 2)
						must(t, err)
						defer out.Release()
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						if fault == "" && done%2 == 0 {
							cancel()
							done++
							ctx = context.WithoutCancel(ctx)
							f, err := p.Compare(ctx, in, 2, out)
							must(t, err)
							gone, end := context.WithCancelCause(ctx)
							end(errors.New("enough"))
							if err := f.Wait(gone); err == nil || err.Error() != "enough" {
								t.Errorf("%v", err)
							}
							return nil
						}
						f, err := p.Compare(ctx, in, 2, out)
						if err == nil {
							err = f.Wait(ctx)
						}
						if err == nil {
							done++
							if n := uint64(len(texts[0]) - 23); mem.Uint64s(out)[0] != mem.Uint64s(out)[2] || mem.Uint64s(out)[0] > n || mem.Uint64s(out)[1] >= mem.Uint64s(out)[3] {
								t.Errorf("%v", mem.Uint64s(out))
							}
						}
						return err
					}()
				}
				if err != nil && !errors.Is(err, cuda.ErrTransient) {
					t.Fatal(err)
				}
			}
			must(t, p.Close(), g.Context().Synchronize(), g.Broken(), g.Close())
			if done == 0 {
				t.Error("nothing was compared")
			}
			in.Release()
		}
	}
}
