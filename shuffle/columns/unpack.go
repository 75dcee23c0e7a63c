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
	if length != want || length > math.MaxInt32 || nulls > length || n.whole && nulls > 0 {
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
	if n.shape != shapeNull {
		if nulls == 0 {
			bufs[0] = r.buffer(true, 0)
		} else if bufs[0] = r.buffer(true, bitmap); bufs[0] != nil &&
			rows-bitutil.CountSetBits(bufs[0].Bytes(), 0, rows) != int(nulls) {
			r.fail("%s has other nulls than it says", n.path)
		}
	} else if nulls != length {
		r.fail("%s has %d nulls of %d", n.path, nulls, length)
	}
	kid := uint64(0) // elements of a list's child
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
	}
	if r.err != nil {
		return nil
	}
	return r.finish(n, rows, int(nulls), bufs, kid)
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

// finish reads the children and makes the array data.
func (r *blockReader) finish(n *node, rows, nulls int, bufs []*memory.Buffer, kid uint64) *array.Data {
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
	for _, k := range n.kids {
		data := r.node(k, kid)
		if data == nil {
			return nil
		}
		kids = append(kids, data)
	}
	if n.shape != shapeDict {
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

// Concat joins batches into one, in order, with memory from alloc. Without batches, or rows, it is empty. The
// batches stay the caller's.
func (c *Codec) Concat(batches []arrow.RecordBatch, alloc memory.Allocator) (arrow.RecordBatch, error) {
	for _, b := range batches {
		if err := c.check(b); err != nil {
			return nil, err
		}
	}
	full := slices.DeleteFunc(slices.Clone(batches), func(b arrow.RecordBatch) bool { return b.NumRows() == 0 })
	rows := int64(0)
	for _, b := range full {
		rows += b.NumRows()
	}
	cols := make([]arrow.Array, 0, len(c.columns))
	defer func() {
		for _, col := range cols {
			col.Release()
		}
	}()
	for i, f := range c.schema.Fields() {
		if len(full) == 0 {
			b := array.NewBuilder(alloc, f.Type)
			cols = append(cols, b.NewArray())
			b.Release()
			continue
		}
		arrs := make([]arrow.Array, len(full))
		for k, b := range full {
			arrs[k] = b.Column(i)
		}
		col, err := array.Concatenate(arrs, alloc)
		if err != nil {
			return nil, fmt.Errorf("columns: concatenate column %s: %w", f.Name, err)
		}
		cols = append(cols, col)
	}
	return array.NewRecordBatch(c.schema, cols, rows), nil
}
