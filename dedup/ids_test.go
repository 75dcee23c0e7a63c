package dedup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// parquetColumn is a column of a test file. values is a slice of what its physical type holds; null rows are those
// whose index is in nulls, and have no value.
type parquetColumn struct {
	node   schema.Node
	values any
	nulls  []int
}

func primitive(t testing.TB, name string, typ parquet.Type, logical schema.LogicalType, width int) schema.Node {
	t.Helper()
	if logical == nil {
		logical = schema.NoLogicalType{}
	}
	n, err := schema.NewPrimitiveNodeLogical(name, parquet.Repetitions.Optional, logical, typ, width, -1)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func textColumn(t testing.TB, values ...string) parquetColumn {
	c := parquetColumn{node: primitive(t, "text", parquet.Types.ByteArray, schema.StringLogicalType{}, -1)}
	var b []parquet.ByteArray
	for _, v := range values {
		b = append(b, parquet.ByteArray(v))
	}
	c.values = b
	return c
}

// writeParquet writes a file of one row group of the given number of rows.
func writeParquet(t testing.TB, path string, rows int, cols ...parquetColumn) string {
	t.Helper()
	var fields schema.FieldList
	for _, c := range cols {
		fields = append(fields, c.node)
	}
	root, err := schema.NewGroupNode("schema", parquet.Repetitions.Required, fields, -1)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := file.NewParquetWriter(&buf, root)
	rg, err := w.AppendRowGroupChecked()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cols {
		defs := make([]int16, rows)
		for i := range defs {
			defs[i] = 1
		}
		for _, i := range c.nulls {
			defs[i] = 0
		}
		cw, err := rg.NextColumn()
		if err != nil {
			t.Fatal(err)
		}
		switch cw := cw.(type) {
		case *file.Int32ColumnChunkWriter:
			_, err = cw.WriteBatch(c.values.([]int32), defs, nil)
		case *file.Int64ColumnChunkWriter:
			_, err = cw.WriteBatch(c.values.([]int64), defs, nil)
		case *file.ByteArrayColumnChunkWriter:
			_, err = cw.WriteBatch(c.values.([]parquet.ByteArray), defs, nil)
		case *file.FixedLenByteArrayColumnChunkWriter:
			_, err = cw.WriteBatch(c.values.([]parquet.FixedLenByteArray), defs, nil)
		default:
			t.Fatalf("%T", cw)
		}
		if err == nil {
			err = cw.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := rg.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, buf.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// The tables of the result hold ids of the type that the input has.
func TestTypesOfIDs(t *testing.T) {
	uuids := []parquet.FixedLenByteArray{[]byte("0123456789abcdef"), []byte("\x00\xff23456789abcdef")}
	for _, c := range []struct {
		name string
		col  parquetColumn
		want string // type and values of removed/ and its kept_id
	}{
		{"int32", parquetColumn{primitive(t, "id", parquet.Types.Int32, nil, -1), []int32{-7, 9}, nil}, "INT64 None: 9 of -7"},
		{"uint32", parquetColumn{primitive(t, "id", parquet.Types.Int32, schema.NewIntLogicalType(32, false), -1), []int32{-1, 9}, nil}, "INT64 None: 9 of 4294967295"},
		{"int64", parquetColumn{primitive(t, "id", parquet.Types.Int64, nil, -1), []int64{-7, 1 << 60}, nil}, "INT64 None: 1152921504606846976 of -7"},
		{"uint64", parquetColumn{primitive(t, "id", parquet.Types.Int64, schema.NewIntLogicalType(64, false), -1), []int64{-1, 9}, nil}, "INT64 Int(bitWidth=64, isSigned=false): 9 of -1"},
		{"string", parquetColumn{primitive(t, "id", parquet.Types.ByteArray, schema.StringLogicalType{}, -1), []parquet.ByteArray{[]byte("a"), []byte("é")}, nil}, "BYTE_ARRAY String: \"é\" of \"a\""},
		{"binary", parquetColumn{primitive(t, "id", parquet.Types.ByteArray, nil, -1), []parquet.ByteArray{[]byte("a\xff"), {}}, nil}, "BYTE_ARRAY None: \"\" of \"a\\xff\""},
		{"uuid", parquetColumn{primitive(t, "id", parquet.Types.FixedLenByteArray, schema.UUIDLogicalType{}, 16), uuids, nil}, "FIXED_LEN_BYTE_ARRAY UUID: \"\\x00\\xff23456789abcdef\" of \"0123456789abcdef\""},
		{"fixed", parquetColumn{primitive(t, "id", parquet.Types.FixedLenByteArray, nil, 2), []parquet.FixedLenByteArray{[]byte("ab"), []byte("\x00c")}, nil}, "FIXED_LEN_BYTE_ARRAY None: \"\\x00c\" of \"ab\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writeParquet(t, filepath.Join(dir, "x.parquet"), 2, textColumn(t, "the same text", "the same text"), c.col)
			s := DefaultSpec()
			s.IDField = "id"
			out, res := testRun(t, dir, s, Exec{Workers: 1})
			if res.Steps.Removed != 1 {
				t.Fatalf("%+v", res.Steps)
			}
			if got := firstRemoved(t, out); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// firstRemoved describes the type of the ids of the one removed row, its id, and that of the kept document.
func firstRemoved(t *testing.T, out string) string {
	t.Helper()
	r, err := file.OpenParquetFile(filepath.Join(out, "removed", "part-00000.parquet"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got [2]string
	for i := range got {
		col, err := r.RowGroup(0).Column(i)
		if err != nil {
			t.Fatal(err)
		}
		switch col := col.(type) {
		case *file.Int64ColumnChunkReader:
			var v [1]int64
			_, _, err = col.ReadBatch(1, v[:], nil, nil)
			got[i] = fmt.Sprint(v[0])
		case *file.ByteArrayColumnChunkReader:
			var v [1]parquet.ByteArray
			_, _, err = col.ReadBatch(1, v[:], nil, nil)
			got[i] = fmt.Sprintf("%q", string(v[0]))
		case *file.FixedLenByteArrayColumnChunkReader:
			var v [1]parquet.FixedLenByteArray
			_, _, err = col.ReadBatch(1, v[:], nil, nil)
			got[i] = fmt.Sprintf("%q", string(v[0]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c := r.MetaData().Schema.Column(0)
	return fmt.Sprintf("%s %s: %s of %s", c.PhysicalType(), c.LogicalType(), got[0], got[1])
}

func TestUnsuitableIDs(t *testing.T) {
	for name, c := range map[string]parquetColumn{
		"decimal":   {primitive(t, "id", parquet.Types.Int64, schema.NewDecimalLogicalType(9, 2), -1), []int64{1, 2}, nil},
		"timestamp": {primitive(t, "id", parquet.Types.Int64, schema.NewTimestampLogicalType(true, schema.TimeUnitMicros), -1), []int64{1, 2}, nil},
		"row 1":     {primitive(t, "id", parquet.Types.Int64, nil, -1), []int64{1}, []int{1}},
	} {
		dir := t.TempDir()
		path := writeParquet(t, filepath.Join(dir, "x.parquet"), 2, textColumn(t, "a", "b"), c)
		s := DefaultSpec()
		s.IDField = "id"
		_, err := Run(t.Context(), Options{Spec: s, Inputs: []string{dir}, Output: filepath.Join(t.TempDir(), "out")})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Ids that documents share are noticed wherever the documents are, and the message does not depend on the way of running.
func TestDuplicateIDs(t *testing.T) {
	dir := t.TempDir()
	for i := range 6 {
		var b strings.Builder
		for row := range 200 {
			id := fmt.Sprint("id", i*1000+row)
			if i == 3 && row == 7 || i == 5 && row == 9 {
				id = "id1004"
			}
			fmt.Fprintf(&b, "{\"id\":%q,\"text\":\"text %d of %d\"}\n", id, row, i)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.jsonl", i)), []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	s := DefaultSpec()
	s.IDField = "id"
	out := filepath.Join(t.TempDir(), "out")
	want := fmt.Sprintf(`id "id1004" is that of two documents, %s/1.jsonl:5 and %[1]s/3.jsonl:8, and 1 more documents have an id that another has`, dir)
	for _, e := range []Exec{{Workers: 1}, {Workers: 3, Ranks: 2, SplitBytes: 500}, {}} {
		_, err := Run(t.Context(), Options{Spec: s, Exec: e, Inputs: []string{dir}, Output: out})
		if !errors.Is(err, ErrDuplicateIDs) || !strings.Contains(err.Error(), want+"; ") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	var notes []string
	o := Options{
		Spec: s, Exec: Exec{OnDuplicateID: OnDuplicateWarn}, Inputs: []string{dir}, Output: out, Note: func(n string) { notes = append(notes, n) },
	}
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if res.TasksReused == 0 || res.DuplicateIDs == nil || res.DuplicateIDs.Count != 2 || !strings.Contains(strings.Join(notes, "\n"), want) {
		t.Errorf("%d tasks reused, %+v, notes %q", res.TasksReused, res.DuplicateIDs, notes)
	}
	if again, err := Run(t.Context(), o); err != nil || again.DuplicateIDs.Count != 2 {
		t.Errorf("the same again: %v", err)
	}
	o.Exec.OnDuplicateID = ""
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrDuplicateIDs) {
		t.Errorf("a finished result with duplicate ids: %v", err)
	}
}

// writeGroups writes a Parquet file of row groups of 20 rows, with columns text and other, and returns where the pages
// of other in the last group begin.
func writeGroups(t testing.TB, path string, groups int, values func(group, row int) (text, other string)) int64 {
	t.Helper()
	fields := schema.FieldList{
		primitive(t, "text", parquet.Types.ByteArray, schema.StringLogicalType{}, -1),
		primitive(t, "other", parquet.Types.ByteArray, schema.StringLogicalType{}, -1),
	}
	root, err := schema.NewGroupNode("schema", parquet.Repetitions.Required, fields, -1)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDictionaryDefault(false), parquet.WithStats(false))
	w := file.NewParquetWriter(&buf, root, file.WithWriterProps(props))
	at := 0
	for g := range groups {
		rg, err := w.AppendRowGroupChecked()
		if err != nil {
			t.Fatal(err)
		}
		for c := range 2 {
			cw, err := rg.NextColumn()
			if err != nil {
				t.Fatal(err)
			}
			at = buf.Len()
			vals := make([]parquet.ByteArray, 20)
			defs := make([]int16, 20)
			for row := range vals {
				text, other := values(g, row)
				vals[row], defs[row] = parquet.ByteArray([]string{text, other}[c]), 1
			}
			if _, err := cw.(*file.ByteArrayColumnChunkWriter).WriteBatch(vals, defs, nil); err != nil {
				t.Fatal(err)
			}
			if err := cw.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := rg.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, buf.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return int64(at)
}
