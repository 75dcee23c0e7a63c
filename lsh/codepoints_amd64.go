//go:build !purego

package lsh

import "github.com/dovetail-dedup/dovetail/lsh/internal/simd"

// decodeAVX512 is decodePoints with vectors for all that is valid UTF-8, but for less than a vector at the end.
func decodeAVX512(dst []uint32, text []byte) (points, size int) {
	for {
		p, n := simd.DecodeAVX512(dst[points:], text[size:])
		points, size = points+p, size+n
		some := len(dst)
		if len(text)-size >= 64 && len(dst)-points >= 16 {
			some = points + 16 // from a byte that is no valid encoding
		}
		p, n = decodePoints(dst[points:some], text[size:])
		points, size = points+p, size+n
		if points == len(dst) || size == len(text) {
			return points, size
		}
	}
}

// decodeAVX2 has vectors for ASCII only.
func decodeAVX2(dst []uint32, text []byte) (points, size int) {
	for {
		n := simd.WidenAVX2(dst[points:], text[size:])
		p, m := decodePoints(dst[points+n:min(len(dst), points+n+32)], text[size+n:])
		points, size = points+n+p, size+n+m
		if points == len(dst) || size == len(text) {
			return points, size
		}
	}
}
