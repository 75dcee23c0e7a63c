package rowloops

import (
	"encoding/binary"
	"math/bits"
)

// Murmur8 sets dst[i] to MurmurHash3_x86_32 (Austin Appleby, 2011) with a seed of the 8 bytes values[8*i:].
func Murmur8(dst []uint32, values []byte, seed uint32) {
	values = values[:8*len(dst)]
	n := murmur8(dst, values, seed)
	murmur8Go(dst[n:], values[8*n:], seed)
}

func murmur8Go(dst []uint32, values []byte, seed uint32) {
	round := func(h, k uint32) uint32 {
		h ^= bits.RotateLeft32(k*0xcc9e2d51, 15) * 0x1b873593
		return bits.RotateLeft32(h, 13)*5 + 0xe6546b64
	}
	for i := range dst {
		v := binary.LittleEndian.Uint64(values[8*i:])
		h := round(round(seed, uint32(v)), uint32(v>>32)) ^ 8
		h = (h ^ h>>16) * 0x85ebca6b
		h = (h ^ h>>13) * 0xc2b2ae35
		dst[i] = h ^ h>>16
	}
}

// fold takes a number into the hash of a row.
func fold(a, b, next uint64) (uint64, uint64) {
	a = a*0x9fb21c651e98df25 + next
	a = (a ^ a>>33) * 0xff51afd7ed558ccd
	a = (a ^ a>>33) * 0xc4ceb9fe1a85ec53
	b = b*0xa24baed4963ee407 + next
	b = (b ^ b>>30) * 0xbf58476d1ce4e5b9
	b = (b ^ b>>27) * 0x94d049bb133111eb
	return a ^ a>>33, b ^ b>>31
}

// Fold8 takes the value of a further column, the 8 bytes values[8*i:], into the hash of each row, whose halves are a[i] and
// b[i]: each half h becomes mix(h*c + value), with another c and another mix for each. The mixes are the finalizers of
// MurmurHash3_x64 and of SplitMix64.
func Fold8(a, b []uint64, values []byte) {
	b, values = b[:len(a)], values[:8*len(a)]
	n := fold8(a, b, values)
	fold8Go(a[n:], b[n:], values[8*n:])
}

func fold8Go(a, b []uint64, values []byte) {
	for i := range a {
		a[i], b[i] = fold(a[i], b[i], binary.LittleEndian.Uint64(values[8*i:]))
	}
}

// Fold4, Fold2 and Fold1 are Fold8 for narrower columns, whose values are extended by zeros.
func Fold4(a, b []uint64, values []byte) {
	for i := range a {
		a[i], b[i] = fold(a[i], b[i], uint64(binary.LittleEndian.Uint32(values[4*i:])))
	}
}

// Fold2 is Fold8 for values of two bytes.
func Fold2(a, b []uint64, values []byte) {
	for i := range a {
		a[i], b[i] = fold(a[i], b[i], uint64(binary.LittleEndian.Uint16(values[2*i:])))
	}
}

// Fold1 is Fold8 for values of one byte.
func Fold1(a, b []uint64, values []byte) {
	for i := range a {
		a[i], b[i] = fold(a[i], b[i], uint64(values[i]))
	}
}

// FoldEnd takes the number 1 into the hash of each row, so that a row of no columns counts, and returns the sums of the halves,
// modulo 2^64. It changes neither a nor b.
func FoldEnd(a, b []uint64) (sumA, sumB uint64) {
	b = b[:len(a)]
	n, sumA, sumB := foldEnd(a, b)
	restA, restB := foldEndGo(a[n:], b[n:])
	return sumA + restA, sumB + restB
}

func foldEndGo(a, b []uint64) (sumA, sumB uint64) {
	for i := range a {
		x, y := fold(a[i], b[i], 1)
		sumA += x
		sumB += y
	}
	return sumA, sumB
}

// The constants of RecordSum2.
const (
	recordA  = 0xa0761d6478bd642f
	recordB  = 0xe7037ed1a0b428db
	recordM  = 0x8ebc6af09c88c6e3
	recordOf = 0x589965cc75374cc3
)

// FoldRecord takes a word into the two halves of a record's hash, which begins as [BeginRecord] and ends with [EndRecord].
func FoldRecord(a, b, w uint64) (uint64, uint64) {
	hi, lo := bits.Mul64(a^w, recordM)
	a = bits.RotateLeft64(a, 29) ^ hi ^ lo
	hi, lo = bits.Mul64(b^w^recordOf, recordB)
	return a, bits.RotateLeft64(b, 31) + (hi ^ lo)
}

// BeginRecord is the hash of a record before its first word.
func BeginRecord() (a, b uint64) { return recordA, recordB }

// EndRecord returns the hash of a record after its last word.
func EndRecord(a, b uint64) (uint64, uint64) {
	hi, lo := bits.Mul64(a^b, recordOf)
	return a ^ hi, b ^ lo
}

// RecordSum2 returns the sums, modulo 2^64, of the halves of the hashes of records of two words that lie one after another. A
// last word without its second does not count.
func RecordSum2(words []uint64) (sumA, sumB uint64) {
	return recordSum2(words[:len(words)&^1])
}

func recordSum2Go(words []uint64) (sumA, sumB uint64) {
	for ; len(words) >= 2; words = words[2:] {
		a, b := FoldRecord(recordA, recordB, words[0])
		a, b = EndRecord(FoldRecord(a, b, words[1]))
		sumA += a
		sumB += b
	}
	return sumA, sumB
}

// RecordSum3 is RecordSum2 for records of three words.
func RecordSum3(words []uint64) (sumA, sumB uint64) {
	for ; len(words) >= 3; words = words[3:] {
		a, b := FoldRecord(recordA, recordB, words[0])
		a, b = FoldRecord(a, b, words[1])
		a, b = EndRecord(FoldRecord(a, b, words[2]))
		sumA += a
		sumB += b
	}
	return sumA, sumB
}
