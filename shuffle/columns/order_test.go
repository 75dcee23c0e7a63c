package columns

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Every type of column is in the order that its text form, read one by one, must have: these rows ascend.
func TestSorterOrder(t *testing.T) {
	nan, neg := math.NaN(), math.Float64frombits(0xfff8000000000001)
	for _, tc := range []struct {
		dt   arrow.DataType
		rows string // JSON
	}{
		{arrow.FixedWidthTypes.Boolean, `[false, true, null]`},
		{arrow.PrimitiveTypes.Int8, `[-128, -1, 0, 1, 127, null]`},
		{arrow.PrimitiveTypes.Uint16, `[0, 1, 255, 256, 65535, null]`},
		{arrow.PrimitiveTypes.Int64, `[-9223372036854775808, -256, -255, 0, 255, 256, 9223372036854775807, null]`},
		{arrow.BinaryTypes.String, `["", "\u0000", "\u0000a", "\u0001", "a", "a\u0000", "a\u0000b", "ab", "b", "é", null]`},
		{arrow.BinaryTypes.StringView, `["", "a", "aaaaaaaaaaaaaaaaa", "b", null]`},
		{&arrow.Decimal128Type{Precision: 30, Scale: 2}, `["-100000000000000000000.00", "-1.50", "0.00", "1.50", "100000000000000000000.00", null]`},
		{arrow.FixedWidthTypes.Date32, `["1960-01-01", "1970-01-01", "2024-02-29", null]`},
		{arrow.ListOf(arrow.PrimitiveTypes.Int32), `[[], [-1], [0], [0, 0], [0, null], [1], [null], null]`},
		{arrow.ListViewOf(arrow.BinaryTypes.String), `[[], ["a"], ["a", "b"], ["ab"], null]`},
		{arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int8, Nullable: true}, arrow.Field{Name: "b", Type: arrow.BinaryTypes.String, Nullable: true}),
			`[{"a": 1, "b": "x"}, {"a": 1, "b": null}, {"a": 2, "b": "a"}, {"a": null, "b": "a"}, null]`},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, `["a", "b", "c", null]`},
		{arrow.FixedWidthTypes.MonthDayNanoInterval, `[{"months": -1, "days": 5, "nanoseconds": 5}, {"months": 1, "days": 2, "nanoseconds": 9}, {"months": 1, "days": 3, "nanoseconds": 0}, null]`},
	} {
		arr, _, err := array.FromJSON(memory.DefaultAllocator, tc.dt, bytes.NewReader([]byte(tc.rows)))
		if err != nil {
			t.Fatal(tc.dt, err)
		}
		ascends(t, arr)
	}
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	b.AppendValues([]float64{neg, math.Inf(-1), -1.5, -math.SmallestNonzeroFloat64, math.Copysign(0, -1), 0, math.SmallestNonzeroFloat64, 1, math.Inf(1), nan}, nil)
	ascends(t, b.NewArray())
}

func ascends(t *testing.T, arr arrow.Array) {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arr.DataType(), Nullable: true}}, nil)
	s, err := NewSorter(schema, []int{0})
	must(err)
	s.Reset(array.NewRecordBatch(schema, []arrow.Array{arr}, int64(arr.Len())))
	for i := 1; i < arr.Len(); i++ {
		x := s.Append(nil, i-1)
		if y := s.Key(i); bytes.Compare(x, y) >= 0 {
			t.Errorf("%s: row %d (%s) does not come before row %d (%s): %x, %x", arr.DataType(), i-1, arr.ValueStr(i-1), i, arr.ValueStr(i), x, y)
		}
	}
}

// Keys of any type are equal exactly where the rows are, over several columns, and do not depend on how the rows are laid
// out; the partitions of a range partitioning are in order and keep equal keys together.
func TestSorterRandom(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 8))
		schema := randomSchema(rng)
		codec, err := NewCodec(schema)
		must(err)
		batch := randomBatch(rng, memory.DefaultAllocator, schema, 80, 0.2)
		keys := rng.Perm(schema.NumFields())[:1+rng.IntN(2)]
		s, err := NewSorter(schema, keys)
		must(err)
		var fields []arrow.Field
		var cols []arrow.Array
		for _, k := range keys {
			fields, cols = append(fields, schema.Field(k)), append(cols, batch.Column(k))
		}
		keyCodec, err := NewCodec(arrow.NewSchema(fields, nil))
		must(err)
		hashes, err := keyCodec.RowHashes(array.NewRecordBatch(keyCodec.Schema(), cols, batch.NumRows()))
		must(err)
		s.Reset(batch)
		var all [][]byte
		for row := range int(batch.NumRows()) {
			all = append(all, s.Append(nil, row))
		}
		for i := range all {
			for k := range all {
				if bytes.Equal(all[i], all[k]) != (hashes[i] == hashes[k]) {
					t.Fatalf("seed %d: rows %d and %d: the keys are equal: %v, the values are: %v", seed, i, k, bytes.Equal(all[i], all[k]), hashes[i] == hashes[k])
				}
			}
		}
		splitters := [][]byte{all[3], all[50], all[20]}
		slices.SortFunc(splitters, bytes.Compare)
		p := s.Partition(splitters)
		for part := range p.Parts() {
			rows := p.rows()[p.bounds[part]:p.bounds[part+1]]
			if !slices.IsSorted(rows) {
				t.Fatalf("seed %d: partition %d has rows %d", seed, part, rows)
			}
			for _, row := range rows {
				if part > 0 && bytes.Compare(all[row], splitters[part-1]) < 0 || part < len(splitters) && bytes.Compare(all[row], splitters[part]) >= 0 {
					t.Fatalf("seed %d: row %d is in partition %d", seed, row, part)
				}
			}
			for ch, err := range codec.Pack(batch, p, mem.Host().Alloc, 1<<20) {
				must(err)
				if ch.Partition == part {
					b, err := codec.Unpack(ch)
					must(err)
					s.Reset(b)
					for i, row := range rows {
						if !bytes.Equal(s.Key(i), all[row]) {
							t.Fatalf("seed %d: row %d has another key in its chunk", seed, row)
						}
					}
					b.Release()
				}
				ch.Release()
			}
			s.Reset(batch)
		}
	}
}

// Nested keys hash as nested.go says, step by step.
func TestHashNestedKeys(t *testing.T) {
	dt := arrow.StructOf(
		arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		arrow.Field{Name: "l", Type: arrow.ListOf(arrow.StructOf(
			arrow.Field{Name: "b", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
			arrow.Field{Name: "c", Type: arrow.BinaryTypes.String, Nullable: true},
		)), Nullable: true},
	)
	arr, _, err := array.FromJSON(memory.DefaultAllocator, dt, bytes.NewReader([]byte(
		`[{"a": 7, "l": [{"b": 1, "c": "x"}, {"b": null, "c": "y"}]}, {"a": null, "l": null}, null]`)))
	must(err)
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: dt, Nullable: true}}, nil)
	got, err := HashRows(array.NewRecordBatch(schema, []arrow.Array{arr}, 3), []int{0}, 0)
	must(err)
	num := func(v int) uint32 { return murmur3(binary.LittleEndian.AppendUint32(nil, uint32(v)), 0) }
	str := func(s string) uint32 { return murmur3([]byte(s), 0) }
	fold := func(vs ...uint32) uint32 {
		h := uint32(0)
		for _, v := range vs {
			h = combine(h, v)
		}
		return h
	}
	const null, valid = math.MaxUint32, 0
	want := []uint32{
		combine(combine(fold(valid, num(7)), fold(valid, num(2), valid, valid, num(1), null)), fold(valid, num(2), str("x"), str("y"))),
		combine(combine(fold(valid, null), fold(null, num(0))), fold(null, num(0))),
		combine(combine(fold(null, null), fold(null, num(0))), fold(null, num(0))),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
}

// What Pack takes beside the batch and the chunks is no more than PackScratch says, but for small change.
func TestPackScratch(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 9))
		schema := randomSchema(rng)
		codec, err := NewCodec(schema)
		must(err)
		batch := randomBatch(rng, memory.DefaultAllocator, schema, 3000, 0.1)
		p, err := HashPartition(batch, []int{0}, 16, 0)
		must(err)
		buf, err := mem.Host().Alloc(8 << 20)
		must(err)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, err := range codec.Pack(batch, p, func(n int) (*mem.Buffer, error) { return buf.Slice(0, n) }, 8<<20) {
			must(err)
		}
		runtime.ReadMemStats(&after)
		// Lists that grow are counted with all that they leave behind, which is as much again.
		if took, said := int64(after.TotalAlloc-before.TotalAlloc), codec.PackScratch(batch); took > 2*said+256<<10 {
			t.Errorf("seed %d: %d bytes were taken, %d expected: %s", seed, took, said, schema)
		}
	}
}
