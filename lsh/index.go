package lsh

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// Index holds the distinct windows of one text, for comparisons by the [Comparer] that made it or another of the same
// width. The zero Index is that of no text. Its memory is kept for the next text, until it is set to the zero Index.
type Index struct {
	// text has one byte for a code point, between front and some more bytes: its own if it is ASCII, and another
	// that says less. Then points holds the code points themselves, between as many; it is nil if there is no other.
	text   []byte
	points []uint32
	wide   []uint32 // memory of points
	n      int      // code points
	count  int      // distinct windows

	// Of a text that others are compared with: bit s for a window that starts at s if it is there for the first time, or
	// the copies say where it is too.
	firsts []uint64
	copies []copied // in the order of where they are

	heads   []uint32 // by hash: 1 + the number of the last anchor
	anchors []anchor

	singles     []uint32 // where windows that have no anchor start, in open addressing, less front-1; 0 is free
	singleCount int
}

// anchor is a gram with the windows around it that were not there before.
type anchor struct {
	around  uint32 // 16 bits of a hash of it and what is before it, and 16 of it and what is behind
	pos     uint32 // of the gram, less front
	windows uint32 // bit i for the one that starts starts-1-i before it
	next    uint32 // 1 + the number of another one in the same slot, or 0
}

// copied is a run of windows that were there before.
type copied struct {
	pos, n uint32 // the first, less front, and how many
	back   uint32 // how far
}

const (
	// front is how many bytes there are before a text, and behindText how many behind it beside a window.
	front, behindText = 32, 40
	// crowd is how many anchors may have the same slot.
	crowd = 16
	// An index has a slot for every anchorSlots code points, and room for an anchor for every mostAnchors.
	anchorSlots, mostAnchors = 2, 5
	// mostCopies of the code points are copies that are remembered.
	mostCopies = 16
	// fewSingles of the code points are windows without anchor before their table becomes as large as it ever does.
	fewSingles = 6
)

// The keys of the hashes. What is counted does not depend on them.
var (
	gramKeys   = [3]uint32{rand.Uint32() | 1, rand.Uint32() | 1, rand.Uint32() | 1}
	foldKey    = rand.Uint32() | 1
	aroundKeys = [2]uint64{rand.Uint64() | 1, rand.Uint64() | 1}
	hashKey    = rand.Uint64() | 1
	windowKeys = [2]uint64{rand.Uint64() | 1, rand.Uint64()}
)

// IndexBytes returns an upper bound on the memory of an [Index] of a text of n bytes, and of what a [Comparer] keeps of
// a text that it compares with one, beside 24 KiB for each. It is what a text takes that has a character which is not ASCII
// and windows that are as hard to find as can be; of most texts an index takes less than half.
func IndexBytes(n int64) int64 { return 17 * n }

// Len returns the number of distinct windows.
func (x *Index) Len() int { return x.count }

// Bytes is the memory that the index takes, and that is kept for the next one.
func (x *Index) Bytes() int {
	return cap(x.text) + 4*(cap(x.wide)+cap(x.heads)+cap(x.singles)) + 8*cap(x.firsts) + 16*cap(x.anchors) + 12*cap(x.copies)
}

// load makes x the index of a text without any windows. Whether it is first, compared with others, says if copies are
// remembered. Its count is that of all windows, from which those that are found to be known are taken.
func (c *Comparer) load(x *Index, text []byte, first bool) {
	x.points, x.n = nil, len(text)
	pad := front + c.width + behindText
	if ascii := asciiRun(text); ascii < len(text) {
		if len(text)+pad > cap(x.wide) {
			x.n = ascii + countPoints(text[ascii:])
		}
		resize(&x.wide, x.n+pad)
		x.n, _ = c.loops.decode(x.wide[front:front+x.n], text)
		x.points = x.wide[:x.n+pad]
	}
	resize(&x.text, x.n+pad)
	clear(x.text[:front])
	clear(x.text[front+x.n:])
	if x.points == nil {
		copy(x.text[front:], text)
	} else {
		clear(x.points[:front])
		clear(x.points[front+x.n:])
		foldPoints(x.text[front:front+x.n], x.points[front:])
	}
	x.count = max(0, x.n-c.width+1)
	if first {
		resize(&x.firsts, (front+x.n)/64+2)
		for i := range x.firsts {
			x.firsts[i] = ^uint64(0)
		}
		resize(&x.copies, x.n/mostCopies+1)
	}
	if c.gram > 0 && x.n >= c.width {
		zeros(&x.heads, x.n/anchorSlots+1)
		resize(&x.anchors, x.n/mostAnchors+2)
	}
	x.copies, x.anchors, x.singles, x.singleCount = x.copies[:0], x.anchors[:0], x.singles[:0], 0
}

// repeats remembers windows, bit i for the one that starts at origin+i, that are also so far from there.
func (x *Index) repeats(windows uint32, origin, shift int) {
	if x.firsts == nil {
		x.count -= bits.OnesCount32(windows)
		return
	}
	for at := origin; windows != 0; {
		skip := bits.TrailingZeros32(windows)
		at, windows = at+skip, windows>>skip
		n := bits.TrailingZeros32(^windows)
		x.repeat(at, n, at+shift)
		at, windows = at+n, windows>>n
	}
}

// repeat remembers that n windows from s on are the same as those from at on, which are in front of them.
func (x *Index) repeat(s, n, at int) {
	x.count -= n
	if x.firsts == nil {
		return
	}
	k := len(x.copies)
	if k > 0 {
		if last := &x.copies[k-1]; int(last.back) == s-at && int(last.pos+last.n)+front == s {
			last.n += uint32(n)
			return
		}
	}
	if k < x.n/mostCopies+1 {
		x.copies = append(x.copies, copied{uint32(s - front), uint32(n), uint32(s - at)})
		return
	}
	clearBits(x.firsts, s, s+n)
}

// fold moves the hits of windows that were there before to where they were first.
func (x *Index) fold(hits []uint64) {
	for i := len(x.copies) - 1; i >= 0; i-- {
		r := &x.copies[i]
		moveBits(hits, int(r.pos)+front, int(r.n), int(r.back))
	}
}

// foldPoints makes bytes of code points: ASCII stays, and all other become bytes that are not.
func foldPoints(dst []byte, points []uint32) {
	points = points[:len(dst)]
	for i, p := range points {
		if p >= 0x80 {
			p = 0x80 | p*foldKey>>25
		}
		dst[i] = byte(p)
	}
}

// full reports that there is no room for n anchors and one more. Where there is none for one more, none is added any more.
func (x *Index) full(n int) bool { return len(x.anchors)+n >= x.n/mostAnchors+1 }

func (x *Index) addAnchor(st *stretch, p int, windows uint32) {
	head := &x.heads[slotIn(st.hash, x.heads)]
	x.anchors = append(x.anchors, anchor{st.around, uint32(p - front), windows, *head})
	*head = uint32(len(x.anchors))
}

// windowHash returns the hash that a single window is looked up by.
func (x *Index) windowHash(s, width int) uint32 {
	w := x.text[s : s+width]
	h := windowKeys[1]
	for ; len(w) >= 8; w = w[8:] {
		v := binary.LittleEndian.Uint64(w)
		h = folded(h^v, windowKeys[0])
		if v&ascii8 != 0 {
			h = x.hashPoints(h, s+width-len(w), 8)
		}
	}
	for i, b := range w {
		h = folded(h^uint64(b), windowKeys[0])
		if b >= 0x80 {
			h = x.hashPoints(h, s+width-len(w)+i, 1)
		}
	}
	return uint32(h * hashKey >> 32)
}

// hashPoints joins n code points to a hash.
func (x *Index) hashPoints(h uint64, s, n int) uint64 {
	for _, p := range x.points[s : s+n] {
		h = folded(h^uint64(p), windowKeys[0])
	}
	return h
}

func folded(x, y uint64) uint64 {
	high, low := bits.Mul64(x, y)
	return high ^ low
}

// findSingle returns where a window of t is among the single windows of x.
func (x *Index) findSingle(t *Index, s, width int, hash uint32) (at int, ok bool) {
	if x == nil || len(x.singles) == 0 {
		return 0, false
	}
	for i := slotIn(hash, x.singles); x.singles[i] != 0; {
		if at = int(x.singles[i]) + front - 1; x.same(at, t, s, width) {
			return at, true
		}
		if i++; i == len(x.singles) {
			i = 0
		}
	}
	return 0, false
}

// addSingle adds a window that is not there.
func (x *Index) addSingle(s, width int, hash uint32) {
	if most := x.n + x.n/8 + 1; 2*x.singleCount >= len(x.singles) && len(x.singles) < most {
		x.growSingles(most, width)
	}
	x.placeSingle(s, hash)
	x.singleCount++
}

func (x *Index) placeSingle(s int, hash uint32) {
	i := slotIn(hash, x.singles)
	for x.singles[i] != 0 {
		if i++; i == len(x.singles) {
			i = 0
		}
	}
	x.singles[i] = uint32(s - front + 1)
}

// growSingles makes room for some windows, or for all that the text may have.
func (x *Index) growSingles(most, width int) {
	old := x.singles
	if few := x.n/fewSingles + 2; len(old) == 0 {
		zeros(&x.singles, few)
		return
	}
	if most+x.singleCount <= cap(old) {
		// What there is moves behind the table.
		list := old[most:most]
		for _, s := range old {
			if s != 0 {
				list = append(list, s)
			}
		}
		zeros(&x.singles, most)
		old = list
	} else {
		x.singles = make([]uint32, most, most+x.singleCount) // with room for the list, next time
	}
	for _, s := range old {
		if s != 0 {
			s := int(s) + front - 1
			x.placeSingle(s, x.windowHash(s, width))
		}
	}
}

// same reports whether n code points from a on are those of y from b on.
func (x *Index) same(a int, y *Index, b, n int) bool {
	if sameBytes(x.text[a:a+n], y.text[b:b+n]) < n {
		return false
	}
	return x.points == nil || y.points == nil || samePoints(x.points[a:a+n], y.points[b:b+n]) == n
}

// slotIn returns the slot of a hash.
func slotIn(hash uint32, slots []uint32) int { return int(uint64(hash) * uint64(len(slots)) >> 32) }

func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }

// resize makes s n values, of any kind, in the memory that it has if that is enough.
func resize[T any](s *[]T, n int) {
	if n > cap(*s) {
		*s = nil // before it is made anew
		*s = make([]T, n)
	}
	*s = (*s)[:n]
}

// zeros makes s n zeros.
func zeros[T any](s *[]T, n int) {
	resize(s, n)
	clear(*s)
}
