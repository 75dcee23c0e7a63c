package columns

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Unpack makes a batch of a chunk without copying: the batch holds a reference to the chunk's data until it
// is released. The caller keeps its own reference. Bytes that no Pack of this schema can have written are
// an error that wraps [shuffle.ErrCorrupt]; the text of strings is not checked.
func (c *Codec) Unpack(chunk shuffle.Chunk) (arrow.RecordBatch, error) {
	if chunk.Data == nil || string(chunk.Meta) != string(c.meta) {
		return nil, fmt.Errorf("columns: chunk of partition %d holds no columns: %w", chunk.Partition, shuffle.ErrCorrupt)
	}
	b := chunk.Data.Bytes()
	le := binary.LittleEndian
	fixed := blockFixed + 16*c.nodes + 8*c.buffers
	switch {
	case len(b) < fixed || le.Uint32(b) != blockMagic || le.Uint32(b[4:]) != blockVersion:
		return nil, fmt.Errorf("columns: chunk of partition %d is of another format: %w", chunk.Partition, shuffle.ErrCorrupt)
	case le.Uint64(b[16:]) != c.fingerprint:
		return nil, fmt.Errorf("columns: chunk of partition %d is of another schema: %w", chunk.Partition, shuffle.ErrMismatch)
	}
	rows := le.Uint64(b[8:])
	if rows != uint64(chunk.Rows) || rows > math.MaxInt32 {
		return nil, fmt.Errorf("columns: chunk of partition %d has %d rows, should have %d: %w",
			chunk.Partition, rows, chunk.Rows, shuffle.ErrCorrupt)
	}
	r := blockReader{b: b, nodes: blockFixed, lengths: blockFixed + 16*c.nodes, at: fixed}
	r.parent = memory.NewBufferWithAllocator(b, holder{chunk.Data.Retain()})
	defer r.parent.Release()
	cols := make([]arrow.Array, 0, len(c.columns))
	defer func() {
		for _, col := range cols {
			col.Release()
		}
	}()
	for _, n := range c.columns {
		data := r.node(n, rows)
		if r.err != nil {
			return nil, fmt.Errorf("columns: chunk of partition %d, column %s: %w: %s",
				chunk.Partition, n.path, shuffle.ErrCorrupt, r.err)
		}
		cols = append(cols, array.MakeFromData(data))
		data.Release()
	}
	return array.NewRecordBatch(c.schema, cols, int64(rows)), nil
}

// holder frees Arrow's view of a buffer by releasing the buffer.
type holder struct{ b *mem.Buffer }

func (h holder) Allocate(n int) []byte             { return make([]byte, n) }
func (h holder) Reallocate(n int, b []byte) []byte { return append(make([]byte, 0, n), b...)[:n] }
func (h holder) Free([]byte)                       { h.b.Release() }

// blockReader reads one chunk. After the first fault it returns nothing.
type blockReader struct {
	b                  []byte
	nodes, lengths, at int
	parent             *memory.Buffer
	err                error
}

func (r *blockReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// buffer returns the next buffer, whose length must be one of want; -1 stands for any. A buffer of no bytes
// is nil if it may be left out.
func (r *blockReader) buffer(optional bool, want ...int64) *memory.Buffer {
	n := binary.LittleEndian.Uint64(r.b[r.lengths:])
	r.lengths += 8
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)-r.at) || padded(int64(n)) > int64(len(r.b)-r.at) {
		r.fail("buffer of %d bytes at %d of %d", n, r.at, len(r.b))
		return nil
	}
	if !slices.Contains(want, int64(n)) && !slices.Contains(want, -1) {
		r.fail("buffer of %d bytes, should have %d", n, want)
		return nil
	}
	from := r.at
	r.at += int(padded(int64(n)))
	if n == 0 && optional {
		return nil
	}
	return memory.SliceBuffer(r.parent, from, int(n))
}

// node reads a node of want elements and its children. It returns nil after a fault.
func (r *blockReader) node(n *node, want uint64) *array.Data {
	le := binary.LittleEndian
	length, nulls := le.Uint64(r.b[r.nodes:]), le.Uint64(r.b[r.nodes+8:])
	r.nodes += 16
	if length != want || length > n.maxElements() || nulls > length || n.whole && nulls > 0 {
		r.fail("%s has %d elements and %d nulls, should have %d", n.path, length, nulls, want)
	}
	if r.err != nil {
		return nil
	}
	rows := int(length)
	bitmap := int64(rows+7) / 8
	bufs := make([]*memory.Buffer, buffersOf[n.shape])
	defer func() {
		for _, b := range bufs {
			if b != nil {
				b.Release()
			}
		}
	}()
	if n.shape.valid() {
		if nulls == 0 {
			bufs[0] = r.buffer(true, 0)
		} else if bufs[0] = r.buffer(true, bitmap); bufs[0] != nil &&
			rows-bitutil.CountSetBits(bufs[0].Bytes(), 0, rows) != int(nulls) {
			r.fail("%s has other nulls than it says", n.path)
		}
	} else if n.shape == shapeNull && nulls != length || n.shape != shapeNull && nulls != 0 {
		r.fail("%s has %d nulls of %d", n.path, nulls, length)
	}
	kid := uint64(0)    // elements of a list's child
	var counts []uint64 // elements of each child of a dense union
	w := int64(n.width)
	switch n.shape {
	case shapeBool:
		bufs[1] = r.buffer(false, bitmap)
	case shapeFixed, shapeDict:
		bufs[1] = r.buffer(false, int64(rows)*w)
	case shapeBinary:
		bufs[1] = r.buffer(false, int64(rows+1)*w)
		bufs[2] = r.buffer(false, -1)
		if last := r.offsets(n, bufs[1], rows); r.err == nil && last != uint64(bufs[2].Len()) {
			r.fail("%s has %d bytes, its offsets end at %d", n.path, bufs[2].Len(), last)
		}
	case shapeList:
		bufs[1] = r.buffer(false, int64(rows+1)*w)
		kid = r.offsets(n, bufs[1], rows)
	case shapeFixedList:
		kid = length * uint64(w)
	case shapeView:
		bufs[1] = r.buffer(false, int64(rows)*w)
		bufs[2] = r.buffer(false, -1)
		r.views(n, bufs, rows)
	case shapeListView:
		bufs[1] = r.buffer(false, int64(rows)*w)
		bufs[2] = r.buffer(false, int64(rows)*w)
		kid = r.spans(n, bufs, rows)
	case shapeRuns:
		bufs[0] = r.buffer(false, -1)
		kid = r.runs(n, bufs[0], rows)
	case shapeSparse, shapeDense:
		bufs[0] = r.buffer(false, int64(rows))
		if n.shape == shapeDense {
			bufs[1] = r.buffer(false, 4*int64(rows))
		}
		counts = r.codes(n, bufs, rows)
		kid = length
	}
	if r.err != nil {
		return nil
	}
	return r.finish(n, rows, int(nulls), bufs, kid, counts)
}

// offsets checks that offsets start at 0 and do not descend, and returns the last.
func (r *blockReader) offsets(n *node, buf *memory.Buffer, rows int) uint64 {
	if r.err != nil {
		return 0
	}
	b, last := buf.Bytes(), 0
	if offsetAt(b, n.width, 0) != 0 {
		r.fail("%s has offsets that start at %d", n.path, offsetAt(b, n.width, 0))
	}
	for i := 1; i <= rows; i++ {
		o := offsetAt(b, n.width, i)
		if o < last {
			r.fail("%s has offsets that descend", n.path)
			return 0
		}
		last = o
	}
	return uint64(last)
}

// views checks the headers of views: their bytes lie one after another in the data, and what is short is inside.
func (r *blockReader) views(n *node, bufs []*memory.Buffer, rows int) {
	if r.err != nil {
		return
	}
	le := binary.LittleEndian
	headers, data := bufs[1].Bytes(), bufs[2].Bytes()
	at := 0
	for i := range rows {
		h := headers[16*i : 16*i+16]
		size := int(int32(le.Uint32(h)))
		switch {
		case size < 0:
			r.fail("%s has a value of %d bytes", n.path, size)
		case size <= 12:
			if !zeros(h[4+size:]) {
				r.fail("%s has a value with more bytes than it says", n.path)
			}
		case le.Uint32(h[8:]) != 0 || int(le.Uint32(h[12:])) != at || size > len(data)-at || string(h[4:8]) != string(data[at:at+4]):
			r.fail("%s has a value that is not in its place", n.path)
		default:
			at += size
		}
		if r.err != nil {
			return
		}
	}
	if at != len(data) {
		r.fail("%s has %d bytes, its values take %d", n.path, len(data), at)
	}
}

func zeros(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// spans checks that the lists of a view lie one after another, and returns the number of items.
func (r *blockReader) spans(n *node, bufs []*memory.Buffer, rows int) uint64 {
	if r.err != nil {
		return 0
	}
	at := 0
	for i := range rows {
		from, size := offsetAt(bufs[1].Bytes(), n.width, i), offsetAt(bufs[2].Bytes(), n.width, i)
		if from != at || size < 0 || size > math.MaxInt32-at {
			r.fail("%s has a list that is not in its place", n.path)
			return 0
		}
		at += size
	}
	return uint64(at)
}

// runs checks that run ends ascend to the number of rows, and returns the number of runs.
func (r *blockReader) runs(n *node, ends *memory.Buffer, rows int) uint64 {
	if r.err != nil {
		return 0
	}
	b, last := ends.Bytes(), 0
	if len(b)%n.width != 0 {
		r.fail("%s has %d bytes of run ends", n.path, len(b))
		return 0
	}
	for i := range len(b) / n.width {
		end := runEnd(b, n.width, i)
		if end <= last {
			r.fail("%s has run ends that do not ascend", n.path)
			return 0
		}
		last = end
	}
	if last != rows {
		r.fail("%s has runs of %d elements, should have %d", n.path, last, rows)
	}
	return uint64(len(b) / n.width)
}

// codes checks the type codes of a union, and the offsets of a dense one, for which it returns the number of elements of
// each child.
func (r *blockReader) codes(n *node, bufs []*memory.Buffer, rows int) []uint64 {
	if r.err != nil {
		return nil
	}
	counts := make([]uint64, len(n.kids))
	for i, code := range bufs[0].Bytes() {
		if int(code) >= len(n.child) || n.child[code] < 0 {
			r.fail("%s has the type code %d, which is not one of its type", n.path, int8(code))
			return nil
		}
		kid := n.child[code]
		if n.shape == shapeDense && uint64(offsetAt(bufs[1].Bytes(), 4, i)) != counts[kid] {
			r.fail("%s has a value that is not in its place", n.path)
			return nil
		}
		counts[kid]++
	}
	if n.shape == shapeSparse {
		return nil
	}
	return counts
}

// finish reads the children and makes the array data.
func (r *blockReader) finish(n *node, rows, nulls int, bufs []*memory.Buffer, kid uint64, counts []uint64) *array.Data {
	dtype := n.dtype
	if n.outer != nil {
		dtype = n.outer
	}
	var kids []arrow.ArrayData
	defer func() {
		for _, k := range kids {
			k.Release()
		}
	}()
	switch n.shape {
	case shapeStruct:
		kid = uint64(rows)
	case shapeDict:
		// The number of values is the values' own; the indices are compared with it.
		kid = binary.LittleEndian.Uint64(r.b[r.nodes:])
	}
	for i, k := range n.kids {
		if counts != nil {
			kid = counts[i]
		}
		data := r.node(k, kid)
		if data == nil {
			return nil
		}
		kids = append(kids, data)
	}
	switch n.shape {
	case shapeDict:
	case shapeRuns:
		ends := array.NewData(n.dtype.(*arrow.RunEndEncodedType).RunEnds(), bufs[0].Len()/n.width, []*memory.Buffer{nil, bufs[0]}, nil, 0, 0)
		kids = append([]arrow.ArrayData{ends}, kids...)
		return array.NewData(dtype, rows, []*memory.Buffer{nil}, kids, 0, 0)
	case shapeSparse, shapeDense:
		return array.NewData(dtype, rows, append([]*memory.Buffer{nil}, bufs...), kids, 0, 0)
	default:
		return array.NewData(dtype, rows, bufs, kids, nulls, 0)
	}
	if !indicesBelow(bufs, n.width, rows, kid) {
		r.fail("%s has indices beyond its dictionary of %d values", n.path, kid)
		return nil
	}
	return array.NewDataWithDictionary(dtype, rows, bufs, nulls, 0, kids[0].(*array.Data))
}

// indicesBelow checks the indices of a dictionary column. Under nulls they are zero.
func indicesBelow(bufs []*memory.Buffer, width, rows int, values uint64) bool {
	b := bufs[1].Bytes()
	for i := range rows {
		var v uint64
		switch width {
		case 1:
			v = uint64(b[i])
		case 2:
			v = uint64(binary.LittleEndian.Uint16(b[2*i:]))
		case 4:
			v = uint64(binary.LittleEndian.Uint32(b[4*i:]))
		default:
			v = binary.LittleEndian.Uint64(b[8*i:])
		}
		if v >= values && (v > 0 || bufs[0] == nil || bit(bufs[0].Bytes(), i)) {
			return false
		}
	}
	return true
}
