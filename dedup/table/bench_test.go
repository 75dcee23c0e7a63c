package table

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// BenchmarkShuffle shuffles a table of 16-byte rows from file to files.
func BenchmarkShuffle(b *testing.B) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "key", Type: arrow.PrimitiveTypes.Int64}, {Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	rows, files := 1<<20, 4
	if testing.Short() {
		rows = 1 << 12
	}
	dir := b.TempDir()
	rng := rand.New(rand.NewPCG(9, 1))
	for i := range files {
		writeTable(b, filepath.Join(dir, fmt.Sprintf("%d.parquet", i)), wideBatch(rng, schema, rows), 1<<20)
	}
	s := DefaultSpec()
	s.On, s.TotalParts, s.Compression = []string{"key"}, 256, "none"
	b.SetBytes(int64(16 * rows * files))
	for b.Loop() {
		runTable(b, Options{Spec: s, Inputs: []string{dir}, Exec: Exec{Workers: 2}})
	}
}

// wideBatch makes rows of int64 columns of random values.
func wideBatch(rng *rand.Rand, schema *arrow.Schema, rows int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i := range schema.NumFields() {
		for range rows {
			b.Field(i).(*array.Int64Builder).Append(rng.Int64())
		}
	}
	return b.NewRecordBatch()
}
