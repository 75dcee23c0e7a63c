package lsh

import "math/bits"

// fastTables is the scratch of fastWindows: an array for each length of run that a window is made of.
type fastTables struct {
	runs [][]uint32
}

// fastWindowsGo computes the runs of 4, 8, 16 ... code points at every position of a block, each level from
// the one below, and joins them to windows. Every run is so computed once and shared by all windows that
// contain it. A rolling hash would share more and be slower: it is one long chain of dependent steps.
func fastWindowsGo(dst, points []uint32, width int, c *FastConstants, t *fastTables) {
	add := c.Final + uint32(width)*fastLen
	if width < 4 {
		fastShort(dst, points, width)
		fastEnd(dst, add)
		return
	}
	top := 1 << (bits.Len(uint(width)) - 1)
	level := 0
	run := t.level(level, len(points))[:len(points)-3]
	fastQuads(run, points, c.Quad)
	runs := [16][]uint32{2: run} // by the binary logarithm of their length
	for size := 4; size < top; size *= 2 {
		next := run[:len(run)-size]
		if width&size != 0 {
			// Windows need these runs again, so the next level goes elsewhere.
			level++
			next = t.level(level, len(next))
		}
		multiplier := fastLevel[(bits.Len(uint(size))-3)%len(fastLevel)]
		if rest := width - 2*size; 2*size == top && rest == size {
			// The commonest shape, 24 and 12: join, fold and finish in one go.
			fastFoldJoinEnd(dst, run, size, multiplier, add)
			return
		}
		fastFolds(next, run, run[size:], multiplier)
		run = next
		runs[bits.Len(uint(2*size))-1] = run
	}
	copy(dst, run)
	at := top
	for log := bits.Len(uint(top)) - 2; log >= 0; log-- {
		if width&(1<<log) == 0 {
			continue
		}
		switch log {
		case 0:
			fastFolds(dst, dst, points[at:], fastJoin)
		case 1:
			fastJoinPairs(dst, points[at:])
		default:
			fastFolds(dst, dst, runs[log][at:], fastJoin)
		}
		at += 1 << log
	}
	fastEnd(dst, add)
}

// level returns array i with room for n values.
func (t *fastTables) level(i, n int) []uint32 {
	if i == len(t.runs) {
		t.runs = append(t.runs, nil)
	}
	if len(t.runs[i]) < n {
		t.runs[i] = make([]uint32, n)
	}
	return t.runs[i][:n]
}

// fastShort hashes windows of 1 to 3 code points.
func fastShort(dst, points []uint32, width int) {
	switch width {
	case 1:
		copy(dst, points)
	case 2:
		next := points[1:][:len(dst)]
		for i := range dst {
			dst[i] = points[i]*fastPoint + next[i]
		}
	case 3:
		next, third := points[1:][:len(dst)], points[2:][:len(dst)]
		for i := range dst {
			dst[i] = fastFold(points[i]*fastPoint+next[i], third[i], fastJoin)
		}
	}
}

// fastQuads sets dst[i] to the run of four code points that starts at points[i].
func fastQuads(dst, points []uint32, quad uint32) {
	if len(dst) == 0 {
		return
	}
	const square = fastPoint * fastPoint & 0xffffffff
	pair, next := points[0]*fastPoint+points[1], points[1]*fastPoint+points[2]
	last := points[2]
	points = points[3:][:len(dst)]
	for i, p := range points {
		pair2 := last*fastPoint + p
		last = p
		h := pair*square + pair2 + quad
		h = (h ^ h>>15) * fastMix
		dst[i] = h ^ h>>13
		pair, next = next, pair2
	}
}

// fastFolds sets dst[i] to the join of left[i] and right[i]. dst may be left.
func fastFolds(dst, left, right []uint32, multiplier uint32) {
	left, right = left[:len(dst)], right[:len(dst)]
	for i := range dst {
		dst[i] = fastFold(left[i], right[i], multiplier)
	}
}

// fastJoinPairs joins dst[i] with the run of two code points at points[i].
func fastJoinPairs(dst, points []uint32) {
	points, next := points[:len(dst)], points[1:][:len(dst)]
	for i := range dst {
		dst[i] = fastFold(dst[i], points[i]*fastPoint+next[i], fastJoin)
	}
}

// fastFoldJoinEnd finishes windows of three runs of the given size.
func fastFoldJoinEnd(dst, run []uint32, size int, multiplier, add uint32) {
	second, third := run[size:][:len(dst)], run[2*size:][:len(dst)]
	run = run[:len(dst)]
	for i := range dst {
		h := fastFold(fastFold(run[i], second[i], multiplier), third[i], fastJoin) + add
		h = (h ^ h>>16) * fastEnd1
		h = (h ^ h>>15) * fastEnd2
		dst[i] = h ^ h>>16
	}
}

// fastEnd gives windows their last mixing.
func fastEnd(dst []uint32, add uint32) {
	for i, h := range dst {
		h += add
		h = (h ^ h>>16) * fastEnd1
		h = (h ^ h>>15) * fastEnd2
		dst[i] = h ^ h>>16
	}
}

// fastMapGo stores always: whether a key is the least so far is a coin toss until a slot has seen many, and
// a branch that is guessed wrong costs more than a store.
func fastMapGo(slots, hashes []uint32) {
	n := uint64(len(slots))
	for _, h := range hashes {
		p := uint64(h) * n
		s := p >> 32
		slots[s] = min(slots[s], uint32(p)>>2)
	}
}

func fastMapAgainGo(slots, hashes []uint32, round uint32) {
	n := uint64(len(slots))
	for _, h := range hashes {
		p := uint64(h*fastPoint+round) * n
		s := p >> 32
		slots[s] = min(slots[s], 1<<30|uint32(p)>>2)
	}
}
