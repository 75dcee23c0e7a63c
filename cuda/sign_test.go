//go:build cuda

package cuda_test

import (
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/lsh/kernelstest"
	"github.com/dovetail-dedup/dovetail/mem"
)

// suite returns what the conformance suite needs of a GPU.
func suite(t *testing.T, g *cuda.GPU) kernelstest.Device {
	s, err := g.Context().NewStream()
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	staged := func(n int, f func(pinned *mem.Buffer) error) error {
		b, err := g.PinnedAllocator().Alloc(n)
		if err != nil {
			return err
		}
		defer b.Release()
		return f(b)
	}
	return kernelstest.Device{
		New: func(p lsh.Params) (lsh.Kernels, error) {
			k, err := g.NewKernels(p)
			if err != nil {
				return nil, err
			}
			return k, nil
		},
		Alloc: g.DeviceAllocator(),
		Upload: func(dst *mem.Buffer, src []byte) error {
			return staged(len(src), func(b *mem.Buffer) error {
				copy(b.Bytes(), src)
				part, err := dst.Slice(0, len(src))
				if err != nil {
					return err
				}
				defer part.Release()
				if err := s.Copy(part, b); err != nil {
					return err
				}
				return s.Synchronize()
			})
		},
		Download: func(dst []byte, src *mem.Buffer) error {
			return staged(len(dst), func(b *mem.Buffer) error {
				part, err := src.Slice(0, len(dst))
				if err != nil {
					return err
				}
				defer part.Release()
				if err := s.Copy(b, part); err != nil {
					return err
				}
				if err := s.Synchronize(); err != nil {
					return err
				}
				copy(dst, b.Bytes())
				return nil
			})
		},
	}
}

func openGPU(t *testing.T, d *cuda.Driver, o cuda.GPUOptions) *cuda.GPU {
	t.Helper()
	g, err := d.OpenGPU(0, o)
	must(t, err)
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// The kernels pass the suite, with a pool and without: then every buffer's bounds are checked.
func TestKernels(t *testing.T) {
	for name, o := range map[string]cuda.GPUOptions{"pool": {}, "no pool": {PoolSize: -1, PinnedSize: -1}} {
		t.Run(name, func(t *testing.T) {
			kernelstest.Run(t, suite(t, openGPU(t, cudatest.Sim(t, "seed=5"), o)))
		})
	}
}
