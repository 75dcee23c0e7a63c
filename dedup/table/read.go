package table

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/mem/arrowmem"
)

// arrays is where columns live while they are read and written.
var arrays = arrowmem.Recycling()

// maxBatchRows bounds the rows of a batch, whatever they hold.
const maxBatchRows = 256 << 10

// readSplit reads the rows of a split in order, in batches of about target bytes. cols are the columns wanted, ascending, or nil
// for all. The batch is do's until it returns; at says which file and row it begins with.
func (r *run) readSplit(ctx context.Context, sp corpus.Split, cols []int, target int64, do func(at place, b arrow.RecordBatch) error) error {
	// What the rows take is known only afterwards: values in dictionaries are larger than their pages. So the first batches
	// are small, and each says how large the next may be, over the ends of row groups and files.
	next := int64(512)
	for i := sp.First; i <= sp.Last; i++ {
		if err := r.set.Changed(ctx, i); err != nil {
			return err
		}
		if err := r.readFile(ctx, i, sp, cols, &next, target, do); err != nil {
			return err
		}
	}
	return nil
}

// place is a row of the input.
type place struct {
	file int
	row  int64
}

func (r *run) readFile(ctx context.Context, i int, sp corpus.Split, cols []int, next *int64, target int64, do func(place, arrow.RecordBatch) error) error {
	t, err := r.set.OpenTable(ctx, i)
	if err != nil {
		return err
	}
	defer t.Close()
	meta := t.Metadata()
	end := sp.EndGroup
	if end == 0 {
		end = meta.NumRowGroups()
	}
	if end > meta.NumRowGroups() {
		return fmt.Errorf("%s changed during the run: its row groups are others; start again with --restart", r.set.Files[i].Name)
	}
	var fr *pqarrow.FileReader
	if err := t.Guard(-1, func() (err error) { fr, err = openReader(t); return err }); err != nil {
		return err
	}
	row := int64(0)
	for g := range end {
		n := meta.RowGroup(g).NumRows()
		if g >= sp.FirstGroup && n > 0 {
			gr := groupReader{r: r, t: t, group: g, cols: cols, next: next}
			if err := gr.read(ctx, fr, place{i, row}, n, target, do); err != nil {
				return err
			}
		}
		row += n
	}
	return nil
}

// groupReader reads a row group.
type groupReader struct {
	r     *run
	t     *corpus.Table
	group int
	cols  []int
	next  *int64 // rows that the next batch may have
}

func (g *groupReader) read(ctx context.Context, fr *pqarrow.FileReader, at place, rows, target int64, do func(place, arrow.RecordBatch) error) error {
	schema := g.r.layout.schema
	var leaves []int
	fields := schema.Fields()
	if g.cols != nil {
		fields = nil
		for _, c := range g.cols {
			fields = append(fields, schema.Field(c))
			leaves = appendLeaves(leaves, &fr.Manifest.Fields[c])
		}
	} else {
		for c := range fr.Manifest.Fields {
			leaves = appendLeaves(leaves, &fr.Manifest.Fields[c])
		}
	}
	var readers []columnReader
	defer func() {
		for _, c := range readers {
			c.release()
		}
	}()
	err := g.t.Guard(g.group, func() (err error) {
		readers, err = g.open(ctx, fr, fields, leaves)
		return err
	})
	if err != nil {
		return err
	}
	wanted := arrow.NewSchema(fields, nil)
	if g.known(fields, leaves, rows) <= 2*target {
		*g.next = max(*g.next, min(rows, maxBatchRows))
	}
	for done := int64(0); done < rows; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		left := rows - done
		pieces := (left + *g.next - 1) / *g.next
		n := (left + pieces - 1) / pieces
		batch, err := g.batch(readers, wanted, n)
		if err != nil {
			return err
		}
		size := int64(1)
		for _, c := range batch.Columns() {
			size += int64(c.Data().SizeInBytes())
		}
		err = do(place{at.file, at.row + done}, batch)
		batch.Release()
		if err != nil {
			return err
		}
		done += n
		*g.next = min(max(1, n*target/size), max(*g.next, 8*n), maxBatchRows)
	}
	return nil
}

// known returns how many bytes the row group's rows take at most, if that can be said before they are read: if values lie in the
// pages as they are, so that they take what the pages do, or if they are null what their widths are.
func (g *groupReader) known(fields []arrow.Field, leaves []int, rows int64) (size int64) {
	const unknown = math.MaxInt64
	if len(leaves) != len(fields) {
		return unknown
	}
	meta := g.t.Metadata().RowGroup(g.group)
	for i, f := range fields {
		chunk, err := meta.ColumnChunk(leaves[i])
		if _, ok := plainWidth(f.Type, g.t.Metadata().Schema.Column(leaves[i])); !ok || err != nil || chunk.HasDictionaryPage() {
			return unknown
		}
		for _, e := range chunk.Encodings() {
			if e != parquet.Encodings.Plain && e != parquet.Encodings.RLE && e != parquet.Encodings.BitPacked {
				return unknown
			}
		}
		size += chunk.TotalUncompressedSize() + 9*rows
	}
	return size
}

// open opens the columns.
func (g *groupReader) open(ctx context.Context, fr *pqarrow.FileReader, fields []arrow.Field, leaves []int) (out []columnReader, err error) {
	defer func() {
		if err != nil {
			for _, c := range out {
				c.release()
			}
			out = nil
		}
	}()
	flat := len(leaves) == len(fields) // so leaf by leaf
	if !flat {
		readers, _, err := fr.GetFieldReaders(ctx, leaves, []int{g.group})
		if err == nil && len(readers) != len(fields) {
			err = fmt.Errorf("it has %d columns, its schema %d", len(readers), len(fields))
		}
		for _, r := range readers {
			out = append(out, libraryColumn{r})
		}
		return out, err
	}
	for i, leaf := range leaves {
		library := func() (columnReader, error) {
			readers, _, err := fr.GetFieldReaders(ctx, []int{leaf}, []int{g.group})
			if err == nil && len(readers) != 1 {
				err = fmt.Errorf("column %q is %d columns", fields[i].Name, len(readers))
			}
			if err != nil {
				return nil, err
			}
			return libraryColumn{readers[0]}, nil
		}
		c, err := openPlain(fr.ParquetReader(), g.group, leaf, fields[i].Type, library)
		if err == nil && c == nil {
			c, err = library()
		}
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	return out, nil
}

// batch reads the next n rows.
func (g *groupReader) batch(readers []columnReader, schema *arrow.Schema, n int64) (batch arrow.RecordBatch, err error) {
	cols := make([]arrow.Array, 0, len(readers))
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	err = g.t.Guard(g.group, func() error {
		for i, reader := range readers {
			col, err := reader.next(n)
			if errors.Is(err, errTooEarly) {
				return fmt.Errorf("column %q ends too early", schema.Field(i).Name)
			}
			if err != nil {
				return fmt.Errorf("column %q: %w", schema.Field(i).Name, err)
			}
			cols = append(cols, col)
			if want := schema.Field(i).Type; !arrow.TypeEqual(col.DataType(), want) {
				return fmt.Errorf("column %q has values of type %s, should have %s", schema.Field(i).Name, col.DataType(), want)
			}
		}
		batch = array.NewRecordBatch(schema, cols, n)
		return nil
	})
	return batch, err
}

func appendLeaves(leaves []int, f *pqarrow.SchemaField) []int {
	if f.IsLeaf() {
		return append(leaves, f.ColIndex)
	}
	for i := range f.Children {
		leaves = appendLeaves(leaves, &f.Children[i])
	}
	return leaves
}
