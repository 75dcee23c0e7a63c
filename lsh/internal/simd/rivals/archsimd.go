//go:build goexperiment.simd && amd64

package main

import "simd/archsimd"

func init() { affineArchSIMD = affineGoSIMD }

// affineGoSIMD is the kernel in Go's own vector types, which a build has only with GOEXPERIMENT=simd.
func affineGoSIMD(least, a, b, hashes []uint32) {
	for len(least) >= 128 {
		a0, a1, a2, a3 := archsimd.LoadUint32x16Slice(a), archsimd.LoadUint32x16Slice(a[16:]), archsimd.LoadUint32x16Slice(a[32:]), archsimd.LoadUint32x16Slice(a[48:])
		a4, a5, a6, a7 := archsimd.LoadUint32x16Slice(a[64:]), archsimd.LoadUint32x16Slice(a[80:]), archsimd.LoadUint32x16Slice(a[96:]), archsimd.LoadUint32x16Slice(a[112:])
		b0, b1, b2, b3 := archsimd.LoadUint32x16Slice(b), archsimd.LoadUint32x16Slice(b[16:]), archsimd.LoadUint32x16Slice(b[32:]), archsimd.LoadUint32x16Slice(b[48:])
		b4, b5, b6, b7 := archsimd.LoadUint32x16Slice(b[64:]), archsimd.LoadUint32x16Slice(b[80:]), archsimd.LoadUint32x16Slice(b[96:]), archsimd.LoadUint32x16Slice(b[112:])
		m0, m1, m2, m3 := archsimd.LoadUint32x16Slice(least), archsimd.LoadUint32x16Slice(least[16:]), archsimd.LoadUint32x16Slice(least[32:]), archsimd.LoadUint32x16Slice(least[48:])
		m4, m5, m6, m7 := archsimd.LoadUint32x16Slice(least[64:]), archsimd.LoadUint32x16Slice(least[80:]), archsimd.LoadUint32x16Slice(least[96:]), archsimd.LoadUint32x16Slice(least[112:])
		for _, x := range hashes {
			h := archsimd.BroadcastUint32x16(x)
			m0 = m0.Min(h.Mul(a0).Add(b0))
			m1 = m1.Min(h.Mul(a1).Add(b1))
			m2 = m2.Min(h.Mul(a2).Add(b2))
			m3 = m3.Min(h.Mul(a3).Add(b3))
			m4 = m4.Min(h.Mul(a4).Add(b4))
			m5 = m5.Min(h.Mul(a5).Add(b5))
			m6 = m6.Min(h.Mul(a6).Add(b6))
			m7 = m7.Min(h.Mul(a7).Add(b7))
		}
		m0.StoreSlice(least)
		m1.StoreSlice(least[16:])
		m2.StoreSlice(least[32:])
		m3.StoreSlice(least[48:])
		m4.StoreSlice(least[64:])
		m5.StoreSlice(least[80:])
		m6.StoreSlice(least[96:])
		m7.StoreSlice(least[112:])
		least, a, b = least[128:], a[128:], b[128:]
	}
	for len(least) > 0 {
		n := min(16, len(least))
		va, vb, m := archsimd.LoadUint32x16SlicePart(a), archsimd.LoadUint32x16SlicePart(b), archsimd.LoadUint32x16SlicePart(least)
		for _, x := range hashes {
			m = m.Min(archsimd.BroadcastUint32x16(x).Mul(va).Add(vb))
		}
		m.StoreSlicePart(least)
		least, a, b = least[n:], a[n:], b[n:]
	}
	archsimd.ClearAVXUpperBits()
}
