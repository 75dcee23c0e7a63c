package lsh

import (
	"context"
	"math"
)

// blockWindows is the number of windows worked on at a time: few enough that the arrays of a block stay in the
// first level cache, and many times the code points that neighbouring blocks share.
const blockWindows = 2048

// keptWindows is the number of windows whose hashes are kept until it is clear that they are not needed again: the whole
// text's if that has no more than three blocks.
const keptWindows = 4 * blockWindows

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
	decode func(dst []uint32, text []byte) (points, size int)
	points []uint32 // room for a block
	have   int      // code points carried over from the last block
	first  bool
	rest   []byte
}

func newPointBlocks(width int, l *loops) pointBlocks {
	return pointBlocks{width: width, decode: l.decode, points: make([]uint32, max(blockWindows, 4*width)+width-1)}
}

// most returns the most windows that a block has.
func (p *pointBlocks) most() int { return len(p.points) - p.width + 1 }

func (p *pointBlocks) reset(text []byte) { p.have, p.first, p.rest = 0, true, text }

// next returns the code points of the next block, which is valid until the next call, and the width of its
// windows, which is less than usual for a text that is shorter. It returns nil at the end.
func (p *pointBlocks) next() (points []uint32, width int) {
	n, size := p.decode(p.points[p.have:], p.rest)
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

	some        []uint32 // room for a piece
	mapped      int      // windows of the text, to begin with
	none        []uint32 // a signature of empty slots
	a, b, least []uint32 // constants and minima of the slots that both mapped rounds left empty
}

func newFastSigner(p Params, c *FastConstants, l *loops) *fastSigner {
	s := &fastSigner{constants: c, loops: l, blocks: newPointBlocks(p.CharNgrams, l)}
	s.hashes = make([]uint32, max(keptWindows, s.blocks.most()))
	n := p.NumHashes()
	s.a, s.b, s.least, s.none = make([]uint32, n), make([]uint32, n), make([]uint32, n), make([]uint32, n)
	s.some = make([]uint32, piece)
	for j := range s.none {
		s.none[j] = emptySlot
	}
	return s
}

const (
	// piece is the number of hashes between two looks at the slots.
	piece = 512
	// worthDropping is the number of empty slots from which on it pays to look for repeats before they are filled, and
	// worthLooking the size of a text.
	worthDropping, worthLooking = 64, 512
)

// emptySlot is above every key of the mapped rounds.
const emptySlot = math.MaxUint32

func (s *fastSigner) sign(ctx context.Context, row []byte, text []byte) error {
	slots := view[uint32](row)
	if len(text) == 0 {
		clear(slots)
		return nil
	}
	copy(slots, s.none)
	s.blocks.reset(text)
	s.mapped = 0
	kept, all := 0, true // hashes that are still there, and whether they are all
	for {
		if len(s.hashes)-kept < s.blocks.most() {
			kept, all = 0, false
		}
		h := s.next(ctx, s.hashes[kept:])
		if h == nil {
			break
		}
		s.mapBlock(slots, h)
		kept += len(h)
	}
	if s.loops.largest(slots) != emptySlot {
		return ctx.Err()
	}
	// A text of more windows than are kept only gets here if few of them differ, or if the signature is very long. Then
	// hashing again is cheap beside filling.
	each := func(do func(h []uint32)) {
		for at := 0; all && at < kept && ctx.Err() == nil; at += blockWindows {
			do(s.hashes[at:min(kept, at+blockWindows)])
		}
		if all {
			return
		}
		s.blocks.reset(text)
		for h := s.next(ctx, s.hashes); h != nil; h = s.next(ctx, s.hashes) {
			do(h)
		}
	}
	each(func(h []uint32) {
		for len(h) > 0 {
			n := min(piece, len(h))
			some := s.some[:s.loops.openAgain(s.some[:n], slots, h[:n], s.constants.Round)]
			s.loops.mapAgain(slots, some, s.constants.Round)
			h = h[n:]
		}
	})
	n := s.loops.gatherEmpty(s.a, s.b, slots, s.constants.A, s.constants.B)
	if n == 0 {
		return ctx.Err()
	}
	a, b, least := s.a[:n], s.b[:n], s.least[:n]
	copy(least, s.none)
	drop := n >= worthDropping && len(text) >= worthLooking
	if drop {
		s.repeats.reset()
	}
	each(func(h []uint32) {
		if drop {
			h = s.repeats.drop(h)
		}
		s.loops.minima32(least, a, b, h)
	})
	s.loops.fillEmpty(slots, least)
	return ctx.Err()
}

// mapBlock does round 0 for a block. Once every slot has been hit, only keys below the largest slot can change
// anything, and in a long text they are few. While a slot is empty hashes stays as it is.
func (s *fastSigner) mapBlock(slots, hashes []uint32) {
	const (
		piece = 512             // hashes between two looks at the slots
		worth = 1 << 30 * 5 / 8 // picking out a larger share of the keys, which are below 2^30, does not pay
	)
	for len(hashes) > 0 {
		h := hashes[:min(piece, len(hashes))]
		hashes = hashes[len(h):]
		if limit := s.loops.largest(slots); limit < worth {
			h = h[:s.loops.below(h, uint32(len(slots)), limit<<2)]
		}
		s.loops.mapTo(slots, h)
	}
}

// next returns the hashes of the windows of the next block, in room, or nil at the end and when ctx has ended.
func (s *fastSigner) next(ctx context.Context, room []uint32) []uint32 {
	points, width := s.blocks.next()
	if points == nil || ctx.Err() != nil {
		return nil
	}
	hashes := room[:len(points)-width+1]
	s.loops.fastWindows(hashes, points, width, s.constants, &s.tables)
	s.blocks.carry(points)
	return hashes
}
