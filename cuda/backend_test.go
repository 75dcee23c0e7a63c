//go:build cuda

package cuda_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/lsh/kernelstest"
	"github.com/dovetail-dedup/dovetail/mem"
)

// The backend passes the suite of all backends: with a pool and without, with so little memory that it goes on in small
// pieces, and that some documents are left to the processor, with allocations that fail, slow copies, and many orders.
func TestBackend(t *testing.T) {
	for _, tc := range []struct {
		name, sim          string
		o                  cuda.GPUOptions
		shrinks, processor bool // or, where allocations fail by chance, either
	}{
		{name: "pool", sim: "seed=1"},
		{name: "no pool", sim: "seed=2", o: cuda.GPUOptions{PoolSize: -1, PinnedSize: -1}},
		{name: "late", sim: "seed=3,late=0"},
		{name: "at once", sim: "seed=4,late=100"},
		{name: "little memory", sim: "seed=5", o: cuda.GPUOptions{PoolSize: 130000}, shrinks: true},
		{name: "too little memory", sim: "seed=6", o: cuda.GPUOptions{PoolSize: 30000}, shrinks: true, processor: true},
		{name: "allocations fail", sim: "seed=7,oom=5,oom-pinned=4", o: cuda.GPUOptions{PoolSize: -1, PinnedSize: -1}},
		{name: "slow", sim: "seed=8,slow=300"},
		{name: "small GPU", sim: "seed=9,memory=150000", o: cuda.GPUOptions{PoolSize: -1}, shrinks: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := openGPU(t, cudatest.Sim(t, tc.sim), tc.o)
			kernelstest.RunBackend(t, g.NewBackend)
			s := g.Stats()
			if s.Documents == 0 || s.Batches == 0 || (tc.shrinks && s.Shrunk == 0) || (tc.name != "allocations fail" && tc.processor != (s.Processor > 0)) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// column makes a host column of texts.
func column(t *testing.T, n, size int) (*mem.Strings, []string) {
	t.Helper()
	var texts []string
	off, err := mem.Host().Alloc(8 * (n + 1))
	must(t, err)
	mem.Int64s(off)[0] = 0
	for i := range n {
		texts = append(texts, strings.Repeat(fmt.Sprintf("text number %d with its own words. ", i*i), 1+size/30))
		mem.Int64s(off)[i+1] = mem.Int64s(off)[i] + int64(len(texts[i]))
	}
	data, err := mem.Host().Alloc(int(mem.Int64s(off)[n]))
	must(t, err)
	copy(data.Bytes(), strings.Join(texts, ""))
	c := &mem.Strings{Rows: n, Offsets: off, Data: data}
	t.Cleanup(c.Release)
	return c, texts
}

// compute runs a backend over a column, and compares if there is no error.
func compute(t *testing.T, b lsh.Backend, c *mem.Strings, texts []string) error {
	t.Helper()
	keys, err := mem.Host().Alloc(b.Params().BandKeyBytes(c.Rows))
	must(t, err)
	defer keys.Release()
	fence, err := b.Start(t.Context(), c, nil, keys)
	if err != nil {
		return err
	}
	if err := fence.Wait(t.Context()); err != nil {
		return err
	}
	r, err := lsh.NewReference(b.Params())
	must(t, err)
	for i, text := range texts {
		for band, want := range r.BandKeys(r.Sign([]byte(text))) {
			if got := mem.Uint64s(keys)[band*c.Rows+i]; got != want {
				t.Fatalf("text %d, band %d: %#x, want %#x", i, band, got, want)
			}
		}
	}
	return nil
}

// A launch that fails for want of resources is an error that may be tried again, after which everything is as before.
func TestFailedLaunch(t *testing.T) {
	g := openGPU(t, cudatest.Sim(t, "seed=2,launch=11"), cuda.GPUOptions{PoolSize: 100000})
	b, err := g.NewBackend(lsh.DefaultParams())
	must(t, err)
	defer func() { must(t, b.Close()) }()
	c, texts := column(t, 20, 3000)
	failed, done := 0, 0
	for range 12 {
		switch err := compute(t, b, c, texts); {
		case err == nil:
			done++
		case errors.Is(err, cuda.ErrTransient) && strings.Contains(err.Error(), "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES") && !errors.Is(err, cuda.ErrBroken):
			failed++
		default:
			t.Fatal(err)
		}
	}
	if failed == 0 || g.Broken() != nil {
		t.Errorf("%d failed, %d done, %v", failed, done, g.Broken())
	}
}

// A GPU that is lost, and a kernel that fails while it runs, are errors that say that this is the end; everything can still be closed.
func TestLostGPU(t *testing.T) {
	for _, fault := range []string{"lost=0@70", "lost=0@90", "lost=0@111", "crash=0@9", "crash=0@14"} {
		for seed := range 2 {
			t.Run(fmt.Sprint(fault, seed), func(t *testing.T) {
				d, err := cuda.OpenSimulator(fmt.Sprintf("seed=%d,%s", seed, fault))
				must(t, err)
				g, err := d.OpenGPU(0, cuda.GPUOptions{PoolSize: 100000})
				must(t, err)
				b, err := g.NewBackend(lsh.DefaultParams())
				must(t, err)
				c, texts := column(t, 20, 3000)
				for range 20 {
					if err = compute(t, b, c, texts); err != nil {
						break
					}
				}
				if !errors.Is(err, cuda.ErrBroken) || !errors.Is(g.Broken(), cuda.ErrBroken) {
					t.Errorf("got %v, and the GPU has %v", err, g.Broken())
				}
				if err := errors.Join(b.Close(), g.Close()); err != nil {
					t.Errorf("closing: %v", err)
				}
				if n := cuda.SimulatorStat("retained", -1); n != 0 {
					t.Errorf("%d contexts are left", n)
				}
			})
		}
	}
}

// Backends share a GPU and its memory from several goroutines.
func TestBackendsShare(t *testing.T) {
	g := openGPU(t, cudatest.Sim(t, "seed=6"), cuda.GPUOptions{PoolSize: 60000})
	c, texts := column(t, 12, 900)
	done := make(chan error)
	const n = 4
	for range n {
		go func() {
			done <- func() error {
				b, err := g.NewBackend(lsh.DefaultParams())
				if err != nil {
					return err
				}
				for range 2 {
					keys, err := mem.Host().Alloc(b.Params().BandKeyBytes(c.Rows))
					if err != nil {
						return err
					}
					fence, err := b.Start(context.Background(), c, nil, keys)
					if err == nil {
						err = fence.Wait(context.Background())
					}
					if err != nil {
						return err
					}
					r, err := lsh.NewReference(b.Params())
					if err != nil {
						return err
					}
					for i, text := range texts {
						if want := r.BandKeys(r.Sign([]byte(text)))[3]; mem.Uint64s(keys)[3*c.Rows+i] != want {
							return fmt.Errorf("text %d is wrong", i)
						}
					}
					keys.Release()
				}
				return b.Close()
			}()
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
