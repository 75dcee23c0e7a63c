package corpus

import (
	"context"
	"io"

	"github.com/apache/arrow-go/v18/parquet/metadata"
)

// Table is an open Parquet file of a set, to be read by other means than a [Reader]. It belongs to one goroutine at
// a time.
type Table struct{ p *parquetFile }

// OpenTable opens file i of a Parquet set. Its footer has been read and checked: row groups and column chunks lie inside of
// the file and have the sizes that they should have together.
func (s *Set) OpenTable(ctx context.Context, i int) (*Table, error) {
	src, err := s.open(ctx, i)
	if err != nil {
		return nil, err
	}
	p, err := readFooter(src, s.Options)
	if err == nil && s.Files[i].Rows >= 0 && p.meta.GetNumRows() != s.Files[i].Rows {
		err = changed(&s.Files[i], "its rows are others")
	}
	if err != nil {
		return nil, firstError(err, src.Close())
	}
	return &Table{p}, nil
}

// Metadata returns the footer.
func (t *Table) Metadata() *metadata.FileMetaData { return t.p.meta }

// Reader returns a reader of the whole file. Reads fail when the context of OpenTable ends.
func (t *Table) Reader() *io.SectionReader { return t.p.src.section(0, t.p.size) }

// Guard calls f, which decodes something of a row group (from 0; -1 for none), and returns its error, or what it panicked
// with, as a [FileError] that names the file, unless the file system is at fault.
func (t *Table) Guard(group int, f func() error) error {
	if err := guarded(f); err != nil {
		return t.p.src.fault(ErrCorrupt, place{group: group + 1}, err)
	}
	return nil
}

// Close closes the file.
func (t *Table) Close() error { return t.p.src.Close() }
