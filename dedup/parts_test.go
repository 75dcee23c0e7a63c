package dedup

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/lsh"
)

func TestBucketTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type rec struct {
			key uint64
			ref flow.Ref
		}
		gen := rapid.Custom(func(t *rapid.T) rec {
			return rec{rapid.Uint64Range(0, 12).Draw(t, "key"), flow.Ref{Keep: rapid.Uint64Range(0, 3).Draw(t, "keep"), Ord: rapid.Uint64Range(0, 60).Draw(t, "ord")}}
		})
		recs := rapid.SliceOfNDistinct(gen, 0, 200, func(r rec) rec { return r }).Draw(t, "records")
		var table bucketTable
		want := make(map[uint64][]flow.Ref)
		for _, r := range recs {
			table.add(r.key, r.ref)
			want[r.key] = append(want[r.key], r.ref)
		}
		for key := range uint64(14) {
			members := want[key]
			slices.SortFunc(members, flow.CompareRefs)
			if len(members) == 1 {
				members = nil
			}
			if got := table.leadersOf(key); !slices.Equal(got, members[:min(4, len(members))]) {
				t.Fatalf("leaders of %d are %v, the members are %v", key, got, members)
			}
		}
	})
}

// A bucket that holds everything costs one entry.
func TestBucketTableHotBucket(t *testing.T) {
	var table bucketTable
	for i := range uint64(100_000) {
		table.add(7, flow.Ref{Keep: 0, Ord: 100_000 - i})
	}
	if len(table.entries) != 1 || len(table.groups) != 1 {
		t.Errorf("%d entries, %d groups", len(table.entries), len(table.groups))
	}
	if got := fmt.Sprint(table.leadersOf(7)); got != "[{0 1} {0 2} {0 3} {0 4}]" {
		t.Error(got)
	}
}

// Whatever the cache holds, the decision is that of the plain rule.
func TestDeciderCache(t *testing.T) {
	comparer, err := lsh.NewComparer(3)
	if err != nil {
		t.Fatal(err)
	}
	threshold, err := lsh.ParseThreshold("0.4")
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 0))
		n := 2 + rng.IntN(40)
		texts := make([]string, n)
		leaders := make([][]flow.Ref, n)
		words := strings.Fields("aa bb cc dd ee ff")
		for i := range n {
			texts[i] = "the quick brown fox "
			if i > 0 && rng.IntN(3) > 0 {
				texts[i] = texts[rng.IntN(i)]
			}
			texts[i] = edit(rng, texts[i]+words[rng.IntN(len(words))], words)
			for j := range i {
				if rng.IntN(4) == 0 {
					leaders[i] = append(leaders[i], flow.Ref{Keep: uint64(j / 2), Ord: uint64(10 * j)})
				}
			}
		}
		rep := make([]int, n)
		var want []string
		for i := range n {
			rep[i] = i
			tried := make(map[int]bool)
			for _, l := range leaders[i] {
				tried[rep[l.Ord/10]] = true
			}
			for _, r := range slices.Sorted(maps.Keys(tried)) {
				inter, union := referenceJaccard(texts[i], texts[r], 3)
				if 10*inter >= 4*union {
					rep[i] = r
					want = append(want, fmt.Sprint(10*i, 10*r, inter, union))
					break
				}
			}
		}
		for _, cache := range []int{0, 3000, 1 << 30} {
			d := decider{comparer: comparer, threshold: threshold, cacheSize: cache, withKeep: true}
			got := decideAll(t, &d, texts, leaders)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, cache %d: %v, want %v", seed, cache, got, want)
			}
			if d.free(); d.indexSize != 0 || len(d.order) != 0 || d.unused != 0 {
				t.Errorf("%d bytes of windows are still held", d.indexSize)
			}
		}
	}
}

// decideAll decides documents whose ordinals are 10 apart and whose keep keys are half their place.
func decideAll(t *testing.T, d *decider, texts []string, leaders [][]flow.Ref) (removals []string) {
	t.Helper()
	var store textStore
	d.text = store.get
	d.emit = func(v verdict) error {
		removals = append(removals, fmt.Sprint(v.removed.Ord, v.kept.Ord, v.inter, v.union))
		return nil
	}
	d.begin(0)
	for i, text := range texts {
		var words []uint64
		for _, l := range leaders[i] {
			words = append(words, l.Keep, l.Ord)
		}
		place, err := store.add(append(flow.BytesOf(words), text...), uint64(len(leaders[i])))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.next(flow.Ref{Keep: uint64(i / 2), Ord: uint64(10 * i)}, place); err != nil {
			t.Fatal(err)
		}
	}
	return removals
}

func TestDeciderRefusesStrangers(t *testing.T) {
	comparer, err := lsh.NewComparer(3)
	if err != nil {
		t.Fatal(err)
	}
	for _, withKeep := range []bool{false, true} {
		var store textStore
		d := decider{comparer: comparer, text: store.get, withKeep: withKeep}
		d.begin(0)
		place, err := store.add(flow.BytesOf([]uint64{0, 7}), 1)
		if err == nil {
			err = d.next(flow.Ref{Keep: 0, Ord: 1}, textPlace{})
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := d.next(flow.Ref{Keep: 0, Ord: 9}, place); err == nil {
			t.Error("a leader from another component was accepted")
		}
	}
}
