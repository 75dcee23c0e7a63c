package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/dovetail-dedup/dovetail/lsh/internal/simd"
)

// affineArchSIMD is set in a build with GOEXPERIMENT=simd.
var affineArchSIMD func(least, a, b, hashes []uint32)

// affineGo is the portable path's.
func affineGo(least, a, b, hashes []uint32) {
	a, b = a[:len(least)], b[:len(least)]
	j := 0
	for ; j+4 <= len(least); j += 4 {
		a0, a1, a2, a3 := a[j], a[j+1], a[j+2], a[j+3]
		b0, b1, b2, b3 := b[j], b[j+1], b[j+2], b[j+3]
		m0, m1, m2, m3 := least[j], least[j+1], least[j+2], least[j+3]
		for _, h := range hashes {
			m0 = min(m0, h*a0+b0)
			m1 = min(m1, h*a1+b1)
			m2 = min(m2, h*a2+b2)
			m3 = min(m3, h*a3+b3)
		}
		least[j], least[j+1], least[j+2], least[j+3] = m0, m1, m2, m3
	}
	for ; j < len(least); j++ {
		m := least[j]
		for _, h := range hashes {
			m = min(m, h*a[j]+b[j])
		}
		least[j] = m
	}
}

// kernelTable compares ways to write the kernel of curator32, each on the same hashes and with the same result.
func kernelTable(repeats int) error {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) []uint32 {
		s := make([]uint32, n)
		for i := range s {
			s[i] = r.Uint32()
		}
		return s
	}
	type rival struct {
		name string
		f    func(least, a, b, hashes []uint32)
	}
	rivals := []rival{
		{"C scalar, cgo", affineScalarC}, {"Go", affineGo}, {"C AVX-512, cgo", affineAVX512C},
		{"assembly AVX2", simd.AffineMin32AVX2}, {"assembly AVX-512", simd.AffineMin32AVX512},
	}
	if affineArchSIMD != nil {
		rivals = append(rivals, rival{"Go simd/archsimd", affineArchSIMD})
	}
	for _, size := range []struct{ slots, hashes int }{{260, 2048}, {260, 77}, {143, 77}, {31, 277}} {
		a, b, hashes := draw(size.slots), draw(size.slots), draw(size.hashes)
		const rounds = 20_000
		fs := []func(){func() { simd.AffineBoundAVX512(rounds) }, func() { simd.AffineBoundAVX2(rounds) }}
		results := make([][]uint32, len(rivals))
		for i, v := range rivals {
			results[i] = make([]uint32, size.slots)
			fs = append(fs, func() {
				for j := range results[i] {
					results[i][j] = 1<<32 - 1
				}
				v.f(results[i], a, b, hashes)
			})
		}
		best := interleaved(repeats, fs...)
		bound := best[0] / rounds / 64 * float64(size.slots)
		bound2 := best[1] / rounds / 32 * float64(size.slots)
		fmt.Printf("%d slots, %d hashes: bound %.2f ns a hash (AVX2 %.2f)\n", size.slots, size.hashes, bound, bound2)
		for i, v := range rivals {
			ns := best[i+2] / float64(size.hashes)
			fmt.Printf("  %-18s %8.2f ns a hash  %6.3f of the bound  %6.2f x scalar C\n", v.name, ns, bound/ns, best[2]/best[i+2])
			if !slices.Equal(results[i], results[0]) {
				return fmt.Errorf("%s gives another result", v.name)
			}
		}
	}
	return nil
}
