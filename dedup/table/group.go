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

// partWriter writes the file of a partition. Where a row group ends depends on the rows alone, and a row group is given to the
// library as one batch in one layout, so the bytes of the file do not depend on how the rows came.
type partWriter struct {
	layout *layout
	spec   *Spec
	w      *pqarrow.FileWriter

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
	fw, err := pqarrow.NewFileWriter(l.written, keepOpen{w}, parquet.NewWriterProperties(opts...),
		pqarrow.NewArrowWriterProperties(pqarrow.WithAllocator(arrays)))
	if err != nil {
		return nil, err
	}
	return &partWriter{layout: l, spec: s, w: fw, order: xxh3.New()}, nil
}

// add adds rows, which become the writer's own.
func (p *partWriter) add(b arrow.RecordBatch) error {
	defer b.Release()
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
	p.pending, p.bytes, p.rows = nil, 0, 0
}

// flush writes the row group in hand.
func (p *partWriter) flush() error {
	defer p.drop()
	if p.rows == 0 {
		return nil
	}
	group, err := p.layout.codec.Concat(p.pending, arrays)
	if err != nil {
		return err
	}
	defer group.Release()
	err = p.layout.codec.EachHash(group, func(a, b []uint64) {
		p.buf = p.buf[:0]
		for i := range a {
			p.total.Hash = p.total.Hash.Add(shuffle.Hash{A: a[i], B: b[i]})
			p.buf = binary.LittleEndian.AppendUint64(p.buf, a[i])
			p.buf = binary.LittleEndian.AppendUint64(p.buf, b[i])
		}
		_, _ = p.order.Write(p.buf) // a hash takes every byte
	})
	if err != nil {
		return err
	}
	p.total.Rows += p.rows
	p.total.Chunks++
	return p.w.Write(group)
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
	return p.w.Close()
}
