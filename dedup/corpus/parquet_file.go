package corpus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
)

// parquetFile is an open Parquet file with its footer.
type parquetFile struct {
	src     *source
	size    int64
	meta    *metadata.FileMetaData
	columns parquetColumns
	tables  bool        // all columns are wanted
	through io.ReaderAt // what pages are read through; nil means src
}

// readFooter reads and checks the footer and finds the columns that o names.
func readFooter(src *source, o Options) (*parquetFile, error) {
	p := &parquetFile{src: src, size: src.obj.Size(), tables: o.Tables}
	if err := guarded(p.parseFooter); err != nil {
		return nil, src.fault(ErrCorrupt, place{}, err)
	}
	err := guarded(func() (err error) {
		p.columns, err = findColumns(p.meta.Schema, o)
		return err
	})
	if err != nil {
		return nil, src.fault(ErrColumn, place{}, err)
	}
	return p, nil
}

// footerSize returns the length of the footer: the metadata and the 8 bytes behind it.
func footerSize(src *source) (int64, error) {
	size := src.obj.Size()
	if size < 12 {
		return 0, fmt.Errorf("not a Parquet file: it has %d bytes", size)
	}
	var tail [8]byte
	if _, err := src.ReadAt(tail[:], size-8); err != nil {
		return 0, err
	}
	switch string(tail[4:]) {
	case "PAR1":
	case "PARE":
		return 0, errors.New("it is encrypted, and encrypted Parquet cannot be read")
	default:
		return 0, errors.New("not a Parquet file, or cut off: it does not end in PAR1")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4])) + 8
	if n+4 > size {
		return 0, fmt.Errorf("its footer would be %d bytes long, the file is %d", n, size)
	}
	return n, nil
}

func (p *parquetFile) parseFooter() error {
	if _, err := footerSize(p.src); err != nil {
		return err
	}
	r, err := file.NewParquetReader(p.src.section(0, p.size))
	if err != nil {
		return err
	}
	p.meta = r.MetaData()
	rows := int64(0)
	for g := range p.meta.NumRowGroups() {
		rg := p.meta.RowGroup(g)
		n := rg.NumRows()
		if n < 0 || n > MaxRows {
			return fmt.Errorf("row group %d has %d rows", g, n)
		}
		rows += n
		if rg.NumColumns() != p.meta.Schema.NumColumns() {
			return fmt.Errorf("row group %d has %d columns, the schema has %d",
				g, rg.NumColumns(), p.meta.Schema.NumColumns())
		}
		for c := range rg.NumColumns() {
			if err := p.checkChunk(rg, c); err != nil {
				return fmt.Errorf("row group %d: column %q: %w", g, p.meta.Schema.Column(c).Path(), err)
			}
		}
	}
	if rows != p.meta.GetNumRows() {
		return fmt.Errorf("its row groups have %d rows together, its footer says %d", rows, p.meta.GetNumRows())
	}
	if rows > MaxRows {
		return fmt.Errorf("it has %d rows, more than %d; split it", rows, int64(MaxRows))
	}
	return nil
}

// checkChunk checks that a column chunk lies inside the file.
func (p *parquetFile) checkChunk(rg *metadata.RowGroupMetaData, column int) error {
	c, err := rg.ColumnChunk(column)
	if err != nil {
		return err
	}
	if c.FilePath() != "" {
		return fmt.Errorf("it is kept in another file, %q, which is not supported", c.FilePath())
	}
	if t := p.meta.Schema.Column(column).PhysicalType(); c.Type() != t {
		return fmt.Errorf("it is of type %s, the schema says %s", c.Type(), t)
	}
	from, n := chunkStart(c), c.TotalCompressedSize()
	if from < 0 || n < 0 || from > p.size || n > p.size-from {
		return fmt.Errorf("its bytes [%d, %d) are not all in the file of %d", from, from+n, p.size)
	}
	if c.TotalUncompressedSize() < 0 || c.NumValues() < 0 {
		return errors.New("it has a negative size")
	}
	return nil
}

// chunkStart returns where in the file a column chunk begins.
func chunkStart(c *metadata.ColumnChunkMetaData) int64 {
	if c.HasDictionaryPage() && c.DictionaryPageOffset() > 0 {
		return min(c.DataPageOffset(), c.DictionaryPageOffset())
	}
	return c.DataPageOffset()
}

// groupWork returns about how many bytes of the wanted columns a row group holds.
func (p *parquetFile) groupWork(group int) int64 {
	rg := p.meta.RowGroup(group)
	n := int64(0)
	if p.tables {
		return rg.TotalByteSize()
	}
	for _, c := range []int{p.columns.text, p.columns.keep, p.columns.id} {
		if c < 0 {
			continue
		}
		if meta, err := rg.ColumnChunk(c); err == nil {
			n += meta.TotalUncompressedSize()
		}
	}
	return n
}

// parquetReader is the docReader of Parquet.
type parquetReader struct {
	*parquetFile
	file  int
	kept  KeepKind // of the set
	skip  bool     // rows without an id are left out
	o     ReadOptions
	rows  rowSelector
	group int // the next row group to open
	end   int // the row group to stop at
	base  int64
	cur   *groupReader
	peak  int64
}

func (s *Set) openParquet(
	ctx context.Context, i int, sp Split, rows rowSelector, o ReadOptions,
) (docReader, error) {
	src, err := s.open(ctx, i)
	if err != nil {
		return nil, err
	}
	p, err := readFooter(src, s.optionsOf(i))
	if err != nil {
		return nil, firstError(err, src.Close())
	}
	r := &parquetReader{parquetFile: p, file: i, kept: s.Keep, skip: s.Options.SkipRecords, o: o, rows: rows, group: sp.FirstGroup, end: sp.EndGroup}
	if r.end == 0 {
		r.end = p.meta.NumRowGroups()
	}
	if kind := p.columns.idKind; kind != s.IDKind && kind != NoIDs {
		err = src.fault(ErrColumn, place{}, idKindError(s, kind))
	} else if r.group < 0 || r.end > p.meta.NumRowGroups() || p.meta.GetNumRows() != s.Files[i].Rows {
		err = changed(&s.Files[i], "its row groups are others")
	}
	if err != nil {
		return nil, firstError(err, src.Close())
	}
	for g := range r.group {
		r.base += p.meta.RowGroup(g).NumRows()
	}
	return r, nil
}

func idKindError(s *Set, kind IDKind) error {
	return fmt.Errorf("column %q holds ids of type %s, that of other files %s; make them one type",
		s.Options.IDField, kind, s.IDKind)
}

func (r *parquetReader) fill(ctx context.Context, m *batchMaker) (end bool, err error) {
	r.src.ctx = ctx
	for {
		if r.cur == nil {
			if r.group == r.end {
				return true, nil
			}
			if err := r.openGroup(m); err != nil {
				return false, err
			}
			continue
		}
		var done bool
		err := guarded(func() (err error) { done, err = r.cur.fill(m); return err })
		r.peak = max(r.peak, r.cur.arena.peak)
		if err != nil {
			return false, r.groupFault(r.cur.fault(err))
		}
		if !done {
			return false, nil
		}
		if err := r.closeGroup(); err != nil {
			return false, r.groupFault(err)
		}
	}
}

// openGroup opens the next row group, or passes over it if none of its rows is wanted.
func (r *parquetReader) openGroup(m *batchMaker) error {
	g := r.group
	n := r.meta.RowGroup(g).NumRows()
	from := r.base
	r.group, r.base = r.group+1, r.base+n
	rows := r.rows.within(r.base)
	if n == 0 || rows.none(from) {
		return nil
	}
	cur := &groupReader{parquetReader: r, index: g, first: from, row: from, end: from + n, rows: rows}
	cur.arena = arena{inner: r.o.Alloc, limit: r.o.MaxBytes, name: r.src.name, row: from, pages: true}
	r.cur = cur
	if err := guarded(func() error { return cur.open(m) }); err != nil {
		return r.groupFault(cur.fault(err))
	}
	return nil
}

// groupFault names the row group that is at fault.
func (r *parquetReader) groupFault(err error) error {
	if errors.Is(err, errNullID) || errors.Is(err, ErrRecord) {
		return r.src.fault(ErrRecord, place{row: r.cur.row + 1}, err)
	}
	at := place{group: r.group}
	return r.src.fault(ErrCorrupt, at, err)
}

func (r *parquetReader) closeGroup() error {
	cur := r.cur
	r.cur = nil
	if cur == nil {
		return nil
	}
	return cur.close()
}

func (r *parquetReader) largest() int64 { return r.peak }

func (r *parquetReader) close() error {
	return firstError(guarded(r.closeGroup), r.src.Close())
}
