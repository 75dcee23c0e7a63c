package columns

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// fixedBytes returns the values of a fixed-width array, width bytes each, from its first row.
func fixedBytes(arr arrow.Array, width int) []byte {
	d := arr.Data()
	b := bytesOf(d.Buffers()[1])
	return b[min(len(b), width*d.Offset()):]
}

// bytesOf returns the bytes of a buffer, which an array without rows may lack.
func bytesOf(b *memory.Buffer) []byte {
	if b == nil {
		return nil
	}
	return b.Bytes()
}

// bit reads bit i.
func bit(bits []byte, i int) bool { return bits[i>>3]>>(i&7)&1 != 0 }

// binaryValues reads strings of either offset width.
type binaryValues struct {
	offsets []byte
	width   int
	data    []byte
}

func binaryOf(arr arrow.Array, width int) binaryValues {
	d := arr.Data()
	offsets := bytesOf(d.Buffers()[1])
	return binaryValues{
		offsets: offsets[min(len(offsets), width*d.Offset()):], width: width, data: bytesOf(d.Buffers()[2]),
	}
}

// span returns where value i starts and ends.
func (b binaryValues) span(i int) (from, to int) {
	return offsetAt(b.offsets, b.width, i), offsetAt(b.offsets, b.width, i+1)
}

func (b binaryValues) length(i int) int {
	from, to := b.span(i)
	return to - from
}

func (b binaryValues) at(i int) []byte {
	from, to := b.span(i)
	return b.data[from:to]
}

// offsetAt reads the i-th offset.
func offsetAt(offsets []byte, width, i int) int {
	if width == 4 {
		return int(int32(binary.LittleEndian.Uint32(offsets[4*i:])))
	}
	return int(binary.LittleEndian.Uint64(offsets[8*i:]))
}

func putOffset(offsets []byte, width, i, v int) {
	if width == 4 {
		binary.LittleEndian.PutUint32(offsets[4*i:], uint32(v))
	} else {
		binary.LittleEndian.PutUint64(offsets[8*i:], uint64(v))
	}
}

// putInt writes an index of 1, 2, 4 or 8 bytes.
func putInt(b []byte, width, i, v int) {
	switch width {
	case 1:
		b[i] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b[2*i:], uint16(v))
	default:
		putOffset(b, width, i, v)
	}
}

// children returns the arrays of a node's children, so that item i of a struct, of a sparse union or of the values
// of a list is item i of the child.
func children(n *node, arr arrow.Array) []arrow.Array {
	switch a := arr.(type) {
	case *array.Struct:
		kids := make([]arrow.Array, a.NumField())
		for i := range kids {
			kids[i] = a.Field(i)
		}
		return kids
	case array.ListLike: // lists of all kinds, and maps
		return []arrow.Array{a.ListValues()}
	case *array.Dictionary:
		return []arrow.Array{a.Dictionary()}
	case *array.RunEndEncoded:
		return []arrow.Array{a.Values()}
	case array.Union:
		kids := make([]arrow.Array, a.NumFields())
		for i := range kids {
			kids[i] = a.Field(i)
		}
		return kids
	}
	return nil
}

// views reads the values of a string or binary view.
type views struct {
	arr  array.ViewLike
	bufs []*memory.Buffer
}

func viewsOf(arr arrow.Array) views { return views{arr.(array.ViewLike), arr.Data().Buffers()[2:]} }

// outside returns how many bytes of value i are not in its header.
func (v views) outside(i int) int {
	if h := v.arr.ValueHeader(i); !h.IsInline() {
		return h.Len()
	}
	return 0
}

func (v views) at(i int) []byte {
	h := v.arr.ValueHeader(i)
	if h.IsInline() {
		return h.InlineBytes()
	}
	from := int(h.BufferOffset())
	return v.bufs[h.BufferIndex()].Bytes()[from : from+h.Len()]
}

// runsOf returns, for every element of a run-end encoded array, the index of its value.
func runsOf(arr *array.RunEndEncoded) []int32 {
	d := arr.Data().Children()[0]
	width := d.DataType().(arrow.FixedWidthDataType).Bytes()
	ends := bytesOf(d.Buffers()[1])[min(width*d.Offset(), len(bytesOf(d.Buffers()[1]))):]
	index := make([]int32, arr.Len())
	from := arr.Data().Offset()
	run := 0
	if len(index) > 0 {
		run = arr.GetPhysicalIndex(0)
	}
	for i := range index {
		for runEnd(ends, width, run) <= from+i {
			run++
		}
		index[i] = int32(run)
	}
	return index
}

// runEnd reads the i-th run end.
func runEnd(ends []byte, width, i int) int {
	if width == 2 {
		return int(int16(binary.LittleEndian.Uint16(ends[2*i:])))
	}
	return offsetAt(ends, width, i)
}

// codesOf returns the type codes of a union's elements, and for a dense one where their values are in the children.
func codesOf(arr arrow.Array) (codes []arrow.UnionTypeCode, offsets []int32) {
	u := arr.(array.Union)
	if codes = u.RawTypeCodes(); len(codes) > arr.Len() {
		codes = codes[:arr.Len()]
	}
	if d, ok := u.(*array.DenseUnion); ok && arr.Len() > 0 {
		offsets = d.RawValueOffsets()[:arr.Len()]
	}
	return codes, offsets
}

// storage unwraps an extension array.
func storage(arr arrow.Array) arrow.Array {
	for ext, ok := arr.(array.ExtensionArray); ok; ext, ok = arr.(array.ExtensionArray) {
		arr = ext.Storage()
	}
	return arr
}

// listSpan returns which items of its child row i of a list has.
func listSpan(n *node, arr arrow.Array, i int) (from, to int) {
	f, t := arr.(array.ListLike).ValueOffsets(i)
	return int(f), int(t)
}
