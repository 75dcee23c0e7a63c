package dedup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/executor"
)

// tableReader reads a table that a tableWriter wrote, row by row. It holds one row group.
type tableReader struct {
	name  string
	file  *os.File
	r     *file.Reader
	cols  []column
	group int // the next one
	row   int // of the row group in hand
	rows  int
}

// openTable opens a table and checks that it has the given columns.
func openTable(ctx context.Context, name string, fields []field) (_ *tableReader, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	t := &tableReader{name: name, file: f, cols: make([]column, len(fields))}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	err = t.guard(func() (err error) {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if t.r, err = file.NewParquetReader(io.NewSectionReader(executor.ReaderAt(ctx, f), 0, st.Size())); err != nil {
			return err
		}
		sc := t.r.MetaData().Schema
		if sc.NumColumns() != len(fields) {
			return fmt.Errorf("it has %d columns instead of %d", sc.NumColumns(), len(fields))
		}
		for i, want := range fields {
			if c := sc.Column(i); c.Name() != want.name || c.PhysicalType() != want.typ {
				return fmt.Errorf("column %d is %s of type %s instead of %s of type %s", i, c.Name(), c.PhysicalType(), want.name, want.typ)
			}
			t.cols[i].field = want
		}
		return nil
	})
	return t, err
}

// guard calls f, names the file in its error, and makes an error of a panic: the library's decoders panic on
// some damaged bytes.
func (t *tableReader) guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it cannot be decoded: %v", r)
		}
		if err != nil && err != io.EOF {
			err = fmt.Errorf("dedup: %s: %w", t.name, err)
		}
	}()
	return f()
}

func (t *tableReader) close() error {
	if t == nil {
		return nil
	}
	return t.file.Close()
}

// next moves to the next row, or returns io.EOF behind the last.
func (t *tableReader) next() error {
	t.row++
	for t.row >= t.rows {
		if t.group >= t.r.NumRowGroups() {
			t.row = t.rows
			return io.EOF
		}
		if err := t.guard(t.load); err != nil {
			return err
		}
		t.group++
	}
	return nil
}

func (t *tableReader) load() error {
	g := t.r.RowGroup(t.group)
	t.rows, t.row = int(g.NumRows()), 0
	if t.rows > tableRows {
		return fmt.Errorf("row group %d has %d rows, more than %d", t.group, t.rows, tableRows)
	}
	for i := range t.cols {
		c := &t.cols[i]
		r, err := g.Column(i)
		if err != nil {
			return err
		}
		if err := c.readFrom(r, t.rows); err != nil {
			return fmt.Errorf("row group %d, column %s: %w", t.group, c.name, err)
		}
	}
	return nil
}

// readFrom is the inverse of writeTo, but for nulls, which take up a place here.
func (c *column) readFrom(r file.ColumnChunkReader, rows int) error {
	c.def = append(c.def[:0], make([]int16, rows)...)
	var got int64
	var values int
	var err error
	switch r := r.(type) {
	case *file.Int64ColumnChunkReader:
		c.ints = append(c.ints[:0], make([]int64, rows)...)
		got, values, err = r.ReadBatch(int64(rows), c.ints, c.def, nil)
		spread(c.ints, c.def, values, c.nullable)
	case *file.Float64ColumnChunkReader:
		c.doubles = append(c.doubles[:0], make([]float64, rows)...)
		got, values, err = r.ReadBatch(int64(rows), c.doubles, c.def, nil)
		spread(c.doubles, c.def, values, c.nullable)
	case *file.ByteArrayColumnChunkReader:
		c.bytes = append(c.bytes[:0], make([]parquet.ByteArray, rows)...)
		got, values, err = r.ReadBatch(int64(rows), c.bytes, c.def, nil)
		spread(c.bytes, c.def, values, c.nullable)
	case *file.FixedLenByteArrayColumnChunkReader:
		fixed := make([]parquet.FixedLenByteArray, rows)
		got, values, err = r.ReadBatch(int64(rows), fixed, c.def, nil)
		c.bytes = c.bytes[:0]
		for _, b := range fixed {
			c.bytes = append(c.bytes, parquet.ByteArray(b))
		}
		spread(c.bytes, c.def, values, c.nullable)
	default:
		return fmt.Errorf("unexpected reader %T", r)
	}
	if err == nil && got != int64(rows) {
		err = fmt.Errorf("%d of %d values", got, rows)
	}
	return err
}

// spread moves the first values to the rows that have one.
func spread[T any](v []T, def []int16, values int, nullable bool) {
	if !nullable {
		return
	}
	for i := len(v) - 1; i >= 0 && values > 0; i-- {
		if def[i] > 0 {
			values--
			v[i] = v[values]
		}
	}
}

// id returns the value of an id column in the row in hand.
func (t *tableReader) id(col int, kind corpus.IDKind) docID {
	if c := &t.cols[col]; c.typ != parquet.Types.Int64 {
		return docID{kind: kind, str: string(c.bytes[t.row])}
	}
	return docID{kind: kind, num: uint64(t.cols[col].ints[t.row])}
}

// int returns the value of a column of integers, and false for a null.
func (t *tableReader) int(col int) (uint64, bool) {
	c := &t.cols[col]
	if c.nullable && c.def[t.row] == 0 {
		return 0, false
	}
	return uint64(c.ints[t.row]), true
}

// double returns the value of a column of doubles, and false for a null.
func (t *tableReader) double(col int) (float64, bool) {
	c := &t.cols[col]
	if c.nullable && c.def[t.row] == 0 {
		return 0, false
	}
	return c.doubles[t.row], true
}

// removedRow is a row of a removed table.
type removedRow struct {
	id, kept     docID
	evidence     evidence
	inter, union uint64
}

// removedRow decodes and checks the row in hand.
func (t *tableReader) removedRow(kind corpus.IDKind) (r removedRow, err error) {
	r = removedRow{id: t.id(0, kind), kept: t.id(1, kind)}
	for e, name := range evidenceNames {
		if string(name) == string(t.cols[6].bytes[t.row]) {
			r.evidence = e
		}
	}
	similarity, hasSimilarity := t.double(3)
	inter, hasInter := t.int(4)
	union, hasUnion := t.int(5)
	r.inter, r.union = inter, union
	counts := hasInter && hasUnion
	ok := t.id(2, kind) == r.kept && hasInter == hasUnion
	switch r.evidence {
	case evidenceJaccard:
		ok = ok && counts && union > 0 && inter <= union && hasSimilarity && similarity == float64(inter)/float64(union)
	case evidenceExact:
		ok = ok && !counts && hasSimilarity && similarity == 1
	case evidenceCandidate:
		ok = ok && !counts && !hasSimilarity
	default:
		ok = false
	}
	if !ok {
		err = fmt.Errorf("dedup: %s: row %d of row group %d (both counted from 0): cluster, similarity, counts and evidence do not fit one another",
			t.name, t.row, t.group-1)
	}
	return r, err
}
