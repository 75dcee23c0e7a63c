package colfile

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unsafe"
)

// Reader reads a file. Its methods may be called from several goroutines, each with its own [Scratch].
type Reader struct {
	r      io.ReaderAt
	name   string
	cols   []Column
	blocks []block
	rows   int64
}

type block struct {
	rows int
	data []extent // per column
}

type extent struct {
	off int64
	n   int64
	crc uint32
}

// ExtentBytes is the memory that a [Reader] takes for each column of each block.
const ExtentBytes = int(unsafe.Sizeof(extent{}))

// Open reads the index of a file of the given size. name is used in errors.
func Open(r io.ReaderAt, size int64, name string) (*Reader, error) {
	f := &Reader{r: r, name: name}
	if size < int64(len(magic)+tailSize) {
		return nil, f.corrupt("it has only %d bytes", size)
	}
	tail := make([]byte, tailSize)
	if _, err := r.ReadAt(tail, size-int64(tailSize)); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	n := int64(binary.LittleEndian.Uint32(tail))
	if string(tail[8:]) != magic || n > size-int64(tailSize+len(magic)) {
		return nil, f.corrupt("its end is not that of a work file")
	}
	index := make([]byte, n)
	start := size - int64(tailSize) - n
	if _, err := r.ReadAt(index, start); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if crc32.Checksum(index, castagnoli) != binary.LittleEndian.Uint32(tail[4:]) {
		return nil, f.corrupt("its index does not match its checksum")
	}
	if err := f.parse(index, start); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Reader) corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, f.name, fmt.Sprintf(format, args...))
}

// parse reads the index, which lies at offset end of the file, where the column data ends.
func (f *Reader) parse(index []byte, end int64) error {
	bad := f.corrupt("its index cannot be read")
	next := func(limit uint64) (uint64, bool) {
		v, n := binary.Uvarint(index)
		if n <= 0 || v > limit {
			return 0, false
		}
		index = index[n:]
		return v, true
	}
	nc, ok := next(maxColumns)
	if !ok {
		return bad
	}
	for range nc {
		if len(index) == 0 {
			return bad
		}
		kind := Kind(index[0])
		index = index[1:]
		n, ok := next(maxName)
		if !ok || n > uint64(len(index)) || (kind != Uint64 && kind != Bytes) {
			return bad
		}
		f.cols = append(f.cols, Column{string(index[:n]), kind})
		index = index[n:]
	}
	nb, ok := next(1 << 40)
	if !ok {
		return bad
	}
	off := int64(len(magic))
	for range nb {
		rows, ok := next(maxBlockRows)
		if !ok || rows == 0 {
			return bad
		}
		b := block{rows: int(rows), data: make([]extent, 0, len(f.cols))}
		for range f.cols {
			n, ok1 := next(uint64(end))
			crc, ok2 := next(1<<32 - 1)
			if !ok1 || !ok2 || int64(n) > end-off || n < 9 {
				return bad
			}
			b.data = append(b.data, extent{off, int64(n), uint32(crc)})
			off += int64(n)
		}
		f.blocks = append(f.blocks, b)
		f.rows += int64(rows)
	}
	if off != end || len(index) != 0 {
		return bad
	}
	return nil
}

// Rows returns the number of rows in the file.
func (f *Reader) Rows() int64 { return f.rows }

// Blocks returns the number of blocks.
func (f *Reader) Blocks() int { return len(f.blocks) }

// BlockRows returns the number of rows of a block.
func (f *Reader) BlockRows(block int) int { return f.blocks[block].rows }

// Column returns the position of the column of that name and kind, or an error that names the file.
func (f *Reader) Column(name string, kind Kind) (int, error) {
	i := slices.Index(f.cols, Column{name, kind})
	if i < 0 {
		return 0, f.corrupt("it has no column %s of the kind wanted", name)
	}
	return i, nil
}

// Scratch is memory that reads reuse.
type Scratch struct{ buf []byte }

func (f *Reader) read(bl, col int, s *Scratch) ([]byte, error) {
	e := f.blocks[bl].data[col]
	s.buf = slices.Grow(s.buf[:0], int(e.n))[:e.n]
	if _, err := f.r.ReadAt(s.buf, e.off); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.name, err)
	}
	if crc32.Checksum(s.buf, castagnoli) != e.crc {
		return nil, f.corrupt("column %s of block %d does not match its checksum", f.cols[col].Name, bl)
	}
	return s.buf, nil
}

// ReadUint64 appends the values of a uint64 column of a block to dst.
func (f *Reader) ReadUint64(block, col int, dst []uint64, s *Scratch) ([]uint64, error) {
	data, err := f.read(block, col, s)
	if err != nil {
		return dst, err
	}
	dst, rest, ok := decodeUint64s(dst, data, f.blocks[block].rows)
	if !ok || len(rest) != 0 {
		return dst, f.corrupt("column %s of block %d has the wrong length", f.cols[col].Name, block)
	}
	return dst, nil
}

// ReadBytes returns the values of a bytes column of a block. They lie in s and are valid until its next
// use.
func (f *Reader) ReadBytes(block, col int, s *Scratch) ([][]byte, error) {
	data, err := f.read(block, col, s)
	if err != nil {
		return nil, err
	}
	rows := f.blocks[block].rows
	lengths, rest, ok := decodeUint64s(nil, data, rows)
	out := make([][]byte, 0, rows)
	for _, n := range lengths {
		if n > uint64(len(rest)) {
			ok = false
			break
		}
		out = append(out, rest[:n:n])
		rest = rest[n:]
	}
	if !ok || len(rest) != 0 {
		return nil, f.corrupt("column %s of block %d has the wrong length", f.cols[col].Name, block)
	}
	return out, nil
}

// decodeUint64s is the inverse of appendUint64s; it returns what follows the column.
func decodeUint64s(dst []uint64, data []byte, rows int) (out []uint64, rest []byte, ok bool) {
	if len(data) < 9 {
		return dst, nil, false
	}
	width, lo := int(data[0]), binary.LittleEndian.Uint64(data[1:])
	data = data[9:]
	if width > 8 || width*rows > len(data) {
		return dst, nil, false
	}
	body := data[:width*rows]
	dst = slices.Grow(dst, rows)
	switch width {
	case 0:
		for range rows {
			dst = append(dst, lo)
		}
	case 1:
		for _, x := range body {
			dst = append(dst, lo+uint64(x))
		}
	case 2:
		for i := 0; i < len(body); i += 2 {
			dst = append(dst, lo+uint64(binary.LittleEndian.Uint16(body[i:])))
		}
	case 4:
		for i := 0; i < len(body); i += 4 {
			dst = append(dst, lo+uint64(binary.LittleEndian.Uint32(body[i:])))
		}
	case 8:
		n := len(dst)
		dst = dst[:n+rows]
		for i := range dst[n:] {
			dst[n+i] = lo + binary.LittleEndian.Uint64(body[8*i:])
		}
	default:
		return dst, nil, false
	}
	return dst, data[width*rows:], true
}
