package lsh

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// What is the same in two texts, and sets of places as bits.

// sameBytes returns how many bytes from the start on are the same. Both have the same length.
func sameBytes(x, y []byte) int {
	y = y[:len(x)]
	n := 0
	for n+128 <= len(x) && bytes.Equal(x[n:n+128], y[n:n+128]) {
		n += 128
	}
	for n+8 <= len(x) {
		if d := binary.LittleEndian.Uint64(x[n:]) ^ binary.LittleEndian.Uint64(y[n:]); d != 0 {
			return n + bits.TrailingZeros64(d)/8
		}
		n += 8
	}
	for n < len(x) && x[n] == y[n] {
		n++
	}
	return n
}

// samePoints does the same for code points.
func samePoints(x, y []uint32) int {
	y = y[:len(x)]
	for i, p := range x {
		if p != y[i] {
			return i
		}
	}
	return len(x)
}

// samePointsBefore returns how many code points, of the last most, are the same.
func samePointsBefore(x, y []uint32, most int) int {
	for i := range most {
		if x[len(x)-1-i] != y[len(y)-1-i] {
			return i
		}
	}
	return most
}

func setBit(set []uint64, i int) { set[i>>6] |= 1 << (i & 63) }

// orBits sets the bits from at on that are set in some.
func orBits(set []uint64, at int, some uint32) {
	i, shift := at>>6, at&63
	set[i] |= uint64(some) << shift
	set[i+1] |= uint64(some) >> (64 - shift)
}

// setBits sets the bits from from to before to, of which there is at least one.
func setBits(set []uint64, from, to int) {
	i, last := from>>6, (to-1)>>6
	low, high := ^uint64(0)<<(from&63), ^uint64(0)>>(63-(to-1)&63)
	if i == last {
		set[i] |= low & high
		return
	}
	set[i] |= low
	for i++; i < last; i++ {
		set[i] = ^uint64(0)
	}
	set[last] |= high
}

// clearBits clears them.
func clearBits(set []uint64, from, to int) {
	i, last := from>>6, (to-1)>>6
	low, high := ^uint64(0)<<(from&63), ^uint64(0)>>(63-(to-1)&63)
	if i == last {
		set[i] &^= low & high
		return
	}
	set[i] &^= low
	for i++; i < last; i++ {
		set[i] = 0
	}
	set[last] &^= high
}

// onesFrom returns how many bits from at on are set one after another, at most n or some more.
func onesFrom(set []uint64, at, n int) int {
	i := at >> 6
	if w := ^set[i] >> (at & 63); w != 0 {
		return min(n, bits.TrailingZeros64(w))
	}
	for end := at + n; ; {
		if i++; i<<6 >= end {
			return n
		}
		if w := ^set[i]; w != 0 {
			return min(n, i<<6+bits.TrailingZeros64(w)-at)
		}
	}
}

// moveBits moves n bits from at on back places to the front, the last ones first.
func moveBits(set []uint64, at, n, back int) {
	for n > 0 {
		k := min(n, 32, back)
		n -= k
		from := at + n
		i, shift := from>>6, from&63
		mask := uint64(1)<<k - 1
		some := (set[i]>>shift | set[i+1]<<(64-shift)) & mask
		if some != 0 {
			set[i] &^= mask << shift
			set[i+1] &^= mask >> (64 - shift)
			orBits(set, from-back, uint32(some))
		}
	}
}
