package kerneltest

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// Kinds of columns as the kernels tell them apart.
const (
	plain = iota
	float
	boolean
	str
)

// col is a column on the device and what it was made of.
type col struct {
	dtype    arrow.DataType
	kind     int
	width    int // of a value; of an offset, for strings
	values   uint64
	data     uint64
	validity uint64
	valid    []bool
	arr      arrow.Array
}

var columnTypes = []struct {
	dtype arrow.DataType
	kind  int
	width int
}{
	{arrow.PrimitiveTypes.Int64, plain, 8}, {arrow.PrimitiveTypes.Int32, plain, 4}, {arrow.PrimitiveTypes.Uint16, plain, 2},
	{arrow.PrimitiveTypes.Int8, plain, 1}, {arrow.PrimitiveTypes.Float32, float, 4}, {arrow.PrimitiveTypes.Float64, float, 8},
	{arrow.FixedWidthTypes.Float16, float, 2}, {&arrow.Decimal128Type{Precision: 20}, plain, 16},
	{&arrow.FixedSizeBinaryType{ByteWidth: 5}, plain, 5}, {&arrow.FixedSizeBinaryType{ByteWidth: 21}, plain, 21},
	{arrow.FixedWidthTypes.Boolean, boolean, 1}, {arrow.BinaryTypes.String, str, 4}, {arrow.BinaryTypes.LargeBinary, str, 8},
}

// batch makes random columns: with nulls that hide bytes, and floats of every kind.
func (b *bench) batch(rows int) ([]col, arrow.RecordBatch) {
	var cols []col
	var fields []arrow.Field
	var arrs []arrow.Array
	for i := range 1 + b.rng.IntN(6) {
		t := columnTypes[b.rng.IntN(len(columnTypes))]
		c := col{dtype: t.dtype, kind: t.kind, width: t.width}
		var raw, data []byte
		switch t.kind {
		case boolean:
			raw = make([]byte, (rows+7)/8)
			for k := range raw {
				raw[k] = byte(b.rng.Uint32())
			}
		case str:
			at := uint64(b.rng.IntN(3))
			data = make([]byte, at)
			for k := range rows + 1 {
				if t.width == 4 {
					raw = binary.LittleEndian.AppendUint32(raw, uint32(len(data)))
				} else {
					raw = binary.LittleEndian.AppendUint64(raw, uint64(len(data)))
				}
				if k < rows {
					data = append(data, text(b.rng, []int{0, 1, 2, 3, 4, 7, 8, 9, 16, 17, b.rng.IntN(60), 128, 129, 200, 240, 241, 400, 1025, 2200}[b.rng.IntN(19)])...)
				}
			}
			c.data = put(b, "string bytes", data)
		default:
			raw = make([]byte, rows*t.width)
			for k := range raw {
				raw[k] = byte(b.rng.Uint32())
			}
			for k := range rows {
				if t.kind == float && b.rng.IntN(2) == 0 {
					copy(raw[k*t.width:], special(t.width, b.rng.IntN(5)))
				}
			}
		}
		nulls := 0
		if b.rng.IntN(3) > 0 {
			c.valid = make([]bool, rows)
			for k := range c.valid {
				if c.valid[k] = b.rng.IntN(4) > 0; !c.valid[k] {
					nulls++
				}
			}
			c.validity = b.bits("validity", c.valid)
		}
		c.values = put(b, "values", raw)
		buffers := []*memory.Buffer{nil, memory.NewBufferBytes(raw)}
		if c.valid != nil {
			buffers[0] = memory.NewBufferBytes(packBits(c.valid))
		}
		if t.kind == str {
			buffers = append(buffers, memory.NewBufferBytes(data))
		}
		c.arr = array.MakeFromData(array.NewData(t.dtype, rows, buffers, nil, nulls, 0))
		cols = append(cols, c)
		arrs = append(arrs, c.arr)
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: t.dtype, Nullable: true})
	}
	return cols, array.NewRecordBatch(arrow.NewSchema(fields, nil), arrs, int64(rows))
}

// special returns floats that are hashed alike though they differ: zeros and what is no number.
func special(width, which int) []byte {
	v64 := []uint64{0, 1 << 63, math.Float64bits(math.NaN()), 0xfff8000000000001, math.Float64bits(math.Inf(1))}[which]
	v32 := []uint32{0, 1 << 31, 0x7fc00000, 0xff800001, 0x7f800000}[which]
	v16 := []uint16{0, 1 << 15, 0x7e00, 0xfc01, 0x7c00}[which]
	switch width {
	case 2:
		return binary.LittleEndian.AppendUint16(nil, v16)
	case 4:
		return binary.LittleEndian.AppendUint32(nil, v32)
	}
	return binary.LittleEndian.AppendUint64(nil, v64)
}

// hashes hashes key columns on the device.
func (b *bench) hashes(cols []col, rows int, keys []int, seed uint32) uint64 {
	out := alloc[uint32](b, "hashes", rows)
	for i, k := range keys {
		c, first := cols[k], uint64(0)
		if i == 0 {
			first = 1
		}
		if c.kind == str {
			b.launch("dv_hash_strings", 0, c.values, uint64(c.width), c.data, c.validity, uint64(rows), uint64(seed), first, out)
		} else {
			b.launch("dv_hash_fixed", 0, c.values, uint64(c.width), uint64(c.kind), c.validity, uint64(rows), uint64(seed), first, out)
		}
	}
	return out
}

func testHash(b *bench) {
	for range 4 {
		rows := b.rng.IntN(120)
		cols, batch := b.batch(rows)
		keys := b.rng.Perm(len(cols))[:1+b.rng.IntN(len(cols))]
		seed := b.rng.Uint32()
		want, err := columns.HashRows(batch, keys, seed)
		if err != nil {
			b.Fatal(err)
		}
		at := b.hashes(cols, rows, keys, seed)
		equal(b, "hashes", get[uint32](b, at, rows), want)
		parts, base := 1+b.rng.IntN(1000), b.rng.Uint32N(5)
		for i := range want {
			want[i] = base + want[i]%uint32(parts)
		}
		b.launch("dv_part_of_hash", 0, at, uint64(rows), uint64(parts), uint64(base), at)
		equal(b, "partitions", get[uint32](b, at, rows), want)
	}
	keys := make([]uint64, 300)
	want := make([]uint32, len(keys))
	parts, base := 1+b.rng.IntN(5000), b.rng.IntN(9)
	for i := range keys {
		keys[i] = b.rng.Uint64() >> b.rng.IntN(64)
		want[i] = uint32(base + partOf(keys[i], parts))
	}
	out := alloc[uint32](b, "partitions", len(keys))
	b.launch("dv_part_of_key", 0, put(b, "keys", keys), uint64(len(keys)), uint64(parts), uint64(base), out)
	equal(b, "partitions of keys", get[uint32](b, out, len(keys)), want)
}

// order returns rows by partition, and where partitions begin.
func (b *bench) order(part uint64, rows, parts int) (order, bounds uint64) {
	tiles := (rows + 1023) / 1024
	counts := zeros[uint64](b, "counts", parts*tiles+1)
	b.launch("dv_part_count", 0, part, uint64(rows), uint64(parts), counts)
	b.scan(counts, parts*tiles, true)
	bounds, order = alloc[uint64](b, "bounds", parts+1), alloc[uint32](b, "order", rows)
	b.launch("dv_part_bounds", 0, counts, uint64(rows), uint64(parts), bounds)
	b.launch("dv_part_order", 0, part, uint64(rows), uint64(parts), counts, order)
	return order, bounds
}

// partition is columns.group.
func partition(part []uint32, parts int) (order []uint32, bounds []uint64) {
	bounds = []uint64{0}
	for p := range parts {
		for row, q := range part {
			if int(q) == p {
				order = append(order, uint32(row))
			}
		}
		bounds = append(bounds, uint64(len(order)))
	}
	return order, bounds
}

func testPartition(b *bench) {
	for _, rows := range []int{0, 1, 31, 33, 1024, 1025 + b.rng.IntN(1500)} {
		parts := 1 + b.rng.IntN([]int{3, 40, 700}[b.rng.IntN(3)])
		part := make([]uint32, rows)
		for i := range part {
			part[i] = b.rng.Uint32N(uint32(parts))
		}
		wantOrder, wantBounds := partition(part, parts)
		order, bounds := b.order(put(b, "part", part), rows, parts)
		equal(b, "bounds", get[uint64](b, bounds, parts+1), wantBounds)
		equal(b, "order", get[uint32](b, order, rows), wantOrder)
	}
}

// testPack hashes, partitions and packs a batch by kernels, puts what they make into the format of a chunk, and compares that
// with what columns.Codec.Pack makes, byte for byte, and the row hashes with the chunk's.
func testPack(b *bench) {
	for range 2 {
		rows, parts := 1+b.rng.IntN(400), 1+b.rng.IntN(5)
		cols, batch := b.batch(rows)
		keys := []int{b.rng.IntN(len(cols))}
		part := b.hashes(cols, rows, keys, 0)
		b.launch("dv_part_of_hash", 0, part, uint64(rows), uint64(parts), 0, part)
		order, at := b.order(part, rows, parts)
		bounds := get[uint64](b, at, parts+1)
		sums := alloc[uint64](b, "sums", 2*parts)
		b.launch("dv_row_hash_sum", 0, b.rowHashes(cols, rows), order, at, uint64(parts), sums)
		sum := get[uint64](b, sums, 2*parts)

		codec, err := columns.NewCodec(batch.Schema())
		if err != nil {
			b.Fatal(err)
		}
		p, err := columns.HashPartition(batch, keys, parts, 0)
		if err != nil {
			b.Fatal(err)
		}
		for chunk, err := range codec.Pack(batch, p, mem.Host().Alloc, 1<<30) {
			if err != nil {
				b.Fatal(err)
			}
			k := chunk.Partition
			if got := (shuffle.Hash{A: sum[2*k], B: sum[2*k+1]}); got != chunk.Hash {
				b.Fatalf("partition %d hashes to %v, want %v", k, got, chunk.Hash)
			}
			want := chunk.Data.Bytes()
			got := b.chunk(cols, want[:24], order, int(bounds[k]), int(bounds[k+1]-bounds[k]))
			if !slices.Equal(got, want) {
				i := 0
				for i < min(len(got), len(want)) && got[i] == want[i] {
					i++
				}
				b.Fatalf("partition %d of %v: byte %d of %d (%d) differs", k, batch.Schema(), i, len(want), len(got))
			}
			chunk.Release()
		}
	}
}

// chunk packs rows of a partition on the device and lays the results out as a chunk.
func (b *bench) chunk(cols []col, head []byte, order uint64, first, rows int) []byte {
	le := binary.LittleEndian
	var nodes, lengths, data []byte
	buffer := func(v []byte) {
		lengths = le.AppendUint64(lengths, uint64(len(v)))
		data = append(data, v...)
		for len(data)%8 != 0 {
			data = append(data, 0)
		}
	}
	for _, c := range cols {
		place := []uint64{order, uint64(first), uint64(rows)}
		valid := rows
		var bitmap []byte
		if c.validity != 0 {
			out, ones := alloc[byte](b, "packed validity", (rows+7)/8), zeros[uint64](b, "ones", 1)
			b.launch("dv_pack_bits", 0, append([]uint64{c.validity, 0}, append(place, out, ones)...)...)
			valid = int(get[uint64](b, ones, 1)[0])
			bitmap = get[byte](b, out, (rows+7)/8)
		}
		nodes = le.AppendUint64(nodes, uint64(rows))
		nodes = le.AppendUint64(nodes, uint64(rows-valid))
		if valid == rows {
			bitmap = nil
		}
		buffer(bitmap)
		switch c.kind {
		case boolean:
			out, ones := alloc[byte](b, "packed bits", (rows+7)/8), zeros[uint64](b, "ones", 1)
			b.launch("dv_pack_bits", 0, append([]uint64{c.values, c.validity}, append(place, out, ones)...)...)
			buffer(get[byte](b, out, (rows+7)/8))
		case str:
			lengths := alloc[uint64](b, "lengths", rows+1)
			b.launch("dv_pack_lengths", 0, append([]uint64{c.values, uint64(c.width), c.validity}, append(place, lengths)...)...)
			to := b.scan(lengths, rows, true)
			size := int(get[uint64](b, to+8*uint64(rows), 1)[0])
			out, offsets := alloc[byte](b, "packed strings", size), alloc[byte](b, "packed offsets", (rows+1)*c.width)
			b.launch("dv_pack_strings", 0, append([]uint64{c.values, uint64(c.width), c.data}, append(place, to, out)...)...)
			b.launch("dv_pack_offsets", 0, to, uint64(rows+1), uint64(c.width), offsets)
			buffer(get[byte](b, offsets, (rows+1)*c.width))
			buffer(get[byte](b, out, size))
		default:
			out := alloc[byte](b, "packed values", rows*c.width)
			b.launch("dv_pack_fixed", 0, append([]uint64{c.values, uint64(c.width), c.validity}, append(place, out)...)...)
			buffer(get[byte](b, out, rows*c.width))
		}
	}
	return slices.Concat(head, nodes, lengths, data)
}

// rowHashes hashes all columns of the rows.
func (b *bench) rowHashes(cols []col, rows int) uint64 {
	out := alloc[uint64](b, "row hashes", 2*rows)
	for i, c := range cols {
		first := uint64(0)
		if i == 0 {
			first = 1
		}
		if c.kind == str {
			b.launch("dv_row_hash_strings", 0, c.values, uint64(c.width), c.data, c.validity, uint64(rows), first, out)
		} else {
			b.launch("dv_row_hash_fixed", 0, c.values, uint64(c.width), uint64(c.kind), c.validity, uint64(rows), first, out)
		}
	}
	b.launch("dv_row_hash_end", 0, uint64(rows), out)
	return out
}

func testRowHash(b *bench) {
	for range 4 {
		rows := b.rng.IntN(150)
		cols, batch := b.batch(rows)
		codec, err := columns.NewCodec(batch.Schema())
		if err != nil {
			b.Fatal(err)
		}
		hs, err := codec.RowHashes(batch)
		if err != nil {
			b.Fatal(err)
		}
		var want []uint64
		var sum shuffle.Hash
		for _, h := range hs {
			want = append(want, h.A, h.B)
			sum = sum.Add(h)
		}
		at := b.rowHashes(cols, rows)
		equal(b, "row hashes", get[uint64](b, at, 2*rows), want)
		sums := alloc[uint64](b, "sums", 2)
		b.launch("dv_row_hash_sum", 0, at, 0, put(b, "bounds", []uint64{0, uint64(rows)}), 1, sums)
		equal(b, "sum of all", get[uint64](b, sums, 2), []uint64{sum.A, sum.B})
	}
}

// testConcat concatenates pieces of columns, some of them without rows.
func testConcat(b *bench) {
	sources := 1 + b.rng.IntN(6)
	rowStart, byteStart := []uint64{0}, []uint64{0}
	width := []int{1, 2, 4, 8, 16, 5, 21}[b.rng.IntN(7)]
	offsetBytes, outBytes := 4+4*b.rng.IntN(2), 4+4*b.rng.IntN(2)
	var fixed, bitmaps, offsets, strs []uint64
	var wantFixed, wantBytes []byte
	var wantBits []bool
	wantOffsets := []uint64{0}
	for range sources {
		rows := b.rng.IntN(4) * b.rng.IntN(90)
		values := make([]byte, rows*width)
		for i := range values {
			values[i] = byte(b.rng.Uint32())
		}
		wantFixed = append(wantFixed, values...)
		fixed = append(fixed, put(b, "values", values))
		if b.rng.IntN(3) == 0 {
			bitmaps = append(bitmaps, 0)
			for range rows {
				wantBits = append(wantBits, true)
			}
		} else {
			bits := make([]bool, rows)
			for i := range bits {
				bits[i] = b.rng.IntN(2) == 0
			}
			wantBits = append(wantBits, bits...)
			bitmaps = append(bitmaps, b.bits("bits", bits))
		}
		data, base := []byte{}, b.rng.IntN(1000)
		var off []byte
		for i := range rows + 1 {
			if offsetBytes == 4 {
				off = binary.LittleEndian.AppendUint32(off, uint32(base+len(data)))
			} else {
				off = binary.LittleEndian.AppendUint64(off, uint64(base+len(data)))
			}
			if i < rows {
				data = append(data, text(b.rng, b.rng.IntN(2)*b.rng.IntN(150))...)
				wantOffsets = append(wantOffsets, uint64(len(wantBytes)+len(data)))
			}
		}
		offsets = append(offsets, put(b, "offsets", off))
		wantBytes = append(wantBytes, data...)
		// The bytes lie somewhere in a larger array.
		before := b.rng.IntN(5)
		strs = append(strs, put(b, "strings", append(make([]byte, before), data...))+uint64(before))
		rowStart = append(rowStart, rowStart[len(rowStart)-1]+uint64(rows))
		byteStart = append(byteStart, uint64(len(wantBytes)))
	}
	rows := int(rowStart[sources])
	starts, bytes, n := put(b, "row starts", rowStart), put(b, "byte starts", byteStart), uint64(sources)

	out := alloc[byte](b, "all values", rows*width)
	b.launch("dv_concat_fixed", 0, put(b, "from", fixed), starts, n, uint64(width), out)
	equal(b, "values", get[byte](b, out, rows*width), wantFixed)

	out, ones := alloc[byte](b, "all bits", (rows+7)/8), zeros[uint64](b, "ones", 1)
	b.launch("dv_concat_bits", 0, put(b, "from", bitmaps), starts, n, out, ones)
	equal(b, "bits", get[byte](b, out, (rows+7)/8), packBits(wantBits))
	count := uint64(0)
	for _, x := range wantBits {
		if x {
			count++
		}
	}
	equal(b, "ones", get[uint64](b, ones, 1), []uint64{count})

	out = alloc[byte](b, "all offsets", (rows+1)*outBytes)
	b.launch("dv_concat_offsets", 0, put(b, "from", offsets), uint64(offsetBytes), starts, bytes, n, uint64(outBytes), out)
	var got []uint64
	for _, v := range slices.Collect(slices.Chunk(get[byte](b, out, (rows+1)*outBytes), outBytes)) {
		if outBytes == 4 {
			got = append(got, uint64(binary.LittleEndian.Uint32(v)))
		} else {
			got = append(got, binary.LittleEndian.Uint64(v))
		}
	}
	equal(b, "offsets", got, wantOffsets)

	out = alloc[byte](b, "all bytes", len(wantBytes))
	b.launch("dv_concat_bytes", 0, put(b, "from", strs), bytes, n, out)
	equal(b, "bytes", get[byte](b, out, len(wantBytes)), wantBytes)
}
