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
	"github.com/dovetail-dedup/dovetail/mem"
)

// Kernels that need more scratch than before leave what is queued its own, whenever that is done.
func TestKernelsGrow(t *testing.T) {
	for seed := range 4 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := openGPU(t, cudatest.Sim(t, fmt.Sprintf("late=0,seed=%d", seed)), cuda.GPUOptions{PoolSize: -1})
			d := suite(t, g)
			p := lsh.Params{Sketch: lsh.Fast, NumBands: 2, MinhashesPerBand: 3, CharNgrams: 5, Seed: 1}
			k, err := g.NewKernels(p)
			must(t, err)
			type queued struct {
				out, off, data *mem.Buffer
				fence          mem.Fence
				text           string
			}
			var all []queued
			for n := 1; n <= 300; n += 99 {
				q := queued{text: fmt.Sprintf("the text of a column of %d rows", n)}
				buf := func(n int) *mem.Buffer {
					b, err := d.Alloc.Alloc(n)
					must(t, err)
					return b
				}
				q.out, q.off, q.data = buf(p.SignatureBytes(n)), buf(8*(n+1)), buf(len(q.text))
				// The first row has the text, the others are empty.
				off := make([]byte, 8*(n+1))
				for i := 1; i <= n; i++ {
					off[8*i] = byte(len(q.text))
				}
				must(t, d.Upload(q.off, off), d.Upload(q.data, []byte(q.text)))
				q.fence, err = k.Sign(t.Context(), &mem.Strings{Rows: n, Offsets: q.off, Data: q.data}, q.out)
				must(t, err)
				all = append(all, q)
			}
			r, err := lsh.NewReference(p)
			must(t, err)
			for _, q := range all {
				must(t, q.fence.Wait(context.Background()))
				row := make([]byte, p.SignatureBytes(1))
				must(t, d.Download(row, q.out))
				for j, want := range r.Sign([]byte(q.text)) {
					if got := uint64(row[4*j]) | uint64(row[4*j+1])<<8 | uint64(row[4*j+2])<<16 | uint64(row[4*j+3])<<24; got != want {
						t.Fatalf("%q: slot %d is %#x, want %#x", q.text, j, got, want)
					}
				}
				for _, b := range []*mem.Buffer{q.out, q.off, q.data} {
					b.Release()
				}
			}
			must(t, k.Close())
		})
	}
}

// When a launch fails what was queued before it is done with the memory before that is given back.
func TestFailedLaunchLetsGo(t *testing.T) {
	for seed := range 3 {
		g := openGPU(t, cudatest.Sim(t, fmt.Sprintf("late=0,seed=%d,launch=7", seed)), cuda.GPUOptions{PoolSize: -1, PinnedSize: -1})
		b, err := g.NewBackend(lsh.DefaultParams())
		must(t, err)
		c, texts := column(t, 3, 100)
		for range 4 {
			if err := compute(t, b, c, texts); err != nil && !errors.Is(err, cuda.ErrTransient) {
				t.Fatal(err)
			}
		}
		must(t, b.Close(), g.Context().Synchronize())
		if err := g.Broken(); err != nil {
			t.Errorf("seed %d: memory was used that was given back: %v", seed, err)
		}
		must(t, g.Close())
	}
}

// A column that is given up between Start and Wait is not computed into memory of others.
func TestGivenUp(t *testing.T) {
	for seed := range 3 {
		g := openGPU(t, cudatest.Sim(t, fmt.Sprintf("late=0,seed=%d", seed)), cuda.GPUOptions{PoolSize: -1, PinnedSize: -1})
		b, err := g.NewBackend(lsh.DefaultParams())
		must(t, err)
		c, texts := column(t, 3, 100)
		keys, err := mem.Host().Alloc(b.Params().BandKeyBytes(3))
		must(t, err)
		ctx, cancel := context.WithCancelCause(context.Background())
		fence, err := b.Start(ctx, c, nil, keys)
		must(t, err)
		cause := errors.New("enough")
		cancel(cause)
		if err := fence.Wait(ctx); !errors.Is(err, cause) {
			t.Errorf("%v", err)
		}
		keys.Release()
		must(t, compute(t, b, c, texts), b.Close(), g.Context().Synchronize(), g.Broken(), g.Close())
	}
}

// A GPU is tried out before it is used, and a link that bends bytes, or a GPU that computes wrongly, is found and named.
func TestSelfTest(t *testing.T) {
	d := cudatest.Sim(t, "gpus=2,seed=1")
	g := openGPU(t, d, cuda.GPUOptions{})
	must(t, g.SelfTest())
	if s := g.Stats(); s.Documents != 0 {
		t.Errorf("the test counts as work: %+v", s)
	}
	must(t, g.Close())
	for bend, says := range map[string]string{
		"h-0": "to GPU 0 and back", "0-h": "to GPU 0 and back", "0-1": "from GPU 0 to GPU 1", "1-0": "from GPU 1 to GPU 0",
	} {
		d := cudatest.Sim(t, "gpus=2,seed=1,bend="+bend)
		var gpus []*cuda.GPU
		var errs []error
		for i := range 2 {
			g, err := d.OpenGPU(i, cuda.GPUOptions{})
			must(t, err)
			gpus = append(gpus, g)
			errs = append(errs, g.SelfTest())
		}
		if !strings.Contains(bend, "h") {
			must(t, errs...)
			errs = append(errs, cuda.TestLinks(gpus))
		}
		if err := errors.Join(errs...); !errors.Is(err, cuda.ErrUnsound) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", bend, err)
		}
		for _, g := range gpus {
			must(t, g.Close())
		}
	}
}

// Every call is for the GPU of its context, whatever thread it is made on and whatever was called before.
func TestContexts(t *testing.T) {
	d := cudatest.Sim(t, "gpus=3")
	var gs []*gpu
	for i := range 3 {
		gs = append(gs, newGPU(t, d, i))
	}
	for i := range 30 {
		g := gs[i%3]
		before := cuda.SimulatorStat("used", i%3)
		b := g.alloc(g.device, 5000)
		if got := cuda.SimulatorStat("used", i%3); got != before+5120 {
			t.Fatalf("GPU %d has %d bytes in use, want %d", i%3, got, before+5120)
		}
		done := make(chan struct{})
		go func() { b.Release(); close(done) }()
		<-done
		if got := cuda.SimulatorStat("used", i%3); got != before {
			t.Fatalf("GPU %d has %d bytes in use, want %d", i%3, got, before)
		}
	}
}

// A null is one, too, if it has more bytes than there is memory for.
func TestLargeNull(t *testing.T) {
	g := openGPU(t, cudatest.Sim(t, ""), cuda.GPUOptions{PoolSize: 30000})
	b, err := g.NewBackend(lsh.DefaultParams())
	must(t, err)
	c, _ := column(t, 2, 40000)
	c.Valid = mem.NewHostBuffer(mem.TierHost, []byte{0b10}, nil)
	keys, err := mem.Host().Alloc(b.Params().BandKeyBytes(2))
	must(t, err)
	fence, err := b.Start(t.Context(), c, nil, keys)
	must(t, err, fence.Wait(t.Context()))
	r, err := lsh.NewReference(b.Params())
	must(t, err)
	if got, want := mem.Uint64s(keys)[0], r.BandKeys(r.Sign(nil))[0]; got != want || g.Stats().Processor != 2 {
		t.Errorf("got %#x, want %#x; %+v", got, want, g.Stats())
	}
	keys.Release()
	must(t, b.Close())
}

// Memory has a handle for other processes, which the process itself cannot open.
func TestIPC(t *testing.T) {
	g := newGPU(t, cudatest.Sim(t, ""), 0)
	dev, pin := g.alloc(g.device, 100), g.alloc(g.pinned, 100)
	h, err := g.c.Share(dev)
	must(t, err)
	if h == (cuda.IPCHandle{}) {
		t.Error("the handle is empty")
	}
	if _, err := g.c.OpenShared(h, 100); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_INVALID_CONTEXT") || g.c.Broken() != nil {
		t.Errorf("%v", err)
	}
	if _, err := g.c.Share(pin); err == nil || !strings.Contains(err.Error(), "tier pinned") {
		t.Errorf("%v", err)
	}
	dev.Release()
	pin.Release()
}

// Where GPUs reach each other a kernel of one may use memory of the other, once that was allowed.
func TestEnablePeer(t *testing.T) {
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	d := cudatest.Sim(t, "gpus=2,seed=1")
	a, b := newGPU(t, d, 0), newGPU(t, d, 1)
	can, err := a.c.CanAccessPeer(b.c)
	must(t, err, a.c.EnablePeer(b.c), a.c.EnablePeer(b.c))
	dev, pin, s, back := b.alloc(b.device, 8), b.alloc(b.pinned, 8), a.stream(), b.stream()
	words(pin, 1)
	must(t, back.Copy(dev, pin), back.Synchronize(), s.Launch(a.add, 1, 0, uint64(dev.DeviceAddr()), 1, 4), s.Synchronize(),
		back.Copy(pin, dev), back.Synchronize())
	if !can || pin.Bytes()[0] != 5 {
		t.Error(can, pin.Bytes())
	}
	other := a.alloc(a.device, 8)
	must(t, back.Launch(b.add, 1, 0, uint64(other.DeviceAddr()), 1, 4))
	if err := back.Synchronize(); !errors.Is(err, cuda.ErrBroken) {
		t.Errorf("without leave: %v", err)
	}
	other.Release()
	dev.Release()
	pin.Release()
}
