package columns

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dovetail-dedup/dovetail/internal/rowloops"
)

// HashRows returns the 32-bit hash of every row's key columns, as libcudf's murmurhash3_x86_32 of a table
// and its hash_partition compute it. For one value it is MurmurHash3_x86_32 (Austin Appleby, 2011) with the
// seed, over the value's little-endian bytes: one byte for a bool, the storage integer of a date, time or
// decimal, the bytes of a string. All NaNs hash alike and so do both zeros. A null hashes to 2^32-1. Further
// columns are combined by boost's hash_combine, h ^ (x + 0x9e3779b9 + (h<<6) + (h>>2)), where x is hashed
// with the same seed. Nested keys are taken apart into several key columns, see nested.go.
//
// Types that libcudf lacks hash as what they stand for: a dictionary, an extension type, run ends and views of strings like
// their values; 16-bit floats, intervals, 256-bit decimals and binary strings of fixed length by their bytes, of
// which floats are normalized.
//
// This is libcudf from release 26.10 on. Releases before combined the seed with the hash of the first
// column too, so their partitions are others; to get those, combine the same way outside.
//
// Keys of nested types are refused with [ErrUnsupported].
func HashRows(batch arrow.RecordBatch, keys []int, seed uint32) ([]uint32, error) {
	return hashRows(nil, batch, keys, seed)
}

// hashRows is HashRows into memory that may be there.
func hashRows(hashes []uint32, batch arrow.RecordBatch, keys []int, seed uint32) ([]uint32, error) {
	hashes = slices.Grow(hashes[:0], int(batch.NumRows()))[:batch.NumRows()]
	if len(keys) == 0 {
		clear(hashes)
	}
	first := true
	for _, key := range keys {
		if key < 0 || key >= int(batch.NumCols()) {
			return nil, fmt.Errorf("columns: key column %d of %d", key, batch.NumCols())
		}
		name := batch.ColumnName(key)
		n, err := newNode(name, batch.Column(key).DataType())
		if err != nil {
			return nil, err
		}
		if col := storage(batch.Column(key)); first && plain8(n, col) {
			first = false
			rowloops.Murmur8(hashes, fixedBytes(col, 8), seed)
			continue
		}
		for _, value := range keyHashes(n, batch.Column(key), seed) {
			if first {
				first = false
				for row := range hashes {
					hashes[row] = value(row)
				}
				continue
			}
			for row, h := range hashes {
				hashes[row] = combine(h, value(row))
			}
		}
	}
	return hashes, nil
}

// plain8 reports whether the hash of every element is that of the 8 bytes that it has: there are no nulls and no floats.
func plain8(n *node, col arrow.Array) bool {
	return n.shape == shapeFixed && n.width == 8 && n.dtype.ID() != arrow.FLOAT64 && col.NullN() == 0
}

// leafHash returns a function that hashes elements that are not null of an array that is neither list nor struct.
func leafHash(n *node, col arrow.Array, seed uint32) func(i int) uint32 {
	switch n.shape {
	case shapeNull:
		return func(int) uint32 { return math.MaxUint32 }
	case shapeBool:
		bits, off := bytesOf(col.Data().Buffers()[1]), col.Data().Offset()
		zero, one := murmur3([]byte{0}, seed), murmur3([]byte{1}, seed)
		return func(row int) uint32 {
			if bit(bits, off+row) {
				return one
			}
			return zero
		}
	case shapeFixed:
		return fixedHash(n, fixedBytes(col, n.width), seed)
	case shapeBinary:
		b := binaryOf(col, n.width)
		return func(row int) uint32 { return murmur3(b.at(row), seed) }
	case shapeView:
		v := viewsOf(col)
		return func(row int) uint32 { return murmur3(v.at(row), seed) }
	case shapeSparse, shapeDense:
		return unionHash(n, col, seed)
	}
	return encodedHash(n, col, seed)
}

// fixedHash hashes values of n.width bytes, floats after normalization.
func fixedHash(n *node, data []byte, seed uint32) func(row int) uint32 {
	w := n.width
	switch n.dtype.ID() {
	case arrow.FLOAT16:
		return func(row int) uint32 {
			v := binary.LittleEndian.Uint16(data[2*row:])
			switch {
			case v<<1 == 0:
				v = 0
			case v&0x7fff > 0x7c00:
				v = 0x7e00
			}
			return murmur3([]byte{byte(v), byte(v >> 8)}, seed)
		}
	case arrow.FLOAT32:
		return func(row int) uint32 {
			v := binary.LittleEndian.Uint32(data[4*row:])
			switch {
			case v<<1 == 0:
				v = 0
			case v&0x7fffffff > 0x7f800000:
				v = 0x7fc00000
			}
			return finish3(round3(seed, v), 4)
		}
	case arrow.FLOAT64:
		return func(row int) uint32 {
			v := binary.LittleEndian.Uint64(data[8*row:])
			switch {
			case v<<1 == 0:
				v = 0
			case v&^(1<<63) > 0x7ff0000000000000:
				v = 0x7ff8000000000000
			}
			return finish3(round3(round3(seed, uint32(v)), uint32(v>>32)), 8)
		}
	}
	switch w {
	case 4:
		return func(row int) uint32 { return finish3(round3(seed, binary.LittleEndian.Uint32(data[4*row:])), 4) }
	case 8:
		return func(row int) uint32 {
			v := binary.LittleEndian.Uint64(data[8*row:])
			return finish3(round3(round3(seed, uint32(v)), uint32(v>>32)), 8)
		}
	}
	return func(row int) uint32 { return murmur3(data[w*row:w*row+w], seed) }
}

const (
	murmurC1 = 0xcc9e2d51
	murmurC2 = 0x1b873593
)

// murmur3 is MurmurHash3_x86_32.
func murmur3(b []byte, seed uint32) uint32 {
	h, n := seed, len(b)
	for ; len(b) >= 4; b = b[4:] {
		h = round3(h, binary.LittleEndian.Uint32(b))
	}
	if len(b) > 0 {
		k := uint32(0)
		for i := len(b) - 1; i >= 0; i-- {
			k = k<<8 | uint32(b[i])
		}
		h ^= bits.RotateLeft32(k*murmurC1, 15) * murmurC2
	}
	return finish3(h, uint32(n))
}

func round3(h, k uint32) uint32 {
	h ^= bits.RotateLeft32(k*murmurC1, 15) * murmurC2
	return bits.RotateLeft32(h, 13)*5 + 0xe6546b64
}

func finish3(h, n uint32) uint32 {
	h ^= n
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}
