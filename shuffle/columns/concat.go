package columns

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

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
		col, err := concat(c.columns[i], arrs, alloc)
		if err != nil {
			return nil, fmt.Errorf("columns: concatenate column %s: %w", f.Name, err)
		}
		cols = append(cols, col)
	}
	return array.NewRecordBatch(c.schema, cols, rows), nil
}

// concat joins arrays. Arrow's own Concatenate knows all types but unions, so this takes apart what has one below.
func concat(n *node, arrs []arrow.Array, alloc memory.Allocator) (arrow.Array, error) {
	if !n.union {
		return array.Concatenate(arrs, alloc)
	}
	j := joiner{n: n, alloc: alloc}
	for _, arr := range arrs {
		j.arrs = append(j.arrs, storage(arr))
		j.rows += arr.Len()
	}
	defer j.release()
	if err := j.join(); err != nil {
		return nil, err
	}
	dtype := n.dtype
	if n.outer != nil {
		dtype = n.outer
	}
	data := array.NewData(dtype, j.rows, j.bufs, j.kids, j.nulls, 0)
	defer data.Release()
	return array.MakeFromData(data), nil
}

// joiner joins the arrays of one node.
type joiner struct {
	n     *node
	arrs  []arrow.Array
	alloc memory.Allocator
	rows  int
	nulls int
	bufs  []*memory.Buffer
	kids  []arrow.ArrayData
}

func (j *joiner) release() {
	for _, b := range j.bufs {
		if b != nil {
			b.Release()
		}
	}
	for _, k := range j.kids {
		k.Release()
	}
}

// buffer adds a buffer of n bytes, which are zero.
func (j *joiner) buffer(n int) []byte {
	b := memory.NewResizableBuffer(j.alloc)
	b.Resize(n)
	clear(b.Bytes())
	j.bufs = append(j.bufs, b)
	return b.Bytes()
}

// kid adds a child: kid number k, joined of what part makes of each array's.
func (j *joiner) kid(k int, part func(i int, kid arrow.Array) arrow.Array) error {
	var parts []arrow.Array
	for i, arr := range j.arrs {
		parts = append(parts, part(i, children(j.n, arr)[k]))
	}
	joined, err := concat(j.n.kids[k], parts, j.alloc)
	for _, p := range parts {
		p.Release()
	}
	if err != nil {
		return err
	}
	joined.Data().Retain()
	j.kids = append(j.kids, joined.Data())
	joined.Release()
	return nil
}

func whole(_ int, kid arrow.Array) arrow.Array { kid.Retain(); return kid }

func (j *joiner) join() error {
	if j.n.shape.valid() {
		j.validity()
	}
	switch j.n.shape {
	case shapeStruct:
		for k := range j.n.kids {
			if err := j.kid(k, whole); err != nil {
				return err
			}
		}
		return nil
	case shapeSparse, shapeDense:
		return j.unions()
	case shapeFixedList:
		return j.kid(0, func(i int, kid arrow.Array) arrow.Array {
			n := j.arrs[i].Len()
			if n == 0 {
				return array.NewSlice(kid, 0, 0)
			}
			from, _ := listSpan(j.n, j.arrs[i], 0)
			return array.NewSlice(kid, int64(from), int64(from+n*j.n.width))
		})
	case shapeList, shapeListView:
		return j.lists()
	case shapeRuns:
		return j.runs()
	}
	return fmt.Errorf("%s: %w", j.n.path, ErrUnsupported)
}

// validity joins the validities, if there are nulls.
func (j *joiner) validity() {
	for _, arr := range j.arrs {
		j.nulls += arr.NullN()
	}
	if j.nulls == 0 {
		j.bufs = append(j.bufs, nil)
		return
	}
	bits, at := j.buffer((j.rows+7)/8), 0
	for _, arr := range j.arrs {
		for i := range arr.Len() {
			bitutil.SetBitTo(bits, at+i, arr.IsValid(i))
		}
		at += arr.Len()
	}
}

func (j *joiner) unions() error {
	j.bufs = append(j.bufs, nil)
	codes, at := j.buffer(j.rows), 0
	for _, arr := range j.arrs {
		cs, _ := codesOf(arr)
		for _, c := range cs {
			codes[at] = byte(c)
			at++
		}
	}
	if j.n.shape == shapeDense {
		offsets, at := j.buffer(4*j.rows), 0
		base := make([]int, len(j.n.kids))
		for _, arr := range j.arrs {
			cs, from := codesOf(arr)
			for i, c := range cs {
				putOffset(offsets, 4, at, base[j.n.child[c]]+int(from[i]))
				at++
			}
			for k, kid := range children(j.n, arr) {
				base[k] += kid.Len()
			}
		}
	}
	for k := range j.n.kids {
		if err := j.kid(k, whole); err != nil {
			return err
		}
	}
	return nil
}

// lists joins lists of either kind; the items of each array are taken in the order of its rows.
func (j *joiner) lists() error {
	view := j.n.shape == shapeListView
	w := j.n.width
	entries := j.rows
	if !view {
		entries++
	}
	offsets := j.buffer(entries * w)
	var sizes []byte
	if view {
		sizes = j.buffer(entries * w)
	}
	// The part of each child that is used, as a whole: views may use it in any order.
	first, last := make([]int, len(j.arrs)), make([]int, len(j.arrs))
	at, row := 0, 0
	for k, arr := range j.arrs {
		used := false
		for i := range arr.Len() {
			if arr.IsNull(i) {
				continue
			}
			from, to := listSpan(j.n, arr, i)
			if to > from {
				if !used || from < first[k] {
					first[k] = from
				}
				last[k], used = max(last[k], to), true
			}
		}
		if !view && arr.Len() > 0 { // also what nulls span, so that offsets stay contiguous
			first[k], _ = listSpan(j.n, arr, 0)
			_, last[k] = listSpan(j.n, arr, arr.Len()-1)
		}
		for i := range arr.Len() {
			from, to := listSpan(j.n, arr, i)
			if view && (arr.IsNull(i) || from == to) {
				from, to = first[k], first[k]
			}
			putOffset(offsets, w, row, at+from-first[k])
			if view {
				putOffset(sizes, w, row, to-from)
			}
			row++
		}
		at += last[k] - first[k]
	}
	if w == 4 && at > 1<<31-1 {
		return fmt.Errorf("%s: more than 2^31 items", j.n.path)
	}
	if !view {
		putOffset(offsets, w, row, at)
	}
	return j.kid(0, func(i int, kid arrow.Array) arrow.Array {
		return array.NewSlice(kid, int64(first[i]), int64(last[i]))
	})
}

func (j *joiner) runs() error {
	var ends []int
	first, last := make([]int, len(j.arrs)), make([]int, len(j.arrs))
	at := 0
	for k, arr := range j.arrs {
		index := runsOf(arr.(*array.RunEndEncoded))
		for i, run := range index {
			if i == 0 {
				first[k], last[k] = int(run), int(run)
			}
			if i == 0 || int(run) >= last[k] {
				ends, last[k] = append(ends, 0), int(run)+1
			}
			at++
			ends[len(ends)-1] = at
		}
	}
	if j.n.width == 2 && at > 1<<15-1 {
		return fmt.Errorf("%s: %d rows, more than 16-bit run ends can count", j.n.path, at)
	}
	j.bufs = append(j.bufs, nil)
	b := memory.NewResizableBuffer(j.alloc)
	defer b.Release()
	b.Resize(len(ends) * j.n.width)
	for i, end := range ends {
		putInt(b.Bytes(), j.n.width, i, end)
	}
	j.kids = append(j.kids, array.NewData(j.n.dtype.(*arrow.RunEndEncodedType).RunEnds(), len(ends), []*memory.Buffer{nil, b}, nil, 0, 0))
	return j.kid(0, func(i int, kid arrow.Array) arrow.Array {
		return array.NewSlice(kid, int64(first[i]), int64(last[i]))
	})
}
