package lsh

import (
	"cmp"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Hash128 is a 128-bit hash of a text. Texts with equal hashes are taken for identical: among 10^12 different
// texts two share a hash with probability about 10^-15.
type Hash128 struct {
	Hi, Lo uint64
}

// contentSeed keeps content hashes apart from XXH3 hashes that other programs may have stored.
const contentSeed = 0x646f7665_7461696c // "dovetail"

// ContentHash returns the XXH3-128 hash of text with the seed 0x646f76657461696c. It is not cryptographic:
// someone who wants two different texts to collide can make them.
func ContentHash(text []byte) Hash128 {
	h := xxh3.Hash128Seed(text, contentSeed)
	return Hash128{h.Hi, h.Lo}
}

// Compare orders hashes as 128-bit numbers.
func (h Hash128) Compare(other Hash128) int {
	if c := cmp.Compare(h.Hi, other.Hi); c != 0 {
		return c
	}
	return cmp.Compare(h.Lo, other.Lo)
}

// Add returns the sum mod 2^128. The sum of the hashes of many texts does not depend on their order, and
// counts how often each occurs.
func (h Hash128) Add(other Hash128) Hash128 {
	lo, carry := bits.Add64(h.Lo, other.Lo, 0)
	hi, _ := bits.Add64(h.Hi, other.Hi, carry)
	return Hash128{hi, lo}
}
