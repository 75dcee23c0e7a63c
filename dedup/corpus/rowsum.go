package corpus

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/mem"
)

// rowSums gathers a hash of each row of a row group, column by column. The hash of a row goes over the columns' names and
// types and its values with their levels, so a rewritten file, which differs in pages, encodings and row groups, has
// the same.
type rowSums struct {
	sums   []uint64 // of the rows
	maxDef int16
	maxRep int16
	row    int // the next one to begin
	buf    []byte
}

// column begins the next column.
func (s *rowSums) column(maxDef, maxRep int16) { s.maxDef, s.maxRep, s.row = maxDef, maxRep, 0 }

// addToSums adds levels and values of a column, as they are written; it returns how many values there were.
func addToSums[T any](s *rowSums, values []T, defs, reps []int16) int64 {
	v := 0
	levels := max(len(values), len(defs))
	for i := range levels {
		var def, rep int16
		if s.maxDef > 0 {
			def = defs[i]
		}
		if s.maxRep > 0 {
			rep = reps[i]
		}
		if rep == 0 {
			s.row++
		}
		s.buf = binary.LittleEndian.AppendUint16(s.buf[:0], uint16(def))
		s.buf = binary.LittleEndian.AppendUint16(s.buf, uint16(rep))
		sum := &s.sums[s.row-1]
		if def < s.maxDef {
			*sum = xxh3.HashSeed(s.buf, *sum)
			continue
		}
		switch x := any(&values[v]).(type) {
		case *bool:
			s.buf = append(s.buf, 0)
			if *x {
				s.buf[len(s.buf)-1] = 1
			}
		case *int32:
			s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(*x))
		case *int64:
			s.buf = binary.LittleEndian.AppendUint64(s.buf, uint64(*x))
		case *float32:
			s.buf = binary.LittleEndian.AppendUint32(s.buf, math.Float32bits(*x))
		case *float64:
			s.buf = binary.LittleEndian.AppendUint64(s.buf, math.Float64bits(*x))
		case *parquet.Int96:
			s.buf = append(s.buf, x[:]...)
		case *parquet.ByteArray:
			s.buf = binary.LittleEndian.AppendUint64(s.buf, xxh3.Hash(*x))
		case *parquet.FixedLenByteArray:
			s.buf = binary.LittleEndian.AppendUint64(s.buf, xxh3.Hash(*x))
		}
		*sum = xxh3.HashSeed(s.buf, *sum)
		v++
	}
	return int64(v)
}

// openWhole hashes all columns of the row group and opens those that were added, as far as that is wanted.
func (g *groupReader) openWhole() error {
	sc := g.meta.Schema
	own := sc.NumColumns() - len(g.o.Added) // columns of the input
	for i, a := range g.o.Added {
		if own < 0 || sc.Column(own+i).Path() != a.Name {
			return fmt.Errorf("%w: its last columns are not %s", ErrColumn, addedNames(g.o.Added))
		}
		n, err := a.node()
		if err != nil {
			return err
		}
		if !sc.Column(own + i).SchemaNode().Equals(n) {
			return fmt.Errorf("%w: column %q is not of type %s", ErrColumn, a.Name, a.Type)
		}
		c, err := g.chunk(own + i)
		if err != nil {
			return err
		}
		value, err := addedReader(c)
		if err != nil {
			return err
		}
		g.added = append(g.added, value)
	}
	if g.o.Hash == nil || !g.o.Hash(g.file) {
		return nil
	}
	n := g.meta.RowGroup(g.index).NumRows()
	var err error
	if g.sums, err = g.o.Alloc.Alloc(int(8 * n)); err != nil {
		return err
	}
	sums := &rowSums{sums: mem.Uint64s(g.sums)}
	// What the columns are is in the hash of every row.
	var b strings.Builder
	for i := range own {
		c := sc.Column(i)
		fmt.Fprintf(&b, "%q %s %d %v %d %d %d\n", c.Path(), c.PhysicalType(), max(0, c.TypeLength()), c.LogicalType(),
			c.MaxDefinitionLevel(), c.MaxRepetitionLevel(), c.SchemaNode().FieldID())
	}
	first := xxh3.HashString(b.String())
	for i := range sums.sums {
		sums.sums[i] = first
	}
	for i := range own {
		if err := g.sumColumn(i, sums, &rowSet{rows: n, all: true}); err != nil {
			return fmt.Errorf("column %q: %w", sc.Column(i).Path(), err)
		}
	}
	return nil
}

// sumColumn adds a column to the hashes of the rows.
func (g *groupReader) sumColumn(column int, sums *rowSums, rows *rowSet) (err error) {
	read := &arena{inner: g.o.Alloc, limit: g.o.MaxBytes, name: g.src.name, row: g.row, pages: true}
	defer read.close()
	c, err := g.openChunk(g.index, column, read)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, c.Close()) }()
	sums.column(c.Descriptor().MaxDefinitionLevel(), c.Descriptor().MaxRepetitionLevel())
	if err := walkColumn(c, nil, sums, rows, nil); err != nil {
		return c.fault(err)
	}
	return c.finish()
}

// whole appends the hash of the row in hand and what its added columns have, if it is wanted.
func (g *groupReader) whole(m *batchMaker, wanted bool) (err error) {
	g.values = g.values[:0]
	for _, value := range g.added {
		v, err := value()
		if err != nil {
			return err
		}
		g.values = append(g.values, v)
	}
	if !wanted {
		return nil
	}
	var sum uint64
	if g.sums != nil {
		sum = mem.Uint64s(g.sums)[g.row-g.first]
	}
	g.fields = AppendAdded(g.fields[:0], g.o.Added, g.values...)
	return m.addRow(sum, g.fields)
}

func addedNames(columns []Added) string {
	var names []string
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}
