package table

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// plainFile writes a file of one row group with columns that are plain, in dictionaries, with nulls or of other types, in either
// kind of page.
func plainFile(rng *rand.Rand, rows int) []byte {
	types := flatTypes()
	var fields []arrow.Field
	opts := []parquet.WriterProperty{
		parquet.WithCompression(codecs[[]string{"none", "snappy", "zstd"}[rng.IntN(3)]]), parquet.WithDictionaryDefault(false),
		parquet.WithDataPageSize(int64(1 + rng.IntN(2000))), parquet.WithBatchSize(int64(1 + rng.IntN(200))),
	}
	if rng.IntN(4) == 0 {
		opts = append(opts, parquet.WithDataPageVersion(parquet.DataPageV2))
	}
	for i := range 1 + rng.IntN(4) {
		f := arrow.Field{Name: fmt.Sprint("c", i), Type: types[rng.IntN(len(types))], Nullable: rng.IntN(2) == 0}
		f.Nullable = f.Nullable || f.Type.ID() == arrow.NULL
		if rng.IntN(6) == 0 {
			opts = append(opts, parquet.WithDictionaryFor(f.Name, true))
		}
		fields = append(fields, f)
	}
	schema := arrow.NewSchema(fields, nil)
	cols := make([]arrow.Array, len(fields))
	for i, f := range fields {
		nulls := 0.0
		if f.Nullable && rng.IntN(3) == 0 {
			nulls = 0.1
		}
		cols[i] = extremeColumn(rng, f.Type, rows, nulls)
		if f.Nullable && nulls > 0 && rng.IntN(2) == 0 && rows > 1 { // nulls come late
			cols[i] = must(array.Concatenate([]arrow.Array{extremeColumn(rng, f.Type, rows/2, 0), array.NewSlice(cols[i], int64(rows/2), int64(rows))}, arrays))
		}
	}
	var b bytes.Buffer
	w := must(pqarrow.NewFileWriter(schema, &b, parquet.NewWriterProperties(opts...), pqarrow.DefaultWriterProps()))
	must(0, w.Write(array.NewRecordBatch(schema, cols, int64(rows))))
	must(0, w.Close())
	return b.Bytes()
}

// readColumns reads every column of the first row group with one kind of reader, in batches of as many rows as sizes says, and
// returns the hashes of the values of each, or the error.
func readColumns(data []byte, library bool, sizes []int64) (out [][]shuffle.Hash, plain int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	props := parquet.NewReaderProperties(arrays)
	props.BufferedStreamEnabled = true
	r, err := file.NewParquetReader(bytes.NewReader(data), file.WithReadProps(props))
	if err != nil {
		return nil, 0, err
	}
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, arrays)
	if err != nil {
		return nil, 0, err
	}
	schema, err := fr.Schema()
	if err != nil {
		return nil, 0, err
	}
	for i, f := range schema.Fields() {
		byLibrary := func() (columnReader, error) {
			rs, _, err := fr.GetFieldReaders(context.Background(), []int{i}, []int{0})
			if err != nil {
				return nil, err
			}
			return libraryColumn{rs[0]}, nil
		}
		var c columnReader
		if !library {
			c, err = openPlain(r, 0, i, f.Type, byLibrary)
		}
		if c != nil {
			plain++
		} else if err == nil {
			c, err = byLibrary()
		}
		if err != nil {
			return nil, 0, err
		}
		defer c.release()
		codec := must(columns.NewCodec(arrow.NewSchema([]arrow.Field{f}, nil)))
		var hashes []shuffle.Hash
		for k, left := 0, r.MetaData().RowGroup(0).NumRows(); left > 0; k++ {
			n := min(left, sizes[k%len(sizes)])
			arr, err := c.next(n)
			if err != nil {
				return nil, 0, err
			}
			b := array.NewRecordBatch(codec.Schema(), []arrow.Array{arr}, n)
			hashes = append(hashes, must(codec.RowHashes(b))...)
			b.Release()
			arr.Release()
			left -= n
		}
		out = append(out, hashes)
	}
	return out, plain, nil
}

// plainAsLibrary compares what both readers make of a file, of which some bytes may be others.
func plainAsLibrary(t *testing.T, seed uint64, rows, flips int) (plain int) {
	rng := rand.New(rand.NewPCG(seed, 78))
	data := plainFile(rng, rows)
	for range flips {
		data[4+rng.IntN(len(data)-12)] ^= byte(1 + rng.IntN(255))
	}
	sizes := []int64{1 + rng.Int64N(300), 1 + rng.Int64N(20), 1 + rng.Int64N(1000)}
	want, _, wantErr := readColumns(data, true, sizes)
	got, plain, err := readColumns(data, false, sizes)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Fatalf("seed %d: error %v, should be %v", seed, err, wantErr)
	}
	if !slices.EqualFunc(got, want, slices.Equal[[]shuffle.Hash]) {
		t.Fatalf("seed %d: other values", seed)
	}
	return plain
}

// Columns are read as the library reads them, whatever their pages, and what cannot be read has the library's error.
func TestPlainColumns(t *testing.T) {
	plain := 0
	for seed := range uint64(300) {
		plain += plainAsLibrary(t, seed, 1+int(seed)*7, 0)
		plainAsLibrary(t, 5000+seed, 1+int(seed)*7, 1)
	}
	if plain < 100 {
		t.Errorf("%d columns were read page by page", plain)
	}
}

func FuzzPlainColumns(f *testing.F) {
	f.Add(uint64(1), uint16(10), byte(0))
	f.Fuzz(func(t *testing.T, seed uint64, rows uint16, flips byte) {
		plainAsLibrary(t, seed, 1+int(rows)%3000, int(flips)%4)
	})
}

func TestLevelsOfNoNulls(t *testing.T) {
	for _, n := range []int{1, 7, 8, 63, 64, 1000, 1 << 20} {
		b := append(appendLevels(nil, n), 0xff)
		if size, ok := levelsOfNoNulls(b, int64(n)); !ok || size != len(b)-1 {
			t.Errorf("%d values: %d of %d bytes, %v", n, size, len(b), ok)
		}
		if _, ok := levelsOfNoNulls(b, int64(n+1)); ok {
			t.Errorf("%d values pass for %d", n, n+1)
		}
		bits := append(binary.AppendUvarint(nil, uint64(n+7)/8<<1|1), bytes.Repeat([]byte{0xff}, n/8)...)
		if n%8 > 0 {
			bits = append(bits, 1<<(n%8)-1)
		}
		bits = append(binary.LittleEndian.AppendUint32(nil, uint32(len(bits))), bits...)
		if size, ok := levelsOfNoNulls(bits, int64(n)); !ok || size != len(bits) {
			t.Errorf("%d values in bits: %d of %d bytes, %v", n, size, len(bits), ok)
		}
		bits[len(bits)-1] &^= 1 << ((n - 1) % 8)
		if _, ok := levelsOfNoNulls(bits, int64(n)); ok {
			t.Errorf("%d values in bits of which the last is null pass", n)
		}
		for cut := range len(b) - 1 {
			if _, ok := levelsOfNoNulls(b[:cut], int64(n)); ok {
				t.Errorf("%d values: %d bytes pass", n, cut)
			}
		}
	}
}
