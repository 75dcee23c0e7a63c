package table

import (
	"encoding/binary"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// partWriter writes the file of a partition. Where a row group ends depends on the rows alone, and the pages of a row group do not
// depend on the batches that its rows came in, so neither do the bytes of the file.
type partWriter struct {
	layout *layout
	spec   *Spec
	flat   *flatFile           // or nil
	whole  *pqarrow.FileWriter // if there are nested columns

	pending []arrow.RecordBatch // owned, of the row group in hand
	bytes   int64
	rows    int64

	total shuffle.Totals // of what was written
	order *xxh3.Hasher   // over the hashes of the rows, in order
	buf   []byte         // some of them
}

// keepOpen hides Close from the Parquet writer, which would close a file that is not its own.
type keepOpen struct{ io.Writer }

func newPartWriter(l *layout, s *Spec, w io.Writer) (*partWriter, error) {
	opts := []parquet.WriterProperty{
		parquet.WithVersion(parquet.V2_LATEST), parquet.WithCreatedBy("dovetail"), parquet.WithCompression(codecs[s.Compression]),
		parquet.WithDictionaryDefault(false), parquet.WithMaxRowGroupLength(1 << 40), parquet.WithAllocator(arrays),
	}
	if codecs[s.Compression] == compress.Codecs.Zstd {
		opts = append(opts, parquet.WithCompressionLevel(1))
	}
	for path, dict := range l.dict {
		opts = append(opts, parquet.WithDictionaryFor(path, dict))
	}
	p := &partWriter{layout: l, spec: s, order: xxh3.New()}
	props, arrowProps := parquet.NewWriterProperties(opts...), pqarrow.NewArrowWriterProperties(pqarrow.WithAllocator(arrays))
	var err error
	if p.flat, err = newFlatFile(l.written, w, props, arrowProps); err == nil && p.flat == nil {
		p.whole, err = pqarrow.NewFileWriter(l.written, keepOpen{w}, props, arrowProps)
	}
	return p, err
}

// add adds rows, which become the writer's own.
func (p *partWriter) add(b arrow.RecordBatch) error {
	defer b.Release()
	// Mostly all of them fit.
	if size, ok := p.layout.codec.FlatBytes(b); ok && p.bytes+size <= p.spec.RowGroupBytes && p.rows+b.NumRows() <= p.spec.RowGroupRows {
		b.Retain()
		p.pending = append(p.pending, b)
		p.bytes += size
		p.rows += b.NumRows()
		return nil
	}
	sizes, err := p.layout.codec.RowBytes(b)
	if err != nil {
		return err
	}
	from := int64(0)
	for row, size := range sizes {
		if p.rows > 0 && (p.bytes+size > p.spec.RowGroupBytes || p.rows == p.spec.RowGroupRows) {
			p.pending = append(p.pending, b.NewSlice(from, int64(row)))
			from = int64(row)
			if err := p.flush(); err != nil {
				return err
			}
		}
		p.bytes += size
		p.rows++
	}
	p.pending = append(p.pending, b.NewSlice(from, b.NumRows()))
	return nil
}

func (p *partWriter) drop() {
	for _, b := range p.pending {
		b.Release()
	}
	clear(p.pending)
	p.pending, p.bytes, p.rows = p.pending[:0], 0, 0
}

// abandon gives back what the writer of a file has that is not complete.
func (p *partWriter) abandon() {
	p.drop()
	if p.flat != nil {
		p.flat.drop()
	}
}

// flush writes the row group in hand.
func (p *partWriter) flush() error {
	defer p.drop()
	if p.rows == 0 {
		return nil
	}
	batches := p.pending
	if p.whole != nil {
		// The library ends pages where a batch does.
		group, err := p.layout.codec.Concat(p.pending, arrays)
		if err != nil {
			return err
		}
		defer group.Release()
		batches = []arrow.RecordBatch{group}
	}
	for _, b := range batches {
		if err := p.layout.codec.EachHash(b, p.hashed); err != nil {
			return err
		}
	}
	p.total.Rows += p.rows
	p.total.Chunks++
	if p.whole != nil {
		return p.whole.Write(batches[0])
	}
	return p.flat.write(batches)
}

// hashed takes the hashes of rows, in order.
func (p *partWriter) hashed(a, b []uint64) {
	p.buf = p.buf[:0]
	for i := range a {
		p.total.Hash = p.total.Hash.Add(shuffle.Hash{A: a[i], B: b[i]})
		p.buf = binary.LittleEndian.AppendUint64(p.buf, a[i])
		p.buf = binary.LittleEndian.AppendUint64(p.buf, b[i])
	}
	_, _ = p.order.Write(p.buf) // a hash takes every byte
}

// pick makes a batch of some rows of another, in the order given.
func pick(codec *columns.Codec, b arrow.RecordBatch, rows []int32) (out arrow.RecordBatch, err error) {
	for ch, err := range codec.Pack(b, columns.InOrder(rows), mem.Host().Alloc, 1<<40) {
		if err != nil {
			return nil, err
		}
		out, err = codec.Unpack(ch)
		ch.Release()
		if err != nil {
			return nil, err
		}
	}
	if out == nil {
		return codec.Concat(nil, arrays)
	}
	return out, nil
}

// close writes what is left and the footer.
func (p *partWriter) close() error {
	if err := p.flush(); err != nil {
		return err
	}
	if p.whole != nil {
		return p.whole.Close()
	}
	return p.flat.close()
}
