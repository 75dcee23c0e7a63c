package corpus

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// copyColumn copies the values of the kept rows of a column chunk. each, if not nil, is called with the bytes
// of every kept row; the column is then not repeated, and one of bytes or without any value. Where to is nil nothing is
// written.
func copyColumn(
	from *chunk, to file.ColumnChunkWriter, kept *rowSet, each func(int64, []byte, bool) error,
) error {
	return walkColumn(from, to, nil, kept, each)
}

// walkColumn is copyColumn, but that with sums the values are hashed instead of written.
func walkColumn(
	from *chunk, to file.ColumnChunkWriter, sums *rowSums, kept *rowSet, each func(int64, []byte, bool) error,
) error {
	switch r := from.ColumnChunkReader.(type) {
	case *file.BooleanColumnChunkReader:
		return copyValues(from, to, sums, kept, r.ReadBatch, nil)
	case *file.Int32ColumnChunkReader: // a text column of the null type is one of these
		return copyValues(from, to, sums, kept, r.ReadBatch, each)
	case *file.Int64ColumnChunkReader:
		return copyValues(from, to, sums, kept, r.ReadBatch, nil)
	case *file.Int96ColumnChunkReader:
		return copyValues(from, to, sums, kept, r.ReadBatch, nil)
	case *file.Float32ColumnChunkReader:
		return copyValues(from, to, sums, kept, r.ReadBatch, nil)
	case *file.Float64ColumnChunkReader:
		return copyValues(from, to, sums, kept, r.ReadBatch, nil)
	case *file.FixedLenByteArrayColumnChunkReader:
		return copyValues(from, to, sums, kept, r.ReadBatchInPage, nil)
	case *file.ByteArrayColumnChunkReader:
		return copyValues(from, to, sums, kept, r.ReadBatchInPage, each)
	}
	return fmt.Errorf("unknown physical type %s", from.Type())
}

// copyBatch is how many levels are copied at a time. Pages are cut between batches, so it bounds how far
// small values overshoot the size of a page; copyBytes does for large ones.
const (
	copyBatch = 1024
	copyBytes = 1 << 20
)

// columnCopy is the state of copyValues: the levels and values to be written next.
type columnCopy[T any] struct {
	write  func(values []T, defs, reps []int16) (int64, error)
	kept   *rowSet
	each   func(row int64, value []byte, null bool) error
	maxDef int16
	maxRep int16
	row    int64 // rows begun

	values     []T
	defs, reps []int16
	bytes      int
}

func copyValues[T any](from *chunk, to file.ColumnChunkWriter, sums *rowSums, kept *rowSet,
	read func(int64, []T, []int16, []int16) (int64, int, error), each func(int64, []byte, bool) error,
) error {
	write := func([]T, []int16, []int16) (int64, error) { return 0, nil }
	if to != nil {
		w, ok := to.(interface {
			WriteBatch([]T, []int16, []int16) (int64, error)
		})
		if !ok {
			return fmt.Errorf("the schema says %s, the column is %s", to.Type(), from.Type())
		}
		write = w.WriteBatch
	}
	if sums != nil {
		write = func(values []T, defs, reps []int16) (int64, error) { return addToSums(sums, values, defs, reps), nil }
	}
	c := &columnCopy[T]{
		write: write, kept: kept, each: each,
		maxDef: from.Descriptor().MaxDefinitionLevel(), maxRep: from.Descriptor().MaxRepetitionLevel(),
	}
	values := make([]T, copyBatch)
	var defs, reps []int16
	if c.maxDef > 0 {
		defs = make([]int16, copyBatch)
	}
	if c.maxRep > 0 {
		reps = make([]int16, copyBatch)
	}
	for from.more() {
		levels, n, err := read(copyBatch, values, defs, reps)
		if err != nil {
			return err
		}
		if c.maxDef == 0 {
			levels = int64(n)
		}
		if levels == 0 {
			return errNoProgress
		}
		from.left -= levels
		if err := c.take(int(levels), values[:n], defs, reps); err != nil {
			return err
		}
	}
	if err := from.Err(); err != nil {
		return err
	}
	if c.row != kept.rows {
		return fmt.Errorf("it has %d rows, the row group has %d", c.row, kept.rows)
	}
	return nil
}

// take filters a batch and writes what is kept of it, before the values, which may point into the page, go
// out of use.
func (c *columnCopy[T]) take(levels int, values []T, defs, reps []int16) error {
	v := 0
	for i := range levels {
		if c.maxRep == 0 || reps[i] == 0 {
			if c.row++; c.row > c.kept.rows {
				return errors.New("it has more rows than the row group")
			}
		} else if c.row == 0 {
			return errors.New("it begins inside a row")
		}
		defined := c.maxDef == 0 || defs[i] == c.maxDef
		if defined && v == len(values) {
			return errors.New("a page has fewer values than its levels say")
		}
		if c.kept.has(c.row - 1) {
			if err := c.add(defined, values, v, i, defs, reps); err != nil {
				return err
			}
		}
		if defined {
			v++
		}
	}
	if v != len(values) {
		return errors.New("a page has more values than its levels say")
	}
	return c.flush()
}

// add takes level i, and value v if it is defined.
func (c *columnCopy[T]) add(defined bool, values []T, v, i int, defs, reps []int16) error {
	var bytes []byte
	if defined {
		switch b := any(&values[v]).(type) {
		case *parquet.ByteArray:
			bytes = *b
		case *parquet.FixedLenByteArray:
			bytes = *b
		}
		if c.bytes > 0 && c.bytes+len(bytes) > copyBytes {
			if err := c.flush(); err != nil {
				return err
			}
		}
		c.bytes += len(bytes)
		c.values = append(c.values, values[v])
	}
	if c.each != nil {
		if err := c.each(c.row-1, bytes, !defined); err != nil {
			return err
		}
	}
	if c.maxDef > 0 {
		c.defs = append(c.defs, defs[i])
	}
	if c.maxRep > 0 {
		c.reps = append(c.reps, reps[i])
	}
	return nil
}

func (c *columnCopy[T]) flush() error {
	if len(c.values) == 0 && len(c.defs) == 0 {
		return nil
	}
	_, err := c.write(c.values, c.defs, c.reps)
	c.values, c.defs, c.reps, c.bytes = c.values[:0], c.defs[:0], c.reps[:0], 0
	return err
}
