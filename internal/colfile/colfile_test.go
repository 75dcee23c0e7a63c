package colfile

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cols := []Column{{"a", Uint64}, {"text", Bytes}, {"b", Uint64}}
		var file bytes.Buffer
		w := NewWriter(&file, cols)
		var want [][]Data
		for range rapid.IntRange(0, 4).Draw(t, "blocks") {
			rows := rapid.IntRange(1, 40).Draw(t, "rows")
			span := rapid.SampledFrom([]uint64{0, 1, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, math.MaxUint64}).Draw(t, "span")
			gen := rapid.SliceOfN(rapid.Uint64Range(0, span), rows, rows)
			base := rapid.Uint64().Draw(t, "base")
			a := gen.Draw(t, "a")
			for i := range a {
				a[i] += min(base, math.MaxUint64-span)
			}
			block := []Data{
				{Uint64: a},
				{Bytes: rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 20), rows, rows).Draw(t, "text")},
				{Uint64: rapid.SliceOfN(rapid.Uint64(), rows, rows).Draw(t, "b")},
			}
			if err := w.Block(block); err != nil {
				t.Fatal(err)
			}
			want = append(want, block)
		}
		if err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		f, err := Open(bytes.NewReader(file.Bytes()), int64(file.Len()), "test")
		if err != nil {
			t.Fatal(err)
		}
		if f.Rows() != w.Rows() || f.Blocks() != len(want) {
			t.Fatalf("%d rows in %d blocks, want %d in %d", f.Rows(), f.Blocks(), w.Rows(), len(want))
		}
		var s Scratch
		for bl, block := range want {
			for i, c := range cols {
				col, err := f.Column(c.Name, c.Kind)
				if err != nil || col != i {
					t.Fatal(col, err)
				}
				if c.Kind == Uint64 {
					got, err := f.ReadUint64(bl, col, nil, &s)
					if err != nil || !reflect.DeepEqual(got, block[i].Uint64) {
						t.Fatalf("%v %v, want %v", got, err, block[i].Uint64)
					}
					continue
				}
				got, err := f.ReadBytes(bl, col, &s)
				if err != nil || fmt.Sprint(got) != fmt.Sprint(block[i].Bytes) {
					t.Fatalf("%v %v, want %v", got, err, block[i].Bytes)
				}
			}
		}
	})
}

func sample(t testing.TB) []byte {
	var file bytes.Buffer
	w := NewWriter(&file, []Column{{"n", Uint64}, {"s", Bytes}})
	for i := range uint64(3) {
		err := w.Block([]Data{{Uint64: []uint64{i, 1 << 40, 7}}, {Bytes: [][]byte{{}, []byte("abc"), []byte("d")}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// readAll reads everything there is, and returns the first error.
func readAll(data []byte) error {
	f, err := Open(bytes.NewReader(data), int64(len(data)), "test")
	if err != nil {
		return err
	}
	var s Scratch
	for bl := range f.Blocks() {
		for i, c := range f.cols {
			if c.Kind == Uint64 {
				_, err = f.ReadUint64(bl, i, nil, &s)
			} else {
				_, err = f.ReadBytes(bl, i, &s)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func TestEveryChangedByteIsNoticed(t *testing.T) {
	good := sample(t)
	if err := readAll(good); err != nil {
		t.Fatal(err)
	}
	for i := len(magic); i < len(good); i++ {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := readAll(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for n := range good {
		if err := readAll(good[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(magic + magic))
	f.Fuzz(func(t *testing.T, data []byte) { _ = readAll(data) })
}

func TestBlockOfUnequalColumns(t *testing.T) {
	w := NewWriter(&bytes.Buffer{}, []Column{{"n", Uint64}, {"s", Bytes}})
	if err := w.Block([]Data{{Uint64: []uint64{1}}, {}}); err == nil {
		t.Error("a block with columns of unequal length was accepted")
	}
	if err := w.Block([]Data{{Uint64: []uint64{1}}}); err == nil {
		t.Error("a block with a column missing was accepted")
	}
}
