package corpus

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/dovetail-dedup/dovetail/mem"
)

// groupReader reads the wanted columns of one row group side by side.
type groupReader struct {
	*parquetReader
	index int
	first int64 // row of the group, counted in the file
	row   int64 // the next row, counted in the file
	end   int64 // the row behind the group
	rows  rowSelector

	arena  arena
	chunks []*chunk
	text   *cursor[parquet.ByteArray] // nil if not wanted, or without any value
	keep   func() (uint64, error)
	ints   func() (int64, bool, error)
	strs   func() ([]byte, bool, error)

	nullIDs bool // the column of ids has no value

	seen *hashedReader // of the column of texts, nil unless its hash is wanted

	sums   *mem.Buffer                  // a hash of each row, nil if not wanted
	added  []func() (AddedValue, error) // the added columns
	values []AddedValue
	fields []byte
}

func (g *groupReader) open(m *batchMaker) error {
	if m.columns&ColumnText != 0 && !isNull(g.meta.Schema.Column(g.columns.text)) {
		if g.o.Chunk != nil {
			var err error
			if g.seen, err = g.hashChunk(g.index, g.columns.text); err != nil {
				return err
			}
			g.through = g.seen
		}
		c, err := g.chunk(g.columns.text)
		g.through = nil
		if err != nil {
			return err
		}
		if g.text, err = byteCursor(c); err != nil {
			return err
		}
	}
	if m.columns&ColumnKeep != 0 {
		g.keep = func() (uint64, error) { return 0, nil }
		if g.columns.keep >= 0 && !isNull(g.meta.Schema.Column(g.columns.keep)) {
			c, err := g.chunk(g.columns.keep)
			if err != nil {
				return err
			}
			if g.keep, err = numbers(c, g.kept); err != nil {
				return err
			}
		}
	}
	if err := g.openWhole(); err != nil {
		return err
	}
	if m.columns&ColumnID == 0 {
		return nil
	}
	if g.nullIDs = isNull(g.meta.Schema.Column(g.columns.id)); g.nullIDs {
		return nil
	}
	c, err := g.chunk(g.columns.id)
	if err != nil {
		return err
	}
	if m.idKind.Bytes() {
		g.strs, err = byteStrings(c)
	} else {
		g.ints, err = integers(c)
	}
	return err
}

// chunk opens a column, which is closed with the group.
func (g *groupReader) chunk(column int) (*chunk, error) {
	c, err := g.openChunk(g.index, column, &g.arena)
	if err == nil {
		g.chunks = append(g.chunks, c)
	}
	return c, err
}

func byteCursor(c *chunk) (*cursor[parquet.ByteArray], error) {
	r, ok := c.ColumnChunkReader.(*file.ByteArrayColumnChunkReader)
	if !ok {
		return nil, fmt.Errorf("column %q is not of bytes", c.Descriptor().Path())
	}
	return newCursor(c, r.ReadBatchInPage), nil
}

// byteStrings returns a function that yields the bytes of one row after the other.
func byteStrings(c *chunk) (func() ([]byte, bool, error), error) {
	if r, ok := c.ColumnChunkReader.(*file.FixedLenByteArrayColumnChunkReader); ok {
		cur := newCursor(c, r.ReadBatchInPage)
		return func() ([]byte, bool, error) { return cur.nextValue() }, nil
	}
	cur, err := byteCursor(c)
	if err != nil {
		return nil, err
	}
	return func() ([]byte, bool, error) { return cur.nextValue() }, nil
}

// fill adds rows until the batch has no room or the group ends.
func (g *groupReader) fill(m *batchMaker) (done bool, err error) {
	for ; g.row < g.end; g.row++ {
		wanted := g.rows.wanted(g.row)
		if !wanted && g.rows.none(g.row) {
			return true, nil
		}
		var text []byte
		null := true
		if g.text != nil {
			if text, null, err = g.text.peek(); err != nil {
				return false, err
			}
		}
		if wanted && !m.room(len(text)) {
			return false, nil
		}
		ok, err := g.others(m, wanted)
		if err != nil {
			return false, err
		}
		if err := g.whole(m, ok); err != nil {
			return false, err
		}
		if ok && m.columns&ColumnText != 0 {
			if err := g.addText(m, text, null); err != nil {
				return false, err
			}
		}
		if ok {
			m.ord = append(m.ord, Ordinal(g.file, g.row))
		}
		if g.text != nil {
			g.text.advance()
		}
	}
	if err := g.checkEnd(); err != nil {
		return false, err
	}
	if g.seen != nil {
		if err := g.seen.finish(); err != nil {
			return false, err
		}
		g.o.Chunk(GroupSum{File: g.file, Group: g.index, Sum: g.seen.sum})
	}
	return true, g.verify()
}

func (g *groupReader) addText(m *batchMaker, v []byte, null bool) error {
	if n := int64(len(v)); n > int64(m.bytes) {
		need := n + g.arena.peak
		g.peak = max(g.peak, need)
		if g.o.MaxBytes > 0 && need > g.o.MaxBytes {
			return &TooLargeError{Name: g.src.name, Row: g.row, Need: need, Text: n, Limit: g.o.MaxBytes}
		}
	}
	return m.addText(v, null)
}

// others reads the columns besides the text. ok is false for a row that is not wanted or is left out.
func (g *groupReader) others(m *batchMaker, wanted bool) (ok bool, err error) {
	var key uint64
	var num int64
	var str []byte
	if g.keep != nil {
		if key, err = g.keep(); err != nil {
			return false, err
		}
	}
	null := g.nullIDs
	if g.ints != nil {
		if num, null, err = g.ints(); err != nil {
			return false, err
		}
	}
	if g.strs != nil {
		if str, null, err = g.strs(); err != nil {
			return false, err
		}
	}
	switch {
	case !wanted:
		return false, nil
	case null && !g.skip:
		return false, errNullID
	case null:
		m.bad = append(m.bad, Bad{Ordinal(g.file, g.row), errNullID.Error()})
		return false, nil
	}
	if g.keep != nil {
		m.keep = append(m.keep, key)
	}
	if g.ints != nil {
		m.ints = append(m.ints, num)
	}
	if g.strs != nil {
		err = m.strs.add(str)
	}
	return true, err
}

// verify decodes the columns that were not read.
func (g *groupReader) verify() error {
	if !g.o.Verify {
		return nil
	}
	rows := &rowSet{rows: g.meta.RowGroup(g.index).NumRows()}
	for c := range g.meta.Schema.NumColumns() {
		if slices.ContainsFunc(g.chunks, func(k *chunk) bool { return k.column == c }) {
			continue
		}
		k, err := g.chunk(c)
		if err == nil {
			err = copyColumn(k, nil, rows, nil)
		}
		if err == nil {
			err = k.finish()
		}
		if err != nil {
			return fmt.Errorf("column %q: %w", g.meta.Schema.Column(c).Path(), err)
		}
	}
	return nil
}

// checkEnd makes sure that the columns end with the row group.
func (g *groupReader) checkEnd() error {
	for _, c := range g.chunks {
		if c.left > 0 || c.more() {
			return fmt.Errorf("column %q has more values than the row group has rows", c.Descriptor().Path())
		}
		if err := c.Err(); err != nil {
			return err
		}
		if err := c.finish(); err != nil {
			return err
		}
	}
	return nil
}

// fault is chunk.fault for all columns.
func (g *groupReader) fault(err error) error {
	for _, c := range g.chunks {
		if sum := c.fault(nil); sum != nil {
			return sum
		}
	}
	return err
}

func (g *groupReader) close() error {
	var errs []error
	for _, c := range g.chunks {
		errs = append(errs, c.Close())
	}
	g.chunks = nil
	g.sums.Release()
	g.sums = nil
	g.arena.close()
	return firstError(errs...)
}
