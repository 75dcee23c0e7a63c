package columns

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/internal/rowloops"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Hash returns the multiset hash of the rows of a batch: the sum of a 128-bit hash of each row. It depends
// on the values only, bit for bit, not on their order, on slices and offsets, on what lies under nulls, or on
// how a dictionary is numbered; so the hash of a batch is the sum over the chunks it is packed into, and the
// chunks of a partition add up to the hash of its concatenation.
func (c *Codec) Hash(batch arrow.RecordBatch) (sum shuffle.Hash, err error) {
	err = c.EachHash(batch, func(a, b []uint64) {
		for i := range a {
			sum = sum.Add(shuffle.Hash{A: a[i], B: b[i]})
		}
	})
	return sum, err
}

// RowHashes returns the hash of every row; see [Codec.Hash].
func (c *Codec) RowHashes(batch arrow.RecordBatch) ([]shuffle.Hash, error) {
	rows := make([]shuffle.Hash, 0, batch.NumRows())
	err := c.EachHash(batch, func(a, b []uint64) {
		for i := range a {
			rows = append(rows, shuffle.Hash{A: a[i], B: b[i]})
		}
	})
	return rows, err
}

// EachHash calls do with the hashes of all rows in their order, some hundred at a time: a and b are their halves, which do may
// not keep; see [Codec.Hash].
func (c *Codec) EachHash(batch arrow.RecordBatch, do func(a, b []uint64)) error {
	if err := c.check(batch); err != nil {
		return err
	}
	c.eachHash(batch, do)
	return nil
}

// eachHash is EachHash of a batch that has the codec's schema. The hash of a row is those of its columns folded in order, and
// then the number 1, so that a row of no columns counts.
func (c *Codec) eachHash(batch arrow.RecordBatch, do func(a, b []uint64)) {
	fold := make([]func(from int, a, b []uint64), len(c.columns))
	for i, n := range c.columns {
		fold[i] = foldColumn(n, batch.Column(i))
	}
	m := hashMemory.Get().(*hashBlock)
	defer hashMemory.Put(m)
	rows := int(batch.NumRows())
	for from := 0; from < rows; from += hashedRows {
		n := min(hashedRows, rows-from)
		a, b := m.a[:n], m.b[:n]
		clear(a)
		clear(b)
		for _, f := range fold {
			f(from, a, b)
		}
		rowloops.Fold1(a, b, ones[:n])
		do(a, b)
	}
}

// hashedRows is the number of rows that are hashed together, column after column.
const hashedRows = 512

// hashBlock is the memory for the hashes of some rows.
type hashBlock struct{ a, b [hashedRows]uint64 }

var hashMemory = sync.Pool{New: func() any { return new(hashBlock) }}

var ones = bytes.Repeat([]byte{1}, hashedRows)

// foldColumn returns a function that folds the values of a column, from one on, into the hashes of as many rows.
func foldColumn(n *node, arr arrow.Array) func(from int, a, b []uint64) {
	col := storage(arr)
	switch {
	case isMovable(n, col):
		data, w := fixedBytes(col, n.width), n.width
		return func(from int, a, b []uint64) { foldFixed(a, b, data[w*from:], w) }
	case n.shape == shapeBinary:
		return foldBinary(n, col)
	}
	hs := elementHashes(n, arr)
	return func(from int, a, b []uint64) {
		for i := range a {
			foldInto(a, b, i, hs.at(from+i))
		}
	}
}

// foldFixed folds values of w bytes: 1, 2, 4 or 8.
func foldFixed(a, b []uint64, data []byte, w int) {
	switch w {
	case 1:
		rowloops.Fold1(a, b, data)
	case 2:
		rowloops.Fold2(a, b, data)
	case 4:
		rowloops.Fold4(a, b, data)
	default:
		rowloops.Fold8(a, b, data)
	}
}

func foldBinary(n *node, col arrow.Array) func(from int, a, b []uint64) {
	v := binaryOf(col, n.width)
	nulls := col.NullN() > 0
	if n.width == 4 && !nulls {
		return func(from int, a, b []uint64) { foldStrings(a, b, v.offsets[4*from:], v.data) }
	}
	return func(from int, a, b []uint64) {
		for i := range a {
			if nulls && col.IsNull(from+i) {
				foldInto(a, b, i, nullHash)
			} else {
				foldInto(a, b, i, hashBytes(v.at(from+i)))
			}
		}
	}
}

// foldStrings folds strings without nulls with offsets of 4 bytes.
func foldStrings(a, b []uint64, offsets, data []byte) {
	le := binary.LittleEndian
	b, offsets = b[:len(a)], offsets[:4*len(a)+4]
	from := int(le.Uint32(offsets))
	for i := range a {
		to := int(le.Uint32(offsets[4*i+4:]))
		u := xxh3.Hash128(data[from:to])
		a[i], b[i] = mixA(a[i]*foldA+u.Hi), mixB(b[i]*foldB+u.Lo)
		from = to
	}
}

func foldInto(a, b []uint64, i int, next shuffle.Hash) {
	h := fold(shuffle.Hash{A: a[i], B: b[i]}, next)
	a[i], b[i] = h.A, h.B
}

var nullHash = shuffle.Hash{A: 0x6c62272e07bb0142, B: 0x62b821756295c58d}

// elements holds the hash of every element of an array; nil if all are null by their type, since such an
// array can be longer than anything in memory.
type elements []shuffle.Hash

func (hs elements) at(i int) shuffle.Hash {
	if hs == nil {
		return nullHash
	}
	return hs[i]
}

// elementHashes hashes every element of an array.
func elementHashes(n *node, arr arrow.Array) elements {
	if n.shape == shapeNull {
		return nil
	}
	arr = storage(arr)
	hs := make(elements, arr.Len())
	var kids []elements
	for i, k := range children(n, arr) {
		kids = append(kids, elementHashes(n.kids[i], k))
	}
	switch n.shape {
	case shapeBool:
		bits, off := bytesOf(arr.Data().Buffers()[1]), arr.Data().Offset()
		zero, one := hashInt(0), hashInt(1)
		for i := range hs {
			if hs[i] = zero; bit(bits, off+i) {
				hs[i] = one
			}
		}
	case shapeFixed:
		hashFixed(hs, fixedBytes(arr, n.width), n.width)
	case shapeBinary:
		b := binaryOf(arr, n.width)
		for i := range hs {
			hs[i] = hashBytes(b.at(i))
		}
	case shapeList, shapeFixedList, shapeListView:
		for i := range hs {
			if n.shape == shapeListView && arr.IsNull(i) {
				continue
			}
			from, to := listSpan(n, arr, i)
			hs[i] = hashInt(uint64(to - from))
			for k := from; k < to; k++ {
				hs[i] = fold(hs[i], kids[0].at(k))
			}
		}
	case shapeView:
		v := viewsOf(arr)
		for i := range hs {
			if !arr.IsNull(i) {
				hs[i] = hashBytes(v.at(i))
			}
		}
	case shapeRuns:
		for i, v := range runsOf(arr.(*array.RunEndEncoded)) {
			hs[i] = kids[0].at(int(v))
		}
	case shapeSparse, shapeDense:
		codes, offsets := codesOf(arr)
		for i, code := range codes {
			at := i
			if offsets != nil {
				at = int(offsets[i])
			}
			hs[i] = fold(hashInt(uint64(code)), kids[n.child[code]].at(at))
		}
	case shapeStruct:
		for _, kid := range kids {
			for i := range hs {
				hs[i] = fold(hs[i], kid.at(i))
			}
		}
	case shapeDict:
		d := arr.(*array.Dictionary)
		for i := range hs {
			if !d.IsNull(i) {
				hs[i] = kids[0].at(d.GetValueIndex(i))
			}
		}
	}
	if n.shape.valid() && arr.NullN() > 0 {
		valid, off := arr.NullBitmapBytes(), arr.Data().Offset()
		for i := range hs {
			if !bit(valid, off+i) {
				hs[i] = nullHash
			}
		}
	}
	return hs
}

func hashFixed(hs elements, data []byte, w int) {
	le := binary.LittleEndian
	for i := range hs {
		switch w {
		case 1:
			hs[i] = hashInt(uint64(data[i]))
		case 2:
			hs[i] = hashInt(uint64(le.Uint16(data[2*i:])))
		case 4:
			hs[i] = hashInt(uint64(le.Uint32(data[4*i:])))
		case 8:
			hs[i] = hashInt(le.Uint64(data[8*i:]))
		default:
			hs[i] = hashBytes(data[w*i : w*i+w])
		}
	}
}

func hashBytes(b []byte) shuffle.Hash {
	u := xxh3.Hash128(b)
	return shuffle.Hash{A: u.Hi, B: u.Lo}
}

// hashInt is the hash of a number as an element: the number itself, since fold mixes. Both halves are the
// same, so it is no other element's hash.
func hashInt(v uint64) shuffle.Hash { return shuffle.Hash{A: v, B: v} }

// fold appends an element to the hash of a sequence. The halves are mixed by the finalizers of
// MurmurHash3_x64 and of SplitMix64, which makes them independent.
func fold(h, next shuffle.Hash) shuffle.Hash {
	return shuffle.Hash{A: mixA(h.A*foldA + next.A), B: mixB(h.B*foldB + next.B)}
}

const (
	foldA = 0x9fb21c651e98df25
	foldB = 0xa24baed4963ee407
)

func mixA(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func mixB(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
