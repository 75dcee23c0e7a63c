package columns

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

var unionFields = []arrow.Field{
	{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int8), Nullable: true},
}

// randomType makes up a type, nested at most depth levels deep.
func randomType(rng *rand.Rand, depth int) arrow.DataType {
	if depth == 0 || rng.IntN(3) == 0 {
		for {
			if t := allTypes.Field(rng.IntN(allTypes.NumFields())).Type; !isNested(t) {
				return t
			}
		}
	}
	inner := func() arrow.DataType { return randomType(rng, depth-1) }
	fields := func(least int) []arrow.Field {
		fs := make([]arrow.Field, least+rng.IntN(3))
		for i := range fs {
			fs[i] = arrow.Field{Name: fmt.Sprint("f", i), Type: inner(), Nullable: true}
		}
		return fs
	}
	codes := func(n int) (cs []arrow.UnionTypeCode) {
		for i := range n {
			cs = append(cs, int8(7*i+rng.IntN(7)))
		}
		return cs
	}
	switch rng.IntN(11) {
	case 0:
		return arrow.ListOf(inner())
	case 1:
		return arrow.LargeListOf(inner())
	case 2:
		return arrow.FixedSizeListOf(int32(1+rng.IntN(3)), inner())
	case 3:
		return arrow.ListViewOf(inner())
	case 4:
		return arrow.LargeListViewOf(inner())
	case 5:
		return arrow.MapOf(arrow.BinaryTypes.String, inner())
	case 6:
		fs := fields(1)
		return arrow.SparseUnionOf(fs, codes(len(fs)))
	case 7:
		fs := fields(1)
		return arrow.DenseUnionOf(fs, codes(len(fs)))
	case 8:
		if t := inner(); t.ID() != arrow.RUN_END_ENCODED && t.ID() != arrow.NULL {
			return arrow.RunEndEncodedOf([]arrow.DataType{arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64}[rng.IntN(3)], t)
		}
	}
	return arrow.StructOf(fields(0)...)
}

func isNested(t arrow.DataType) bool {
	_, ok := t.(arrow.NestedType)
	return ok || t.ID() == arrow.RUN_END_ENCODED
}

// randomSchema makes up a schema. The first column is an int64.
func randomSchema(rng *rand.Rand) *arrow.Schema {
	fields := []arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}
	for i := range 1 + rng.IntN(4) {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: randomType(rng, 3), Nullable: true})
	}
	return arrow.NewSchema(fields, nil)
}

// allTypes has one column of every kind that is supported, and nests some.
var allTypes = func() *arrow.Schema {
	types := []arrow.DataType{
		arrow.PrimitiveTypes.Int64, arrow.Null, arrow.FixedWidthTypes.Boolean,
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Uint16,
		arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64, arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64ns,
		arrow.FixedWidthTypes.Timestamp_us, &arrow.TimestampType{Unit: arrow.Second, TimeZone: "Europe/Paris"},
		arrow.FixedWidthTypes.Duration_ms, arrow.FixedWidthTypes.MonthInterval, arrow.FixedWidthTypes.DayTimeInterval,
		arrow.FixedWidthTypes.MonthDayNanoInterval,
		&arrow.Decimal32Type{Precision: 5, Scale: 2}, &arrow.Decimal64Type{Precision: 12, Scale: 2},
		&arrow.Decimal128Type{Precision: 30, Scale: 4}, &arrow.Decimal256Type{Precision: 60, Scale: 4},
		arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.LargeBinary,
		&arrow.FixedSizeBinaryType{ByteWidth: 3}, &arrow.FixedSizeBinaryType{ByteWidth: 16},
		arrow.ListOf(arrow.PrimitiveTypes.Int32), arrow.LargeListOf(arrow.BinaryTypes.String),
		arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Float32),
		arrow.ListOf(arrow.ListOf(arrow.FixedWidthTypes.Boolean)),
		arrow.StructOf(
			arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int16, Nullable: true},
			arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		),
		arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64),
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint32, ValueType: arrow.PrimitiveTypes.Int64},
		arrow.ListOf(&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}),
		arrow.BinaryTypes.StringView, arrow.BinaryTypes.BinaryView,
		arrow.ListViewOf(arrow.BinaryTypes.String), arrow.LargeListViewOf(arrow.PrimitiveTypes.Int16),
		arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int16, arrow.BinaryTypes.String),
		arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int64, arrow.ListOf(arrow.PrimitiveTypes.Int8)),
		arrow.SparseUnionOf(unionFields, []arrow.UnionTypeCode{5, 0, 9}), arrow.DenseUnionOf(unionFields, []arrow.UnionTypeCode{5, 0, 9}),
		arrow.ListOf(arrow.DenseUnionOf(unionFields, []arrow.UnionTypeCode{5, 0, 9})),
		extensions.NewUUIDType(), extensions.NewBool8Type(),
	}
	var fields []arrow.Field
	for i, t := range types {
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("c%02d_%s", i, t.Name()), Type: t, Nullable: true})
	}
	return arrow.NewSchema(fields, nil)
}()

// randomBatch makes a batch; nulls is the share of nulls. Few distinct keys give partitions several rows.
func randomBatch(rng *rand.Rand, alloc memory.Allocator, schema *arrow.Schema, rows int, nulls float64) arrow.RecordBatch {
	b := array.NewRecordBuilder(alloc, schema)
	defer b.Release()
	for i := range schema.NumFields() {
		for range rows {
			appendRandom(rng, b.Field(i), nulls)
		}
	}
	return b.NewRecordBatch()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func appendRandom(rng *rand.Rand, b array.Builder, nulls float64) {
	if rng.Float64() < nulls {
		b.AppendNull()
		return
	}
	word := func() string {
		s := make([]byte, rng.IntN(17)) // views hold up to 12 bytes in place
		for i := range s {
			s[i] = byte('a' + rng.IntN(26))
		}
		return string(s)
	}
	n := rng.Int64N(50) - 25
	switch b := b.(type) {
	case *array.NullBuilder:
		b.AppendNull()
	case *array.BooleanBuilder:
		b.Append(n > 0)
	case *array.Float16Builder:
		b.Append(float16.New(float32(n) / 2))
	case *array.Float32Builder:
		b.Append(float32(n) / 2)
	case *array.Float64Builder:
		b.Append([]float64{float64(n) / 3, 0, math.Copysign(0, -1), math.NaN(), math.Inf(1)}[rng.IntN(5)])
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(n * 1e6))
	case *array.DurationBuilder:
		b.Append(arrow.Duration(n))
	case *array.MonthIntervalBuilder:
		b.Append(arrow.MonthInterval(n))
	case *array.DayTimeIntervalBuilder:
		b.Append(arrow.DayTimeInterval{Days: int32(n), Milliseconds: int32(n)})
	case *array.MonthDayNanoIntervalBuilder:
		b.Append(arrow.MonthDayNanoInterval{Months: int32(n), Days: 3, Nanoseconds: n})
	case *array.Decimal128Builder:
		b.Append(decimal128.FromI64(n * 1e15))
	case *array.Decimal256Builder:
		b.Append(decimal256.FromI64(n * 1e15))
	case *array.FixedSizeBinaryBuilder:
		v := make([]byte, b.Type().(*arrow.FixedSizeBinaryType).ByteWidth)
		for i := range v {
			v[i] = byte(rng.Uint32())
		}
		b.Append(v)
	case *array.BinaryBuilder:
		b.AppendString(word())
	case array.StringLikeBuilder:
		b.Append(word())
	case *array.BinaryDictionaryBuilder:
		must(b.AppendString(fmt.Sprint("word", n%7)))
	case *array.Int64DictionaryBuilder:
		must(b.Append(n % 7))
	case *array.BinaryViewBuilder:
		b.AppendString(word())
	case *array.RunEndEncodedBuilder:
		if nullable := b.ValueBuilder(); b.Len() > 0 && rng.IntN(2) == 0 {
			b.ContinueRun(1)
		} else {
			b.Append(1)
			appendRandom(rng, nullable, nulls)
		}
	case array.UnionBuilder:
		code := b.Type().(arrow.UnionType).TypeCodes()[rng.IntN(len(b.Type().(arrow.UnionType).TypeCodes()))]
		b.Append(code)
		for k, c := range b.Type().(arrow.UnionType).TypeCodes() {
			if c == code {
				appendRandom(rng, b.Child(k), nulls)
			} else if b.Mode() == arrow.SparseMode {
				appendRandom(rng, b.Child(k), nulls)
			}
		}
	case interface{ StorageBuilder() array.Builder }: // of extension types
		appendRandom(rng, b.StorageBuilder(), nulls)
	case *array.MapBuilder:
		b.Append(true)
		for range rng.IntN(3) {
			appendRandom(rng, b.KeyBuilder(), 0)
			appendRandom(rng, b.ItemBuilder(), nulls)
		}
	case *array.FixedSizeListBuilder:
		b.Append(true)
		for range b.Type().(*arrow.FixedSizeListType).Len() {
			appendRandom(rng, b.ValueBuilder(), nulls)
		}
	case array.VarLenListLikeBuilder:
		n := rng.IntN(4)
		b.AppendWithSize(true, n)
		for range n {
			appendRandom(rng, b.ValueBuilder(), nulls)
		}
	case array.ListLikeBuilder:
		b.Append(true)
		for range rng.IntN(4) {
			appendRandom(rng, b.ValueBuilder(), nulls)
		}
	case *array.StructBuilder:
		b.Append(true)
		for i := range b.NumField() {
			appendRandom(rng, b.FieldBuilder(i), nulls)
		}
	default:
		must(b.AppendValueFromString(valueText(b.Type(), n)))
	}
}

// valueText writes a small number as a value of a type.
func valueText(t arrow.DataType, n int64) string {
	switch t := t.(type) {
	case *arrow.Date32Type, *arrow.Date64Type:
		return fmt.Sprintf("2024-01-%02d", 1+(n+25)%28)
	case *arrow.Time32Type, *arrow.Time64Type:
		return fmt.Sprintf("10:20:%02d", (n+25)%60)
	case arrow.FixedWidthDataType:
		if t.ID() == arrow.UINT8 || t.ID() == arrow.UINT16 || t.ID() == arrow.UINT32 || t.ID() == arrow.UINT64 {
			n += 25
		}
		return fmt.Sprint(n)
	}
	panic(fmt.Sprintf("no values for %s", t))
}

// rowHashes hashes the rows of a batch of the codec's schema.
func rowHashes(c *Codec, batch arrow.RecordBatch) []shuffle.Hash {
	hashes, err := c.RowHashes(batch)
	must(err)
	return hashes
}
