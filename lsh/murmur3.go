package lsh

import (
	"encoding/binary"
	"math/bits"
)

// MurmurHash3 is Austin Appleby's (public domain). These are its 32-bit and 128-bit variants for x86 and
// x64, whose results cuDF reproduces on the device.

const (
	murmurC1 = 0xcc9e2d51
	murmurC2 = 0x1b873593
	murmurH  = 0xe6546b64
)

// murmurWord prepares one little-endian word of input. It depends on the word alone, so windows share it.
func murmurWord(k uint32) uint32 { return bits.RotateLeft32(k*murmurC1, 15) * murmurC2 }

// murmurStep takes a prepared word into the state.
func murmurStep(h, word uint32) uint32 { return bits.RotateLeft32(h^word, 13)*5 + murmurH }

// murmurFinal32 is fmix32.
func murmurFinal32(h uint32) uint32 {
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

// murmurFinal64 is fmix64.
func murmurFinal64(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// murmur32 is MurmurHash3_x86_32.
func murmur32(b []byte, seed uint32) uint32 {
	h, n := seed, uint32(len(b))
	for len(b) >= 4 {
		h = murmurStep(h, murmurWord(binary.LittleEndian.Uint32(b)))
		b = b[4:]
	}
	var tail uint32
	for i, c := range b {
		tail |= uint32(c) << (8 * i)
	}
	if len(b) > 0 {
		h ^= murmurWord(tail)
	}
	return murmurFinal32(h ^ n)
}

// murmur64 is the first word of MurmurHash3_x64_128 whose two state words both start as a 64-bit seed, as in
// cuDF; Appleby's own takes a 32-bit seed.
func murmur64(b []byte, seed uint64) uint64 {
	const c1, c2 = 0x87c37b91114253d5, 0x4cf5ad432745937f
	h1, h2, n := seed, seed, uint64(len(b))
	word1 := func(k uint64) uint64 { return bits.RotateLeft64(k*c1, 31) * c2 }
	word2 := func(k uint64) uint64 { return bits.RotateLeft64(k*c2, 33) * c1 }
	for len(b) >= 16 {
		h1 ^= word1(binary.LittleEndian.Uint64(b))
		h1 = (bits.RotateLeft64(h1, 27)+h2)*5 + 0x52dce729
		h2 ^= word2(binary.LittleEndian.Uint64(b[8:]))
		h2 = (bits.RotateLeft64(h2, 31)+h1)*5 + 0x38495ab5
		b = b[16:]
	}
	if len(b) > 8 {
		h2 ^= word2(tail64(b[8:]))
		b = b[:8]
	}
	if len(b) > 0 {
		h1 ^= word1(tail64(b))
	}
	h1 ^= n
	h2 ^= n
	h1 += h2
	h2 += h1
	return murmurFinal64(h1) + murmurFinal64(h2)
}

// tail64 reads up to 8 bytes as a little-endian number.
func tail64(b []byte) uint64 {
	if len(b) == 8 {
		return binary.LittleEndian.Uint64(b)
	}
	var k uint64
	for i, c := range b {
		k |= uint64(c) << (8 * i)
	}
	return k
}
