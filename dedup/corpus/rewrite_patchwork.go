package corpus

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
)

// patchwork writes a Parquet file of row groups that are copied as bytes and row groups that are encoded. The library
// writes whole files only, so each run of row groups that are encoded is a file of its own, of which the magic bytes and the
// footer are left out; the footer at the end is that of the input, with the row groups that there are, at the places
// where they are now.
type patchwork struct {
	w     *rewriter
	in    *parquetFile
	arena *arena
	at    int64                  // bytes written
	from  *metadata.FileMetaData // a copy of the input's, whose row groups are changed when they are copied
	out   *metadata.FileMetaData
	run   *file.Writer // what encodes, nil between runs
	start int64        // where its first row group begins
	sink  *runSink
}

const parquetMagic = "PAR1"

// newPatchwork begins a file like in, whose footer it is given.
func newPatchwork(w *rewriter, in *parquetFile, a *arena, footer []byte) (_ *patchwork, err error) {
	p := &patchwork{w: w, in: in, arena: a}
	for _, m := range []**metadata.FileMetaData{&p.from, &p.out} {
		if *m, err = metadata.NewFileMetaData(footer, nil); err != nil {
			return nil, err
		}
	}
	p.out.RowGroups = p.out.RowGroups[:0]
	_, err = p.Write([]byte(parquetMagic))
	return p, err
}

// Write writes bytes of the file.
func (p *patchwork) Write(b []byte) (int, error) {
	n, err := p.w.sink.W.Write(b)
	p.at += int64(n)
	return n, err
}

// runSink passes on what a run writes but its magic bytes and its footer.
type runSink struct {
	p      *patchwork
	seen   int
	footer bool
}

func (s *runSink) Write(b []byte) (int, error) {
	skip := min(len(b), max(0, len(parquetMagic)-s.seen))
	s.seen += len(b)
	if s.footer || skip == len(b) {
		return len(b), nil
	}
	n, err := s.p.Write(b[skip:])
	return skip + n, err
}

// AppendRowGroupChecked begins a row group that is encoded.
func (p *patchwork) AppendRowGroupChecked() (file.SerialRowGroupWriter, error) {
	if p.run == nil {
		p.start, p.sink = p.at, &runSink{p: p}
		var err error
		p.run, err = file.NewParquetWriterWithError(p.sink, p.in.meta.Schema.Root(), file.WithWriterProps(writerProps(p.in, nil, p.arena)))
		if err != nil {
			return nil, err
		}
	}
	return p.run.AppendRowGroupChecked()
}

// endRun takes the row groups of a run over into the footer.
func (p *patchwork) endRun() error {
	if p.run == nil {
		return nil
	}
	p.sink.footer = true // all row groups are closed
	if err := p.run.Close(); err != nil {
		return err
	}
	meta, err := p.run.FileMetadata()
	if err != nil {
		return err
	}
	p.run = nil
	for g := range meta.RowGroups {
		for c := range meta.RowGroups[g].Columns {
			moveChunk(meta, g, c, p.start-int64(len(parquetMagic)))
		}
		if err := p.add(meta, g); err != nil {
			return err
		}
	}
	return nil
}

// add puts a row group into the footer.
func (p *patchwork) add(meta *metadata.FileMetaData, group int) error {
	rg := meta.RowGroups[group]
	if rg.Ordinal != nil {
		*rg.Ordinal = int16(len(p.out.RowGroups)) // there it is no larger
	}
	if rg.FileOffset != nil {
		first, err := meta.RowGroup(group).ColumnChunk(0)
		if err != nil {
			return err
		}
		*rg.FileOffset = chunkStart(first)
	}
	p.out.RowGroups = append(p.out.RowGroups, rg)
	return nil
}

// moveChunk says that a column chunk is by bytes further on. What lies elsewhere in the file, page indexes and Bloom
// filters, is not moved with it.
func moveChunk(meta *metadata.FileMetaData, group, column int, by int64) {
	c := meta.RowGroups[group].Columns[column]
	m := c.MetaData
	m.DataPageOffset += by
	if m.DictionaryPageOffset != nil && *m.DictionaryPageOffset > 0 {
		*m.DictionaryPageOffset += by
	}
	m.IndexPageOffset, m.BloomFilterOffset, m.BloomFilterLength = nil, nil, nil
	c.OffsetIndexOffset, c.OffsetIndexLength, c.ColumnIndexOffset, c.ColumnIndexLength = nil, nil, nil, nil
	c.FileOffset = 0 // which nobody may go by, says the format
}

// copyGroup copies a row group. Its texts are shown; that their bytes are those that were read, and that other columns are
// undamaged, is seen as in a file that is kept whole.
func (p *patchwork) copyGroup(group int, row int64) (bool, error) {
	rg := p.in.meta.RowGroup(group)
	if err := p.endRun(); err != nil {
		return false, err
	}
	texts, err := p.w.showTexts(p.in, p.arena, group, row)
	if err != nil {
		return false, err
	}
	for c := range p.in.meta.Schema.NumColumns() {
		meta, err := rg.ColumnChunk(c)
		if err != nil {
			return false, err
		}
		from := chunkStart(meta)
		by := p.at - from
		if c == p.in.columns.text {
			err = p.w.copyTexts(p, p.in, texts)
		} else {
			err = p.w.copyTo(p, p.in, from, from+meta.TotalCompressedSize())
		}
		if err != nil {
			return false, err
		}
		moveChunk(p.from, group, c, by)
	}
	return true, p.add(p.from, group)
}

// Close writes the footer.
func (p *patchwork) Close() error {
	if err := p.endRun(); err != nil {
		return err
	}
	p.out.NumRows = p.w.done.Kept
	n, err := p.out.WriteTo(p, nil)
	if err != nil {
		return err
	}
	_, err = p.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(n)), parquetMagic...))
	return err
}
