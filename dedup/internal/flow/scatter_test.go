package flow

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// FuzzScatter compares a scatter with a record writer: every partition has the same records in the same order, and the ledger
// the same hashes.
func FuzzScatter(f *testing.F) {
	for words := range uint8(3) {
		f.Add(uint64(words), uint16(1000), words, uint8(7), uint16(500))
		f.Add(uint64(words), uint16(20000), words, uint8(40), uint16(60000))
	}
	f.Fuzz(func(t *testing.T, seed uint64, rows uint16, words, partitions uint8, total uint16) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := Layout{Kind: 'f', Words: 2 + int(words%3)}
		base, per := int(seed%3), 1+int(partitions)
		not := base + int(seed)%per
		a, b := &memorySink{alloc: mem.Host(), not: not}, &memorySink{alloc: mem.Host(), not: not}
		s, w := NewScatter(l, base+per, int(total)), NewRecordWriter(b, l, base+per, 1<<20)
		s.Reset(a)
		columns := make([][]uint64, l.Words)
		for left := int(rows); left > 0; {
			n := 1 + rng.IntN(left)
			left -= n
			for c := range columns {
				columns[c] = make([]uint64, n)
				for i := range columns[c] {
					columns[c][i] = rng.Uint64() >> rng.IntN(60)
				}
			}
			if err := s.Add(t.Context(), base, per, columns[0], columns[1:]...); err != nil {
				t.Fatal(err)
			}
			for i, key := range columns[0] {
				record := make([]uint64, 0, l.Words)
				for _, c := range columns {
					record = append(record, c[i])
				}
				if err := w.Add(t.Context(), base+PartOf(key, per), record...); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		gather := func(m *memorySink) (words [][]uint64, sums []shuffle.Hash) {
			words, sums = make([][]uint64, base+per), make([]shuffle.Hash, base+per)
			for _, c := range m.chunks {
				recs, err := OpenRecords(c, l)
				if err != nil {
					t.Fatal(err)
				}
				words[c.Partition] = append(words[c.Partition], recs.words...)
				sums[c.Partition] = sums[c.Partition].Add(c.Hash)
				c.Release()
			}
			return words, sums
		}
		got, gotSums := gather(a)
		want, wantSums := gather(b)
		if !slices.Equal(gotSums, wantSums) {
			t.Error("other hashes for the ledger")
		}
		for p := range want {
			if !slices.Equal(got[p], want[p]) {
				t.Errorf("partition %d: %d words, want %d", p, len(got[p]), len(want[p]))
			}
		}
	})
}

// FuzzRepeats compares a filter with counting, in any memory: it picks every record that repeats, in order, and where there is
// room few others.
func FuzzRepeats(f *testing.F) {
	f.Add(uint64(1), uint16(1000), uint8(2), uint16(60000))
	f.Add(uint64(2), uint16(30000), uint8(3), uint16(0))
	f.Add(uint64(3), uint16(30000), uint8(4), uint16(65535))
	f.Fuzz(func(t *testing.T, seed uint64, rows uint16, words uint8, limit uint16) {
		rng := rand.New(rand.NewPCG(seed, 2))
		width, key := 2+int(words%3), int(words%2)
		records := make([]uint64, width*int(rows))
		count := make(map[uint64]int)
		for i := range records {
			if records[i] = rng.Uint64(); rng.IntN(8) == 0 {
				records[i] = uint64(rng.IntN(1000))
			}
			if i%width == key {
				count[records[i]]++
			}
		}
		var r Repeats
		r.Reset(int64(rows), 4*int64(limit))
		for from := 0; from < len(records); from += 100 * width {
			r.See(records[from:min(from+100*width, len(records))], width, key)
		}
		before := []uint64{1, 2, 3}
		picked := r.Pick(before, records, width, key)[3:]
		others := 0
		for ; len(records) > 0; records = records[width:] {
			found := len(picked) > 0 && slices.Equal(picked[:width], records[:width])
			switch {
			case found:
				picked = picked[width:]
				if count[records[key]] == 1 {
					others++
				}
			case count[records[key]] > 1:
				t.Fatalf("a key that occurs %d times was not picked", count[records[key]])
			}
		}
		if len(picked) > 0 {
			t.Errorf("%d words were picked that are not in their place", len(picked))
		}
		if limit := int64(limit) * 4; limit >= 8*int64(rows) && rows > 1000 && others > int(rows)/10 {
			t.Errorf("%d of %d were picked without reason", others, rows)
		}
	})
}

// RecordSum is the sum of RecordHash.
func TestRecordSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for width := 1; width <= 5; width++ {
		words := make([]uint64, 777*width)
		var want shuffle.Hash
		for i := range words {
			words[i] = rng.Uint64()
			if i%width == width-1 {
				want = want.Add(RecordHash(words[i+1-width:i+1], nil, false))
			}
		}
		if got := RecordSum(words, width); got != want {
			t.Errorf("records of %d words: %v, want %v", width, got, want)
		}
	}
	// What ranks say to each other does not change.
	if got := RecordHash([]uint64{1, 2, 3}, nil, false); got != (shuffle.Hash{A: 0x44cb21646110421f, B: 0xc015b8fcd1ac082c}) {
		t.Errorf("%x", got)
	}
}
