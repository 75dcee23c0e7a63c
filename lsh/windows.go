package lsh

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Windows holds the set of the windows of one text at a time, for comparison with lists of hashes: [Comparer] compares
// texts, faster and with no chance of error. A window is identified by the
// XXH3-64 hash, with seed 0, of its bytes, or 1 if that is 0: two different windows of two documents of n windows each are taken for one
// with probability below 2n²/2^64, about 10^-11 for 10,000 windows, and then the counts are off by one.
//
// The set is a hash table, whose memory is kept for the next text until Free. A Windows serves one goroutine.
type Windows struct {
	width int
	slots []uint64 // hashes, 0 for a free slot; at least one is free
	n     int      // windows in the set
	batch []uint64
}

const (
	// smallTable is the number of slots that there is room for at least, 256 KiB.
	smallTable = 32 << 10
	// batchWindows is how many windows are hashed before they join the set.
	batchWindows = 512
)

// NewWindows returns a Windows for windows of charNgrams code points, with an empty set.
func NewWindows(charNgrams int) (*Windows, error) {
	if charNgrams < 1 || charNgrams > MaxCharNgrams {
		return nil, fmt.Errorf("lsh: %w: char_ngrams %d: must be from 1 to %d", ErrParams, charNgrams, MaxCharNgrams)
	}
	return &Windows{width: charNgrams, batch: make([]uint64, 0, batchWindows)}, nil
}

// WindowHash returns the hash that stands for a window, given its bytes. It is never 0.
func WindowHash(window []byte) uint64 { return max(1, xxh3.Hash(window)) }

// WindowsBytes returns an upper bound on the memory that a Windows takes for a text of n bytes, which is never less than
// 256 KiB.
func WindowsBytes(n int64) int64 { return 8 * slotsOf(n) }

// HashesBytes returns an upper bound on the memory of the hashes of its windows.
func HashesBytes(n int64) int64 { return 8 * (n + 1) }

// slotsOf returns how many slots n windows are put into: so many that half of them stay free, which is fast, or of a
// large text at least a fifth, which saves memory.
func slotsOf(n int64) int64 { return min(2*n, n+n/4+1<<20) + 1 }

// Set makes the distinct windows of text the set.
func (w *Windows) Set(text []byte) {
	n := len(text)
	if slotsOf(int64(n)) > int64(cap(w.slots)) {
		n = countPoints(text)
	}
	w.n = 0
	if slots := int(slotsOf(int64(n))); slots > cap(w.slots) {
		w.slots = nil // before it is made anew
		w.slots = make([]uint64, slots, max(slots, smallTable))
	} else {
		w.slots = w.slots[:slots]
		clear(w.slots)
	}
	w.hash(text)
}

// CountPoints returns the number of code points in a text; a byte that belongs to no valid encoding counts as one.
func CountPoints(text []byte) int { return countPoints(text) }

// Free gives back the memory of the set, which is empty then.
func (w *Windows) Free() { w.slots, w.n = nil, 0 }

// Bytes is the memory that the set takes, and that is kept for the next one.
func (w *Windows) Bytes() int { return 8 * cap(w.slots) }

// Len returns the number of windows in the set.
func (w *Windows) Len() int { return w.n }

// Hashes appends the hashes of the windows in the set to dst, in no particular order, and returns it.
func (w *Windows) Hashes(dst []uint64) []uint64 {
	from, most := len(dst), len(dst)+w.n+1 // one more, so that every slot can be copied
	if cap(dst) < most {
		dst = append(make([]uint64, 0, most), dst...)
	}
	out := dst[from:most]
	n := 0
	for _, h := range w.slots {
		out[n] = h
		n += int(notZero(h))
	}
	return dst[:from+n]
}

// add adds hashes to the set, which has room for them, and overwrites them. All go to their first slot, and those
// that find another hash there go on to the next, together: so there is no branch that depends on a hash, of which a
// processor would guess many wrong.
func (w *Windows) add(hashes []uint64) {
	slots := w.slots
	n := uint64(0)
	for step := 0; len(hashes) > 0; step++ {
		on := 0
		for _, h := range hashes {
			slot := slotOf(h, step, slots)
			v := slots[slot]
			other := notZero(min(v, v^h))
			slots[slot] = v ^ (v^h)&(other-1)
			n += 1 - notZero(v)
			hashes[on] = h
			on += int(other)
		}
		hashes = hashes[:on]
	}
	w.n += int(n)
}

// Overlap compares the set with the windows of another text, given their distinct hashes.
func (w *Windows) Overlap(hashes []uint64) Overlap {
	slots := w.slots
	if len(slots) == 0 { // no text was set
		return Overlap{0, uint64(len(hashes))}
	}
	missing := uint64(0)
	for from := 0; from < len(hashes); from += batchWindows {
		ask := hashes[from:min(from+batchWindows, len(hashes))]
		on := w.batch[:batchWindows]
		for step := 0; len(ask) > 0; step++ {
			n := 0
			for _, h := range ask {
				v := slots[slotOf(h, step, slots)]
				on[n] = h
				n += int(notZero(min(v, v^h)))
				missing += 1 - notZero(v)
			}
			ask = on[:n]
		}
	}
	return Overlap{uint64(len(hashes)) - missing, uint64(w.n) + missing}
}

// notZero is 0 for 0 and 1 for all else.
func notZero(x uint64) uint64 { return (x | -x) >> 63 }

// notZero32 does the same.
func notZero32(x uint32) uint32 { return (x | -x) >> 31 }

// slotOf returns the slot that a hash is looked for in after steps others.
func slotOf(h uint64, steps int, slots []uint64) int {
	slot := int(h>>32*uint64(len(slots))>>32) + steps
	if slot >= len(slots) {
		slot -= len(slots)
	}
	return slot
}

// hash adds the hash of every window of text.
func (w *Windows) hash(text []byte) {
	start, end := 0, 0
	for n := 0; n < w.width && end < len(text); n++ {
		_, size := nextPoint(text[end:])
		end += size
	}
	for start < len(text) {
		// A run of ASCII that holds some whole windows: their bytes are their code points.
		if run := asciiRun(text[start:]); run >= w.width+8 {
			for n := run - w.width + 1; n > 0; {
				some := min(n, batchWindows)
				w.batch = appendASCII(w.batch[:0], text[start:start+some+w.width-1], w.width)
				w.add(w.batch)
				start, n = start+some, n-some
			}
			if end = start + w.width - 1; end == len(text) {
				return
			}
			_, size := nextPoint(text[end:])
			end += size
		}
		w.batch = w.batch[:0]
		for range 64 {
			w.batch = append(w.batch, WindowHash(text[start:end]))
			if end == len(text) {
				start = end
				break
			}
			_, size := nextPoint(text[start:])
			start += size
			_, size = nextPoint(text[end:])
			end += size
		}
		w.add(w.batch)
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
		out[i] = max(1, h^h>>32)
	}
	return dst
}
