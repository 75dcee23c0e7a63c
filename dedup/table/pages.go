package table

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"sort"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/dovetail-dedup/dovetail/internal/rowloops"
)

// flatFile writes a Parquet file without nested columns. It makes the pages of numbers and strings that are neither null nor in a
// dictionary itself: values go from the batches that they came in straight to a page, where the library joins the batches,
// copies values to a buffer that grows, and the buffer to a page. It leaves the other columns, and everything around pages, to
// the library. The bytes are those that the library makes of the same row groups.
type flatFile struct {
	sink   *counted
	props  *parquet.WriterProperties
	meta   *metadata.FileMetaDataBuilder
	schema *schema.Schema
	kinds  []pageKind
	groups int16
	ctx    context.Context // of the library, with its properties for Arrow
	bufs   *pageBuffers
}

// counted is a writer that knows how much was written.
type counted struct {
	io.Writer
	n    int64
	deaf bool // nothing is written for now
}

func (c *counted) Write(p []byte) (int, error) {
	if c.deaf {
		return len(p), nil
	}
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

// Tell returns the number of bytes written.
func (c *counted) Tell() int64 { return c.n }

// pageKind is how the values of a column get to its pages.
type pageKind uint8

const (
	byLibrary pageKind = iota
	words4             // as they are in memory, 4 bytes each
	words8
	texts // a length of 4 bytes before each
)

// pageBuffers are kept from file to file.
type pageBuffers struct {
	page       []byte // frontRoom bytes, of which the last are the levels, and then values
	compressed bytes.Buffer
}

var pageMemory = sync.Pool{New: func() any { return &pageBuffers{page: make([]byte, frontRoom, 1<<20+128<<10)} }}

const (
	// pageBytes and pageStep are the library's defaults: it ends a page when its values take so many bytes, and looks every so
	// many rows.
	pageBytes = int(parquet.DefaultDataPageSize)
	pageStep  = int(parquet.DefaultWriteBatchSize)
	// frontRoom is for the levels of a page without nulls, which come before its values and depend on how many there are.
	frontRoom = 16
)

// newFlatFile begins a file, or returns nil if a column is nested.
func newFlatFile(sc *arrow.Schema, w io.Writer, props *parquet.WriterProperties, arrowProps pqarrow.ArrowWriterProperties) (*flatFile, error) {
	root, err := pqarrow.ToParquet(sc, props, arrowProps)
	if err != nil {
		return nil, err
	}
	if root.NumColumns() != sc.NumFields() || sc.NumFields() == 0 {
		return nil, nil
	}
	f := &flatFile{sink: &counted{Writer: w}, props: props, schema: root, ctx: pqarrow.NewArrowWriteContext(context.Background(), &arrowProps)}
	for i, field := range sc.Fields() {
		c := root.Column(i)
		if c.MaxRepetitionLevel() > 0 || c.MaxDefinitionLevel() > 1 || len(c.ColumnPath()) != 1 {
			return nil, nil
		}
		f.kinds = append(f.kinds, kindOf(field.Type, c, props))
	}
	var notes metadata.KeyValueMetadata
	m := sc.Metadata()
	for i, key := range m.Keys() {
		_ = notes.Append(key, m.Values()[i]) // it has no error to return
	}
	f.meta = metadata.NewFileMetadataBuilder(root, props, notes)
	f.bufs = pageMemory.Get().(*pageBuffers)
	_, err = f.sink.Write([]byte("PAR1"))
	return f, err
}

// kindOf says how a column is written while it has no nulls: by the library, if its values are not stored as they are in memory.
func kindOf(t arrow.DataType, c *schema.Column, props *parquet.WriterProperties) pageKind {
	if props.DictionaryEnabledFor(c.Path()) || c.SortOrder() == schema.SortUNKNOWN {
		return byLibrary
	}
	switch p := c.PhysicalType(); t.ID() {
	case arrow.INT32, arrow.UINT32, arrow.DATE32, arrow.FLOAT32:
		if p == parquet.Types.Int32 || p == parquet.Types.Float {
			return words4
		}
	case arrow.INT64, arrow.UINT64, arrow.FLOAT64, arrow.TIME64:
		if p == parquet.Types.Int64 || p == parquet.Types.Double {
			return words8
		}
	case arrow.TIMESTAMP:
		if p == parquet.Types.Int64 && t.(*arrow.TimestampType).Unit != arrow.Second {
			return words8
		}
	case arrow.STRING, arrow.BINARY:
		if p == parquet.Types.ByteArray && c.SortOrder() == schema.SortUNSIGNED {
			return texts
		}
	}
	return byLibrary
}

// write writes a row group: the rows of the batches.
func (f *flatFile) write(batches []arrow.RecordBatch) error {
	group := f.meta.AppendRowGroup()
	rows, size := 0, int64(0)
	for _, b := range batches {
		rows += int(b.NumRows())
	}
	for i, kind := range f.kinds {
		c := f.schema.Column(i)
		chunk := group.NextColumnChunk()
		pager, err := file.NewPageWriter(f.sink, f.props.CompressionFor(c.Path()), f.props.CompressionLevelFor(c.Path()), chunk,
			f.groups, int16(i), arrays, false, nil, nil)
		if err != nil {
			return err
		}
		var arrs []arrow.Array
		nulls := 0
		for _, b := range batches {
			if col := b.Column(i); col.Len() > 0 {
				arrs = append(arrs, col)
				nulls += col.NullN()
			}
		}
		n := int64(0)
		if kind == byLibrary || nulls > 0 {
			n, err = f.byLibrary(file.NewColumnChunkWriter(chunk, steadyPager{pager, f.sink, chunk}, f.props), arrs)
		} else {
			p := pageWriter{flatFile: f, column: c, chunk: chunk, pager: pager}
			n, err = p.write(kind, arrs)
		}
		if err != nil {
			return err
		}
		size += n
	}
	group.SetNumRows(rows)
	err := group.Finish(size, f.groups)
	f.groups++
	return err
}

// byLibrary has the library write a column chunk.
func (f *flatFile) byLibrary(w file.ColumnChunkWriter, arrs []arrow.Array) (int64, error) {
	col, err := array.Concatenate(arrs, arrays)
	if err != nil {
		return 0, err
	}
	defer col.Release()
	var levels []int16
	nullable := w.Descr().MaxDefinitionLevel() > 0
	if nullable {
		levels = make([]int16, col.Len())
		for i := range levels {
			if col.IsValid(i) && col.DataType().ID() != arrow.NULL {
				levels[i] = 1
			}
		}
	}
	if err := pqarrow.WriteArrowToColumn(f.ctx, w, col, levels, nil, nullable); err != nil {
		return 0, err
	}
	err = w.Close()
	return w.TotalBytesWritten(), err
}

// steadyPager is a page writer that lists encodings in order. The library lists them as it finds them in a map, which shows when
// a dictionary was given up after some pages.
type steadyPager struct {
	file.PageWriter
	sink  *counted
	chunk *metadata.ColumnChunkMetaDataBuilder
}

// Close ends the column chunk, and writes its metadata behind it.
func (p steadyPager) Close(hasDict, fallback bool) error {
	p.sink.deaf = true // it would write the metadata
	err := p.PageWriter.Close(hasDict, fallback)
	p.sink.deaf = false
	if err != nil {
		return err
	}
	stats := p.chunk.Contents().MetaData.EncodingStats
	sort.Slice(stats, func(i, j int) bool {
		a, b := stats[i], stats[j]
		return a.PageType > b.PageType || a.PageType == b.PageType && a.Encoding < b.Encoding // dictionary first
	})
	_, err = p.chunk.WriteTo(p.sink)
	return err
}

// close writes the footer.
func (f *flatFile) close() error {
	f.drop()
	meta, err := f.meta.Snapshot()
	if err != nil {
		return err
	}
	n, err := meta.WriteTo(f.sink, nil)
	if err != nil {
		return err
	}
	_, err = f.sink.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(n)), "PAR1"...))
	return err
}

// drop gives memory back.
func (f *flatFile) drop() {
	if f.bufs != nil {
		pageMemory.Put(f.bufs)
		f.bufs = nil
	}
}

// pageWriter writes the pages of a column chunk without nulls.
type pageWriter struct {
	*flatFile
	column *schema.Column
	chunk  *metadata.ColumnChunkMetaDataBuilder
	pager  file.PageWriter
	page   []byte
	rows   int   // in the page
	before int64 // rows of earlier pages
	size   int64 // of the pages written

	stats, all metadata.TypedStatistics // of the page, of the column chunk
}

func (p *pageWriter) write(kind pageKind, arrs []arrow.Array) (int64, error) {
	p.stats, p.all = metadata.NewStatistics(p.column, arrays), metadata.NewStatistics(p.column, arrays)
	p.page = p.bufs.page[:frontRoom]
	for _, arr := range arrs {
		var err error
		switch kind {
		case words4:
			err = p.words(arr.Data(), 4)
		case words8:
			err = p.words(arr.Data(), 8)
		default:
			err = p.texts(arr)
		}
		if err != nil {
			return 0, err
		}
	}
	if p.rows > 0 {
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	stats, err := p.encode(p.all)
	if err != nil {
		return 0, err
	}
	if p.before > 0 && stats.IsSet() {
		p.chunk.SetStats(stats)
	}
	return p.size, p.pager.Close(false, false)
}

// words adds values of w bytes.
func (p *pageWriter) words(d arrow.ArrayData, w int) error {
	b := d.Buffers()[1].Bytes()[w*d.Offset() : w*(d.Offset()+d.Len())]
	for len(b) > 0 {
		// 4 and 8 divide the size of a page into a multiple of steps.
		n := min(len(b), pageBytes-w*p.rows)
		p.page = append(p.page, b[:n]...)
		updateWords(p.stats, b[:n])
		p.rows += n / w
		if b = b[n:]; w*p.rows == pageBytes {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func updateWords(stats metadata.TypedStatistics, b []byte) {
	switch s := stats.(type) {
	case *metadata.Int32Statistics:
		s.Update(arrow.Int32Traits.CastFromBytes(b), 0)
	case *metadata.Int64Statistics:
		s.Update(arrow.Int64Traits.CastFromBytes(b), 0)
	case *metadata.Float32Statistics:
		s.Update(arrow.Float32Traits.CastFromBytes(b), 0)
	case *metadata.Float64Statistics:
		s.Update(arrow.Float64Traits.CastFromBytes(b), 0)
	}
}

// texts adds strings.
func (p *pageWriter) texts(arr arrow.Array) error {
	offsets := arr.(interface{ ValueOffsets() []int32 }).ValueOffsets()
	data := []byte{} // not nil, which statistics take for no value
	if b := arr.Data().Buffers()[2]; b != nil && b.Len() > 0 {
		data = b.Bytes()
	}
	s := p.stats.(*metadata.ByteArrayStatistics)
	for len(offsets) > 1 {
		n := min(len(offsets)-1, pageStep-p.rows%pageStep)
		p.page = appendTexts(p.page, data, offsets[:n+1])
		lo, hi := extremes(data, offsets[:n+1])
		s.Update([]parquet.ByteArray{lo, hi}, 0)
		p.rows += n
		if offsets = offsets[n:]; p.rows%pageStep == 0 && len(p.page)-frontRoom >= pageBytes {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendTexts appends strings with their lengths before them.
func appendTexts(page, data []byte, offsets []int32) []byte {
	n := len(offsets) - 1
	need := int(offsets[n]-offsets[0]) + 4*n
	if cap(page)-len(page) < need {
		page = append(make([]byte, 0, max(2*cap(page), len(page)+need)), page...)
	}
	at := len(page)
	page = page[:at+need]
	from := offsets[0]
	for _, to := range offsets[1:] {
		size := int(to - from)
		binary.LittleEndian.PutUint32(page[at:], uint32(size))
		at += 4
		// 64 bytes are as quick as fewer, without a branch; what is written beyond the end is overwritten by the next.
		if size <= 64 && int(from)+64 <= len(data) && at+64 <= len(page) {
			rowloops.Move64(page[at:], data[from:])
		} else {
			copy(page[at:], data[from:to])
		}
		at += size
		from = to
	}
	return page
}

// extremes returns the smallest and the largest of one string or more, by their bytes.
func extremes(data []byte, offsets []int32) (lo, hi []byte) {
	first := data[offsets[0]:offsets[1]]
	lo, hi = first, first
	least, most := prefix(first), prefix(first)
	from := offsets[1]
	for _, to := range offsets[2:] {
		v := data[from:to]
		var x uint64
		if from+8 <= int32(len(data)) && to-from >= 8 {
			x = binary.BigEndian.Uint64(data[from:])
		} else {
			x = prefix(v)
		}
		if x <= least && bytes.Compare(v, lo) < 0 {
			lo, least = v, x
		}
		if x >= most && bytes.Compare(v, hi) > 0 {
			hi, most = v, x
		}
		from = to
	}
	return lo, hi
}

// prefix returns the first 8 bytes of a string, zeros behind it, as a number in the order of strings.
func prefix(v []byte) (x uint64) {
	if len(v) >= 8 {
		return binary.BigEndian.Uint64(v)
	}
	for i, c := range v {
		x |= uint64(c) << (56 - 8*i)
	}
	return x
}

// flush writes the page in hand.
func (p *pageWriter) flush() error {
	from := frontRoom
	if p.column.MaxDefinitionLevel() > 0 {
		levels := appendLevels(make([]byte, 0, frontRoom), p.rows)
		from -= len(levels)
		copy(p.page[from:], levels)
	}
	data := p.page[from:]
	if len(data) > math.MaxInt32 {
		return fmt.Errorf("parquet: uncompressed page size %d exceeds INT32_MAX (%d)", len(data), math.MaxInt32)
	}
	stats, err := p.encode(p.stats)
	if err != nil {
		return err
	}
	p.all.Merge(p.stats)
	p.stats.Reset()
	packed := data
	if p.pager.HasCompressor() {
		p.bufs.compressed.Reset()
		packed = p.pager.Compress(&p.bufs.compressed, data)
	}
	page := file.NewDataPageV1WithConfig(memory.NewBufferBytes(packed), parquet.Encodings.RLE, parquet.Encodings.RLE, file.DataPageConfig{
		Num: int32(p.rows), Encoding: parquet.Encodings.Plain, UncompressedSize: int32(len(data)), Stats: stats, FirstRowIndex: p.before,
	})
	defer page.Release()
	n, err := p.pager.WriteDataPage(page)
	p.size += n
	p.before += int64(p.rows)
	p.rows = 0
	if cap(p.page) <= 4*pageBytes { // one with a huge value goes
		p.bufs.page = p.page
	}
	p.page = p.page[:frontRoom]
	return err
}

// appendLevels appends the definition levels of n values of which none is null, with their length: one run.
func appendLevels(b []byte, n int) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(binary.AppendUvarint(b, uint64(n)<<1), 1)
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// encode returns statistics as they are written.
func (p *pageWriter) encode(s metadata.TypedStatistics) (metadata.EncodedStatistics, error) {
	e, err := s.Encode()
	e.ApplyStatSizeLimits(int(p.props.MaxStatsSizeFor(p.column.Path())))
	e.Signed = p.column.SortOrder() == schema.SortSIGNED
	return e, err
}
