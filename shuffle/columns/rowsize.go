package columns

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// RowBytes returns about how many bytes the values of each row take: the widths of fixed-width values, null or not, the
// lengths of strings, and of each list and string 4 for its offset. Values of dictionaries and runs count as often as they
// occur. It depends on the values alone, not on how they are laid out or cut into batches.
func (c *Codec) RowBytes(batch arrow.RecordBatch) ([]int64, error) {
	if err := c.check(batch); err != nil {
		return nil, err
	}
	total := make([]int64, batch.NumRows())
	fixed := int64(0)
	for i, n := range c.columns {
		if n.shape == shapeFixed || n.shape == shapeBool {
			fixed += int64(max(n.width, 1))
			continue
		}
		if col := storage(batch.Column(i)); n.shape == shapeBinary && col.NullN() == 0 {
			b := binaryOf(col, n.width)
			for row := range total {
				total[row] += 4 + int64(b.length(row))
			}
			continue
		}
		size := elementBytes(n, batch.Column(i))
		for row := range total {
			total[row] += size(row)
		}
	}
	for row := range total {
		total[row] += fixed
	}
	return total, nil
}

// FlatBytes returns the sum of [Codec.RowBytes] without looking at the rows one by one, which it can if all columns are of fixed
// width or strings without nulls.
func (c *Codec) FlatBytes(batch arrow.RecordBatch) (total int64, ok bool) {
	if c.check(batch) != nil {
		return 0, false
	}
	rows := int(batch.NumRows())
	for i, n := range c.columns {
		switch n.shape {
		case shapeFixed, shapeBool:
			total += int64(rows * max(n.width, 1))
		case shapeBinary:
			col := storage(batch.Column(i))
			if col.NullN() > 0 {
				return 0, false
			}
			if total += 4 * int64(rows); rows > 0 {
				b := binaryOf(col, n.width)
				from, _ := b.span(0)
				_, to := b.span(rows - 1)
				total += int64(to - from)
			}
		default:
			return 0, false
		}
	}
	return total, true
}

// elementBytes returns a function that gives the bytes of an element.
func elementBytes(n *node, arr arrow.Array) func(i int) int64 {
	arr = storage(arr)
	var kids []func(int) int64
	if n.shape != shapeNull {
		for k, kid := range children(n, arr) {
			kids = append(kids, elementBytes(n.kids[k], kid))
		}
	}
	null := func(i int) bool { return arr.NullN() > 0 && arr.IsNull(i) }
	switch n.shape {
	case shapeNull:
		return func(int) int64 { return 0 }
	case shapeBool:
		return func(int) int64 { return 1 }
	case shapeFixed:
		return func(int) int64 { return int64(n.width) }
	case shapeBinary:
		b := binaryOf(arr, n.width)
		return func(i int) int64 {
			if null(i) {
				return 4
			}
			return 4 + int64(b.length(i))
		}
	case shapeView:
		v := viewsOf(arr)
		return func(i int) int64 {
			if null(i) {
				return 4
			}
			return 4 + int64(len(v.at(i)))
		}
	case shapeList, shapeFixedList, shapeListView:
		return func(i int) (sum int64) {
			if null(i) {
				return 4
			}
			from, to := listSpan(n, arr, i)
			for ; from < to; from++ {
				sum += kids[0](from)
			}
			return 4 + sum
		}
	case shapeStruct:
		return func(i int) (sum int64) {
			for _, k := range kids {
				sum += k(i)
			}
			return sum
		}
	case shapeSparse, shapeDense:
		codes, offsets := codesOf(arr)
		return func(i int) int64 {
			at := i
			if offsets != nil {
				at = int(offsets[i])
			}
			return 1 + kids[n.child[codes[i]]](at)
		}
	}
	index := encodedIndex(arr)
	return func(i int) int64 {
		if n.shape == shapeDict && null(i) {
			return 4
		}
		return kids[0](index(i))
	}
}

// encodedIndex returns which value an element of a dictionary or a run-end encoded array has.
func encodedIndex(arr arrow.Array) func(i int) int {
	if d, ok := arr.(*array.Dictionary); ok {
		return d.GetValueIndex
	}
	index := runsOf(arr.(*array.RunEndEncoded))
	return func(i int) int { return int(index[i]) }
}

// PackScratch returns about how many bytes of the Go heap Pack needs beside the batch and the chunks: for each row its place
// and its hash, for each value of fixed width a copy, for each element of a nested or a string column what is selected and
// hashed of it.
func (c *Codec) PackScratch(batch arrow.RecordBatch) int64 {
	n := 40 * batch.NumRows()
	for i, col := range batch.Columns() {
		if c.columns[i].shape != shapeFixed || col.NullN() > 0 {
			n += scratch(c.columns[i], col)
		} else {
			n += int64(c.columns[i].width) * batch.NumRows()
		}
	}
	return n
}

func scratch(n *node, arr arrow.Array) int64 {
	if n.shape == shapeNull {
		return 0
	}
	arr = storage(arr)
	sum := int64(arr.Len()) * 16
	if n.shape == shapeRuns {
		sum += int64(arr.Len()) * 8
	}
	for k, kid := range children(n, arr) {
		sum += scratch(n.kids[k], kid) + 24*int64(kid.Len())
	}
	return sum
}
