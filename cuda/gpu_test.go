//go:build cuda

package cuda_test

import (
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
