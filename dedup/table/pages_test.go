package table

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// flatTypes are those of testTypes that are one column.
func flatTypes() (out []arrow.DataType) {
	for _, t := range testTypes {
		if _, nested := t.(arrow.NestedType); !nested && t.ID() != arrow.DICTIONARY && t.ID() != arrow.EXTENSION {
			out = append(out, t)
		}
	}
	return append(out, arrow.PrimitiveTypes.Uint32, arrow.FixedWidthTypes.Timestamp_s, arrow.BinaryTypes.LargeBinary)
}

// extremeColumn makes values among which are all that statistics treat as special.
func extremeColumn(rng *rand.Rand, t arrow.DataType, rows int, nulls float64) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, t)
	defer b.Release()
	floats := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 1.5, math.MaxFloat32, -math.MaxFloat32}
	same := rng.IntN(4) == 0 // one value only
	pick := rng.Int64()
	for i := range rows {
		v := pick
		if !same {
			v = rng.Int64() >> rng.IntN(64)
		}
		if rng.Float64() < nulls {
			b.AppendNull()
			continue
		}
		switch b := b.(type) {
		case *array.Int32Builder:
			b.Append(int32(v))
		case *array.Uint32Builder:
			b.Append(uint32(v))
		case *array.Int64Builder:
			b.Append(v)
		case *array.Uint64Builder:
			b.Append(uint64(v))
		case *array.Float32Builder:
			b.Append(float32(floats[uint64(v)%8]))
		case *array.Float64Builder:
			b.Append(floats[uint64(v)%8])
		case *array.TimestampBuilder:
			b.Append(arrow.Timestamp(v >> 20))
		case *array.StringBuilder:
			b.Append(extremeText(rng, i, same))
		case *array.BinaryBuilder:
			b.Append([]byte(extremeText(rng, i, same)))
		default:
			appendValue(rng, b, 0)
		}
	}
	return b.NewArray()
}

func extremeText(rng *rand.Rand, row int, same bool) string {
	switch {
	case same:
		return "same"
	case row%5003 == 77:
		return strings.Repeat("large", rng.IntN(2000)) // beyond what statistics hold
	case row%9001 == 1234:
		return strings.Repeat("huge\xff", 300<<10) // beyond a page
	case rng.IntN(3) == 0:
		return "\x00\x00\x00\x00\x00\x00\x00\x00"[:rng.IntN(9)]
	}
	v := make([]byte, rng.IntN(20))
	for i := range v {
		v[i] = "\x00a\x7f\x80\xff"[rng.IntN(5)]
	}
	return string(v)
}

// cut cuts a batch into some.
func cut(rng *rand.Rand, b arrow.RecordBatch, most int64) (out []arrow.RecordBatch) {
	for from := int64(0); from < b.NumRows(); {
		to := min(b.NumRows(), from+rng.Int64N(most+1))
		out = append(out, b.NewSlice(from, to))
		from = to
	}
	return out
}

// sameAsLibrary compares a file with what the library makes of the same row groups.
func sameAsLibrary(t *testing.T, seed uint64, rows int, most int64) {
	rng := rand.New(rand.NewPCG(seed, 77))
	types := flatTypes()
	var fields []arrow.Field
	dict := make(map[string]bool)
	for i := range 1 + rng.IntN(5) {
		f := arrow.Field{Name: fmt.Sprint("c", i), Type: types[rng.IntN(len(types))], Nullable: rng.IntN(2) == 0}
		f.Nullable = f.Nullable || f.Type.ID() == arrow.NULL
		dict[f.Name] = rng.IntN(8) == 0
		fields = append(fields, f)
	}
	meta := arrow.NewMetadata([]string{"note"}, []string{"of somebody"})
	schema := arrow.NewSchema(fields, &meta)
	compression := []string{"none", "snappy", "zstd"}[rng.IntN(3)]
	opts := []parquet.WriterProperty{parquet.WithVersion(parquet.V2_LATEST), parquet.WithCreatedBy("dovetail"), parquet.WithCompression(codecs[compression]),
		parquet.WithDictionaryDefault(false), parquet.WithMaxRowGroupLength(1 << 40), parquet.WithAllocator(arrays)}
	for path, d := range dict { // which are not given up: see TestSteadyDictionaries
		opts = append(opts, parquet.WithDictionaryFor(path, d), parquet.WithDictionaryCostFallbackFor(path, false))
	}
	opts = append(opts, parquet.WithDictionaryPageSizeLimit(1<<30))
	props, arrowProps := parquet.NewWriterProperties(opts...), pqarrow.NewArrowWriterProperties(pqarrow.WithAllocator(arrays))
	codec := must(columns.NewCodec(schema))
	var want, got bytes.Buffer
	lib := must(pqarrow.NewFileWriter(schema, &want, props, arrowProps))
	flat := must(newFlatFile(schema, &got, props, arrowProps))
	if flat == nil {
		t.Fatalf("%v is not flat", schema)
	}
	for range rng.IntN(3) {
		cols := make([]arrow.Array, len(fields))
		n := 1 + rng.IntN(rows)
		for i, f := range fields {
			nulls := 0.0
			if f.Nullable && rng.IntN(2) == 0 {
				nulls = 0.2
			}
			cols[i] = extremeColumn(rng, f.Type, n, nulls)
		}
		b := array.NewRecordBatch(schema, cols, int64(n))
		parts := cut(rng, b, most)
		whole := must(codec.Concat(parts, arrays))
		must(0, lib.Write(whole))
		must(0, flat.write(parts))
	}
	must(0, lib.Close())
	must(0, flat.close())
	if !bytes.Equal(want.Bytes(), got.Bytes()) {
		at := 0
		for at < min(want.Len(), got.Len()) && want.Bytes()[at] == got.Bytes()[at] {
			at++
		}
		t.Fatalf("seed %d, %s, %v: %d bytes, should be %d; they differ from %d on", seed, compression, schema, got.Len(), want.Len(), at)
	}
}

// Files without nested columns are, byte for byte, those that the library makes, whatever the batches.
func TestFlatFile(t *testing.T) {
	for seed := range uint64(150) {
		sameAsLibrary(t, seed, 3000, 500)
		sameAsLibrary(t, 500+seed, 20, 9)
	}
	large := uint64(6)
	if testing.Short() {
		large = 2
	}
	for seed := range large { // pages end
		sameAsLibrary(t, 1000+seed, 300_000, 40_000)
	}
}

// A file in which a dictionary is given up after some pages is always the same.
func TestSteadyDictionaries(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	schema := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for i := range 30_000 {
		b.Append(fmt.Sprint(rng.IntN(10 + i)))
	}
	batch := array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, 30_000)
	props := parquet.NewWriterProperties(parquet.WithDictionaryFor("s", true), parquet.WithDictionaryPageSizeLimit(20_000), parquet.WithDataPageSize(5000),
		parquet.WithDictionaryCostFallbackFor("s", false))
	arrowProps := pqarrow.NewArrowWriterProperties()
	var first []byte
	for range 50 {
		var out bytes.Buffer
		f := must(newFlatFile(schema, &out, props, arrowProps))
		must(0, f.write([]arrow.RecordBatch{batch}))
		must(0, f.close())
		if first == nil {
			first = out.Bytes()
			chunk := must(must(file.NewParquetReader(bytes.NewReader(first))).MetaData().RowGroup(0).ColumnChunk(0))
			if n := len(chunk.EncodingStats()); n != 3 {
				t.Fatalf("the column has %d kinds of pages: the test shows nothing", n)
			}
		}
		if !bytes.Equal(out.Bytes(), first) {
			t.Fatal("the same rows made another file")
		}
	}
}

func FuzzFlatFile(f *testing.F) {
	f.Add(uint64(1), uint16(10), uint16(3))
	f.Fuzz(func(t *testing.T, seed uint64, rows, most uint16) {
		sameAsLibrary(t, seed, 1+int(rows)%5000, 1+int64(most))
	})
}
