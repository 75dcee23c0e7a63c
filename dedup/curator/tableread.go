package curator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/dovetail-dedup/dovetail/executor"
)

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// ErrTable is wrapped by errors about the contents of a file that an earlier stage, or Curator, should have written.
var ErrTable = errors.New("unsuitable table")

// tableFile is a Parquet file that is read column by column. Its bytes are not trusted.
type tableFile struct {
	name string
	f    *os.File
	r    *file.Reader
}

func openTable(ctx context.Context, name string) (*tableFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	t := &tableFile{name: name, f: f}
	err = t.guarded(func() error {
		props := parquet.NewReaderProperties(memory.NewGoAllocator())
		props.BufferedStreamEnabled = true
		props.BufferSize = 64 << 10
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if t.r, err = file.NewParquetReader(io.NewSectionReader(executor.ReaderAt(ctx, f), 0, st.Size()), file.WithReadProps(props)); err != nil {
			return err
		}
		return t.check()
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

// check makes sure that what the footer says of column chunks is possible, because much follows from it.
func (t *tableFile) check() error {
	st, err := t.f.Stat()
	if err != nil {
		return err
	}
	size := st.Size()
	for g := range t.groups() {
		group := t.r.MetaData().RowGroup(g)
		if group.NumRows() < 0 || group.NumColumns() != t.schema().NumColumns() {
			return t.bad("row group %d has %d rows and %d of %d columns", g, group.NumRows(), group.NumColumns(), t.schema().NumColumns())
		}
		for c := range group.NumColumns() {
			chunk, err := group.ColumnChunk(c)
			if err != nil {
				return err
			}
			from, n := chunk.DataPageOffset(), chunk.TotalCompressedSize()
			if chunk.HasDictionaryPage() && chunk.DictionaryPageOffset() > 0 {
				from = min(from, chunk.DictionaryPageOffset())
			}
			if from < 0 || n < 0 || from > size || n > size-from || chunk.NumValues() < 0 || chunk.FilePath() != "" {
				return t.bad("row group %d: column %q does not lie in the file", g, t.schema().Column(c).Path())
			}
			if chunk.Type() != t.physical(c) {
				return t.bad("row group %d: column %q is of another type than the schema says", g, t.schema().Column(c).Path())
			}
		}
	}
	return nil
}

func (t *tableFile) close() error { return t.f.Close() }

// guarded calls f and names the file in its error; a panic of the decoder becomes one.
func (t *tableFile) guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = t.bad("it cannot be decoded: %v", r)
		}
	}()
	err = f()
	if err != nil && !errors.Is(err, ErrTable) && !errors.Is(err, errCallback) {
		err = t.bad("%w", err)
	}
	return err
}

func (t *tableFile) bad(format string, args ...any) error {
	return fmt.Errorf("curator: %w: %s: %w", ErrTable, t.name, fmt.Errorf(format, args...))
}

// errCallback marks errors of the code that reads, which say themselves what they are about.
var errCallback = errors.New("")

type callbackError struct{ error }

func (c callbackError) Unwrap() error        { return c.error }
func (c callbackError) Is(target error) bool { return target == errCallback }

func (t *tableFile) groups() int                 { return t.r.NumRowGroups() }
func (t *tableFile) groupRows(g int) int64       { return t.r.MetaData().RowGroup(g).NumRows() }
func (t *tableFile) rows() int64                 { return t.r.NumRows() }
func (t *tableFile) schema() *schema.Schema      { return t.r.MetaData().Schema }
func (t *tableFile) physical(c int) parquet.Type { return t.schema().Column(c).PhysicalType() }

// column finds a column of plain values, which the option flag names.
func (t *tableFile) column(flag, name string, typ parquet.Type) (int, error) {
	return t.find(flag, name, "a column of plain "+plainWords[typ], func(c *schema.Column) bool {
		return len(c.ColumnPath()) == 1 && c.PhysicalType() == typ && c.MaxRepetitionLevel() == 0
	})
}

var plainWords = map[parquet.Type]string{parquet.Types.Int64: "64-bit integers", parquet.Types.ByteArray: "strings"}

// list finds a column of lists of integers, which the option flag names.
func (t *tableFile) list(flag, name string) (int, error) {
	return t.find(flag, name, "a list of integers", func(c *schema.Column) bool {
		p := c.PhysicalType()
		return c.MaxRepetitionLevel() == 1 && (p == parquet.Types.Int32 || p == parquet.Types.Int64)
	})
}

// find returns the leaf of the column called name. The error names the columns that suit.
func (t *tableFile) find(flag, name, what string, suits func(*schema.Column) bool) (int, error) {
	s := t.schema()
	fault := "it has no column %q, which should be "
	var would []string
	for i := range s.NumColumns() {
		c := s.Column(i)
		switch ok := suits(c); {
		case ok && c.ColumnPath()[0] == name:
			return i, nil
		case ok:
			would = append(would, c.ColumnPath()[0])
		case c.ColumnPath()[0] == name:
			fault = "its column %q is not "
		}
	}
	if len(would) == 0 {
		return 0, t.bad("%s: "+fault+"%s; none of its columns is: %v", flag, name, what, t.names())
	}
	return 0, t.bad("%s: "+fault+"%s; of its columns could serve: %s", flag, name, what, strings.Join(would[:min(len(would), 30)], ", "))
}

func (t *tableFile) names() []string {
	var out []string
	root := t.schema().Root()
	for i := range min(root.NumFields(), 30) {
		out = append(out, root.Field(i).Name())
	}
	return out
}

// cursor walks over the values of a column chunk.
type cursor struct {
	name     string
	chunk    file.ColumnChunkReader
	maxDef   int16
	optional bool // a list may be null
	def, rep []int16
	ints     []int64
	words    []int32
	strings  []parquet.ByteArray
	n, at    int // levels in hand and the next of them
	value    int // the next value
	left     int64
	tries    int64 // see more
}

const cursorBatch = 1024

// open opens a column of a row group.
func (t *tableFile) open(group, column int) (*cursor, error) {
	meta, err := t.r.MetaData().RowGroup(group).ColumnChunk(column)
	if err != nil {
		return nil, err
	}
	chunk, err := t.r.RowGroup(group).Column(column)
	if err != nil {
		return nil, err
	}
	d := t.schema().Column(column)
	root := t.schema().Root()
	top := root.Field(root.FieldIndexByName(d.ColumnPath()[0]))
	c := &cursor{
		optional: top.RepetitionType() == parquet.Repetitions.Optional,
		name:     d.Path(), chunk: chunk, maxDef: d.MaxDefinitionLevel(), left: meta.NumValues(), tries: meta.TotalCompressedSize() / 8,
		def: make([]int16, cursorBatch), rep: make([]int16, cursorBatch),
	}
	switch chunk.(type) {
	case *file.Int64ColumnChunkReader:
		c.ints = make([]int64, cursorBatch)
	case *file.Int32ColumnChunkReader:
		c.words = make([]int32, cursorBatch)
	case *file.ByteArrayColumnChunkReader:
		c.strings = make([]parquet.ByteArray, cursorBatch)
	default:
		return nil, fmt.Errorf("column %q cannot be read as it is", c.name)
	}
	return c, nil
}

// more makes sure that there is a level in hand. It returns false at the end.
func (c *cursor) more() (bool, error) {
	if c.at < c.n {
		return true, nil
	}
	for c.left > 0 {
		if !c.chunk.HasNext() {
			if err := c.chunk.Err(); err != nil {
				return false, err
			}
			// A page without values looks like the end to the library; asked again it goes on. The header of a
			// page alone takes more bytes than tries allows for, so this ends.
			if c.tries--; c.tries < 0 {
				return false, fmt.Errorf("column %q ends %d values early", c.name, c.left)
			}
			continue
		}
		var total int64
		var err error
		switch r := c.chunk.(type) {
		case *file.Int64ColumnChunkReader:
			total, _, err = r.ReadBatchInPage(cursorBatch, c.ints, c.def, c.rep)
		case *file.Int32ColumnChunkReader:
			total, _, err = r.ReadBatchInPage(cursorBatch, c.words, c.def, c.rep)
		case *file.ByteArrayColumnChunkReader:
			total, _, err = r.ReadBatchInPage(cursorBatch, c.strings, c.def, c.rep)
		}
		if err != nil {
			return false, err
		}
		c.left -= total
		c.n, c.at, c.value = int(total), 0, 0
		if total > 0 {
			return true, nil
		}
	}
	return false, nil
}

// int returns the next value of a plain column.
func (c *cursor) int() (int64, error) {
	ok, err := c.more()
	if err == nil && !ok {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, err
	}
	if c.maxDef > 0 && c.def[c.at] < c.maxDef {
		return 0, fmt.Errorf("column %q has a null, which an id must not be", c.name)
	}
	c.at++
	v := c.ints[c.value]
	c.value++
	return v, nil
}

// bytes returns the next value of a plain column of strings, valid until the call after.
func (c *cursor) bytes() ([]byte, error) {
	ok, err := c.more()
	if err == nil && !ok {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	if c.maxDef > 0 && c.def[c.at] < c.maxDef {
		return nil, fmt.Errorf("column %q has a null, which an id must not be", c.name)
	}
	c.at++
	v := c.strings[c.value]
	c.value++
	return v, nil
}

// each calls f for the elements of the next list, in order, and reports whether the list is null. The element of a list of
// 32-bit integers comes as an unsigned number.
func (c *cursor) each(f func(v uint64) error) (null bool, err error) {
	ok, err := c.more()
	if err == nil && !ok {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return false, err
	}
	if c.rep[c.at] != 0 {
		return false, fmt.Errorf("column %q: a list starts in the middle of another", c.name)
	}
	for first := true; ; first = false {
		if !first {
			if ok, err := c.more(); err != nil || !ok || c.rep[c.at] == 0 {
				return null, err
			}
		}
		def := c.def[c.at]
		c.at++
		switch {
		case def == c.maxDef:
			v := uint64(0)
			if c.words != nil {
				v = uint64(uint32(c.words[c.value]))
			} else {
				v = uint64(c.ints[c.value])
			}
			c.value++
			if err := f(v); err != nil {
				return false, err
			}
		case first && def == 0 && c.optional:
			null = true
		case first && (def == 0 || def == 1 && c.optional):
			// an empty list
		default:
			return false, fmt.Errorf("column %q has a null in a list", c.name)
		}
	}
}
