package table

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// A dictionary is made again where it served in the input: not of values that hardly repeat.
func TestInDictionaries(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "few", Type: arrow.BinaryTypes.String}, {Name: "many", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer rb.Release()
	for i := range 20_000 {
		rb.Field(0).(*array.StringBuilder).Append(fmt.Sprint("value ", i%40))
		rb.Field(1).(*array.Int64Builder).Append(int64(i%15_000) * 0x1f123bb5)
	}
	batch := rb.NewRecordBatch()
	defer batch.Release()
	var b bytes.Buffer
	w := must(pqarrow.NewFileWriter(schema, &b, parquet.NewWriterProperties(parquet.WithDictionaryCostFallbackFor("many", false)), pqarrow.DefaultWriterProps()))
	if err := w.Write(batch); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := must(file.NewParquetReader(bytes.NewReader(b.Bytes())))
	for c := range 2 {
		if chunk := must(r.MetaData().RowGroup(0).ColumnChunk(c)); !chunk.HasDictionaryPage() {
			t.Fatalf("column %d has no dictionary: the test shows nothing", c)
		}
	}
	if got := inDictionaries(r.MetaData()); !got["few"] || got["many"] {
		t.Errorf("%v", got)
	}
}
