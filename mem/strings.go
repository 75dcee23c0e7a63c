package mem

import (
	"fmt"
	"unsafe"
)

// Strings is a column of byte strings in Arrow's large-string layout, held in buffers of one tier so that
// it can be handed to a device as it is: row i is bytes [Offsets[i], Offsets[i+1]) of Data.
//
// It owns one reference to each of its buffers.
type Strings struct {
	// Rows is the number of strings.
	Rows int
	// Offsets holds Rows+1 int64 in the machine's byte order, not descending.
	Offsets *Buffer
	// Data holds the bytes. It may be longer than the last offset.
	Data *Buffer
	// Valid holds one bit per row, least significant first, 0 for null; a nil buffer means no nulls. The
	// bytes of a null row are empty.
	Valid *Buffer
}

// Check verifies that the buffers are addressable and that every row lies inside Data. Code that
// makes a column from bytes it did not write calls it once; the accessors do not repeat the checks.
func (s *Strings) Check() error {
	if s.Offsets == nil || s.Data == nil || !s.Offsets.Tier().Addressable() || !s.Data.Tier().Addressable() {
		return fmt.Errorf("mem: column of strings is not in host memory")
	}
	if s.Rows < 0 || s.Offsets.Len()/8 < s.Rows+1 {
		return fmt.Errorf("mem: column of %d strings has %d bytes of offsets", s.Rows, s.Offsets.Len())
	}
	if s.Valid != nil && s.Valid.Len() < (s.Rows+7)/8 {
		return fmt.Errorf("mem: column of %d strings has %d bytes of validity", s.Rows, s.Valid.Len())
	}
	off := s.OffsetValues()
	last := int64(0)
	for i, o := range off {
		if o < last || o > int64(s.Data.Len()) {
			return fmt.Errorf("mem: string %d of %d starts at %d, outside [%d, %d]", i, s.Rows, o, last, s.Data.Len())
		}
		last = o
	}
	return nil
}

// OffsetValues returns the Rows+1 offsets, which the caller must not change.
func (s *Strings) OffsetValues() []int64 { return Int64s(s.Offsets)[:s.Rows+1] }

// At returns string i without copying; it is empty for a null.
func (s *Strings) At(i int) []byte {
	off := s.OffsetValues()
	return s.Data.Bytes()[off[i]:off[i+1]:off[i+1]]
}

// IsNull reports whether string i is null.
func (s *Strings) IsNull(i int) bool {
	return s.Valid != nil && s.Valid.Bytes()[i>>3]&(1<<(i&7)) == 0
}

// Release gives back the references to the buffers. It may be called again and on nil.
func (s *Strings) Release() {
	if s == nil {
		return
	}
	s.Offsets.Release()
	s.Data.Release()
	s.Valid.Release()
	s.Offsets, s.Data, s.Valid = nil, nil, nil
}

// Int64s views the bytes of an addressable buffer as int64 values in the machine's byte order. A tail
// shorter than 8 bytes is left out.
func Int64s(b *Buffer) []int64 { return view[int64](b) }

// Uint64s views the bytes of an addressable buffer as uint64 values, as [Int64s] does.
func Uint64s(b *Buffer) []uint64 { return view[uint64](b) }

// Uint32s views the bytes of an addressable buffer as uint32 values, as [Int64s] does.
func Uint32s(b *Buffer) []uint32 { return view[uint32](b) }

func view[T int64 | uint64 | uint32](b *Buffer) []T {
	data := b.Bytes()
	var t T
	// Allocators align buffers to 64 bytes, and slices are taken at multiples of the element size.
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/int(unsafe.Sizeof(t)))
}
