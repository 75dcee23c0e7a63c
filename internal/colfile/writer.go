package colfile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"
)

// Writer writes a file. It is not safe for concurrent use.
type Writer struct {
	w       *bufio.Writer
	cols    []Column
	index   []byte // the part of the index that describes blocks
	blocks  uint64
	rows    int64
	buf     []byte
	lengths []uint64
	err     error
}

// NewWriter starts a file with the given columns. The caller closes w after [Writer.Finish].
func NewWriter(w io.Writer, cols []Column) *Writer {
	cw := &Writer{w: bufio.NewWriterSize(w, 64<<10), cols: slices.Clone(cols)}
	_, cw.err = cw.w.WriteString(magic)
	return cw
}

// Data is the content of one column of a block: Uint64 for a column of that kind, Bytes for the other.
type Data struct {
	Uint64 []uint64
	Bytes  [][]byte
}

// Block writes one block of rows; data has one entry per column, all of the same number of rows. The
// writer keeps no reference to data.
func (w *Writer) Block(data []Data) error {
	if w.err != nil {
		return w.err
	}
	if len(data) != len(w.cols) {
		return fmt.Errorf("colfile: block of %d columns for a file of %d", len(data), len(w.cols))
	}
	rows := -1
	for i, d := range data {
		n := len(d.Uint64)
		if w.cols[i].Kind == Bytes {
			n = len(d.Bytes)
		}
		if rows >= 0 && n != rows {
			return fmt.Errorf("colfile: column %s has %d rows, the first column %d", w.cols[i].Name, n, rows)
		}
		rows = n
	}
	if rows <= 0 {
		return nil
	}
	w.index = binary.AppendUvarint(w.index, uint64(rows))
	for i, d := range data {
		w.buf = w.buf[:0]
		if w.cols[i].Kind == Uint64 {
			w.buf = appendUint64s(w.buf, d.Uint64)
		} else {
			w.lengths = w.lengths[:0]
			for _, b := range d.Bytes {
				w.lengths = append(w.lengths, uint64(len(b)))
			}
			w.buf = appendUint64s(w.buf, w.lengths)
			for _, b := range d.Bytes {
				w.buf = append(w.buf, b...)
			}
		}
		w.index = binary.AppendUvarint(w.index, uint64(len(w.buf)))
		w.index = binary.AppendUvarint(w.index, uint64(crc32.Checksum(w.buf, castagnoli)))
		if _, w.err = w.w.Write(w.buf); w.err != nil {
			return w.err
		}
	}
	w.blocks++
	w.rows += int64(rows)
	return nil
}

// Rows returns the rows written so far.
func (w *Writer) Rows() int64 { return w.rows }

// Finish writes the index. The file is complete when it returns nil.
func (w *Writer) Finish() error {
	if w.err != nil {
		return w.err
	}
	head := binary.AppendUvarint(nil, uint64(len(w.cols)))
	for _, c := range w.cols {
		head = append(head, byte(c.Kind))
		head = binary.AppendUvarint(head, uint64(len(c.Name)))
		head = append(head, c.Name...)
	}
	head = binary.AppendUvarint(head, w.blocks)
	index := append(head, w.index...)
	index = binary.LittleEndian.AppendUint32(index, uint32(len(index)))
	index = binary.LittleEndian.AppendUint32(index, crc32.Checksum(index[:len(index)-4], castagnoli))
	index = append(index, magic...)
	if _, w.err = w.w.Write(index); w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

// appendUint64s encodes one uint64 column.
func appendUint64s(dst []byte, v []uint64) []byte {
	lo, hi := slices.Min(v), slices.Max(v)
	width := 0
	switch n := bits.Len64(hi - lo); {
	case n == 0:
	case n <= 8:
		width = 1
	case n <= 16:
		width = 2
	case n <= 32:
		width = 4
	default:
		width = 8
	}
	dst = append(dst, byte(width))
	dst = binary.LittleEndian.AppendUint64(dst, lo)
	dst = slices.Grow(dst, width*len(v))
	switch width {
	case 1:
		for _, x := range v {
			dst = append(dst, byte(x-lo))
		}
	case 2:
		for _, x := range v {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(x-lo))
		}
	case 4:
		for _, x := range v {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(x-lo))
		}
	case 8:
		for _, x := range v {
			dst = binary.LittleEndian.AppendUint64(dst, x-lo)
		}
	}
	return dst
}
