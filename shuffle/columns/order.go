package columns

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
)

// Sorter makes byte strings of the keys of rows that compare, bytewise, as the rows do. It belongs to one goroutine.
//
// The order is by key column, one after another; nulls come last. Of each type:
//
//	bool                      false before true
//	integers, dates, times,   by value (of the stored integer)
//	  timestamps, durations,
//	  decimals
//	floats of all widths      IEEE 754 totalOrder: negative NaNs, -Inf, negative numbers, -0, +0, positive numbers, +Inf, NaNs
//	strings, binary           bytewise, which for UTF-8 is by code point; a prefix comes first
//	intervals                 by months, or days and milliseconds, or months, days and nanoseconds, in turn
//	lists, maps               element by element, a prefix comes first; within a list nulls come last too
//	structs                   field by field
//	unions                    by type code, then by value
//	dictionaries, run ends,   like their values
//	  extension types, views
//	null                      all equal
type Sorter struct {
	nodes []*node
	keys  []int
	cols  []func(dst []byte, row int) []byte
	rows  int
	buf   []byte
}

// NewSorter returns a sorter for the given key columns of a schema.
func NewSorter(schema *arrow.Schema, keys []int) (*Sorter, error) {
	s := &Sorter{keys: keys}
	for _, k := range keys {
		if k < 0 || k >= schema.NumFields() {
			return nil, fmt.Errorf("columns: key column %d of %d", k, schema.NumFields())
		}
		n, err := newNode(schema.Field(k).Name, schema.Field(k).Type)
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, n)
	}
	return s, nil
}

// Reset makes the sorter look at another batch, which stays the caller's.
func (s *Sorter) Reset(batch arrow.RecordBatch) {
	s.cols = s.cols[:0]
	for i, k := range s.keys {
		s.cols = append(s.cols, ordered(s.nodes[i], batch.Column(k)))
	}
	s.rows = int(batch.NumRows())
}

// Append appends the key of a row to dst.
func (s *Sorter) Append(dst []byte, row int) []byte {
	for _, f := range s.cols {
		dst = f(dst, row)
	}
	return dst
}

// Key returns the key of a row, which is valid until the next call.
func (s *Sorter) Key(row int) []byte {
	s.buf = s.Append(s.buf[:0], row)
	return s.buf
}

// Partition assigns the rows of the batch by splitters, which must ascend: a row belongs to the partition whose number is
// how many splitters are not after its key. So there is one partition more than splitters, and equal keys are together.
func (s *Sorter) Partition(splitters [][]byte) *Partitioning {
	parts := make([]uint32, s.rows)
	for row := range parts {
		key := s.Key(row)
		at, _ := slices.BinarySearchFunc(splitters, key, func(split, key []byte) int {
			if slices.Compare(split, key) <= 0 {
				return -1
			}
			return 1
		})
		parts[row] = uint32(at)
	}
	p := new(Partitioning)
	p.group(parts, len(splitters)+1)
	return p
}

// Marks in front of a value. What ends a list must come before what continues it.
const (
	orderEnd   = 0
	orderValue = 1
	orderNull  = 2
)

// ordered returns a function that appends the encoding of an element of an array.
func ordered(n *node, arr arrow.Array) func(dst []byte, i int) []byte {
	arr = storage(arr)
	if n.shape == shapeNull {
		return func(dst []byte, _ int) []byte { return append(dst, orderNull) }
	}
	value := orderedValue(n, arr)
	if n.shape == shapeDict || n.shape == shapeRuns {
		if n.shape == shapeDict && arr.NullN() > 0 {
			return func(dst []byte, i int) []byte {
				if arr.IsNull(i) {
					return append(dst, orderNull)
				}
				return value(dst, i)
			}
		}
		return value // which has the mark of the value
	}
	nulls := n.shape.valid() && arr.NullN() > 0
	return func(dst []byte, i int) []byte {
		if nulls && arr.IsNull(i) {
			return append(dst, orderNull)
		}
		return value(append(dst, orderValue), i)
	}
}

func orderedValue(n *node, arr arrow.Array) func(dst []byte, i int) []byte {
	var kids []func([]byte, int) []byte
	for k, kid := range children(n, arr) {
		kids = append(kids, ordered(n.kids[k], kid))
	}
	switch n.shape {
	case shapeBool:
		bits, off := bytesOf(arr.Data().Buffers()[1]), arr.Data().Offset()
		return func(dst []byte, i int) []byte {
			if bit(bits, off+i) {
				return append(dst, 1)
			}
			return append(dst, 0)
		}
	case shapeFixed:
		return orderedFixed(n, fixedBytes(arr, n.width))
	case shapeBinary:
		b := binaryOf(arr, n.width)
		return func(dst []byte, i int) []byte { return appendEscaped(dst, b.at(i)) }
	case shapeView:
		v := viewsOf(arr)
		return func(dst []byte, i int) []byte { return appendEscaped(dst, v.at(i)) }
	case shapeList, shapeFixedList, shapeListView:
		return func(dst []byte, i int) []byte {
			from, to := listSpan(n, arr, i)
			for ; from < to; from++ {
				dst = kids[0](append(dst, orderValue), from)
			}
			return append(dst, orderEnd)
		}
	case shapeStruct:
		return func(dst []byte, i int) []byte {
			for _, f := range kids {
				dst = f(dst, i)
			}
			return dst
		}
	case shapeSparse, shapeDense:
		codes, offsets := codesOf(arr)
		return func(dst []byte, i int) []byte {
			at := i
			if offsets != nil {
				at = int(offsets[i])
			}
			return kids[n.child[codes[i]]](append(dst, byte(codes[i])), at)
		}
	}
	index := encodedIndex(arr)
	return func(dst []byte, i int) []byte { return kids[0](dst, index(i)) }
}

// appendEscaped appends a byte string so that it ends before every longer one.
func appendEscaped(dst, b []byte) []byte {
	for _, c := range b {
		if dst = append(dst, c); c == 0 {
			dst = append(dst, 0xff)
		}
	}
	return append(dst, 0, 0)
}

// orderedFixed encodes values of n.width bytes: big-endian, with the sign turned over where there is one.
func orderedFixed(n *node, data []byte) func(dst []byte, i int) []byte {
	w := n.width
	parts := []int{w} // the widths of the integers that a value consists of
	signed, float := true, false
	switch n.dtype.ID() {
	case arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64:
		signed = false
	case arrow.FLOAT16, arrow.FLOAT32, arrow.FLOAT64:
		float = true
	case arrow.INTERVAL_DAY_TIME:
		parts = []int{4, 4}
	case arrow.INTERVAL_MONTH_DAY_NANO:
		parts = []int{4, 4, 8}
	case arrow.FIXED_SIZE_BINARY:
		return func(dst []byte, i int) []byte { return append(dst, data[w*i:w*i+w]...) }
	}
	return func(dst []byte, i int) []byte {
		v := data[w*i : w*i+w]
		for _, p := range parts {
			at := len(dst)
			for k := p - 1; k >= 0; k-- {
				dst = append(dst, v[k])
			}
			switch {
			case float && dst[at]&0x80 != 0:
				for k := at; k < len(dst); k++ {
					dst[k] = ^dst[k]
				}
			case signed || float:
				dst[at] ^= 0x80
			}
			v = v[p:]
		}
		return dst
	}
}
