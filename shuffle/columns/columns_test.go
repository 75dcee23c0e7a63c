package columns

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// packAll packs a batch and returns the chunks by partition.
func packAll(t *testing.T, c *Codec, alloc mem.Allocator, batch arrow.RecordBatch, p *Partitioning, maxChunk int64) [][]shuffle.Chunk {
	t.Helper()
	chunks := make([][]shuffle.Chunk, p.Parts())
	for ch, err := range c.Pack(batch, p, alloc.Alloc, maxChunk) {
		if err != nil {
			t.Fatal(err)
		}
		if int64(ch.Data.Len()) > maxChunk {
			t.Fatalf("chunk of %d bytes, at most %d were allowed", ch.Data.Len(), maxChunk)
		}
		chunks[ch.Partition] = append(chunks[ch.Partition], ch)
	}
	return chunks
}

// unpackAll unpacks chunks and concatenates them, checking their hashes; it releases the chunks.
func unpackAll(t *testing.T, c *Codec, chunks []shuffle.Chunk, alloc memory.Allocator) arrow.RecordBatch {
	t.Helper()
	var batches []arrow.RecordBatch
	for _, ch := range chunks {
		b, err := c.Unpack(ch)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Release()
		ch.Release()
		h, err := c.Hash(b)
		if err != nil || h != ch.Hash {
			t.Fatalf("rows hash to %v, the chunk says %v (%v)", h, ch.Hash, err)
		}
		batches = append(batches, b)
	}
	all, err := c.Concat(batches, alloc)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// rowsOf concatenates single rows of a batch: the slow and obvious way to pick rows.
func rowsOf(t *testing.T, c *Codec, batch arrow.RecordBatch, rows []int32, alloc memory.Allocator) arrow.RecordBatch {
	t.Helper()
	var ones []arrow.RecordBatch
	for _, row := range rows {
		one := batch.NewSlice(int64(row), int64(row)+1)
		defer one.Release()
		ones = append(ones, one)
	}
	all, err := c.Concat(ones, alloc)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every type makes the round trip, also from slices, with and without nulls, cut into small chunks or not,
// and the hash of a batch is the sum of its chunks'.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(12) {
		for _, nulls := range []float64{0, 0.2, 1} {
			t.Run(fmt.Sprintf("seed=%d/nulls=%v", seed, nulls), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 3))
				roundTrip(t, rng, allTypes, []int{0, 27}, nulls)
			})
		}
	}
}

// The same with schemas that are made up, nested in every way, and every column as a key.
func TestRoundTripRandomSchemas(t *testing.T) {
	seeds := uint64(1500)
	if testing.Short() {
		seeds = 300
	}
	kinds := make(map[arrow.Type]bool)
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 4))
		schema := randomSchema(rng)
		for _, f := range schema.Fields() {
			kinds[f.Type.ID()] = true
		}
		keys := rng.Perm(schema.NumFields())
		if !t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			roundTrip(t, rng, schema, keys[:1+rng.IntN(len(keys))], []float64{0, 0.2, 1}[rng.IntN(3)])
		}) {
			t.Log(schema)
			break
		}
	}
	if len(kinds) < 30 {
		t.Errorf("only %d kinds of types were tried", len(kinds))
	}
}

func roundTrip(t *testing.T, rng *rand.Rand, schema *arrow.Schema, keys []int, nulls float64) {
	codec, err := NewCodec(schema)
	if err != nil {
		t.Fatal(err)
	}
	arrowAlloc := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer arrowAlloc.AssertSize(t, 0)
	alloc := mem.NewChecked(t, mem.Host())
	whole := randomBatch(rng, arrowAlloc, schema, 1+rng.IntN(150), nulls)
	defer whole.Release()
	from := rng.Int64N(whole.NumRows() + 1)
	batch := whole.NewSlice(from, from+rng.Int64N(whole.NumRows()-from+1))
	defer batch.Release()
	p, err := HashPartition(batch, keys, 1+rng.IntN(9), 0)
	if err != nil {
		t.Fatal(err)
	}
	want, err := codec.Hash(batch)
	if err != nil {
		t.Fatal(err)
	}
	maxChunk := []int64{1 << 30, 16 << 10}[rng.IntN(2)]
	var sum shuffle.Hash
	for part, chunks := range packAll(t, codec, alloc, batch, p, maxChunk) {
		rows := p.rows()[p.bounds[part]:p.bounds[part+1]]
		if len(rows) == 0 && len(chunks) > 0 {
			t.Fatal("a chunk without rows")
		}
		for _, ch := range chunks {
			sum = sum.Add(ch.Hash)
		}
		got := unpackAll(t, codec, chunks, arrowAlloc)
		exp := rowsOf(t, codec, batch, rows, arrowAlloc)
		if d := difference(codec, got, exp); d != "" {
			t.Fatalf("partition %d: %s", part, d)
		}
		// A row hashes alike wherever it lies, so equal keys meet.
		hashes, err := HashRows(got, keys, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hashes {
			if int(h)%p.Parts() != part {
				t.Fatalf("a row of partition %d would now go to %d", part, int(h)%p.Parts())
			}
		}
		got.Release()
		exp.Release()
	}
	if sum != want {
		t.Fatal("the chunks' hashes do not add up to the batch's")
	}
}

// difference says where two batches differ: in the text of a value, or in the hash of a row, which sees every
// bit. Arrow's own comparison would tell apart dictionaries that are numbered differently.
func difference(c *Codec, a, b arrow.RecordBatch) string {
	if a.NumRows() != b.NumRows() || a.NumCols() != b.NumCols() {
		return fmt.Sprintf("%d x %d, want %d x %d", a.NumRows(), a.NumCols(), b.NumRows(), b.NumCols())
	}
	if !slices.Equal(rowHashes(c, a), rowHashes(c, b)) {
		return "rows hash differently"
	}
	// Inside of a union Arrow writes an empty string or list as null if its array has no bytes at all.
	text := func(arr arrow.Array, row int) string {
		return strings.NewReplacer(`""`, "null", "[]", "null").Replace(arr.ValueStr(row))
	}
	for i := range int(a.NumCols()) {
		x, y := a.Column(i), b.Column(i)
		if !arrow.TypeEqual(x.DataType(), y.DataType()) || x.NullN() != y.NullN() {
			return fmt.Sprintf("column %s: %s with %d nulls, want %s with %d", a.ColumnName(i), x.DataType(), x.NullN(), y.DataType(), y.NullN())
		}
		for row := range x.Len() {
			if x.IsNull(row) != y.IsNull(row) || text(x, row) != text(y, row) {
				return fmt.Sprintf("column %s, row %d: %s, want %s", a.ColumnName(i), row, x.ValueStr(row), y.ValueStr(row))
			}
		}
	}
	return ""
}

func TestExtensionTypes(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: extensions.NewUUIDType()}, {Name: "flag", Type: extensions.NewBool8Type()},
	}, nil)
	codec, err := NewCodec(schema)
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i := range 40 {
		must(b.Field(0).AppendValueFromString(fmt.Sprintf("00000000-0000-0000-0000-%012d", i%20)))
		must(b.Field(1).AppendValueFromString(fmt.Sprint(i%3 == 0)))
	}
	batch := b.NewRecordBatch()
	p, err := HashPartition(batch, []int{0, 1}, 4, 0)
	if err != nil {
		t.Fatal(err)
	}
	for part, chunks := range packAll(t, codec, mem.NewChecked(t, mem.Host()), batch, p, 1<<20) {
		got := unpackAll(t, codec, chunks, memory.DefaultAllocator)
		want := rowsOf(t, codec, batch, p.rows()[p.bounds[part]:p.bounds[part+1]], memory.DefaultAllocator)
		if d := difference(codec, got, want); d != "" || got.Column(0).DataType().ID() != arrow.EXTENSION {
			t.Fatalf("partition %d: %s", part, d)
		}
		got.Release()
	}
}

// The hash of a row is that of its values, whatever they are stored in.
func TestHashIndependentOfLayout(t *testing.T) {
	build := func(dt arrow.DataType, values ...string) arrow.RecordBatch {
		b := array.NewBuilder(memory.DefaultAllocator, dt)
		for _, v := range values {
			if v == "-" {
				b.AppendNull()
			} else {
				must(b.AppendValueFromString(v))
			}
		}
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: dt, Nullable: true}}, nil)
		return array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, int64(len(values)))
	}
	hash := func(b arrow.RecordBatch) shuffle.Hash {
		c, err := NewCodec(b.Schema())
		must(err)
		h, err := c.Hash(b)
		must(err)
		return h
	}
	dict := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	plain := hash(build(arrow.BinaryTypes.String, "b", "-", "a", "b"))
	for name, other := range map[string]arrow.RecordBatch{
		"other order":   build(arrow.BinaryTypes.String, "b", "a", "b", "-"),
		"large offsets": build(arrow.BinaryTypes.LargeString, "b", "-", "a", "b"),
		"dictionary":    build(dict, "a", "b", "-", "b"),
		"slice":         build(arrow.BinaryTypes.String, "zzz", "b", "-", "a", "b").NewSlice(1, 5),
	} {
		if hash(other) != plain {
			t.Errorf("%s: another hash", name)
		}
	}
	for name, other := range map[string]arrow.RecordBatch{
		"a row less":     build(arrow.BinaryTypes.String, "b", "-", "a"),
		"a row twice":    build(arrow.BinaryTypes.String, "b", "b", "-", "a", "b"),
		"empty for null": build(arrow.BinaryTypes.String, "b", "", "a", "b"),
		"a row changed":  build(arrow.BinaryTypes.String, "b", "-", "a", "c"),
	} {
		if hash(other) == plain {
			t.Errorf("%s: the same hash", name)
		}
	}
	if hash(build(arrow.PrimitiveTypes.Float64, "0")) == hash(build(arrow.PrimitiveTypes.Float64, "-0")) {
		t.Error("zeros of both signs have the same hash although their bits differ")
	}
}

// Values that cuDF's own documentation and tests give, and MurmurHash3's.
func TestHashRowsGolden(t *testing.T) {
	column := func(b array.Builder, values ...string) arrow.Array {
		for _, v := range values {
			if v == "null" {
				b.AppendNull()
			} else {
				must(b.AppendValueFromString(v))
			}
		}
		return b.NewArray()
	}
	m := memory.DefaultAllocator
	ints := func() arrow.Array { return column(array.NewInt64Builder(m), "10", "120", "30") }
	floats := func() arrow.Array { return column(array.NewFloat64Builder(m), "0", "0.25", "0.5") }
	for _, tc := range []struct {
		name string
		cols []arrow.Array
		seed uint32
		want []uint32
	}{
		{"DataFrame.hash_values, seed 0", []arrow.Array{ints()}, 0, []uint32{4004982076, 2063150778, 699010651}},
		{"DataFrame.hash_values, seed 42", []arrow.Array{ints()}, 42, []uint32{4279022973, 1654398277, 1497690768}},
		{"two columns", []arrow.Array{ints(), floats()}, 0, []uint32{92443192, 116637743, 2602001908}},
		{"strings", []arrow.Array{column(array.NewStringBuilder(m), "A", "", "null")}, 0, []uint32{1423767502, 0, math.MaxUint32}},
		// From cuDF's SerialMurmurHash3Test, whose single column with a seed is the plain hash.
		{"strings, seed 314", []arrow.Array{column(array.NewStringBuilder(m), "", "The quick brown fox",
			"jumps over the lazy dog.", "All work and no play makes Jack a dull boy")}, 314,
			[]uint32{1467149710, 0xffffffff - 680899318 + 1, 0xffffffff - 1620282500 + 1, 91106683}},
		{"ints, seed 42", []arrow.Array{column(array.NewInt32Builder(m), "0", "100", "-100", "-2147483648", "2147483647")}, 42,
			[]uint32{933211791, 751823303, 0xffffffff - 1080202046 + 1, 723455942, 133916647}},
	} {
		var fields []arrow.Field
		var keys []int
		for i, col := range tc.cols {
			fields = append(fields, arrow.Field{Name: fmt.Sprint(i), Type: col.DataType(), Nullable: true})
			keys = append(keys, i)
		}
		batch := array.NewRecordBatch(arrow.NewSchema(fields, nil), tc.cols, int64(tc.cols[0].Len()))
		got, err := HashRows(batch, keys, tc.seed)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}

// Values that compare equal hash alike, in every width and representation.
func TestHashRowsNormalizes(t *testing.T) {
	m := memory.DefaultAllocator
	f64 := array.NewFloat64Builder(m)
	f64.AppendValues([]float64{0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(0xfff8000000000001), 1}, nil)
	f32 := array.NewFloat32Builder(m)
	f32.AppendValues([]float32{0, float32(math.Copysign(0, -1)), float32(math.NaN()), math.Float32frombits(0xffc00001), 1}, nil)
	for _, col := range []arrow.Array{f64.NewArray(), f32.NewArray()} {
		batch := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "x", Type: col.DataType()}}, nil), []arrow.Array{col}, 5)
		h, err := HashRows(batch, []int{0}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if h[0] != h[1] || h[2] != h[3] || h[0] == h[4] || h[2] == h[4] {
			t.Errorf("%s: %d", col.DataType(), h)
		}
	}
	// A dictionary and a sliced column hash like plain ones; so does a bool like its byte.
	db := array.NewDictionaryBuilder(m, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}).(*array.BinaryDictionaryBuilder)
	sb := array.NewStringBuilder(m)
	for _, s := range []string{"x", "y", "x", "zz"} {
		must(db.AppendString(s))
		sb.Append(s)
	}
	d, s := db.NewArray(), sb.NewArray()
	batch := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "d", Type: d.DataType()}, {Name: "s", Type: s.DataType()}}, nil), []arrow.Array{d, s}, 4)
	hd, err := HashRows(batch.NewSlice(1, 4), []int{0}, 7)
	must(err)
	hs, err := HashRows(batch.NewSlice(1, 4), []int{1}, 7)
	must(err)
	if fmt.Sprint(hd) != fmt.Sprint(hs) || hs[1] != murmur3([]byte("x"), 7) {
		t.Errorf("dictionary %d, strings %d", hd, hs)
	}
}

func TestSplitAt(t *testing.T) {
	p, err := SplitAt(10, []int64{0, 3, 3, 10})
	if err != nil || fmt.Sprint(p.bounds) != "[0 0 3 3 10 10]" || p.Parts() != 5 || p.Rows(3) != 7 {
		t.Fatal(p, err)
	}
	for _, at := range [][]int64{{-1}, {11}, {5, 4}} {
		if _, err := SplitAt(10, at); err == nil {
			t.Errorf("splits %d of 10 rows were taken", at)
		}
	}
	if _, err := SplitAt(-1, nil); err == nil {
		t.Error("a negative number of rows was taken")
	}
}

func TestRefusals(t *testing.T) {
	union := arrow.SparseUnionOf([]arrow.Field{{Name: "u", Type: arrow.PrimitiveTypes.Int8}}, []int8{0})
	dict := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: union}
	for _, dt := range []arrow.DataType{dict, arrow.StructOf(arrow.Field{Name: "deep", Type: dict})} {
		_, err := NewCodec(arrow.NewSchema([]arrow.Field{{Name: "col", Type: dt}}, nil))
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "col") {
			t.Errorf("%s: %v", dt, err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	batch := randomBatch(rng, memory.DefaultAllocator, allTypes, 20, 0)
	for _, bad := range []func() error{
		func() error { _, err := HashPartition(batch, []int{99}, 3, 0); return err },
		func() error { _, err := HashPartition(batch, nil, 3, 0); return err },
		func() error { _, err := HashPartition(batch, []int{0}, 0, 0); return err },
	} {
		if bad() == nil {
			t.Error("bad arguments were taken")
		}
	}
	codec, err := NewCodec(allTypes)
	must(err)
	p, err := SplitAt(20, nil)
	must(err)
	fails := func(name string, batch arrow.RecordBatch, p *Partitioning, max int64, want error) {
		for ch, err := range codec.Pack(batch, p, mem.Host().Alloc, max) {
			if err == nil || want != nil && !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
			ch.Release()
		}
	}
	fails("a row too large", batch, p, 100, shuffle.ErrChunkTooLarge)
	fails("another batch", batch.NewSlice(0, 5), p, 1<<20, nil)
	other, err := NewCodec(arrow.NewSchema(allTypes.Fields()[:3], nil))
	must(err)
	if _, err := other.Hash(batch); err == nil {
		t.Error("a batch of another schema was hashed")
	}
	refused := errors.New("no memory today")
	for _, err := range codec.Pack(batch, p, func(int) (*mem.Buffer, error) { return nil, refused }, 1<<20) {
		if !errors.Is(err, refused) {
			t.Error(err)
		}
	}
	for ch, err := range codec.Pack(batch, p, mem.Host().Alloc, 1<<20) {
		must(err)
		if _, err := other.Unpack(ch); !errors.Is(err, shuffle.ErrMismatch) && !errors.Is(err, shuffle.ErrCorrupt) {
			t.Errorf("unpack with another schema: %v", err)
		}
		ch.Rows++
		if _, err := codec.Unpack(ch); !errors.Is(err, shuffle.ErrCorrupt) {
			t.Errorf("unpack with another row count: %v", err)
		}
		ch.Meta = nil
		if _, err := codec.Unpack(ch); !errors.Is(err, shuffle.ErrCorrupt) {
			t.Errorf("unpack without meta: %v", err)
		}
		if refs := ch.Data.Refs(); refs != 1 {
			t.Errorf("failed unpacks left %d references", refs-1)
		}
		ch.Release()
	}
}

// FuzzUnpack changes packed bytes. Unpack refuses them or returns a batch that can be read throughout.
func FuzzUnpack(f *testing.F) {
	codec, err := NewCodec(allTypes)
	must(err)
	rng := rand.New(rand.NewPCG(5, 5))
	for _, nulls := range []float64{0, 0.3} {
		batch := randomBatch(rng, memory.DefaultAllocator, allTypes, 7, nulls)
		p, err := SplitAt(7, nil)
		must(err)
		for ch, err := range codec.Pack(batch, p, mem.Host().Alloc, 1<<20) {
			must(err)
			f.Add(ch.Data.Bytes(), uint16(0), uint64(1))
			f.Add(ch.Data.Bytes(), uint16(blockFixed+16*codec.nodes), ^uint64(0))
			f.Add(ch.Data.Bytes()[:len(ch.Data.Bytes())/2], uint16(30), uint64(1)<<40)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, at uint16, flip uint64) {
		unpackHostile(t, codec, 7, data, int(at), flip)
	})
}

// FuzzUnpackSchemas does the same with schemas that are made up, so that every type is in every place.
func FuzzUnpackSchemas(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, uint16(blockFixed+8*seed), uint64(1)<<seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64, at uint16, flip uint64) {
		rng := rand.New(rand.NewPCG(seed, 6))
		schema := randomSchema(rng)
		codec, err := NewCodec(schema)
		must(err)
		batch := randomBatch(rng, memory.DefaultAllocator, schema, 9, rng.Float64()/2)
		p, err := SplitAt(9, nil)
		must(err)
		for ch, err := range codec.Pack(batch, p, mem.Host().Alloc, 1<<20) {
			must(err)
			data := ch.Data.Bytes()
			unpackHostile(t, codec, 9, data, int(at)%len(data), flip)
			// The lengths and counts are where it hurts, and there are more other bytes.
			unpackHostile(t, codec, 9, data, blockFixed+8*(int(at)%(2*codec.nodes+codec.buffers)), flip)
			unpackHostile(t, codec, 9, data[:int(at)%len(data)], 0, 0)
		}
	})
}

// unpackHostile unpacks a copy of data after xoring flip into it, and reads what comes of it.
func unpackHostile(t *testing.T, codec *Codec, rows int64, data []byte, at int, flip uint64) {
	data = append([]byte(nil), data...)
	for i := range 8 {
		if at+i < len(data) {
			data[at+i] ^= byte(flip >> (8 * i))
		}
	}
	buf := mem.NewHostBuffer(mem.TierHost, data, nil)
	batch, err := codec.Unpack(shuffle.Chunk{Rows: rows, Meta: codec.meta, Data: buf})
	if err == nil {
		for i := range int(batch.NumCols()) {
			for row := range int(batch.NumRows()) {
				_ = batch.Column(i).ValueStr(row)
			}
		}
		if _, err := codec.Hash(batch); err != nil {
			t.Error(err)
		}
		batch.Release()
	}
	if buf.Refs() != 1 {
		t.Errorf("%d references are left", buf.Refs()-1)
	}
}

func BenchmarkPack(b *testing.B) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "key", Type: arrow.PrimitiveTypes.Uint64}, {Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	codec, err := NewCodec(schema)
	must(err)
	rng := rand.New(rand.NewPCG(1, 2))
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	const rows = 64 << 10
	for range rows {
		builder.Field(0).(*array.Uint64Builder).Append(rng.Uint64())
		builder.Field(1).(*array.Int64Builder).Append(rng.Int64())
	}
	batch := builder.NewRecordBatch()
	for _, parts := range []int{16, 256} {
		b.Run(fmt.Sprintf("parts=%d", parts), func(b *testing.B) {
			b.SetBytes(16 * rows)
			for b.Loop() {
				p, err := HashPartition(batch, []int{0}, parts, 0)
				must(err)
				for ch, err := range codec.Pack(batch, p, mem.Host().Alloc, 1<<20) {
					must(err)
					ch.Release()
				}
			}
		})
	}
}

// TestMovedIsGathered packs batches whose columns are moved to their partitions, all of them or some, and the same rows picked
// one by one: every chunk has the same bytes and the same hash.
func TestMovedIsGathered(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 31))
	types := []arrow.DataType{
		arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
		arrow.FixedWidthTypes.Timestamp_us, &arrow.Decimal64Type{Precision: 12, Scale: 2}, arrow.BinaryTypes.String, arrow.FixedWidthTypes.Boolean,
		&arrow.FixedSizeBinaryType{ByteWidth: 3}, arrow.PrimitiveTypes.Uint64,
	}
	var p Partitioning // its memory serves batch after batch
	for round := range 60 {
		fields := []arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}
		for i := range rng.IntN(5) {
			n := 7 // those that are moved
			if round%3 == 0 {
				n = len(types)
			}
			fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: types[rng.IntN(n)], Nullable: true})
		}
		schema := arrow.NewSchema(fields, nil)
		rows, nulls := rng.IntN(3000), 0.0
		if round%5 == 0 {
			nulls = 0.1
		}
		if round == 59 {
			schema, rows = arrow.NewSchema([]arrow.Field{fields[0], {Name: "v", Type: types[0]}, {Name: "w", Type: types[10]}}, nil), 140_000
		}
		whole := randomBatch(rng, memory.DefaultAllocator, schema, rows, nulls)
		from := rng.Int64N(whole.NumRows() + 1)
		batch := whole.NewSlice(from, whole.NumRows())
		codec, err := NewCodec(schema)
		if err != nil {
			t.Fatal(err)
		}
		parts := []int{1, 2, 7, 256, 3000}[rng.IntN(5)]
		if round == 59 {
			parts = 256
		}
		if err := p.Hash(batch, []int{0}, parts, uint32(round)); err != nil {
			t.Fatal(err)
		}
		one := &Partitioning{bounds: p.bounds, order: slices.Clone(p.rows())} // of which it is not known whose rows they are
		pack := func(p *Partitioning) (chunks []shuffle.Chunk) {
			for c, err := range codec.Pack(batch, p, mem.Host().Alloc, 4096) {
				if err != nil {
					t.Fatal(err)
				}
				chunks = append(chunks, c)
			}
			return chunks
		}
		got, want := pack(&p), pack(one)
		if len(got) != len(want) {
			t.Fatalf("%s: %d chunks, want %d", schema, len(got), len(want))
		}
		for i := range want {
			if got[i].Hash != want[i].Hash || got[i].Rows != want[i].Rows || got[i].Partition != want[i].Partition ||
				!bytes.Equal(got[i].Data.Bytes(), want[i].Data.Bytes()) {
				t.Fatalf("%s: chunk %d of partition %d differs", schema, i, want[i].Partition)
			}
		}
		shuffle.ReleaseAll(got)
		shuffle.ReleaseAll(want)
	}
}
