package lsh

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Windows turns texts into sets of window hashes for exact comparison. A window is identified by the XXH3-64
// hash, with seed 0, of its bytes: two different windows of two documents of n windows each are taken for one
// with probability below 2n²/2^64, about 10^-11 for 10,000 windows, and then the counts are off by one.
//
// A Windows keeps scratch memory, at most 288 KiB, from one text to the next. It serves one goroutine.
type Windows struct {
	width   int
	scratch []uint64 // of sort
	ends    []int32  // likewise
}

// NewWindows returns a Windows for windows of charNgrams code points.
func NewWindows(charNgrams int) (*Windows, error) {
	if charNgrams < 1 || charNgrams > MaxCharNgrams {
		return nil, fmt.Errorf("lsh: %w: char_ngrams %d: must be from 1 to %d", ErrParams, charNgrams, MaxCharNgrams)
	}
	return &Windows{width: charNgrams}, nil
}

// WindowHash returns the hash that stands for a window, given its bytes.
func WindowHash(window []byte) uint64 { return xxh3.Hash(window) }

// MaxDistinctBytes returns an upper bound on the memory of the result of Distinct for a text of n bytes.
func MaxDistinctBytes(n int64) int64 { return 8 * n }

// Distinct returns the hashes of the distinct windows of text in ascending order, in dst if that has room.
// dst may be nil; its contents are overwritten.
func (w *Windows) Distinct(dst []uint64, text []byte) []uint64 {
	dst = w.hashes(dst[:0], text)
	w.sort(dst)
	return compact(dst)
}

// compact drops repeats from ascending values.
func compact(a []uint64) []uint64 {
	if len(a) == 0 {
		return a
	}
	kept, last := 1, a[0]
	for _, x := range a[1:] {
		a[kept] = x
		if x != last {
			kept++
		}
		last = x
	}
	return a[:kept]
}

// hashes appends the hash of every window.
func (w *Windows) hashes(dst []uint64, text []byte) []uint64 {
	if len(text) == 0 {
		return dst
	}
	if cap(dst) < len(text) {
		if n := countPoints(text); cap(dst) < n {
			dst = make([]uint64, 0, n)
		}
	}
	start, end := 0, 0
	for n := 0; n < w.width && end < len(text); n++ {
		_, size := nextPoint(text[end:])
		end += size
	}
	for {
		// A run of ASCII that holds some whole windows: their bytes are their code points.
		if run := asciiRun(text[start:]); run >= w.width+8 {
			n := run - w.width + 1
			dst = appendASCII(dst, text[start:start+run], w.width)
			start += n
			if end = start + w.width - 1; end == len(text) {
				return dst
			}
			_, size := nextPoint(text[end:])
			end += size
		}
		for range 64 {
			dst = append(dst, WindowHash(text[start:end]))
			if end == len(text) {
				return dst
			}
			_, size := nextPoint(text[start:])
			start += size
			_, size = nextPoint(text[end:])
			end += size
		}
	}
}

// appendASCII appends the hashes of windows of width bytes.
func appendASCII(dst []uint64, text []byte, width int) []uint64 {
	n := len(text) - width + 1
	if width <= 16 || width > 32 {
		for i := range n {
			dst = append(dst, WindowHash(text[i:i+width]))
		}
		return dst
	}
	// XXH3 for 17 to 32 bytes (Yann Collet's specification, "medium inputs") in line: 1.5 times as fast as
	// a call, and the default width is 24. The tests compare it with the library.
	const (
		prime1                             = 0x9e3779b185ebca87
		avalanche                          = 0x165667919e3779f9
		secret0, secret1, secret2, secret3 = 0xbe4ba423396cfeb8, 0x1cad21f72c81017c, 0xdb979083e96dd4de, 0x1f67b3b7a4a44072
	)
	base := uint64(width) * prime1 // wraps
	tail := width - 16
	dst = dst[:len(dst)+n]
	out := dst[len(dst)-n:]
	for i := range out {
		window := text[i : i+width]
		last := window[tail:][:16]
		high1, low1 := bits.Mul64(binary.LittleEndian.Uint64(window)^secret0, binary.LittleEndian.Uint64(window[8:])^secret1)
		high2, low2 := bits.Mul64(binary.LittleEndian.Uint64(last)^secret2, binary.LittleEndian.Uint64(last[8:])^secret3)
		h := base + (high1 ^ low1) + (high2 ^ low2)
		h = (h ^ h>>37) * avalanche
		out[i] = h ^ h>>32
	}
	return dst
}

// Intersection returns the number of elements that two ascending sets have in common.
func Intersection(a, b []uint64) int {
	n, _ := intersect(a, b, 0)
	return n
}

// AtLeast reports whether the Jaccard similarity of two ascending sets is at least t, and if so their exact
// overlap. It stops as soon as t is out of reach, and then the Overlap is zero.
func (t Threshold) AtLeast(a, b []uint64) (Overlap, bool) {
	if len(a) == 0 && len(b) == 0 {
		return Overlap{}, false
	}
	n, ok := intersect(a, b, t.needed(len(a), len(b)))
	if !ok {
		return Overlap{}, false
	}
	return Overlap{uint64(n), uint64(len(a) + len(b) - n)}, true
}

// intersect counts common elements. It returns false, and stops early, if there are fewer than needed.
func intersect(a, b []uint64, needed int) (int, bool) {
	// Steps between two looks at what is still possible. Each step is without branches, because which of
	// two hashes is less is a coin toss.
	const stride = 64
	n := 0
	for len(a) > 0 && len(b) > 0 {
		if n+min(len(a), len(b)) < needed {
			return 0, false
		}
		steps := min(len(a), len(b), stride)
		i, j := 0, 0
		for range steps {
			x, y := a[i], b[j]
			if x == y {
				n++
			}
			if x <= y {
				i++
			}
			if y <= x {
				j++
			}
		}
		a, b = a[i:], b[j:]
	}
	return n, n >= needed
}
