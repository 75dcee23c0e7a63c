//go:build cuda

package cuda_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/lsh/kernelstest"
	"github.com/dovetail-dedup/dovetail/mem"
)

// realGPU opens a GPU of this machine, for `make test-gpu`. DOVETAIL_LIBCUDA may name the simulated driver, to try these tests out.
func realGPU(t testing.TB) *cuda.GPU {
	t.Helper()
	if os.Getenv("DOVETAIL_TEST_GPU") == "" {
		t.Skip("make test-gpu runs it, on a machine with a GPU")
	}
	d, err := cuda.OpenDriver()
	if err != nil {
		t.Fatal(err)
	}
	g, err := d.OpenGPU(0, cuda.GPUOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestGPUSelfTest(t *testing.T) {
	if err := realGPU(t).SelfTest(); err != nil {
		t.Error(err)
	}
}

func TestGPUKernels(t *testing.T) { kernelstest.Run(t, suite(t, realGPU(t))) }

func TestGPUBackend(t *testing.T) { kernelstest.RunBackend(t, realGPU(t).NewBackend) }

func TestGPUPairs(t *testing.T) { kernelstest.RunPairs(t, realGPU(t).NewPairs) }

// Texts that are held go down to disk and come back.
func TestGPUHeld(t *testing.T) {
	g := realGPU(t)
	if err := g.Hold(cuda.StoreOptions{SpillMemoryLimit: 100 << 10, PinnedLimit: 100 << 10, HostLimit: 100 << 10, Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	b, err := g.NewBackend(lsh.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	var items []*mem.Item
	c, _ := column(t, 40, 2000)
	for range 8 {
		keys, err := mem.Host().Alloc(b.Params().BandKeyBytes(c.Rows))
		must(t, err)
		f, err := b.(lsh.Holder).StartHeld(t.Context(), c, nil, keys, 0, func(_, _ int, item *mem.Item, at int) {
			items = append(items, item)
			got, err := mem.Host().Alloc(c.Data.Len())
			must(t, err, items[0].Read(t.Context(), got, at))
			if !bytes.Equal(got.Bytes(), c.Data.Bytes()) {
				t.Error("texts that were held are not what they were")
			}
			got.Release()
		})
		must(t, err, f.Wait(t.Context()))
		keys.Release()
	}
	if s := g.Stats().Store; s.Into(mem.TierDisk) == 0 {
		t.Errorf("%+v", s)
	}
	for _, it := range items {
		it.Drop()
	}
	must(t, b.Close())
}

// Links between all GPUs of the machine.
func TestGPULinks(t *testing.T) {
	realGPU(t)
	d, err := cuda.OpenDriver()
	if err != nil {
		t.Fatal(err)
	}
	devs, err := d.Devices()
	if err != nil {
		t.Fatal(err)
	}
	var all []*cuda.GPU
	for _, dev := range devs {
		g, err := d.OpenGPU(dev.Index, cuda.GPUOptions{PoolSize: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		all = append(all, g)
	}
	if err := cuda.TestLinks(all); err != nil {
		t.Error(err)
	}
}

// Copies of 64 MiB of pinned memory: what signing is measured against.
func BenchmarkGPUCopy(b *testing.B) {
	g := realGPU(b)
	s, err := g.Context().NewStream()
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const n = 64 << 20
	host, err := g.Context().PinnedAllocator().Alloc(n)
	if err != nil {
		b.Fatal(err)
	}
	defer host.Release()
	device, err := g.DeviceAllocator().Alloc(n)
	if err != nil {
		b.Fatal(err)
	}
	defer device.Release()
	for name, pair := range map[string][2]*mem.Buffer{"to": {device, host}, "from": {host, device}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(n)
			for b.Loop() {
				if err := s.Copy(pair[0], pair[1]); err != nil {
					b.Fatal(err)
				}
				if err := s.Synchronize(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Signatures and band keys of documents of 2.5 KB, from host memory and back, in batches of several sizes.
func BenchmarkGPUSign(b *testing.B) {
	g := realGPU(b)
	for _, sketch := range lsh.Sketches() {
		for _, docs := range []int{1600, 25600} {
			b.Run(fmt.Sprintf("%s/%d", sketch, docs), func(b *testing.B) {
				p := lsh.DefaultParams()
				p.Sketch = sketch
				backend, err := g.NewBackend(p)
				if err != nil {
					b.Fatal(err)
				}
				defer backend.Close()
				c := benchColumn(b, docs)
				keys, err := mem.Host().Alloc(p.BandKeyBytes(docs))
				if err != nil {
					b.Fatal(err)
				}
				defer keys.Release()
				b.SetBytes(int64(c.Data.Len()))
				for b.Loop() {
					fence, err := backend.Start(b.Context(), c, nil, keys)
					if err == nil {
						err = fence.Wait(b.Context())
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// benchColumn makes documents of 2,500 bytes that do not repeat.
func benchColumn(b *testing.B, docs int) *mem.Strings {
	const size = 2500
	off, err1 := mem.Host().Alloc(8 * (docs + 1))
	data, err2 := mem.Host().Alloc(size * docs)
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	x := uint64(1)
	for i := range data.Bytes() {
		x = x*6364136223846793005 + 1442695040888963407
		data.Bytes()[i] = "abcdefghijklmnopqrstuvwxyz ,.\n e"[x>>59]
	}
	for i := range docs + 1 {
		mem.Int64s(off)[i] = int64(i * size)
	}
	c := &mem.Strings{Rows: docs, Offsets: off, Data: data}
	b.Cleanup(c.Release)
	return c
}

// Pairs of documents of 2.5 KB that are in the memory of the GPU, and what it takes to bring them there.
func BenchmarkGPUPairs(b *testing.B) {
	g := realGPU(b)
	p, err := g.NewPairs(24)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	const docs, pairs = 4000, 16000
	c := benchColumn(b, docs)
	in, err1 := mem.Host().Alloc(8 * pairs)
	out, err2 := mem.Host().Alloc(16 * pairs)
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	defer in.Release()
	defer out.Release()
	for i := range pairs {
		mem.Uint32s(in)[i], mem.Uint32s(in)[pairs+i] = uint32(i%docs), uint32(i*7%docs)
	}
	b.Run("load", func(b *testing.B) {
		b.SetBytes(int64(c.Data.Len()))
		for b.Loop() {
			if err := p.Load(b.Context(), c); err != nil {
				b.Fatal(err)
			}
			if err := g.Context().Synchronize(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compare", func(b *testing.B) {
		if err := p.Load(b.Context(), c); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			f, err := p.Compare(b.Context(), in, pairs, out)
			if err == nil {
				err = f.Wait(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/pairs, "ns/pair")
	})
}
