package collective_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/collective"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

// bench has every rank of a process call f b.N times.
func bench(b *testing.B, size int, f func(ctx context.Context, g *collective.Group) error) {
	var wg sync.WaitGroup
	budget := mem.NewBudget(0)
	dir := b.TempDir()
	var groups []*collective.Group
	for _, tr := range inproc.New(size, inproc.Options{}) {
		c, err := shuffle.NewCommunicator(tr)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		g, err := collective.New(collective.Options{Comm: c, Budget: budget, SpillDir: dir})
		if err != nil {
			b.Fatal(err)
		}
		groups = append(groups, g)
	}
	b.ResetTimer()
	for _, g := range groups {
		wg.Go(func() {
			defer g.Close()
			for range b.N {
				if err := f(b.Context(), g); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkBarrier is what a call costs by itself.
func BenchmarkBarrier(b *testing.B) {
	for _, size := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("ranks=%d", size), func(b *testing.B) {
			bench(b, size, func(ctx context.Context, g *collective.Group) error { return g.Barrier(ctx) })
		})
	}
}

// BenchmarkAllReduce counts the bytes of one vector.
func BenchmarkAllReduce(b *testing.B) {
	for _, size := range []int{2, 4, 8} {
		for _, n := range []int{1, 1 << 10, 4 << 10, 16 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("ranks=%d/numbers=%d", size, n), func(b *testing.B) {
				b.SetBytes(int64(8 * n))
				vecs := make([][]float64, size)
				for r := range vecs {
					vecs[r] = make([]float64, n)
				}
				bench(b, size, func(ctx context.Context, g *collective.Group) error {
					return collective.AllReduce(ctx, g, vecs[g.Rank()], collective.Sum[float64]())
				})
			})
		}
	}
}

// BenchmarkAllGather counts the bytes of one rank's result.
func BenchmarkAllGather(b *testing.B) {
	for _, size := range []int{2, 8} {
		for _, n := range []int{1 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("ranks=%d/bytes=%d", size, n), func(b *testing.B) {
				b.SetBytes(int64(size * n))
				data := make([]byte, n)
				bench(b, size, func(ctx context.Context, g *collective.Group) error {
					r, err := g.AllGather(ctx, data)
					r.Release()
					return err
				})
			})
		}
	}
}
