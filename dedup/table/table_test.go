package table

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// testTypes are types that Parquet carries, by itself or with what Arrow notes beside its schema.
var testTypes = []arrow.DataType{
	arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint64,
	arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64, arrow.FixedWidthTypes.Float16, arrow.FixedWidthTypes.Boolean,
	arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeString,
	&arrow.FixedSizeBinaryType{ByteWidth: 5}, &arrow.Decimal128Type{Precision: 30, Scale: 3}, &arrow.Decimal128Type{Precision: 7, Scale: 2},
	arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Timestamp_us,
	&arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Paris"}, &arrow.TimestampType{Unit: arrow.Millisecond},
	arrow.ListOf(arrow.PrimitiveTypes.Int32), arrow.ListOf(arrow.BinaryTypes.String), arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int8)),
	arrow.StructOf(
		arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	),
	arrow.ListOf(arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}, arrow.Field{Name: "y", Type: arrow.BinaryTypes.String, Nullable: true})),
	arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64),
	&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String},
	arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int32),
	extensions.NewUUIDType(), arrow.Null,
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func appendValue(rng *rand.Rand, b array.Builder, nulls float64) {
	if rng.Float64() < nulls {
		b.AppendNull()
		return
	}
	n := rng.Int64N(40) - 20
	word := func() string { return strings.Repeat(string(rune('a'+rng.IntN(26))), rng.IntN(9)) }
	switch b := b.(type) {
	case *array.NullBuilder:
		b.AppendNull()
	case *array.BooleanBuilder:
		b.Append(n > 0)
	case *array.Float16Builder:
		b.Append(float16.New(float32(n)))
	case *array.Float32Builder:
		b.Append(float32(n) / 4)
	case *array.Float64Builder:
		b.Append(float64(n) / 8)
	case *array.Decimal128Builder:
		b.Append(decimal128.FromI64(n))
	case *array.FixedSizeBinaryBuilder:
		v := make([]byte, b.Type().(*arrow.FixedSizeBinaryType).ByteWidth)
		v[0], v[4] = byte(n), byte(n)
		b.Append(v)
	case *array.BinaryBuilder:
		b.AppendString(word())
	case *array.BinaryDictionaryBuilder:
		_ = must(0, b.AppendString(word()))
	case array.StringLikeBuilder:
		b.Append(word())
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(n * 1000))
	case *array.Date32Builder:
		b.Append(arrow.Date32(n))
	case *array.Time64Builder:
		b.Append(arrow.Time64(n + 20))
	case *extensions.UUIDBuilder:
		_ = must(0, b.AppendValueFromString(fmt.Sprintf("00000000-0000-0000-0000-%012d", n+20)))
	case *array.MapBuilder:
		b.Append(true)
		for i := range rng.IntN(3) {
			b.KeyBuilder().(*array.StringBuilder).Append(fmt.Sprint("k", i))
			appendValue(rng, b.ItemBuilder(), nulls)
		}
	case *array.FixedSizeListBuilder:
		b.Append(true)
		for range b.Type().(*arrow.FixedSizeListType).Len() {
			appendValue(rng, b.ValueBuilder(), nulls)
		}
	case array.ListLikeBuilder:
		b.Append(true)
		for range rng.IntN(3) {
			appendValue(rng, b.ValueBuilder(), nulls)
		}
	case *array.StructBuilder:
		b.Append(true)
		for i := range b.NumField() {
			appendValue(rng, b.FieldBuilder(i), nulls)
		}
	default:
		if n < 0 {
			n = -n
		}
		_ = must(0, b.AppendValueFromString(fmt.Sprint(n)))
	}
}

func makeBatch(rng *rand.Rand, schema *arrow.Schema, rows int, nulls float64) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i, f := range schema.Fields() {
		n := nulls
		if !f.Nullable || f.Type.ID() == arrow.FIXED_SIZE_LIST { // the library cannot write null ones
			n = 0
		}
		for range rows {
			appendValue(rng, b.Field(i), n)
		}
	}
	return b.NewRecordBatch()
}

func writeTable(t testing.TB, path string, b arrow.RecordBatch, groupRows int64) {
	t.Helper()
	must(0, os.MkdirAll(filepath.Dir(path), 0o777))
	f := must(os.Create(path))
	w := must(pqarrow.NewFileWriter(b.Schema(), f, parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy), parquet.WithDataPageSize(2000)),
		pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema())))
	for from := int64(0); from < b.NumRows(); from += groupRows {
		must(0, w.Write(b.NewSlice(from, min(b.NumRows(), from+groupRows))))
	}
	must(0, w.Close())
}

// readTable reads a file the simple way, as one batch.
func readTable(t testing.TB, path string) arrow.RecordBatch {
	t.Helper()
	r := must(file.OpenParquetFile(path, false))
	defer r.Close()
	fr := must(pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator))
	tbl := must(fr.ReadTable(context.Background()))
	cols := make([]arrow.Array, tbl.NumCols())
	for i := range cols {
		chunks := tbl.Column(i).Data().Chunks()
		if len(chunks) == 0 {
			b := array.NewBuilder(memory.DefaultAllocator, tbl.Schema().Field(i).Type)
			chunks = append(chunks, b.NewArray())
		}
		cols[i] = must(array.Concatenate(chunks, memory.DefaultAllocator))
	}
	return array.NewRecordBatch(tbl.Schema(), cols, tbl.NumRows())
}

// corpusOf writes files of all types and returns their folder and all rows in the order of the input.
func corpusOf(t testing.TB, rng *rand.Rand, files, rows int) (dir string, all arrow.RecordBatch) {
	t.Helper()
	var fields []arrow.Field
	for i, dt := range testTypes {
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("c%d", i), Type: dt, Nullable: i != 0})
	}
	schema := arrow.NewSchema(fields, nil)
	dir = t.TempDir()
	var batches []arrow.RecordBatch
	for i := range files {
		n := rng.IntN(2*rows + 1)
		if i == 1 {
			n = 0
		}
		path := filepath.Join(dir, fmt.Sprintf("f%d.parquet", i))
		writeTable(t, path, makeBatch(rng, schema, n, 0.15), int64(1+rng.IntN(rows)))
		b := readTable(t, path)
		if b.NumRows() != int64(n) {
			t.Fatalf("%d rows of %d came back", b.NumRows(), n)
		}
		batches = append(batches, b)
	}
	codec := must(columns.NewCodec(batches[0].Schema()))
	return dir, must(codec.Concat(batches, memory.DefaultAllocator))
}

// rowHashes names every row of a batch.
func rowHashes(b arrow.RecordBatch) []string {
	codec := must(columns.NewCodec(b.Schema()))
	var out []string
	for _, h := range must(codec.RowHashes(b)) {
		out = append(out, fmt.Sprintf("%x.%x", h.A, h.B))
	}
	return out
}

func smallSpec(on ...string) Spec {
	s := DefaultSpec()
	s.On, s.TotalParts, s.RowGroupBytes = on, 7, 4<<10
	return s
}

func runTable(t testing.TB, o Options) (*Result, string) {
	t.Helper()
	if o.Output == "" {
		o.Output = filepath.Join(t.TempDir(), "out")
	}
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(o.Output + ".*"); len(left) > 0 {
		t.Errorf("the run left %v", left)
	}
	return res, o.Output
}

// Rows are where a reference puts them that holds them all in memory, in the order of the input, with every type as key.
func TestHashAgainstReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	dir, all := corpusOf(t, rng, 4, 300)
	hashes := rowHashes(all)
	for k := range testTypes {
		if testing.Short() && k%6 != 1 && k != 0 {
			continue
		}
		on := []string{fmt.Sprintf("c%d", k)}
		keys := []int{k}
		if k%5 == 0 {
			on, keys = append(on, "c9"), append(keys, 9)
		}
		if k == 9 {
			on, keys = []string{"c9", "c0"}, []int{9, 0}
		}
		if k == 0 {
			on, keys = []string{"c0"}, []int{0}
		}
		s := smallSpec(on...)
		res, out := runTable(t, Options{Spec: s, Inputs: []string{dir}, Exec: Exec{Workers: 2, SplitBytes: 20 << 10, BatchBytes: 8 << 10}})
		want := make([][]string, s.TotalParts)
		for i, h := range must(columns.HashRows(all, keys, 0)) {
			p := int(h) % s.TotalParts
			want[p] = append(want[p], hashes[i])
		}
		total := int64(0)
		for p := range want {
			got := readTable(t, filepath.Join(out, fmt.Sprintf("part.%d.parquet", p)))
			if !got.Schema().Equal(all.Schema()) && k == 0 {
				t.Errorf("the schema is %s, was %s", got.Schema(), all.Schema())
			}
			if g := rowHashes(got); !slices.Equal(g, want[p]) {
				t.Fatalf("on %v: partition %d has %d rows, want %d, or others", on, p, len(g), len(want[p]))
			}
			total += got.NumRows()
		}
		if total != all.NumRows() || res.Ledger.Read != total || res.Ledger.Written != total {
			t.Fatalf("%d of %d rows, ledger %+v", total, all.NumRows(), res.Ledger)
		}
	}
}
