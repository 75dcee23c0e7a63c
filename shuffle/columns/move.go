package columns

import (
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dovetail-dedup/dovetail/internal/rowloops"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Values of columns of fixed width without nulls are not gathered row by row: they are moved to their partitions, in the order
// of the batch, before the first chunk is made, and a chunk copies what is its own. Where all columns are such, the rows
// are hashed there too, and it is never asked which rows a partition has.

// move is the memory of one call of Pack.
type move struct {
	places  []uint32 // by partition: where its values begin, as a number of values
	bounds  []int
	columns int // that were moved
	of      int // columns

	memory [][]byte // of the columns that were moved
	lines  []byte
	next   []uint32
}

// moves keeps the memory from one call to the next: clearing it takes as long as filling it.
var moves = sync.Pool{New: func() any { return new(move) }}

// isMovable reports whether the values of a column can be moved.
func isMovable(n *node, arr arrow.Array) bool {
	w := n.width
	return n.shape == shapeFixed && (w == 1 || w == 2 || w == 4 || w == 8) && arr.NullN() == 0
}

// movable reports whether those of all columns can be.
func (c *Codec) movable(batch arrow.RecordBatch) bool {
	for i, n := range c.columns {
		if !isMovable(n, storage(batch.Column(i))) {
			return false
		}
	}
	return true
}

// move moves the values of the columns that can be. The caller calls done when it needs them no more.
func (c *Codec) move(cols []*selection, p *Partitioning) *move {
	m := moves.Get().(*move)
	m.columns, m.of, m.bounds = 0, len(cols), p.bounds
	if p.part == nil || p.total() == 0 {
		return m
	}
	counts := make([]int, p.Parts())
	for k := range counts {
		counts[k] = p.Rows(k)
	}
	places, all, ok := rowloops.Places(counts)
	if !ok {
		return m
	}
	m.places = places
	var wide []*selection // of 8 bytes, of which two are moved at a time
	for _, s := range cols {
		if !isMovable(s.n, s.arr) {
			continue
		}
		if m.columns == len(m.memory) {
			m.memory = append(m.memory, nil)
		}
		m.memory[m.columns] = rowloops.Aligned(m.memory[m.columns], all*s.n.width)
		s.moved = m.memory[m.columns]
		m.columns++
		if s.n.width < 8 {
			rowloops.Scatter(s.moved, fixedBytes(s.arr, s.n.width), s.n.width, m.from(places), p.part)
		} else if wide = append(wide, s); len(wide) == 2 {
			m.wide(wide, p.part)
			wide = wide[:0]
		}
	}
	if len(wide) > 0 {
		m.wide(wide, p.part)
	}
	return m
}

// wide moves columns of 8 bytes.
func (m *move) wide(cols []*selection, part []uint32) {
	dst, values := make([][]byte, len(cols)), make([][]byte, len(cols))
	for i, s := range cols {
		dst[i], values[i] = s.moved, fixedBytes(s.arr, 8)
	}
	m.lines = rowloops.Scatter8(dst, values, m.from(m.places), part, m.lines)
}

// from returns a copy of places that moving uses up.
func (m *move) from(places []uint32) []uint32 {
	m.next = append(m.next[:0], places...)
	return m.next
}

// all reports whether all columns were moved.
func (m *move) all() bool { return m.columns == m.of && m.columns > 0 }

// piece takes what a piece has of the columns that were moved.
func (m *move) piece(cols []*selection, pc piece) {
	if m.columns == 0 {
		return
	}
	at := int(m.places[pc.part]) + pc.from - m.bounds[pc.part]
	for _, s := range cols {
		if w := s.n.width; s.moved != nil {
			s.values = s.moved[at*w : (at+pc.to-pc.from)*w]
		}
	}
}

// hash returns the multiset hash of the rows of the piece in hand; all columns were moved. It is what [Codec.Hash] adds up to.
func (m *move) hash(cols []*selection, pc piece) (sum shuffle.Hash) {
	block := hashMemory.Get().(*hashBlock)
	defer hashMemory.Put(block)
	for from := 0; from < pc.to-pc.from; from += hashedRows {
		n := min(hashedRows, pc.to-pc.from-from)
		a, b := block.a[:n], block.b[:n]
		clear(a)
		clear(b)
		for _, s := range cols {
			foldFixed(a, b, s.values[from*s.n.width:], s.n.width)
		}
		sumA, sumB := rowloops.FoldEnd(a, b)
		sum = sum.Add(shuffle.Hash{A: sumA, B: sumB})
	}
	return sum
}

// done gives the memory back.
func (m *move) done() {
	m.bounds, m.places = nil, nil
	moves.Put(m)
}
