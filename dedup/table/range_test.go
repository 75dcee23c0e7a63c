package table

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// keysOf returns the keys of all rows, in the order of package columns.
func keysOf(b arrow.RecordBatch, keys ...int) [][]byte {
	s := must(columns.NewSorter(b.Schema(), keys))
	s.Reset(b)
	out := make([][]byte, b.NumRows())
	for i := range out {
		out[i] = s.Append(nil, i)
	}
	return out
}

// Range partitions hold all rows, in order from partition to partition, equal keys together, rows in the order of the input or
// sorted; and none is much larger than its share unless a key is.
func TestRange(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	dir, all := corpusOf(t, rng, 3, 400)
	ordinal := make(map[string][]int) // of each row in the input
	for i, h := range rowHashes(all) {
		ordinal[h] = append(ordinal[h], i)
	}
	for _, keys := range [][]int{{0}, {9}, {6, 0}, {13}, {23}} {
		for _, sorted := range []bool{false, true} {
			var on []string
			for _, k := range keys {
				on = append(on, fmt.Sprintf("c%d", k))
			}
			s := smallSpec(on...)
			s.Partition, s.Sort = Range, sorted
			_, out := runTable(t, Options{Spec: s, Inputs: []string{dir}, Exec: Exec{Workers: 2, SplitBytes: 30 << 10, SortBytes: 5 << 10}})
			var last []byte
			var gathered []string
			for p := range s.TotalParts {
				got := readTable(t, filepath.Join(out, partName(p)))
				ks := keysOf(got, keys...)
				places := make([]int, len(ks))
				for i, h := range rowHashes(got) {
					places[i] = ordinal[h][0] // rows that are equal in everything stand for one another
					gathered = append(gathered, h)
				}
				for i := range ks {
					if p > 0 && last != nil && bytes.Compare(ks[i], last) <= 0 {
						t.Fatalf("%v: a key of partition %d is not after those of the partition before", on, p)
					}
					if i > 0 && sorted && bytes.Compare(ks[i-1], ks[i]) > 0 {
						t.Fatalf("%v: row %d of partition %d is not in order", on, i, p)
					}
					if i > 0 && (!sorted || bytes.Equal(ks[i-1], ks[i])) && places[i] < places[i-1] && len(ordinal[rowHashes(got)[i]]) == 1 && len(ordinal[rowHashes(got)[i-1]]) == 1 {
						t.Fatalf("%v: rows %d and %d of partition %d are not in the order of the input", on, i-1, i, p)
					}
				}
				for _, k := range ks {
					if bytes.Compare(k, last) > 0 {
						last = k
					}
				}
			}
			want := rowHashes(all)
			slices.Sort(want)
			slices.Sort(gathered)
			if !slices.Equal(gathered, want) {
				t.Fatalf("%v: %d rows of %d, or others", on, len(gathered), len(want))
			}
		}
	}
}

// The sample is the rows of the smallest ranks, however they come.
func TestSampler(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	var all []sample
	for file := range 3 {
		for row := range 5000 {
			p := place{file, int64(row)}
			all = append(all, sample{rankOf(p), p, []byte{byte(row)}})
		}
	}
	want := slices.SortedFunc(slices.Values(all), compareSamples)[:700]
	for range 5 {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		s := newSampler(700)
		for _, x := range all {
			if s.wants(x.rank) {
				s.add(x)
			}
		}
		s.shrink()
		if !slices.EqualFunc(s.all, want, func(a, b sample) bool { return compareSamples(a, b) == 0 }) {
			t.Fatal("another sample")
		}
	}
	// Ranks of neighbours have nothing to do with one another: a quarter of them is in each quarter.
	var quarters [4]int
	for row := range 40000 {
		quarters[rankOf(place{1, int64(row)})>>62]++
	}
	for _, n := range quarters {
		if n < 9600 || n > 10400 {
			t.Errorf("ranks are spread %d", quarters)
		}
	}
}
