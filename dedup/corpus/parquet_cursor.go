package corpus

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// chunk is an open column chunk.
type chunk struct {
	file.ColumnChunkReader
	left  int64 // levels still to come, by the footer
	tries int64 // see more
	sums  *pageSums

	column int
}

// fault returns the error to report when err came up while the chunk was read: that a checksum does not match, if
// that was why.
func (c *chunk) fault(err error) error {
	if c.sums.err != nil {
		return fmt.Errorf("column %q: %w", c.Descriptor().Path(), c.sums.err)
	}
	return err
}

// finish makes sure at the end of the chunk that all of it is what was written.
func (c *chunk) finish() error { return c.fault(c.sums.finish()) }

// more reports whether there are more levels to read; if not, Err says whether that is an error. pyarrow can
// write pages without a value between others, at which HasNext of the library says that the chunk has ended;
// asked again, it looks at the next page.
func (c *chunk) more() bool {
	for {
		if c.HasNext() {
			return true
		}
		if c.left <= 0 || c.tries <= 0 || c.Err() != nil {
			return false
		}
		c.tries--
	}
}

// readBuffer is how much of a column chunk is read from the file at a time.
const readBuffer = 256 << 10

// openChunk opens a column of a row group. Its pages are decoded one at a time, and large ones of values that
// stand one after the other piece by piece where the codec can do that.
func (p *parquetFile) openChunk(group, column int, a *arena) (*chunk, error) {
	meta, err := p.meta.RowGroup(group).ColumnChunk(column)
	if err != nil {
		return nil, err
	}
	if column == p.columns.text {
		a.page, a.ratio = maxPage(meta), 1
		if packed := meta.TotalCompressedSize(); packed > 0 && meta.Compression() != compress.Codecs.Uncompressed {
			a.ratio = 2 * (meta.TotalUncompressedSize()/packed + 1)
		}
	}
	props := parquet.NewReaderProperties(a)
	props.BufferedStreamEnabled = true
	props.PageStreamingEnabled = true
	props.BufferSize = readBuffer
	props.MaxCompressedPageSize = meta.TotalCompressedSize()
	props.MaxUncompressedPageSize = maxPage(meta)
	from := chunkStart(meta)
	sums := &pageSums{src: cmp.Or[io.ReaderAt](p.through, p.src), at: from, end: from + meta.TotalCompressedSize()}
	r, err := file.NewParquetReader(io.NewSectionReader(sums, 0, p.size), file.WithReadProps(props), file.WithMetadata(p.meta))
	if err != nil {
		return nil, err
	}
	c, err := r.RowGroup(group).Column(column)
	if err != nil {
		return nil, err
	}
	const smallestPage = 8 // its header alone is longer
	return &chunk{c, meta.NumValues(), meta.TotalCompressedSize() / smallestPage, sums, column}, nil
}

// maxPage returns the largest size that a page of a chunk may claim to have when it is decompressed: no more
// than the whole chunk, and no more than its codec can make of the bytes that are there. It is what keeps a
// damaged header from asking for memory.
func maxPage(meta *metadata.ColumnChunkMetaData) int64 {
	ratio := int64(1 << 20) // zstd, brotli: a run of any length in a few bytes
	switch meta.Compression() {
	case compress.Codecs.Uncompressed:
		ratio = 1
	case compress.Codecs.Snappy:
		ratio = 64
	case compress.Codecs.Lz4Raw:
		ratio = 256
	case compress.Codecs.Gzip:
		ratio = 1100
	}
	c := meta.TotalCompressedSize()
	if c > math.MaxInt32 {
		c = math.MaxInt32
	}
	// Some writers leave the headers of pages out of the total.
	return max(1, min(c*ratio+4096, meta.TotalUncompressedSize()+1<<20, math.MaxInt32))
}

// cursor walks over the values of a column without repetition, one for each row.
type cursor[T any] struct {
	*chunk
	read   func(n int64, values []T, defs []int16) (int64, int, error)
	maxDef int16
	values []T
	defs   []int16
	levels int // levels in defs
	level  int // the current one
	value  int // its value, if it has one
}

// cursorBatch is how many values are decoded at a time. Values of bytes are not copied but point into the
// page, so it need not be small for large ones.
const cursorBatch = 512

var errNoProgress = errors.New("a page has no values")

// newCursor returns a cursor over a chunk whose values are of type T.
func newCursor[T any](c *chunk, read func(int64, []T, []int16, []int16) (int64, int, error)) *cursor[T] {
	return &cursor[T]{
		chunk: c, maxDef: c.Descriptor().MaxDefinitionLevel(),
		values: make([]T, cursorBatch), defs: make([]int16, cursorBatch),
		read: func(n int64, values []T, defs []int16) (int64, int, error) { return read(n, values, defs, nil) },
	}
}

// peek returns the value of the current row; it is good until the next peek after an advance.
func (c *cursor[T]) peek() (v T, null bool, err error) {
	if c.level == c.levels {
		if !c.more() {
			if err := c.Err(); err != nil {
				return v, false, err
			}
			return v, false, errors.New("a column has fewer values than the row group has rows")
		}
		levels, values, err := c.read(cursorBatch, c.values, c.defs)
		if err != nil {
			return v, false, err
		}
		if c.maxDef == 0 {
			levels = int64(values)
		}
		if levels == 0 {
			return v, false, errNoProgress
		}
		if c.maxDef > 0 {
			defined := 0
			for _, d := range c.defs[:levels] {
				if d == c.maxDef {
					defined++
				}
			}
			if defined != values {
				return v, false, fmt.Errorf("a page has %d values where its levels say %d", values, defined)
			}
		}
		c.left -= levels
		c.levels, c.level, c.value = int(levels), 0, 0
	}
	if c.maxDef > 0 && c.defs[c.level] != c.maxDef {
		return v, true, nil
	}
	return c.values[c.value], false, nil
}

// advance goes to the next row, after a peek.
func (c *cursor[T]) advance() {
	if c.maxDef == 0 || c.defs[c.level] == c.maxDef {
		c.value++
	}
	c.level++
}

// nextValue returns the value of the current row and goes to the next.
func (c *cursor[T]) nextValue() (v T, null bool, err error) {
	if v, null, err = c.peek(); err == nil {
		c.advance()
	}
	return v, null, err
}

var errNullID = errors.New("its id is null")

// integers returns a function that yields the integer id of one row after the other, and whether it is null.
func integers(c *chunk) (func() (int64, bool, error), error) {
	unsigned := false // of 32 bits or fewer
	if t, ok := c.Descriptor().LogicalType().(schema.IntLogicalType); ok {
		unsigned = !t.IsSigned()
	}
	switch r := c.ColumnChunkReader.(type) {
	case *file.Int32ColumnChunkReader:
		cur := newCursor(c, r.ReadBatch)
		return func() (int64, bool, error) {
			v, null, err := cur.nextValue()
			if unsigned {
				return int64(uint32(v)), null, err
			}
			return int64(v), null, err
		}, nil
	case *file.Int64ColumnChunkReader:
		return newCursor(c, r.ReadBatch).nextValue, nil
	}
	return nil, fmt.Errorf("column %q cannot be read as integers", c.Descriptor().Path())
}
