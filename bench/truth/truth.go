// Package truth finds all similar pairs among some thousand documents by exact Jaccard similarity: no sketch, no bands, and
// so a judge of whatever uses them.
package truth

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// Window is what a document is a set of.
type Window struct {
	Chars int // code points of a window; 0 for words
	Words int // words, between white space, of a window
}

// String names a window.
func (w Window) String() string {
	if w.Words > 0 {
		return fmt.Sprintf("%d words", w.Words)
	}
	return fmt.Sprintf("%d characters", w.Chars)
}

// Pair is two documents, A < B, with their similarity.
type Pair struct {
	A, B    int
	Jaccard float64
}

// Sets returns the set of windows of every text, ascending, as hashes of 64 bits.
func (w Window) Sets(texts []string) ([][]uint64, error) {
	sets := make([][]uint64, len(texts))
	if w.Words > 0 {
		for i, t := range texts {
			sets[i] = wordWindows(t, w.Words)
		}
		return sets, nil
	}
	windows, err := lsh.NewWindows(w.Chars)
	if err != nil {
		return nil, err
	}
	for i, t := range texts {
		windows.Set([]byte(t))
		sets[i] = windows.Hashes(nil)
		slices.Sort(sets[i])
	}
	return sets, nil
}

// wordWindows hashes every run of n words; a text with fewer has one window, one without words none.
func wordWindows(text string, n int) []uint64 {
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil
	}
	var set []uint64
	for i := range max(1, len(words)-n+1) {
		set = append(set, xxh3.HashString(strings.Join(words[i:min(i+n, len(words))], " ")))
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// Pairs returns every pair of sets, each ascending, with a similarity of at least t, which is above 0, ordered by A and B.
// Empty sets are like nothing.
//
// Two sets with similarity t share so many windows that, if the windows of each are put in one order, they share one among
// the first |x| - ceil(t|x|) + 1 of each (the prefix filter of Chaudhuri, Ganti and Kaushik, 2006). With the rarest windows
// first few sets share one that are not similar. Those that do are compared exactly.
func Pairs(sets [][]uint64, t lsh.Threshold) []Pair {
	count := make(map[uint64]uint32)
	for _, s := range sets {
		for _, h := range s {
			count[h]++
		}
	}
	order := make([]int, len(sets))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(sets[a]), len(sets[b])) })
	var pairs []Pair
	index := make(map[uint64][]int32) // sets that have a window among their first
	seen := make([]int, len(sets))    // 1 + the last set it was compared with
	for _, x := range order {
		least := int(math.Ceil(t.Float()*float64(len(sets[x])) - 1e-9))
		for _, h := range prefix(sets[x], count, t) {
			for _, y := range index[h] {
				if seen[y] == x+1 || len(sets[y]) < least {
					continue
				}
				seen[y] = x + 1
				if o := overlap(sets[x], sets[y]); t.Reached(o) {
					pairs = append(pairs, Pair{min(x, int(y)), max(x, int(y)), o.Jaccard()})
				}
			}
			index[h] = append(index[h], int32(x))
		}
	}
	slices.SortFunc(pairs, func(p, q Pair) int { return cmp.Or(cmp.Compare(p.A, q.A), cmp.Compare(p.B, q.B)) })
	return pairs
}

// overlap compares two sets, each ascending.
func overlap(x, y []uint64) lsh.Overlap {
	common := 0
	for i, j := 0, 0; i < len(x) && j < len(y); {
		switch {
		case x[i] < y[j]:
			i++
		case x[i] > y[j]:
			j++
		default:
			common++
			i++
			j++
		}
	}
	return lsh.Overlap{Intersection: uint64(common), Union: uint64(len(x) + len(y) - common)}
}

// prefix returns the windows among the first of a set that another set has too.
func prefix(set []uint64, count map[uint64]uint32, t lsh.Threshold) []uint64 {
	if len(set) == 0 {
		return nil
	}
	n := len(set) - int(math.Ceil(t.Float()*float64(len(set))-1e-9)) + 1
	var shared []uint64
	for _, h := range set {
		if count[h] > 1 {
			shared = append(shared, h)
		}
	}
	n -= len(set) - len(shared) // those that no other set has come first
	if n <= 0 {
		return nil
	}
	slices.SortFunc(shared, func(a, b uint64) int { return cmp.Or(cmp.Compare(count[a], count[b]), cmp.Compare(a, b)) })
	return shared[:n]
}

// Score is how well a set of removed documents fits the pairs.
type Score struct {
	Pairs   int
	Found   int // pairs of which at least one document was removed
	Removed int
	Right   int // removed documents that are in a pair
}

// Judge scores a result. removed says of each document whether it was removed.
func Judge(pairs []Pair, removed []bool) Score {
	s := Score{Pairs: len(pairs)}
	paired := make(map[int]bool)
	for _, p := range pairs {
		if removed[p.A] || removed[p.B] {
			s.Found++
		}
		paired[p.A], paired[p.B] = true, true
	}
	for i, r := range removed {
		if r {
			s.Removed++
			if paired[i] {
				s.Right++
			}
		}
	}
	return s
}

// Recall is the share of the pairs that were found.
func (s Score) Recall() float64 { return share(s.Found, s.Pairs) }

// Precision is the share of the removed documents that are in a pair.
func (s Score) Precision() float64 { return share(s.Right, s.Removed) }

func share(n, of int) float64 {
	if of == 0 {
		return 1
	}
	return float64(n) / float64(of)
}
