package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/dovetail-dedup/dovetail/lsh/internal/simd"
)

// partsTable measures the kernels of the sketch "fast" on blocks as they are for documents of some sizes.
func partsTable(repeats int) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{77, 2048} {
		points := make([]uint32, n+23)
		for i := range points {
			points[i] = r.Uint32N(96) + 32
		}
		q, f, h, dst := make([]uint32, n+20), make([]uint32, n+16), make([]uint32, n), make([]uint32, n)
		slots := make([]uint32, 260)
		c := make([]uint32, n)
		simd.QuadsAVX512(q, points, 7)
		simd.FoldsAVX512(f, q, q[4:], 9)
		simd.FoldFoldEndAVX512(h, f, 8, 11, 13)
		names := []string{"quads", "folds", "foldFoldEnd", "mapTo", "mapAgain", "below none", "below all", "windows", "win+map", "copy"}
		fs := []func(){
			func() { simd.QuadsAVX512(q, points, 7) }, func() { simd.QuadsAVX2(q, points, 7) },
			func() { simd.FoldsAVX512(f, q, q[4:], 9) }, func() { simd.FoldsAVX2(f, q, q[4:], 9) },
			func() { simd.FoldFoldEndAVX512(dst, f, 8, 11, 13) }, func() { simd.FoldFoldEndAVX2(dst, f, 8, 11, 13) },
			func() { simd.MapAVX2(slots, h) }, func() { simd.MapAVX2(slots, h) },
			func() { simd.MapAgainAVX2(slots, h, 5) }, func() { simd.MapAgainAVX2(slots, h, 5) },
			func() { simd.BelowAVX512(h, 260, 0) }, func() { simd.BelowAVX2(h, 260, 0) },
			func() { simd.BelowAVX512(h, 260, 1<<32-1) }, func() { simd.BelowAVX2(h, 260, 1<<32-1) },
			func() {
				simd.QuadsAVX512(q, points, 7)
				simd.FoldsAVX512(f, q, q[4:], 9)
				simd.FoldFoldEndAVX512(dst, f, 8, 11, 13)
			}, func() {
				simd.QuadsAVX2(q, points, 7)
				simd.FoldsAVX2(f, q, q[4:], 9)
				simd.FoldFoldEndAVX2(dst, f, 8, 11, 13)
			},
			func() {
				simd.QuadsAVX512(q, points, 7)
				simd.FoldsAVX512(f, q, q[4:], 9)
				simd.FoldFoldEndAVX512(dst, f, 8, 11, 13)
				simd.MapAVX2(slots, h)
			}, func() {
				simd.QuadsAVX2(q, points, 7)
				simd.FoldsAVX2(f, q, q[4:], 9)
				simd.FoldFoldEndAVX2(dst, f, 8, 11, 13)
				simd.MapAVX2(slots, h)
			},
			func() { copy(c, h) }, func() { simd.AffineBoundAVX512(n / 4) },
		}
		best := interleaved(repeats, fs...)
		fmt.Printf("%d windows: ns a window, AVX-512 and AVX2\n", n)
		for i, name := range names {
			fmt.Printf("  %-12s %6.3f %6.3f\n", name, best[2*i]/float64(n), best[2*i+1]/float64(n))
		}
	}
}
