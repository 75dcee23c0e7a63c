package flow

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// dropSink drops what is inserted.
type dropSink struct{}

func (dropSink) Wanted(int) bool                                     { return true }
func (dropSink) Alloc(_ context.Context, n int) (*mem.Buffer, error) { return mem.Host().Alloc(n) }
func (dropSink) Insert(_ context.Context, c shuffle.Chunk) error     { c.Release(); return nil }

// BenchmarkRecords has the loops that every record of a band goes through.
func BenchmarkRecords(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 8 << 10
	keys, ords, recs := make([]uint64, n), make([]uint64, n), make([]uint64, 2*n)
	for i := range keys {
		keys[i], ords[i] = rng.Uint64(), uint64(i)
		recs[2*i], recs[2*i+1] = keys[i], ords[i]
	}
	per := func(b *testing.B, f func()) {
		best := time.Duration(math.MaxInt64)
		for b.Loop() {
			start := time.Now()
			f()
			best = min(best, time.Since(start)) // which nobody disturbed
		}
		b.ReportMetric(float64(best.Nanoseconds())/n, "best-ns/record")
	}
	b.Run("sum", func(b *testing.B) { per(b, func() { RecordSum(recs, 2) }) })
	b.Run("one by one", func(b *testing.B) {
		per(b, func() {
			var sum shuffle.Hash
			for i := 0; i < len(recs); i += 2 {
				sum = sum.Add(RecordHash(recs[i:i+2], nil, false))
			}
		})
	})
	l := Layout{Kind: 'b', Words: 2}
	b.Run("scatter", func(b *testing.B) {
		s := NewScatter(l, 20, 1<<20)
		s.Reset(dropSink{})
		per(b, func() { _ = s.Add(b.Context(), 4, 8, keys, ords) })
	})
	var r Repeats
	r.Reset(128<<10, 1<<30)
	b.Run("see", func(b *testing.B) { per(b, func() { r.See(recs, 2, 0) }) })
	var dst []uint64
	b.Run("pick", func(b *testing.B) { per(b, func() { dst = r.Pick(dst[:0], recs, 2, 0) }) })
}
