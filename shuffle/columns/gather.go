package columns

import (
	"encoding/binary"

	"github.com/dovetail-dedup/dovetail/internal/rowloops"
)

// gather writes the values of a piece into its buffers; the validity is written already. Nulls stay zero.
func (s *selection) gather(i int, bufs [3][]byte) {
	var rows []int32
	if s.moved == nil {
		rows = s.piece(i)
	}
	switch s.n.shape {
	case shapeBool:
		bits, off := bytesOf(s.arr.Data().Buffers()[1]), s.arr.Data().Offset()
		for k, row := range rows {
			if bit(bits, off+int(row)) && (s.nulls[i] == 0 || !s.null(row)) {
				bufs[1][k>>3] |= 1 << (k & 7)
			}
		}
	case shapeFixed:
		if s.moved != nil {
			copy(bufs[1], s.values)
			return
		}
		gatherFixed(bufs[1], fixedBytes(s.arr, s.n.width), s.n.width, rows)
		if s.nulls[i] > 0 {
			w := s.n.width
			for k := range rows {
				if !bit(bufs[0], k) {
					clear(bufs[1][w*k : w*k+w])
				}
			}
		}
	case shapeBinary:
		s.gatherBinary(bufs, rows, s.nulls[i] > 0)
	case shapeList:
		at := 0
		putOffset(bufs[1], s.n.width, 0, at)
		for k, row := range rows {
			if s.nulls[i] == 0 || !s.null(row) {
				from, to := listSpan(s.n, s.arr, int(row))
				at += to - from
			}
			putOffset(bufs[1], s.n.width, k+1, at)
		}
	case shapeView:
		s.gatherViews(bufs, rows)
	case shapeListView:
		at := 0
		for k, row := range rows {
			n := 0
			if s.nulls[i] == 0 || !s.null(row) {
				from, to := listSpan(s.n, s.arr, int(row))
				n = to - from
			}
			putOffset(bufs[1], s.n.width, k, at)
			putOffset(bufs[2], s.n.width, k, n)
			at += n
		}
	case shapeRuns:
		kid := s.kids[0]
		for k, end := range s.ends[kid.bounds[i]:kid.bounds[i+1]] {
			putInt(bufs[0], s.n.width, k, int(end))
		}
	case shapeSparse, shapeDense:
		codes, _ := codesOf(s.arr)
		next := make([]int, len(s.kids))
		for k, row := range rows {
			bufs[0][k] = byte(codes[row])
			if s.n.shape == shapeDense {
				kid := s.n.child[codes[row]]
				putOffset(bufs[1], 4, k, next[kid])
				next[kid]++
			}
		}
	case shapeDict:
		for k, v := range s.index[s.bounds[i]:s.bounds[i+1]] {
			putInt(bufs[1], s.n.width, k, int(v))
		}
	}
}

// gatherFixed copies values of w bytes. The loops for the common widths let the compiler use one load and
// one store per value.
func gatherFixed(dst, src []byte, w int, rows []int32) {
	le := binary.LittleEndian
	switch w {
	case 1:
		for k, row := range rows {
			dst[k] = src[row]
		}
	case 2:
		for k, row := range rows {
			le.PutUint16(dst[2*k:], le.Uint16(src[2*int(row):]))
		}
	case 4:
		for k, row := range rows {
			le.PutUint32(dst[4*k:], le.Uint32(src[4*int(row):]))
		}
	case 8:
		for k, row := range rows {
			le.PutUint64(dst[8*k:], le.Uint64(src[8*int(row):]))
		}
	default:
		for k, row := range rows {
			copy(dst[w*k:w*k+w], src[w*int(row):])
		}
	}
}

// gatherViews writes headers, and the bytes of long values into one buffer.
func (s *selection) gatherViews(bufs [3][]byte, rows []int32) {
	v := viewsOf(s.arr)
	at := 0
	for k, row := range rows {
		h := bufs[1][16*k : 16*k+16]
		clear(h)
		if s.null(row) {
			continue
		}
		b := v.at(int(row))
		binary.LittleEndian.PutUint32(h, uint32(len(b)))
		if len(b) <= 12 {
			copy(h[4:], b)
			continue
		}
		copy(h[4:8], b)
		binary.LittleEndian.PutUint32(h[12:], uint32(at))
		at += copy(bufs[2][at:], b)
	}
}

func (s *selection) gatherBinary(bufs [3][]byte, rows []int32, nulls bool) {
	b := binaryOf(s.arr, s.n.width)
	if s.n.width == 4 && !nulls {
		gatherStrings(bufs[1], bufs[2], b, rows)
		return
	}
	at := 0
	putOffset(bufs[1], s.n.width, 0, at)
	for k, row := range rows {
		if !nulls || !s.null(row) {
			at += copy(bufs[2][at:], b.at(int(row)))
		}
		putOffset(bufs[1], s.n.width, k+1, at)
	}
}

// gatherStrings is gatherBinary for strings without nulls with offsets of 4 bytes. Those of up to 64 bytes are moved as if they had
// as many, without a branch on how many they have: what is written beyond their end the next overwrites.
func gatherStrings(offsets, dst []byte, b binaryValues, rows []int32) {
	le := binary.LittleEndian
	at := 0
	le.PutUint32(offsets, 0)
	for k, row := range rows {
		span := b.offsets[4*int(row):]
		from, to := int(le.Uint32(span)), int(le.Uint32(span[4:]))
		if n := to - from; n <= 64 && from+64 <= len(b.data) && at+64 <= len(dst) {
			rowloops.Move64(dst[at:], b.data[from:])
			at += n
		} else {
			at += copy(dst[at:], b.data[from:to])
		}
		le.PutUint32(offsets[4*k+4:], uint32(at))
	}
}
