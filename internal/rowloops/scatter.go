package rowloops

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// A scatter moves the values of columns to their partitions: value i goes to place next[parts[i]] of the destination, which is
// then counted up. Where all partitions together are larger than a cache, each value written would first bring 64 bytes
// from memory; so values are gathered in a line of 64 bytes for each partition, which stays in the cache, and full lines
// are written past it ("software write-combining"; Satish et al. 2010, Wassenberg and Sanders 2011).

// LineBytes is the alignment of the destination of a scatter and of the first place of each partition in it, in bytes.
const LineBytes = 64

// MaxLines is the number of partitions from which on lines do not pay: they would not stay in a cache.
const MaxLines = 2048

// combineFrom is the size in bytes of a destination from which on lines pay: below it the destination is in the cache.
const combineFrom = 1 << 20

// Places returns where each partition begins in the destination of values of up to 8 bytes, as a number of values: at a multiple
// of 8, in the order of the partitions. all is the number of values that the destination has room for. It returns false
// if that is more than 2^32-1.
func Places(counts []int) (next []uint32, all int, ok bool) {
	next = make([]uint32, len(counts))
	for p, n := range counts {
		if uint64(all) > 1<<32-1-8 {
			return nil, 0, false
		}
		next[p] = uint32(all)
		all += (n + 7) &^ 7
	}
	return next, all, uint64(all) <= 1<<32-1
}

// Aligned returns n bytes that start at a multiple of [LineBytes], not cleared if old has room for them.
func Aligned(old []byte, n int) []byte {
	if cap(old) >= n {
		return old[:n]
	}
	b := make([]byte, n+LineBytes-1)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (LineBytes - 1))
	return b[off : off+n : off+n]
}

// Scatter moves values of width 1, 2, 4 or 8 bytes. next is used up: it ends where each partition ends.
func Scatter(dst, values []byte, width int, next, parts []uint32) {
	le := binary.LittleEndian
	switch width {
	case 1:
		for i, p := range parts {
			dst[next[p]] = values[i]
			next[p]++
		}
	case 2:
		for i, p := range parts {
			le.PutUint16(dst[2*int(next[p]):], le.Uint16(values[2*i:]))
			next[p]++
		}
	case 4:
		for i, p := range parts {
			le.PutUint32(dst[4*int(next[p]):], le.Uint32(values[4*i:]))
			next[p]++
		}
	case 8:
		for i, p := range parts {
			le.PutUint64(dst[8*int(next[p]):], le.Uint64(values[8*i:]))
			next[p]++
		}
	}
}

// Scatter8 is Scatter for one or two columns of 8 bytes at once, each with a destination of its own; they begin at multiples
// of [LineBytes]. Every part must be less than len(next), and what parts and next say must fit the destinations, as it does
// if next is what [Places] returns for the numbers of parts: this is not checked. lines is scratch memory, or nil; it is
// returned to be used again.
func Scatter8(dst, values [][]byte, next, parts []uint32, lines []byte) []byte {
	if !combines || len(next) > MaxLines || len(dst[0]) < combineFrom || len(dst) > 2 {
		for i := range dst[1:] {
			Scatter(dst[1+i], values[1+i], 8, slices.Clone(next), parts)
		}
		Scatter(dst[0], values[0], 8, next, parts)
		return lines
	}
	return combine(dst, values, next, parts, lines)
}

// combine is Scatter8 by way of lines.
func combine(dst, values [][]byte, next, parts []uint32, lines []byte) []byte {
	lines = Aligned(lines, LineBytes*len(next)*len(dst))
	const block = 8 << 10 // assembly cannot be preempted
	for at := 0; at < len(parts); at += block {
		scatter8(dst, values, 8*at, next, parts[at:min(at+block, len(parts))], lines)
	}
	for p, end := range next {
		rest := int(end & 7)
		for i := range dst {
			copy(dst[i][8*(int(end)-rest):], lines[LineBytes*(len(dst)*p+i):][:8*rest])
		}
	}
	return lines
}

// Move64 moves the first 64 bytes of src, which must not overlap dst: four loads and four stores, where copy would ask how many
// bytes there are.
func Move64(dst, src []byte) {
	_, _ = dst[63], src[63]
	*(*[16]byte)(dst) = *(*[16]byte)(src)
	*(*[16]byte)(dst[16:]) = *(*[16]byte)(src[16:])
	*(*[16]byte)(dst[32:]) = *(*[16]byte)(src[32:])
	*(*[16]byte)(dst[48:]) = *(*[16]byte)(src[48:])
}
