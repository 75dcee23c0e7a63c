package columns

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

const (
	blockMagic   = 0x62635644 // "DVcb"
	blockVersion = 1
	blockFixed   = 24 // magic, version, rows, fingerprint
)

// Pack yields the chunks of a batch: for each partition that has rows, one, or several of equal numbers of
// rows if the data would exceed maxChunk bytes. Memory comes from alloc one chunk at a time, and each chunk
// belongs to the loop, so that the loop can insert it and memory can be spilled before the next is made. An
// error ends the loop. A single row that exceeds maxChunk gives [shuffle.ErrChunkTooLarge].
//
// It takes scratch memory on the Go heap, see [Codec.PackScratch]; whoever calls it bounds that by the size of batches.
func (c *Codec) Pack(batch arrow.RecordBatch, p *Partitioning, alloc func(n int) (*mem.Buffer, error), maxChunk int64,
) iter.Seq2[shuffle.Chunk, error] {
	return func(yield func(shuffle.Chunk, error) bool) {
		pieces, cols, err := c.plan(batch, p, maxChunk)
		if err != nil {
			yield(shuffle.Chunk{}, err)
			return
		}
		moved := c.move(cols, p)
		defer moved.done()
		var sums []shuffle.Hash
		if !moved.all() {
			sums = c.sums(batch, p, pieces)
		}
		for i, pc := range pieces {
			buf, err := alloc(int(pc.size))
			if err != nil {
				yield(shuffle.Chunk{}, err)
				return
			}
			ch := shuffle.Chunk{Partition: pc.part, Rows: int64(pc.to - pc.from), Meta: c.meta, Data: buf}
			moved.piece(cols, pc)
			if moved.all() {
				ch.Hash = moved.hash(cols, pc)
			} else {
				ch.Hash = sums[i]
			}
			c.write(buf.Bytes(), cols, i, pc.to-pc.from)
			if !yield(ch, nil) {
				return
			}
		}
	}
}

// sums returns the multiset hash of the rows of each piece.
func (c *Codec) sums(batch arrow.RecordBatch, p *Partitioning, pieces []piece) []shuffle.Hash {
	sums := make([]shuffle.Hash, len(pieces))
	piecewise := p.part == nil
	of := make([]int32, p.Parts()) // by partition: its piece
	for i, pc := range pieces {
		piecewise = piecewise || i > 0 && pieces[i-1].part == pc.part
		of[pc.part] = int32(i)
	}
	if !piecewise {
		part := p.part
		c.eachHash(batch, func(a, b []uint64) {
			for i, k := range part[:len(a)] {
				sum := &sums[of[k]]
				sum.A, sum.B = sum.A+a[i], sum.B+b[i]
			}
			part = part[len(a):]
		})
		return sums
	}
	hashes := make([]shuffle.Hash, 0, batch.NumRows())
	c.eachHash(batch, func(a, b []uint64) {
		for i := range a {
			hashes = append(hashes, shuffle.Hash{A: a[i], B: b[i]})
		}
	})
	for i, pc := range pieces {
		for _, row := range p.rows()[pc.from:pc.to] {
			sums[i] = sums[i].Add(hashes[row])
		}
	}
	return sums
}

// piece is what becomes one chunk: rows order[from:to].
type piece struct {
	part     int
	from, to int
	size     int64
	many     bool // it has more elements than a chunk may have
}

// check verifies that a batch has the codec's schema.
func (c *Codec) check(batch arrow.RecordBatch) error {
	if int(batch.NumCols()) != len(c.columns) {
		return fmt.Errorf("columns: batch has %d columns, the schema has %d", batch.NumCols(), len(c.columns))
	}
	for i, f := range c.schema.Fields() {
		if t := batch.Column(i).DataType(); !arrow.TypeEqual(t, f.Type) {
			return fmt.Errorf("columns: column %s has type %s, the schema has %s", f.Name, t, f.Type)
		}
	}
	return nil
}

// plan cuts the partitions into pieces of at most maxChunk bytes.
func (c *Codec) plan(batch arrow.RecordBatch, p *Partitioning, maxChunk int64) ([]piece, []*selection, error) {
	if err := c.check(batch); err != nil {
		return nil, nil, err
	}
	if p.part != nil || p.Parts() != 1 {
		if int64(p.total()) != batch.NumRows() {
			return nil, nil, fmt.Errorf("columns: partitioning of %d rows for a batch of %d", p.total(), batch.NumRows())
		}
	}
	var order []int32
	if p.part == nil || !c.movable(batch) {
		order = p.rows()
	}
	for _, row := range order {
		if int64(row) >= batch.NumRows() || row < 0 {
			return nil, nil, fmt.Errorf("columns: row %d of a batch of %d", row, batch.NumRows())
		}
	}
	var pieces []piece
	for part := range p.Parts() {
		if from, to := p.bounds[part], p.bounds[part+1]; to > from {
			pieces = append(pieces, piece{part: part, from: from, to: to})
		}
	}
	for {
		cols, err := c.measure(batch, order, pieces)
		if err != nil {
			return nil, nil, err
		}
		next := make([]piece, 0, len(pieces))
		for _, pc := range pieces {
			rows := pc.to - pc.from
			if pc.size > maxChunk && rows == 1 {
				return nil, nil, fmt.Errorf("columns: row %d needs %d bytes, a chunk has at most %d (raise "+
					"MaxChunk, with the budget if need be): %w", p.rows()[pc.from], pc.size, maxChunk, shuffle.ErrChunkTooLarge)
			}
			if pc.many && rows == 1 {
				return nil, nil, fmt.Errorf("columns: row %d has more nested elements than the %d that a chunk can have: %w",
					p.rows()[pc.from], 1<<24, shuffle.ErrChunkTooLarge)
			}
			n := 1
			if pc.size > maxChunk {
				n = min(rows, int(pc.size/maxChunk)+1)
			}
			if pc.many {
				n = min(rows, max(n, 2))
			}
			for k := range n {
				next = append(next, piece{part: pc.part, from: pc.from + rows*k/n, to: pc.from + rows*(k+1)/n})
			}
		}
		if len(next) == len(pieces) {
			return pieces, cols, nil
		}
		pieces = next
	}
}

// measure selects the rows of all pieces, in all columns, and sets the pieces' sizes.
func (c *Codec) measure(batch arrow.RecordBatch, order []int32, pieces []piece) ([]*selection, error) {
	bounds := make([]int, len(pieces)+1)
	for i := range pieces {
		bounds[i], bounds[i+1] = pieces[i].from, pieces[i].to
	}
	cols := make([]*selection, len(c.columns))
	for k, n := range c.columns {
		var err error
		if cols[k], err = choose(n, batch.Column(k), order, bounds); err != nil {
			return nil, err
		}
	}
	for i := range pieces {
		pieces[i].many = false
		pieces[i].size = int64(blockFixed + 16*c.nodes + 8*c.buffers)
		for _, s := range cols {
			pieces[i].size += s.size(i)
			pieces[i].many = pieces[i].many || !s.fits(i)
		}
	}
	return cols, nil
}

// selection says which elements of one array go into which piece.
type selection struct {
	n      *node
	arr    arrow.Array
	rows   []int32 // elements, piece after piece
	bounds []int   // piece i has rows[bounds[i]:bounds[i+1]]
	nulls  []int   // by piece
	bytes  []int64 // by piece: length of a string column's bytes
	index  []int32 // for each of rows: its index in the piece's dictionary
	ends   []int32 // for each item of a run-end encoded column: where in the piece its run ends
	kids   []*selection
	moved  []byte // the values by partition, if they were moved there
	values []byte // of them, those of the piece in hand
}

// choose makes the selection of an array's elements and, from it, those of its children.
func choose(n *node, arr arrow.Array, rows []int32, bounds []int) (*selection, error) {
	s := &selection{n: n, arr: storage(arr), rows: rows, bounds: bounds, nulls: make([]int, len(bounds)-1)}
	s.countNulls()
	kids := children(n, s.arr)
	switch n.shape {
	case shapeBinary:
		if n.width == 4 && s.arr.NullN() == 0 {
			return s, s.measureStrings()
		}
		return s, s.measureBytes(binaryOf(s.arr, n.width).length)
	case shapeView:
		return s, s.measureBytes(viewsOf(s.arr).outside)
	case shapeDense:
		return s, s.chooseDense(kids)
	case shapeStruct, shapeSparse:
		for i, kid := range kids {
			k, err := choose(n.kids[i], kid, rows, bounds)
			if err != nil {
				return nil, err
			}
			s.kids = append(s.kids, k)
		}
		return s, nil
	case shapeList, shapeFixedList, shapeDict, shapeListView, shapeRuns:
		items, itemBounds, err := s.items()
		if err != nil {
			return nil, err
		}
		k, err := choose(n.kids[0], kids[0], items, itemBounds)
		s.kids = []*selection{k}
		return s, err
	}
	return s, nil
}

func (s *selection) pieces() int         { return len(s.bounds) - 1 }
func (s *selection) piece(i int) []int32 { return s.rows[s.bounds[i]:s.bounds[i+1]] }
func (s *selection) length(i int) int    { return s.bounds[i+1] - s.bounds[i] }
func (s *selection) null(row int32) bool { return s.n.shape.valid() && s.arr.IsNull(int(row)) }

func (s *selection) countNulls() {
	if s.n.shape == shapeNull {
		for i := range s.nulls {
			s.nulls[i] = s.length(i)
		}
		return
	}
	if !s.n.shape.valid() || s.arr.NullN() == 0 {
		return
	}
	valid, off := s.arr.NullBitmapBytes(), s.arr.Data().Offset()
	for i := range s.nulls {
		for _, row := range s.piece(i) {
			if !bit(valid, off+int(row)) {
				s.nulls[i]++
			}
		}
	}
}

// chooseDense makes the selections of a dense union's children.
func (s *selection) chooseDense(kids []arrow.Array) error {
	codes, offsets := codesOf(s.arr)
	items, bounds := make([][]int32, len(kids)), make([][]int, len(kids))
	for k := range kids {
		bounds[k] = make([]int, 1, len(s.bounds))
	}
	for i := range s.pieces() {
		for _, row := range s.piece(i) {
			k := s.n.child[codes[row]]
			items[k] = append(items[k], offsets[row])
		}
		for k := range kids {
			bounds[k] = append(bounds[k], len(items[k]))
		}
	}
	for k := range kids {
		kid, err := choose(s.n.kids[k], kids[k], items[k], bounds[k])
		if err != nil {
			return err
		}
		s.kids = append(s.kids, kid)
	}
	return nil
}

// measureBytes adds up the lengths of strings.
func (s *selection) measureBytes(length func(row int) int) error {
	s.bytes = make([]int64, s.pieces())
	for i := range s.bytes {
		for _, row := range s.piece(i) {
			if s.nulls[i] == 0 || !s.null(row) {
				s.bytes[i] += int64(length(int(row)))
			}
		}
		if (s.n.width == 4 || s.n.shape == shapeView) && s.bytes[i] > math.MaxInt32 {
			return s.tooLong(i)
		}
	}
	return nil
}

// measureStrings is measureBytes for strings without nulls with offsets of 4 bytes.
func (s *selection) measureStrings() error {
	s.bytes = make([]int64, s.pieces())
	offsets := binaryOf(s.arr, 4).offsets
	for i := range s.bytes {
		sum := int64(0)
		for _, row := range s.piece(i) {
			at := offsets[4*int(row):]
			sum += int64(binary.LittleEndian.Uint32(at[4:])) - int64(binary.LittleEndian.Uint32(at))
		}
		if s.bytes[i] = sum; sum > math.MaxInt32 {
			return s.tooLong(i)
		}
	}
	return nil
}

func (s *selection) tooLong(i int) error {
	return fmt.Errorf("columns: %s: %d bytes of strings need 64-bit offsets", s.n.path, s.bytes[i])
}

// items returns the elements of the child that the selected rows use: the items of lists, or the values of
// a dictionary, once per piece.
func (s *selection) items() (items []int32, bounds []int, err error) {
	bounds = make([]int, 1, len(s.bounds))
	if s.n.shape == shapeDict {
		d := s.arr.(*array.Dictionary)
		s.index = make([]int32, len(s.rows))
		seen := make([]int, d.Dictionary().Len()) // position in items, plus one
		for i := range s.pieces() {
			base := len(items)
			for k := s.bounds[i]; k < s.bounds[i+1]; k++ {
				row := int(s.rows[k])
				if d.IsNull(row) {
					continue
				}
				v := d.GetValueIndex(row)
				if seen[v] <= base {
					items = append(items, int32(v))
					seen[v] = len(items)
				}
				s.index[k] = int32(seen[v] - 1 - base)
			}
			bounds = append(bounds, len(items))
		}
		return items, bounds, nil
	}
	if s.n.shape == shapeRuns {
		index := runsOf(s.arr.(*array.RunEndEncoded))
		for i := range s.pieces() {
			for k, row := range s.piece(i) {
				if k == 0 || index[row] != items[len(items)-1] {
					items, s.ends = append(items, index[row]), append(s.ends, 0)
				}
				s.ends[len(s.ends)-1] = int32(k + 1)
			}
			bounds = append(bounds, len(items))
		}
		return items, bounds, nil
	}
	for i := range s.pieces() {
		base := len(items)
		for _, row := range s.piece(i) {
			if s.n.shape != shapeFixedList && s.null(row) {
				continue
			}
			from, to := listSpan(s.n, s.arr, int(row))
			if to > math.MaxInt32 || len(items)-base+to-from > math.MaxInt32 {
				return nil, nil, fmt.Errorf("columns: %s: lists of more than 2^31 items", s.n.path)
			}
			for v := from; v < to; v++ {
				items = append(items, int32(v))
			}
		}
		bounds = append(bounds, len(items))
	}
	return items, bounds, nil
}

// fits reports whether a piece has no more elements anywhere than a chunk may have.
func (s *selection) fits(i int) bool {
	if uint64(s.length(i)) > s.n.maxElements() {
		return false
	}
	for _, k := range s.kids {
		if !k.fits(i) {
			return false
		}
	}
	return true
}

func padded(n int64) int64 { return (n + 7) &^ 7 }

// lengths returns the lengths in bytes of the node's buffers for a piece, in order.
func (s *selection) lengths(i int) (ls [3]int64) {
	n := int64(s.length(i))
	if s.nulls[i] > 0 && s.n.shape.valid() {
		ls[0] = (n + 7) / 8
	}
	w := int64(s.n.width)
	switch s.n.shape {
	case shapeBool:
		ls[1] = (n + 7) / 8
	case shapeFixed, shapeDict:
		ls[1] = n * w
	case shapeBinary:
		ls[1], ls[2] = (n+1)*w, s.bytes[i]
	case shapeList:
		ls[1] = (n + 1) * w
	case shapeView:
		ls[1], ls[2] = n*w, s.bytes[i]
	case shapeListView:
		ls[1], ls[2] = n*w, n*w
	case shapeRuns:
		ls[0] = int64(s.kids[0].length(i)) * w
	case shapeSparse:
		ls[0] = n
	case shapeDense:
		ls[0], ls[1] = n, 4*n
	}
	return ls
}

// size returns the bytes of all buffers for a piece, children included.
func (s *selection) size(i int) (n int64) {
	for _, l := range s.lengths(i) {
		n += padded(l)
	}
	for _, k := range s.kids {
		n += k.size(i)
	}
	return n
}

// blockWriter writes one chunk.
type blockWriter struct {
	b       []byte
	nodes   int // where the next node's entry goes
	lengths int // where the next buffer's length goes
	at      int // where the next buffer goes
}

// write writes piece i into dst, which is of the right length.
func (c *Codec) write(dst []byte, cols []*selection, i, rows int) {
	le := binary.LittleEndian
	le.PutUint32(dst, blockMagic)
	le.PutUint32(dst[4:], blockVersion)
	le.PutUint64(dst[8:], uint64(rows))
	le.PutUint64(dst[16:], c.fingerprint)
	w := blockWriter{b: dst, nodes: blockFixed, lengths: blockFixed + 16*c.nodes}
	w.at = w.lengths + 8*c.buffers
	for _, s := range cols {
		w.node(s, i)
	}
}

// buffer returns the room for the next buffer, zeroed on request. The padding is zero in any case.
func (w *blockWriter) buffer(n int64, zero bool) []byte {
	binary.LittleEndian.PutUint64(w.b[w.lengths:], uint64(n))
	w.lengths += 8
	b := w.b[w.at : w.at+int(n)]
	clear(w.b[w.at+int(n) : w.at+int(padded(n))])
	if zero {
		clear(b)
	}
	w.at += int(padded(n))
	return b
}

func (w *blockWriter) node(s *selection, i int) {
	le := binary.LittleEndian
	le.PutUint64(w.b[w.nodes:], uint64(s.length(i)))
	le.PutUint64(w.b[w.nodes+8:], uint64(s.nulls[i]))
	w.nodes += 16
	ls := s.lengths(i)
	var bufs [3][]byte
	for k := range buffersOf[s.n.shape] {
		bits := k == 0 || s.n.shape == shapeBool // of which only ones are written
		bufs[k] = w.buffer(ls[k], bits)
	}
	if len(bufs[0]) > 0 && s.n.shape.valid() {
		for k, row := range s.piece(i) {
			if !s.null(row) {
				bufs[0][k>>3] |= 1 << (k & 7)
			}
		}
	}
	s.gather(i, bufs)
	for _, k := range s.kids {
		w.node(k, i)
	}
}
