package table

import (
	"encoding/binary"
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/dovetail-dedup/dovetail/internal/rowloops"
)

// columnReader reads a column of a row group.
type columnReader interface {
	// next reads n rows, which are the caller's to release.
	next(n int64) (arrow.Array, error)
	release()
}

// libraryColumn is read by the library.
type libraryColumn struct{ *pqarrow.ColumnReader }

func (c libraryColumn) release() { c.ColumnReader.Release() }

func (c libraryColumn) next(n int64) (arrow.Array, error) {
	chunked, err := c.NextBatch(n)
	if err != nil {
		return nil, err
	}
	if chunked == nil || int64(chunked.Len()) != n {
		return nil, errTooEarly
	}
	// The reader keeps what it returns until it is asked again.
	if len(chunked.Chunks()) > 1 {
		return array.Concatenate(chunked.Chunks(), arrays)
	}
	col := chunked.Chunk(0)
	col.Retain()
	return col, nil
}

// plainColumn reads numbers and strings without nulls from plain pages: the library, which reads anything, takes each string on
// its own. Whatever else it finds, it leaves to the library, from the first row of the batch in hand on; so what is
// read, and what is said of a file that cannot be, is the same.
type plainColumn struct {
	dtype    arrow.DataType
	width    int // of a value; 0 for strings
	optional bool
	pages    file.PageReader
	values   []byte // of the page in hand, those to come
	left     int64  // how many
	done     int64  // rows read
	library  func() (columnReader, error)
	other    columnReader // takes over, if not nil
}

// errTooEarly means that a column has fewer rows than its row group.
var errTooEarly = errors.New("it ends too early")

// errNotPlain means that the library is to read on.
var errNotPlain = errors.New("not plain values without nulls")

// plainWidth says whether values of a type may be read from plain pages as they are, and how many bytes each has, 0 for strings.
func plainWidth(t arrow.DataType, c *schema.Column) (width int, ok bool) {
	if c.MaxRepetitionLevel() > 0 || c.MaxDefinitionLevel() > 1 || len(c.ColumnPath()) != 1 {
		return 0, false
	}
	switch p := c.PhysicalType(); t.ID() {
	case arrow.INT32, arrow.UINT32, arrow.DATE32, arrow.TIME32:
		return 4, p == parquet.Types.Int32
	case arrow.FLOAT32:
		return 4, p == parquet.Types.Float
	case arrow.INT64, arrow.UINT64, arrow.TIME64, arrow.TIMESTAMP:
		return 8, p == parquet.Types.Int64
	case arrow.FLOAT64:
		return 8, p == parquet.Types.Double
	case arrow.STRING, arrow.BINARY:
		return 0, p == parquet.Types.ByteArray
	}
	return 0, false
}

// openPlain returns a reader of a leaf column, or nil if it is of another kind.
func openPlain(r *file.Reader, group, leaf int, t arrow.DataType, library func() (columnReader, error)) (columnReader, error) {
	c := r.MetaData().Schema.Column(leaf)
	width, ok := plainWidth(t, c)
	if !ok {
		return nil, nil
	}
	rg := r.RowGroup(group)
	chunk, err := rg.MetaData().ColumnChunk(leaf)
	if err != nil {
		return nil, err
	}
	if chunk.HasDictionaryPage() {
		return nil, nil
	}
	pages, err := rg.GetColumnPageReader(leaf)
	if err != nil {
		return nil, err
	}
	return &plainColumn{dtype: t, width: width, optional: c.MaxDefinitionLevel() > 0, pages: pages, library: library}, nil
}

func (c *plainColumn) release() {
	if c.pages != nil {
		_ = c.pages.Close() // it gives memory back
		c.pages = nil
	}
	if c.other != nil {
		c.other.release()
		c.other = nil
	}
}

func (c *plainColumn) next(n int64) (arrow.Array, error) {
	if c.other == nil {
		arr, err := c.plain(n)
		if err == nil {
			c.done += n
			return arr, nil
		}
		c.release()
		if c.other, err = c.library(); err != nil {
			return nil, err
		}
		for c.done > 0 { // as many at a time as in a batch
			k := min(c.done, n)
			arr, err := c.other.next(k)
			if err != nil {
				return nil, err
			}
			arr.Release()
			c.done -= k
		}
	}
	return c.other.next(n)
}

func (c *plainColumn) plain(n int64) (arrow.Array, error) {
	if c.width > 0 {
		return c.words(int(n))
	}
	return c.strings(int(n))
}

// words reads values of fixed width.
func (c *plainColumn) words(n int) (arrow.Array, error) {
	buf := memory.NewResizableBuffer(arrays)
	defer buf.Release()
	buf.Resize(n * c.width)
	for at := 0; at < buf.Len(); {
		if err := c.more(); err != nil {
			return nil, err
		}
		k := copy(buf.Bytes()[at:], c.values)
		c.values = c.values[k:]
		c.left -= int64(k / c.width)
		at += k
	}
	return makeArray(c.dtype, n, nil, buf), nil
}

// strings reads strings.
func (c *plainColumn) strings(n int) (arrow.Array, error) {
	offsets, data := memory.NewResizableBuffer(arrays), memory.NewResizableBuffer(arrays)
	defer offsets.Release()
	defer data.Release()
	offsets.Resize(4 * (n + 1))
	ends := arrow.Int32Traits.CastFromBytes(offsets.Bytes())
	at, size := 0, int64(0)
	for at < n {
		if err := c.more(); err != nil {
			return nil, err
		}
		k := min(n-at, int(c.left))
		ends[at] = int32(size)
		taken, ok := stringEnds(ends[at+1:at+k+1], c.values, int32(size))
		if !ok {
			return nil, errNotPlain
		}
		size = int64(ends[at+k])
		if int64(data.Cap()) < size {
			data.Reserve(int(max(size, size/int64(at+k)*int64(n)*17/16)))
		}
		data.ResizeNoShrink(int(size))
		copyStrings(data.Bytes(), c.values, ends[at:at+k+1])
		c.values = c.values[taken:]
		c.left -= int64(k)
		at += k
	}
	return makeArray(c.dtype, n, nil, offsets, data), nil
}

func makeArray(t arrow.DataType, n int, buffers ...*memory.Buffer) arrow.Array {
	data := array.NewData(t, n, buffers, nil, 0, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// stringEnds finds where strings end that lie one after another, each behind its length, when the first begins at a place given.
// It returns the bytes that they take with their lengths, and false if they are not there or too long together.
func stringEnds(ends []int32, values []byte, at int32) (taken int, ok bool) {
	for i := range ends {
		if len(values)-taken < 4 {
			return 0, false
		}
		n := int32(binary.LittleEndian.Uint32(values[taken:]))
		taken += 4
		if n < 0 || int(n) > len(values)-taken || at+n < at {
			return 0, false
		}
		taken += int(n)
		at += n
		ends[i] = at
	}
	return taken, true
}

// copyStrings copies strings, each behind its length in values, to where they begin and end in dst.
func copyStrings(dst, values []byte, ends []int32) {
	from := 0
	for i, end := range ends[1:] {
		at := ends[i]
		n := int(end - at)
		from += 4
		// 64 bytes are as quick as fewer, without a branch; what is written beyond the end is overwritten by the next.
		if n <= 64 && from+64 <= len(values) && int(at)+64 <= len(dst) {
			rowloops.Move64(dst[at:], values[from:])
		} else {
			copy(dst[at:end], values[from:from+n])
		}
		from += n
	}
}

// more makes sure that there are values in hand.
func (c *plainColumn) more() error {
	for c.left == 0 {
		if !c.pages.Next() {
			return errNotPlain
		}
		page, ok := c.pages.Page().(*file.DataPageV1)
		if !ok || parquet.Encoding(page.Encoding()) != parquet.Encodings.Plain {
			return errNotPlain
		}
		c.values, c.left = page.Data(), int64(page.NumValues())
		if c.optional {
			n, ok := levelsOfNoNulls(c.values, c.left)
			if !ok || parquet.Encoding(page.DefinitionLevelEncoding()) != parquet.Encodings.RLE {
				return errNotPlain
			}
			c.values = c.values[n:]
		}
		if c.width > 0 && int64(len(c.values)) != c.left*int64(c.width) {
			return errNotPlain
		}
	}
	return nil
}

// levelsOfNoNulls returns the bytes of the definition levels that a page of n values begins with, and false unless they say that there
// is no null.
func levelsOfNoNulls(b []byte, n int64) (size int, ok bool) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
		return 0, false
	}
	size = 4 + int(binary.LittleEndian.Uint32(b))
	for at := 4; at < size && n > 0; {
		header, k := binary.Uvarint(b[at:size])
		at += k
		switch {
		case k <= 0 || header>>1 > 1<<31:
			return 0, false
		case header&1 == 0: // a run of values that are all the next byte
			if at == size || b[at] != 1 {
				return 0, false
			}
			n -= int64(header >> 1)
			at++
		default: // as many bytes, a bit for each value
			for range header >> 1 {
				if n <= 0 {
					break
				}
				if at == size || b[at]|byte(0xff<<min(n, 8)) != 0xff {
					return 0, false
				}
				n -= 8
				at++
			}
		}
	}
	return size, n <= 0 // what is behind is not read
}
