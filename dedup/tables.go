package dedup

import (
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// The tables a run leaves beside the kept documents. Ids are int64 (file << 32 | row) or
// have the type of the user's: int64, uint64, string, binary, binary of a fixed length, UUID.
//
//	removed   id, kept_id, cluster_id, similarity (double), intersection, union (int64), evidence (string)
//	clusters  id, cluster_id, cluster_size (int64)
//
// A removed row's intersection and union count distinct windows. They are null where no counting was needed:
// with evidence "exact" (identical texts: similarity 1) and "candidate" (nothing verified: similarity null).
//
// They are written column by column with the Parquet library's file package, which needs none of the Arrow
// conversion and what that brings along.

var evidenceNames = map[evidence]parquet.ByteArray{
	evidenceExact:     []byte("exact"),
	evidenceJaccard:   []byte("jaccard"),
	evidenceCandidate: []byte("candidate"),
}

// A row group has at most tableRows rows, and what gathers in memory for it takes a part of an actor's share.
const tableRows = 64 << 10

// tablePath is the path of the numbered file of a table in the output folder.
func tablePath(kind string, part int) string { return fmt.Sprintf("%s/part-%05d.parquet", kind, part) }

// field is a column of a table: a name, a type, and whether it may be null.
type field struct {
	name     string
	typ      parquet.Type
	logical  schema.LogicalType // nil if it has none
	width    int                // of a binary of fixed length
	nullable bool
}

func idField(name string, kind corpus.IDKind) field {
	f := field{name: name, typ: parquet.Types.Int64}
	switch {
	case kind == corpus.UintIDs:
		f.logical = schema.NewIntLogicalType(64, false)
	case kind.Width() > 0:
		f.typ, f.width = parquet.Types.FixedLenByteArray, kind.Width()
		if kind == corpus.UUIDs {
			f.logical = schema.UUIDLogicalType{}
		}
	case kind.Bytes():
		f.typ = parquet.Types.ByteArray
		if kind == corpus.StringIDs {
			f.logical = schema.StringLogicalType{}
		}
	}
	return f
}

func removedFields(kind corpus.IDKind) []field {
	return []field{
		idField("id", kind), idField("kept_id", kind), idField("cluster_id", kind),
		{name: "similarity", typ: parquet.Types.Double, nullable: true},
		{name: "intersection", typ: parquet.Types.Int64, nullable: true},
		{name: "union", typ: parquet.Types.Int64, nullable: true},
		{name: "evidence", typ: parquet.Types.ByteArray, logical: schema.StringLogicalType{}},
	}
}

func clustersFields(kind corpus.IDKind) []field {
	return []field{idField("id", kind), idField("cluster_id", kind), {name: "cluster_size", typ: parquet.Types.Int64}}
}

// column gathers the values of a row group. Of a nullable column, def says which rows have one.
type column struct {
	field
	ints    []int64
	doubles []float64
	bytes   []parquet.ByteArray
	def     []int16
}

// tableWriter writes a Parquet table row by row.
type tableWriter struct {
	w    *file.Writer
	cols []column
	n    int
	held int64 // bytes of the rows gathered
	most int64 // of held
}

// keepOpen hides Close from the Parquet writer, which would close a file that is not its own.
type keepOpen struct{ io.Writer }

// newTableWriter starts a table; most is the bytes that may gather in memory.
func newTableWriter(w io.Writer, fields []field, most int64) (*tableWriter, error) {
	nodes := make([]schema.Node, len(fields))
	t := &tableWriter{cols: make([]column, len(fields)), most: most}
	for i, f := range fields {
		rep := parquet.Repetitions.Required
		if f.nullable {
			rep = parquet.Repetitions.Optional
		}
		logical, width := f.logical, -1
		if logical == nil {
			logical = schema.NoLogicalType{}
		}
		if f.width > 0 {
			width = f.width
		}
		node, err := schema.NewPrimitiveNodeLogical(f.name, rep, logical, f.typ, width, -1)
		if err != nil {
			return nil, err
		}
		nodes[i] = node
		t.cols[i].field = f
	}
	root, err := schema.NewGroupNode("schema", parquet.Repetitions.Required, nodes, -1)
	if err != nil {
		return nil, err
	}
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCreatedBy("dovetail"))
	t.w = file.NewParquetWriter(keepOpen{w}, root, file.WithWriterProps(props))
	return t, nil
}

func (t *tableWriter) id(col int, id docID) {
	if c := &t.cols[col]; c.typ != parquet.Types.Int64 {
		c.bytes = append(c.bytes, []byte(id.str))
		t.held += int64(len(id.str))
	} else {
		c.ints = append(c.ints, int64(id.num))
	}
}

func (t *tableWriter) null(col int) { t.cols[col].def = append(t.cols[col].def, 0) }

func (t *tableWriter) int(col int, v uint64) {
	c := &t.cols[col]
	c.ints = append(c.ints, int64(v))
	c.def = append(c.def, 1)
}

func (t *tableWriter) double(col int, v float64) {
	c := &t.cols[col]
	c.doubles = append(c.doubles, v)
	c.def = append(c.def, 1)
}

// removed adds a row to a removed table.
func (t *tableWriter) removed(id, kept docID, m member) error {
	t.id(0, id)
	t.id(1, kept)
	t.id(2, kept)
	if s, null := similarity(m.evidence, m.inter, m.union); null {
		t.null(3)
	} else {
		t.double(3, s)
	}
	if m.evidence == evidenceJaccard {
		t.int(4, m.inter)
		t.int(5, m.union)
	} else {
		t.null(4)
		t.null(5)
	}
	t.cols[6].bytes = append(t.cols[6].bytes, evidenceNames[m.evidence])
	return t.next()
}

// cluster adds a row to a clusters table.
func (t *tableWriter) cluster(id, kept docID, size uint64) error {
	t.id(0, id)
	t.id(1, kept)
	t.int(2, size)
	return t.next()
}

func (t *tableWriter) next() error {
	t.n++
	t.held += int64(32 * len(t.cols)) // of values and levels, while they grow
	if t.n < tableRows && t.held < t.most {
		return nil
	}
	return t.flush()
}

func (t *tableWriter) flush() error {
	if t.n == 0 {
		return nil
	}
	t.n, t.held = 0, 0
	group, err := t.w.AppendRowGroupChecked()
	if err != nil {
		return err
	}
	for i := range t.cols {
		cw, err := group.NextColumn()
		if err != nil {
			return err
		}
		if err := t.cols[i].writeTo(cw); err != nil {
			return err
		}
		if err := cw.Close(); err != nil {
			return err
		}
	}
	return group.Close()
}

// writeTo writes the gathered values as a column chunk and forgets them.
func (c *column) writeTo(cw file.ColumnChunkWriter) (err error) {
	def := c.def
	if !c.nullable {
		def = nil
	}
	switch w := cw.(type) {
	case *file.Int64ColumnChunkWriter:
		_, err = w.WriteBatch(c.ints, def, nil)
	case *file.Float64ColumnChunkWriter:
		_, err = w.WriteBatch(c.doubles, def, nil)
	case *file.ByteArrayColumnChunkWriter:
		_, err = w.WriteBatch(c.bytes, def, nil)
	case *file.FixedLenByteArrayColumnChunkWriter:
		fixed := make([]parquet.FixedLenByteArray, len(c.bytes))
		for i, b := range c.bytes {
			fixed[i] = parquet.FixedLenByteArray(b)
		}
		_, err = w.WriteBatch(fixed, def, nil)
	}
	c.ints, c.doubles, c.bytes, c.def = c.ints[:0], c.doubles[:0], c.bytes[:0], c.def[:0]
	return err
}

// close completes the table.
func (t *tableWriter) close() error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.w.Close()
}
