package corpus

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// node is the column in a Parquet schema.
func (c *Added) node() (schema.Node, error) {
	rep := parquet.Repetitions.Required
	if c.Nullable {
		rep = parquet.Repetitions.Optional
	}
	var logical schema.LogicalType = schema.NoLogicalType{}
	typ, width, kind := parquet.Types.Int64, -1, c.Type.kind()
	switch {
	case c.Type == AddedBool:
		typ = parquet.Types.Boolean
	case c.Type == AddedDouble:
		typ = parquet.Types.Double
	case kind == UintIDs:
		logical = schema.NewIntLogicalType(64, false)
	case kind.Width() > 0:
		typ, width = parquet.Types.FixedLenByteArray, kind.Width()
		if kind == UUIDs {
			logical = schema.UUIDLogicalType{}
		}
	case kind.Bytes():
		typ = parquet.Types.ByteArray
		if kind == StringIDs {
			logical = schema.StringLogicalType{}
		}
	}
	return schema.NewPrimitiveNodeLogical(c.Name, rep, logical, typ, width, -1)
}

// arrow is the type of the column in an Arrow schema.
func (c *Added) arrow() arrow.DataType {
	switch kind := c.Type.kind(); {
	case c.Type == AddedBool:
		return arrow.FixedWidthTypes.Boolean
	case c.Type == AddedDouble:
		return arrow.PrimitiveTypes.Float64
	case kind == UintIDs:
		return arrow.PrimitiveTypes.Uint64
	case kind.Ints():
		return arrow.PrimitiveTypes.Int64
	case kind.Width() > 0:
		return &arrow.FixedSizeBinaryType{ByteWidth: kind.Width()}
	case kind == StringIDs:
		return arrow.BinaryTypes.String
	}
	return arrow.BinaryTypes.Binary
}

// withAdded returns the root of a schema with added columns at its end, which takes the fields of the other over.
func withAdded(root *schema.GroupNode, columns []Added) (*schema.GroupNode, error) {
	var fields schema.FieldList
	for i := range root.NumFields() {
		fields = append(fields, root.Field(i))
	}
	for i := range columns {
		n, err := columns[i].node()
		if err != nil {
			return nil, err
		}
		fields = append(fields, n)
	}
	return schema.NewGroupNode(root.Name(), root.RepetitionType(), fields, root.FieldID())
}

const arrowSchemaKey = "ARROW:schema"

// addToMetadata returns the key-value metadata with the Arrow schema that writers of Arrow leave there made to fit:
// readers pass over one of another number of columns, and would take dictionaries for strings. One that cannot be
// read is left out.
func addToMetadata(kv metadata.KeyValueMetadata, columns []Added) metadata.KeyValueMetadata {
	out := metadata.NewKeyValueMetadata()
	keys, values := kv.Keys(), kv.Values()
	for i, key := range keys {
		value := values[i]
		if key == arrowSchemaKey {
			var err error
			if value, err = addToArrow(value, columns); err != nil {
				continue
			}
		}
		_ = out.Append(key, value) // it never fails
	}
	return out
}

func addToArrow(value string, columns []Added) (_ string, err error) {
	err = guarded(func() error {
		data, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return err
		}
		r, err := ipc.NewReader(bytes.NewReader(data), ipc.WithAllocator(memory.NewGoAllocator()))
		if err != nil {
			return err
		}
		defer r.Release()
		fields, meta := r.Schema().Fields(), r.Schema().Metadata()
		for i := range columns {
			c := &columns[i]
			fields = append(fields, arrow.Field{Name: c.Name, Type: c.arrow(), Nullable: c.Nullable})
		}
		var b bytes.Buffer
		if err := ipc.NewWriter(&b, ipc.WithSchema(arrow.NewSchemaWithEndian(fields, &meta, r.Schema().Endianness()))).Close(); err != nil {
			return err
		}
		value = base64.StdEncoding.EncodeToString(b.Bytes())
		return nil
	})
	return value, err
}

// hasAdded returns the first of the columns that a schema has already, or "".
func hasAdded(root *schema.GroupNode, names []string) string {
	for i := range root.NumFields() {
		if name := root.Field(i).Name(); slices.Contains(names, name) {
			return name
		}
	}
	return ""
}

// writeAdded writes an added column of a row group. first is the row of the file that the group begins with.
func writeAdded(to file.ColumnChunkWriter, c *Added, first int64, kept *rowSet) error {
	value := func(i int64) (AddedValue, error) {
		v, err := c.Value(first + i)
		if err != nil {
			return v, sinkError{err}
		}
		if v.Null && !c.Nullable {
			err = fmt.Errorf("column %q: row %d has no value", c.Name, first+i)
		}
		return v, err
	}
	var err error
	switch w := to.(type) {
	case *file.BooleanColumnChunkWriter:
		err = writeValues(w.WriteBatch, c, kept, value, func(v AddedValue) (bool, int) { return v.Int != 0, 1 })
	case *file.Int64ColumnChunkWriter:
		err = writeValues(w.WriteBatch, c, kept, value, func(v AddedValue) (int64, int) { return v.Int, 8 })
	case *file.Float64ColumnChunkWriter:
		err = writeValues(w.WriteBatch, c, kept, value, func(v AddedValue) (float64, int) { return v.Double, 8 })
	case *file.ByteArrayColumnChunkWriter:
		err = writeValues(w.WriteBatch, c, kept, value, func(v AddedValue) (parquet.ByteArray, int) {
			return bytes.Clone(v.Bytes), len(v.Bytes)
		})
	case *file.FixedLenByteArrayColumnChunkWriter:
		err = writeValues(w.WriteBatch, c, kept, value, func(v AddedValue) (parquet.FixedLenByteArray, int) {
			return bytes.Clone(v.Bytes), len(v.Bytes)
		})
	default:
		err = fmt.Errorf("column %q has no writer", c.Name)
	}
	if err != nil {
		return err
	}
	return to.Close()
}

// writeValues writes the values of the kept rows, no more than a batch or some bytes at a time.
func writeValues[T any](write func([]T, []int16, []int16) (int64, error), c *Added, kept *rowSet,
	value func(int64) (AddedValue, error), as func(AddedValue) (T, int),
) error {
	var values []T
	var defs []int16
	rows, held := 0, 0
	flush := func() error {
		if rows == 0 {
			return nil
		}
		d := defs
		if !c.Nullable {
			d = nil
		}
		_, err := write(values, d, nil)
		values, defs, rows, held = values[:0], defs[:0], 0, 0
		return err
	}
	for i := range kept.rows {
		if !kept.has(i) {
			continue
		}
		v, err := value(i)
		if err != nil {
			return err
		}
		if rows++; v.Null {
			defs = append(defs, 0)
		} else {
			t, n := as(v)
			values, defs, held = append(values, t), append(defs, 1), held+n
		}
		if rows == copyBatch || held >= copyBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// addedReader returns a function that yields the value of an added column in one row after the other.
func addedReader(c *chunk) (func() (AddedValue, error), error) {
	switch r := c.ColumnChunkReader.(type) {
	case *file.BooleanColumnChunkReader:
		return addedValues(newCursor(c, r.ReadBatch), func(v bool) (a AddedValue) {
			if v {
				a.Int = 1
			}
			return a
		}), nil
	case *file.Int64ColumnChunkReader:
		return addedValues(newCursor(c, r.ReadBatch), func(v int64) AddedValue { return AddedValue{Int: v} }), nil
	case *file.Float64ColumnChunkReader:
		return addedValues(newCursor(c, r.ReadBatch), func(v float64) AddedValue { return AddedValue{Double: v} }), nil
	case *file.ByteArrayColumnChunkReader:
		return addedValues(newCursor(c, r.ReadBatchInPage), func(v parquet.ByteArray) AddedValue { return AddedValue{Bytes: v} }), nil
	case *file.FixedLenByteArrayColumnChunkReader:
		return addedValues(newCursor(c, r.ReadBatchInPage), func(v parquet.FixedLenByteArray) AddedValue { return AddedValue{Bytes: v} }), nil
	}
	return nil, fmt.Errorf("column %q is of type %s", c.Descriptor().Path(), c.Type())
}

func addedValues[T any](c *cursor[T], as func(T) AddedValue) func() (AddedValue, error) {
	return func() (AddedValue, error) {
		v, null, err := c.nextValue()
		if null || err != nil {
			return AddedValue{Null: null}, err
		}
		return as(v), nil
	}
}
