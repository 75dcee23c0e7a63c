package lsh

import "math/bits"

const (
	// scratchWords bounds the scratch memory of a sort; more is first cut into pieces in place.
	scratchWords = 32 << 10
	// maxDigits is the binary logarithm of the most buckets.
	maxDigits = 13
	// smallSort is the size below which insertion sort wins, and the largest bucket left to it.
	smallSort = 32
)

// sort sorts window hashes. As they are hashes, cutting them into about as many buckets as there are values
// by their leading bits leaves next to nothing to do; equal values or unlucky ones go through the bits
// below, so that no input costs more than 64 passes.
func (w *Windows) sort(a []uint64) { w.sortBits(a, 64) }

// sortBits sorts values that agree in all but their low bits.
func (w *Windows) sortBits(a []uint64, low int) {
	for len(a) > scratchWords && low > 0 {
		if w.splitInPlace(a, low) {
			return
		}
		low -= splitBits
	}
	if len(a) <= smallSort || low <= 0 {
		insertionSort(a)
		return
	}
	if allEqual(a) { // a window that a text repeats
		return
	}
	if len(w.scratch) < len(a) {
		w.scratch = make([]uint64, min(scratchWords, 2*len(a)))
	}
	digits := min(bits.Len(uint(len(a)-1)), maxDigits, low)
	shift := low - digits
	mask := uint64(1)<<digits - 1
	if w.ends == nil {
		w.ends = make([]int32, 1<<maxDigits)
	}
	ends := w.ends[:1<<digits]
	clear(ends)
	for _, x := range a {
		ends[x>>shift&mask]++
	}
	sum, most := int32(0), int32(0)
	for i, n := range ends {
		most = max(most, n)
		ends[i] = sum
		sum += n
	}
	sorted := w.scratch[:len(a)]
	for _, x := range a {
		d := x >> shift & mask
		sorted[ends[d]] = x
		ends[d]++
	}
	copy(a, sorted)
	if most <= smallSort {
		insertionSort(a)
		return
	}
	for len(a) > 0 {
		end := 1
		for end < len(a) && (a[end]^a[0])>>shift&mask == 0 {
			end++
		}
		w.sortBits(a[:end], shift)
		a = a[end:]
	}
}

// splitBits is the number of bits that splitInPlace sorts by.
const splitBits = 8

// splitInPlace puts values in the order of the leading splitBits of their low bits and sorts each bucket
// (McIlroy, Bostic and McIlroy, "Engineering Radix Sort", 1993). It returns false and does nothing if all
// values fall in one bucket, so that the caller goes on with fewer bits and does not recurse.
func (w *Windows) splitInPlace(a []uint64, low int) bool {
	shift := max(low-splitBits, 0)
	digit := func(x uint64) uint8 { return uint8(x >> shift & (1<<splitBits - 1)) }
	var count [1 << splitBits]int
	for _, x := range a {
		count[digit(x)]++
	}
	if count[digit(a[0])] == len(a) {
		return false
	}
	var next, ends [1 << splitBits]int
	sum := 0
	for i, n := range count {
		next[i] = sum
		sum += n
		ends[i] = sum
	}
	for d := range next {
		for next[d] < ends[d] {
			// Follow the cycle of displaced values until one belongs here.
			x := a[next[d]]
			for {
				e := digit(x)
				if int(e) == d {
					break
				}
				a[next[e]], x = x, a[next[e]]
				next[e]++
			}
			a[next[d]] = x
			next[d]++
		}
	}
	start := 0
	for _, end := range ends {
		if end-start > 1 {
			w.sortBits(a[start:end], shift)
		}
		start = end
	}
	return true
}

func insertionSort(a []uint64) {
	for i := 1; i < len(a); i++ {
		x := a[i]
		j := i
		for ; j > 0 && a[j-1] > x; j-- {
			a[j] = a[j-1]
		}
		a[j] = x
	}
}

func allEqual(a []uint64) bool {
	for _, x := range a {
		if x != a[0] {
			return false
		}
	}
	return true
}
