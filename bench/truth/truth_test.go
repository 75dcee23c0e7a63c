package truth

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// TestPairs compares with all pairs, compared one by one.
func TestPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, threshold := range []string{"0.5", "0.8", "1", "2/3"} {
		th, err := lsh.ParseThreshold(threshold)
		if err != nil {
			t.Fatal(err)
		}
		var sets [][]uint64
		for range 300 {
			var s []uint64
			if len(sets) > 0 && rng.IntN(3) > 0 { // like an earlier one
				for _, h := range sets[rng.IntN(len(sets))] {
					if rng.IntN(10) > 0 {
						s = append(s, h)
					}
				}
			}
			for range rng.IntN(8) {
				s = append(s, rng.Uint64N(200))
			}
			slices.Sort(s)
			sets = append(sets, slices.Compact(s))
		}
		var want []Pair
		for a := range sets {
			for b := a + 1; b < len(sets); b++ {
				if o := overlap(sets[a], sets[b]); th.Reached(o) {
					want = append(want, Pair{a, b, o.Jaccard()})
				}
			}
		}
		if got := Pairs(sets, th); !slices.Equal(got, want) {
			t.Errorf("%s: %d pairs, want %d", threshold, len(got), len(want))
		} else if len(want) < 10 {
			t.Errorf("%s: only %d pairs", threshold, len(want))
		}
	}
}

func TestWordWindows(t *testing.T) {
	for text, want := range map[string]int{"": 0, " \n": 0, "a b": 1, "a b c d e": 1, "a b c d e f": 2, "a b c d e a b c d e a": 5, "a  b\nc\td e f": 2} {
		if got := len(wordWindows(text, 5)); got != want {
			t.Errorf("%q has %d windows, want %d", text, got, want)
		}
	}
	if !slices.Equal(wordWindows("a b  c d\ne", 5), wordWindows("a b c d e", 5)) {
		t.Error("white space matters")
	}
}

func TestJudge(t *testing.T) {
	pairs := []Pair{{0, 1, 1}, {1, 2, 0.9}, {4, 5, 0.8}}
	s := Judge(pairs, []bool{false, true, false, true, false, false})
	if s != (Score{Pairs: 3, Found: 2, Removed: 2, Right: 1}) || s.Precision() != 0.5 {
		t.Errorf("%+v", s)
	}
	if s := Judge(nil, []bool{false}); s.Recall() != 1 || s.Precision() != 1 {
		t.Errorf("%+v", s)
	}
}
