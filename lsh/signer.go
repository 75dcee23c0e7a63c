package lsh

import (
	"context"
	"math"
)

// blockWindows is the number of windows worked on at a time: few enough that the arrays of a block stay in the
// first level cache, and many times the code points that neighbouring blocks share.
const blockWindows = 2048

// signer computes signatures of one document after another, with scratch memory that does not depend on
// how long a document is. It belongs to one goroutine at a time.
type signer interface {
	// sign writes the signature of text to row, which holds NumHashes slots in the machine's byte order. It
	// looks at ctx once in a block and returns its error, if any, leaving row undefined.
	sign(ctx context.Context, row []byte, text []byte) error
}

// pointBlocks cuts a text into blocks of code points that overlap by one less than a window.
type pointBlocks struct {
	width  int
	points []uint32 // room for a block
	have   int      // code points carried over from the last block
	first  bool
	rest   []byte
}

func newPointBlocks(width int) pointBlocks {
	return pointBlocks{width: width, points: make([]uint32, max(blockWindows, 4*width)+width-1)}
}

func (p *pointBlocks) reset(text []byte) { p.have, p.first, p.rest = 0, true, text }

// next returns the code points of the next block, which is valid until the next call, and the width of its
// windows, which is less than usual for a text that is shorter. It returns nil at the end.
func (p *pointBlocks) next() (points []uint32, width int) {
	n, size := decodePoints(p.points[p.have:], p.rest)
	p.rest = p.rest[size:]
	n += p.have
	width, first := p.width, p.first
	p.first = false
	if n < width {
		if !first || n == 0 {
			return nil, 0
		}
		width = n
	}
	p.have = 0
	return p.points[:n], width
}

// carry keeps the tail of the block that next returned for the following one. The caller is done with it.
func (p *pointBlocks) carry(points []uint32) {
	p.have = copy(p.points, points[len(points)-min(len(points), p.width-1):])
}

// repeats drops windows that were seen shortly before. It never drops one that was not, and may keep a
// repeat; minima do not mind. Prose has few repeats, source code a fifth, and a degenerate text little else.
type repeats[T Slot] struct {
	seen []T
}

const repeatsBits = 11

func (r *repeats[T]) reset() {
	if r.seen == nil {
		r.seen = make([]T, 1<<repeatsBits)
	}
	clear(r.seen)
	r.seen[0] = 1 // so that a hash of 0 counts as new: 1 belongs in the next place
}

// drop moves the hashes worth keeping to the front and returns them.
func (r *repeats[T]) drop(hashes []T) []T {
	seen := (*[1 << repeatsBits]T)(r.seen)
	kept := 0
	for _, h := range hashes {
		i := h % (1 << repeatsBits)
		hashes[kept] = h
		if seen[i] != h {
			kept++
		}
		seen[i] = h
	}
	return hashes[:kept]
}

// fastSigner makes signatures of the sketch [Fast].
type fastSigner struct {
	constants *FastConstants
	loops     *loops
	blocks    pointBlocks
	tables    fastTables
	hashes    []uint32
	repeats   repeats[uint32]

	// The slots that both mapped rounds left empty, their constants and their minima.
	empty       []int32
	a, b, least []uint32
}

func newFastSigner(p Params, c *FastConstants, l *loops) *fastSigner {
	s := &fastSigner{constants: c, loops: l, blocks: newPointBlocks(p.CharNgrams)}
	s.hashes = make([]uint32, len(s.blocks.points))
	n := p.NumHashes()
	s.empty = make([]int32, 0, n)
	s.a, s.b, s.least = make([]uint32, n), make([]uint32, n), make([]uint32, n)
	return s
}

// emptySlot is above every key of the mapped rounds.
const emptySlot = math.MaxUint32

func (s *fastSigner) sign(ctx context.Context, row []byte, text []byte) error {
	slots := view[uint32](row)
	if len(text) == 0 {
		clear(slots)
		return nil
	}
	for j := range slots {
		slots[j] = emptySlot
	}
	blocks := 0
	var hashes []uint32
	s.blocks.reset(text)
	for h := s.next(ctx); h != nil; h = s.next(ctx) {
		s.loops.fastMap(slots, h)
		hashes = h
		blocks++
	}
	if !s.findEmpty(slots) {
		return ctx.Err()
	}
	// A text of several blocks has so many windows that it only gets here if few of them differ, or if
	// the signature is very long. Then hashing again is cheap beside filling.
	each := func(do func(h []uint32)) {
		if blocks == 1 {
			do(hashes)
			return
		}
		s.blocks.reset(text)
		for h := s.next(ctx); h != nil; h = s.next(ctx) {
			do(h)
		}
	}
	each(func(h []uint32) { s.loops.fastMapAgain(slots, h, s.constants.Round) })
	if !s.findEmpty(slots) {
		return ctx.Err()
	}
	n := len(s.empty)
	a, b, least := s.a[:n], s.b[:n], s.least[:n]
	for i, j := range s.empty {
		a[i], b[i], least[i] = s.constants.A[j], s.constants.B[j], math.MaxUint32
	}
	s.repeats.reset()
	each(func(h []uint32) { s.loops.affineMin32(least, a, b, s.repeats.drop(h)) })
	for i, j := range s.empty {
		slots[j] = 1<<31 | least[i]>>1
	}
	return ctx.Err()
}

// next returns the hashes of the windows of the next block, or nil at the end and when ctx has ended.
func (s *fastSigner) next(ctx context.Context) []uint32 {
	points, width := s.blocks.next()
	if points == nil || ctx.Err() != nil {
		return nil
	}
	hashes := s.hashes[:len(points)-width+1]
	s.loops.fastWindows(hashes, points, width, s.constants, &s.tables)
	s.blocks.carry(points)
	return hashes
}

// findEmpty lists the slots that no window was mapped to and reports whether there are any.
func (s *fastSigner) findEmpty(slots []uint32) bool {
	s.empty = s.empty[:0]
	for j, v := range slots {
		if v == emptySlot {
			s.empty = append(s.empty, int32(j))
		}
	}
	return len(s.empty) > 0
}
