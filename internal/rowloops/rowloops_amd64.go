//go:build !purego

package rowloops

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// wide says whether the functions that end in AVX512 can be run; all processors can that package lsh has an AVX-512 path for.
var wide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VBMI2

// combines says whether there is a loop that gathers lines.
var combines = wide

func murmur8(dst []uint32, values []byte, seed uint32) (done int) {
	if !wide {
		return 0
	}
	return inBlocks(len(dst), 16, func(from, to int) { murmur8AVX512(dst[from:to], &values[8*from], seed) })
}

func fold8(a, b []uint64, values []byte) (done int) {
	if !wide {
		return 0
	}
	return inBlocks(len(a), 8, func(from, to int) { fold8AVX512(a[from:to], b[from:to], &values[8*from]) })
}

func foldEnd(a, b []uint64) (done int, sumA, sumB uint64) {
	if !wide {
		return 0, 0, 0
	}
	done = inBlocks(len(a), 8, func(from, to int) {
		x, y := foldEndAVX512(a[from:to], b[from:to])
		sumA += x
		sumB += y
	})
	return done, sumA, sumB
}

func recordSum2(words []uint64) (sumA, sumB uint64) {
	if !cpu.X86.HasBMI2 {
		return recordSum2Go(words)
	}
	inBlocks(len(words), 2, func(from, to int) {
		x, y := recordSum2BMI2(words[from:to])
		sumA += x
		sumB += y
	})
	return sumA, sumB
}

// inBlocks calls f for the largest multiple of unit that is not more than n, a block at a time because assembly cannot be
// preempted, and returns that multiple.
func inBlocks(n, unit int, f func(from, to int)) int {
	const block = 8 << 10
	n -= n % unit
	for from := 0; from < n; from += block {
		f(from, min(from+block, n))
	}
	return n
}

// scatter8 gathers values of the columns, from byte at on, in lines.
func scatter8(dst, values [][]byte, at int, next, parts []uint32, lines []byte) {
	if len(dst) == 1 {
		scatter8AVX512(unsafe.SliceData(dst[0]), &values[0][at], next, parts, unsafe.SliceData(lines))
		return
	}
	scatter8x2AVX512(unsafe.SliceData(dst[0]), unsafe.SliceData(dst[1]), &values[0][at], &values[1][at], next, parts, unsafe.SliceData(lines))
}
