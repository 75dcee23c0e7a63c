package lsh

import "math/bits"

// fastTables is the scratch of fastWindows: arrays for the runs that a window is made of.
type fastTables struct {
	runs [maxFastRun + 1][]uint32
}

// maxFastRun is the binary logarithm of the longest run.
const maxFastRun = 12

var _ [2<<maxFastRun - 1 - MaxCharNgrams]struct{} // no window has a longer one

// fastWindows sets dst[i] to the hash of points[i:i+width], where len(points) = len(dst)+width-1. It computes the runs of 2, 4, 8, 16 ... code points at every position of a block, each level
// from one below, and joins them to windows. Every run is so computed once and shared by all windows that
// contain it. A rolling hash would share more and be slower: it is one long chain of dependent steps.
func (l *loops) fastWindows(dst, points []uint32, width int, c *FastConstants, t *fastTables) {
	add := c.Final + uint32(width)*fastLen
	top := bits.Len(uint(width)) - 1
	var runs [maxFastRun + 1][]uint32 // by the logarithm of their length, where windows need them
	runs[0] = points
	if top == 1 || width&2 != 0 {
		runs[1] = t.array(1, len(points)-1)
		l.pairs(runs[1], points)
	}
	if top >= 2 {
		runs[2] = t.array(2, len(points)-3)
		l.quads(runs[2], points, c.Quad)
	}
	for i := 3; i <= top; i++ {
		below, size := runs[i-1], 1<<(i-1)
		multiplier := fastLevel[(i-3)%len(fastLevel)]
		if width == 3*size {
			// The commonest shape, 24 and 12 among them: two joins and the end in one go.
			l.foldFoldEnd(dst, below, size, multiplier, add)
			return
		}
		runs[i] = below[:len(below)-size]
		if width&size != 0 {
			runs[i] = t.array(i, len(runs[i])) // windows need the level below again
		}
		l.folds(runs[i], below, below[size:], multiplier)
	}
	left, at := runs[top], 1<<top
	if at == width {
		l.end(dst, left, add)
	}
	for at < width {
		i := bits.Len(uint(width-at)) - 1
		right := runs[i][at:]
		if at += 1 << i; at == width {
			l.foldEnd(dst, left, right, add)
		} else {
			l.folds(dst, left, right, fastJoin)
			left = dst
		}
	}
}

// array returns array i with room for n values.
func (t *fastTables) array(i, n int) []uint32 {
	if len(t.runs[i]) < n {
		t.runs[i] = make([]uint32, n)
	}
	return t.runs[i][:n]
}

// pairsGo sets dst[i] to the run of two code points that starts at points[i].
func pairsGo(dst, points []uint32) {
	next := points[1:][:len(dst)]
	for i := range dst {
		dst[i] = points[i]*fastPoint + next[i]
	}
}

// quadsGo sets dst[i] to the run of four code points that starts at points[i].
func quadsGo(dst, points []uint32, quad uint32) {
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

// foldsGo sets dst[i] to the join of left[i] and right[i]. dst may be left.
func foldsGo(dst, left, right []uint32, multiplier uint32) {
	left, right = left[:len(dst)], right[:len(dst)]
	for i := range dst {
		dst[i] = fastFold(left[i], right[i], multiplier)
	}
}

// fastFinish gives a window its last mixing.
func fastFinish(h, add uint32) uint32 {
	h += add
	h = (h ^ h>>16) * fastEnd1
	h = (h ^ h>>15) * fastEnd2
	return h ^ h>>16
}

// endGo finishes windows of one run.
func endGo(dst, run []uint32, add uint32) {
	run = run[:len(dst)]
	for i := range dst {
		dst[i] = fastFinish(run[i], add)
	}
}

// foldEndGo joins the last run to windows and finishes them. dst may be left.
func foldEndGo(dst, left, right []uint32, add uint32) {
	left, right = left[:len(dst)], right[:len(dst)]
	for i := range dst {
		dst[i] = fastFinish(fastFold(left[i], right[i], fastJoin), add)
	}
}

// foldFoldEndGo makes windows of three runs of one size.
func foldFoldEndGo(dst, run []uint32, size int, multiplier, add uint32) {
	second, third := run[size:][:len(dst)], run[2*size:][:len(dst)]
	run = run[:len(dst)]
	for i := range dst {
		h := fastFold(run[i], second[i], multiplier)
		dst[i] = fastFinish(fastFold(h, third[i], fastJoin), add)
	}
}
