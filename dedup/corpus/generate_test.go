package corpus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/dovetail-dedup/dovetail/dedup/corpus/internal/benchtext"
)

// writeColumns writes a Parquet file of one row group with the library, which the tests of bounds and sizes
// need; what other writers make is in testdata.
func writeColumns(t testing.TB, root *schema.GroupNode, props []parquet.WriterProperty, groups int, write func(group int, c file.ColumnChunkWriter) error) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := file.NewParquetWriter(&buf, root, file.WithWriterProps(parquet.NewWriterProperties(props...)))
	for g := range groups {
		rg, err := w.AppendRowGroupChecked()
		if err != nil {
			t.Fatal(err)
		}
		for range root.NumFields() {
			c, err := rg.NextColumn()
			if err == nil {
				err = write(g, c)
			}
			if err == nil {
				err = c.Close()
			}
			if err != nil {
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
	return buf.Bytes()
}

func textNode(rep parquet.Repetition) schema.Node {
	return schema.MustPrimitive(schema.NewPrimitiveNodeLogical("text", rep, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1))
}

// makeTexts writes texts, cutting pages every perPage values.
func makeTexts(t testing.TB, texts []string, codec compress.Compression, perPage int, version parquet.DataPageVersion) []byte {
	t.Helper()
	data, err := benchtext.Parquet(texts, codec, perPage, version)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// makeLists writes texts beside lists of up to 40 strings, in pages of a few hundred bytes.
func makeLists(t testing.TB, rnd *rand.Rand, rows int) []byte {
	t.Helper()
	item := schema.MustPrimitive(schema.NewPrimitiveNodeLogical("tags", parquet.Repetitions.Repeated, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1))
	root := schema.MustGroup(schema.NewGroupNode("schema", parquet.Repetitions.Required, schema.FieldList{textNode(parquet.Repetitions.Optional), item}, -1))
	props := []parquet.WriterProperty{
		parquet.WithCompression(compress.Codecs.Snappy), parquet.WithDictionaryDefault(false), parquet.WithDataPageSize(300), parquet.WithBatchSize(50),
	}
	return writeColumns(t, root, props, 2, func(group int, c file.ColumnChunkWriter) error {
		w := c.(*file.ByteArrayColumnChunkWriter)
		var values []parquet.ByteArray
		var defs, reps []int16
		for r := range rows {
			n := 1
			if c.Descr().MaxRepetitionLevel() > 0 {
				n = rnd.IntN(40)
			}
			for k := range max(n, 1) {
				def, rep := int16(1), int16(0)
				if n == 0 || c.Descr().MaxRepetitionLevel() == 0 && r%5 == 0 {
					def = 0
				} else {
					values = append(values, parquet.ByteArray(fmt.Sprintf("%d/%d/%d", group, r, k)))
				}
				if k > 0 {
					rep = 1
				}
				defs, reps = append(defs, def), append(reps, rep)
			}
		}
		if c.Descr().MaxRepetitionLevel() == 0 {
			reps = nil
		}
		_, err := w.WriteBatch(values, defs, reps)
		return err
	})
}

// prose makes n bytes of text like words.
func prose(rnd *rand.Rand, n int) string { return benchtext.Prose(rnd, n) }
