package flow

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// memorySink keeps the chunks that a RecordWriter inserts.
type memorySink struct {
	alloc  mem.Allocator
	chunks []shuffle.Chunk
	not    int // the partition nobody wants
}

func (m *memorySink) Wanted(part int) bool { return part != m.not }
func (m *memorySink) Alloc(_ context.Context, n int) (*mem.Buffer, error) {
	return m.alloc.Alloc(n)
}
func (m *memorySink) Insert(_ context.Context, c shuffle.Chunk) error {
	m.chunks = append(m.chunks, c)
	return nil
}

func TestRecords(t *testing.T) {
	for _, l := range []Layout{{'a', 1, false}, {'b', 3, false}, {'c', 2, true}} {
		sink := &memorySink{alloc: mem.NewChecked(t, mem.Host()), not: 3}
		w := NewRecordWriter(sink, l, 4, 500)
		w.chunk = 200
		rng := rand.New(rand.NewPCG(5, 5))
		var want [4][]string
		for range 300 {
			part := rng.IntN(4)
			words := make([]uint64, l.Words)
			for i := range words {
				words[i] = rng.Uint64()
			}
			var blob []byte
			if l.Blob {
				blob = make([]byte, rng.IntN(100))
				for i := range blob {
					blob[i] = byte(rng.Uint32())
				}
			}
			if part != 3 {
				want[part] = append(want[part], fmt.Sprint(words, blob))
			}
			if err := w.AddBlob(t.Context(), part, blob, words...); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(t.Context()); err != nil || w.held != 0 {
			t.Fatal(err, w.held)
		}
		var got [4][]string
		for _, c := range sink.chunks {
			recs, err := OpenRecords(c, l)
			if err != nil {
				t.Fatal(err)
			}
			for i := range recs.Rows() {
				got[c.Partition] = append(got[c.Partition], fmt.Sprint(recs.At(i), recs.Bytes(i)))
			}
		}
		for p := range want {
			if !slices.Equal(got[p], want[p]) {
				t.Errorf("partition %d: %d records, want %d", p, len(got[p]), len(want[p]))
			}
		}
		// Any changed byte is noticed.
		c := sink.chunks[0]
		for i := range c.Data.Bytes() {
			c.Data.Bytes()[i] ^= 0x40
			if _, err := OpenRecords(c, l); err == nil {
				t.Errorf("layout %c: byte %d changed and nobody noticed", l.Kind, i)
			}
			c.Data.Bytes()[i] ^= 0x40
		}
		for _, c := range sink.chunks {
			c.Release()
		}
	}
}

func TestPartOfSpreadsEvenly(t *testing.T) {
	for _, step := range []uint64{1, 1 << 32, 0x9e3779b97f4a7c15} {
		const parts, n = 37, 37_000
		var count [parts]int
		for i := range uint64(n) {
			count[PartOf(i*step, parts)]++
		}
		lo, hi := slices.Min(count[:]), slices.Max(count[:])
		if lo < 800 || hi > 1200 {
			t.Errorf("keys %d apart: between %d and %d in a part, expected about 1000", step, lo, hi)
		}
	}
}
