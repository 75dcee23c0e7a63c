package curator

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// kind is the type of a column of the tables that stages write.
type kind uint8

const (
	kindInt64  kind = iota // int64
	kindString             // string
	kindIDs                // list<int64>
	kindSig32              // list<uint32>, may be null
	kindSig64              // list<uint64>, may be null
)

func (k kind) list() bool { return k >= kindIDs }

// field is a column of a table.
type field struct {
	name string
	kind kind
}

// Levels of a list column: the list may be null, and its elements may by its type, because that is what readers take for a
// plain list; none ever is.
const (
	defNull    = 0
	defEmpty   = 1
	defElement = 3
)

// buffer gathers the values of a column of a row group.
type buffer struct {
	field
	ints     []int64
	words    []int32
	strings  []parquet.ByteArray
	def, rep []int16
}

// table writes a Parquet file row group by row group, with the codec that cuDF takes, snappy. Row groups are what the
// caller flushes.
type table struct {
	w    *file.Writer
	cols []buffer
	rows int // in the row group at hand
	size int // of it, about

	group file.SerialRowGroupWriter // between begin and end
	last  file.ColumnChunkWriter
}

// keepOpen hides Close from the Parquet writer, which would close a file that is not its own.
type keepOpen struct{ io.Writer }

func newTable(w io.Writer, fields ...field) (*table, error) {
	t := &table{cols: make([]buffer, len(fields))}
	nodes := make([]schema.Node, len(fields))
	for i, f := range fields {
		t.cols[i].field = f
		var err error
		if nodes[i], err = f.node(); err != nil {
			return nil, err
		}
	}
	root, err := schema.NewGroupNode("schema", parquet.Repetitions.Required, nodes, -1)
	if err != nil {
		return nil, err
	}
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy), parquet.WithDictionaryDefault(false),
		parquet.WithCreatedBy("dovetail"))
	t.w = file.NewParquetWriter(keepOpen{w}, root, file.WithWriterProps(props))
	return t, nil
}

func (f field) node() (schema.Node, error) {
	var none schema.LogicalType = schema.NoLogicalType{}
	switch f.kind {
	case kindInt64:
		return schema.NewPrimitiveNodeLogical(f.name, parquet.Repetitions.Optional, none, parquet.Types.Int64, -1, -1)
	case kindString:
		return schema.NewPrimitiveNodeLogical(f.name, parquet.Repetitions.Optional, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1)
	}
	typ, logical := parquet.Types.Int64, none
	switch f.kind {
	case kindSig32:
		typ, logical = parquet.Types.Int32, schema.NewIntLogicalType(32, false)
	case kindSig64:
		logical = schema.NewIntLogicalType(64, false)
	}
	element, err := schema.NewPrimitiveNodeLogical("element", parquet.Repetitions.Optional, logical, typ, -1, -1)
	if err != nil {
		return nil, err
	}
	return schema.ListOfWithName(f.name, element, parquet.Repetitions.Optional, -1)
}

// int adds a value to an int64 column.
func (t *table) int(col int, v int64) {
	c := &t.cols[col]
	c.ints, c.def = append(c.ints, v), append(c.def, 1)
	t.size += 10
}

// string adds a value to a string column.
func (t *table) string(col int, v []byte) {
	c := &t.cols[col]
	c.strings, c.def = append(c.strings, v), append(c.def, 1)
	t.size += 26 + len(v)
}

// null adds a null to a list column.
func (t *table) null(col int) {
	c := &t.cols[col]
	c.def, c.rep = append(c.def, defNull), append(c.rep, 0)
}

// element adds an element to a list column, the first of its list or a further one.
func (c *buffer) element(first bool) {
	rep := int16(1)
	if first {
		rep = 0
	}
	c.def, c.rep = append(c.def, defElement), append(c.rep, rep)
}

// id adds an element to a list of ids.
func (t *table) id(col int, first bool, v int64) {
	c := &t.cols[col]
	c.element(first)
	c.ints = append(c.ints, v)
	t.size += 12
}

// signature adds a list of hashes, from the little-endian bytes of its slots.
func (t *table) signature(col int, raw []byte) {
	c := &t.cols[col]
	if c.kind == kindSig32 {
		for i := 0; i+4 <= len(raw); i += 4 {
			c.element(i == 0)
			c.words = append(c.words, int32(le32(raw[i:])))
		}
	} else {
		for i := 0; i+8 <= len(raw); i += 8 {
			c.element(i == 0)
			c.ints = append(c.ints, int64(le64(raw[i:])))
		}
	}
	t.size += 2 * len(raw)
}

// next ends a row and, if the row group holds size bytes or rows rows, the row group.
func (t *table) next(rows, size int) error {
	if t.rows++; t.rows < rows && t.size < size {
		return nil
	}
	return t.flush()
}

// flush ends the row group, if it has rows.
func (t *table) flush() error {
	if t.rows == 0 {
		return nil
	}
	if err := t.begin(); err != nil {
		return err
	}
	return t.end()
}

// begin writes what the row group has and leaves its last column open, so that its last list can go on with extend.
func (t *table) begin() (err error) {
	t.rows, t.size = 0, 0
	if t.group, err = t.w.AppendRowGroupChecked(); err != nil {
		return err
	}
	for i := range t.cols {
		if t.last, err = t.group.NextColumn(); err != nil {
			return err
		}
		if err := t.cols[i].writeTo(t.last); err != nil {
			return err
		}
		if i == len(t.cols)-1 {
			break
		}
		if err := t.last.Close(); err != nil {
			return err
		}
	}
	return nil
}

// extend adds an element to the list that begin left open.
func (t *table) extend(id int64) error {
	c := &t.cols[len(t.cols)-1]
	c.element(false)
	c.ints = append(c.ints, id)
	return t.extended(c)
}

// extendRow adds a row to the row group that begin left open, of a table of one column.
func (t *table) extendRow(id int64, str []byte) error {
	c := &t.cols[0]
	c.def = append(c.def, 1)
	if c.kind == kindString {
		c.strings = append(c.strings, append([]byte{}, str...))
	} else {
		c.ints = append(c.ints, id)
	}
	return t.extended(c)
}

func (t *table) extended(c *buffer) error {
	if len(c.def) < extendBatch {
		return nil
	}
	return c.writeTo(t.last)
}

const extendBatch = 32 << 10

// end completes the row group that begin has begun.
func (t *table) end() error {
	if err := t.cols[len(t.cols)-1].writeTo(t.last); err != nil {
		return err
	}
	return errors.Join(t.last.Close(), t.group.Close())
}

// writeTo writes the gathered values and forgets them.
func (c *buffer) writeTo(w file.ColumnChunkWriter) (err error) {
	if len(c.def) == 0 {
		return nil
	}
	rep := c.rep
	if !c.kind.list() {
		rep = nil
	}
	switch w := w.(type) {
	case *file.Int64ColumnChunkWriter:
		_, err = w.WriteBatch(c.ints, c.def, rep)
	case *file.Int32ColumnChunkWriter:
		_, err = w.WriteBatch(c.words, c.def, rep)
	case *file.ByteArrayColumnChunkWriter:
		_, err = w.WriteBatch(c.strings, c.def, nil)
	default:
		err = fmt.Errorf("curator: column %s has a writer of type %T", c.name, w)
	}
	c.ints, c.words, c.strings, c.def, c.rep = c.ints[:0], c.words[:0], c.strings[:0], c.def[:0], c.rep[:0]
	return err
}

// close completes the file, but does not close what is below it.
func (t *table) close() error { return errors.Join(t.flush(), t.w.Close()) }
