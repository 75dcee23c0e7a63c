package dedup

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

func TestBucketTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type rec struct {
			key uint64
			ref ref
		}
		gen := rapid.Custom(func(t *rapid.T) rec {
			return rec{rapid.Uint64Range(0, 12).Draw(t, "key"), ref{rapid.Uint64Range(0, 3).Draw(t, "keep"), rapid.Uint64Range(0, 60).Draw(t, "ord")}}
		})
		recs := rapid.SliceOfNDistinct(gen, 0, 200, func(r rec) rec { return r }).Draw(t, "records")
		var table bucketTable
		want := make(map[uint64][]ref)
		for _, r := range recs {
			table.add(r.key, r.ref)
			want[r.key] = append(want[r.key], r.ref)
		}
		for key := range uint64(14) {
			members := want[key]
			slices.SortFunc(members, compareRefs)
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
		table.add(7, ref{0, 100_000 - i})
	}
	if len(table.entries) != 1 || len(table.groups) != 1 {
		t.Errorf("%d entries, %d groups", len(table.entries), len(table.groups))
	}
	if got := fmt.Sprint(table.leadersOf(7)); got != "[{0 1} {0 2} {0 3} {0 4}]" {
		t.Error(got)
	}
}

func TestUnionFind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 50).Draw(t, "vertices")
		keeps := rapid.SliceOfN(rapid.Uint64Range(0, 2), n, n).Draw(t, "keeps")
		node := func(i int) ref { return ref{keeps[i], uint64(i) << 32} }
		edge := rapid.Custom(func(t *rapid.T) [2]int {
			return [2]int{rapid.IntRange(0, n-1).Draw(t, "a"), rapid.IntRange(0, n-1).Draw(t, "b")}
		})
		edges := rapid.SliceOfN(edge, 1, 80).Draw(t, "edges")
		label := make(map[uint64]ref)
		for _, e := range edges {
			for _, i := range e {
				label[node(i).ord] = node(i)
			}
		}
		var u unionFind
		for range n {
			for _, e := range edges {
				a, b := label[node(e[0]).ord], label[node(e[1]).ord]
				if b.before(a) {
					a = b
				}
				label[node(e[0]).ord], label[node(e[1]).ord] = a, a
			}
		}
		for _, e := range edges {
			u.union(node(e[0]), node(e[1]))
		}
		if u.vertices() != len(label) {
			t.Fatalf("%d vertices, want %d", u.vertices(), len(label))
		}
		for i := range u.vertices() {
			doc, got := u.label(i)
			if label[doc].ord != got {
				t.Fatalf("label of %d is %d, want %d", doc, got, label[doc].ord)
			}
		}
	})
}

// Whatever the cache holds, the decision is that of the plain rule.
func TestDeciderCache(t *testing.T) {
	windows, err := lsh.NewWindows(3)
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
		members := make([]candidate, n)
		words := strings.Fields("aa bb cc dd ee ff")
		for i := range n {
			texts[i] = "the quick brown fox "
			if i > 0 && rng.IntN(3) > 0 {
				texts[i] = texts[rng.IntN(i)]
			}
			texts[i] = edit(rng, texts[i]+words[rng.IntN(len(words))], words)
			members[i].ref = ref{0, uint64(10 * i)}
			for j := range i {
				if rng.IntN(4) == 0 {
					members[i].leaders = append(members[i].leaders, members[j].ref)
				}
			}
		}
		rep := make([]int, n)
		var want []string
		for i := range n {
			rep[i] = i
			tried := make(map[int]bool)
			for _, l := range members[i].leaders {
				tried[rep[l.ord/10]] = true
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
		for _, cache := range []int{0, 200, 1 << 30} {
			d := decider{windows: windows, threshold: threshold, cacheSize: cache}
			var got []string
			err := d.component(members,
				func(i int) ([]byte, error) { return []byte(texts[i]), nil },
				func(v verdict) error {
					got = append(got, fmt.Sprint(v.removed.ord, v.kept.ord, v.inter, v.union))
					return nil
				})
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("seed %d, cache %d: %v, want %v (%v)", seed, cache, got, want, err)
			}
			if d.held != 0 || len(d.order) != 0 {
				t.Errorf("%d bytes of window sets are still held", d.held)
			}
		}
	}
}

func TestDeciderRefusesStrangers(t *testing.T) {
	windows, err := lsh.NewWindows(3)
	if err != nil {
		t.Fatal(err)
	}
	d := decider{windows: windows}
	members := []candidate{{ref: ref{0, 1}}, {ref: ref{0, 2}, leaders: []ref{{0, 7}}}}
	err = d.component(members, func(int) ([]byte, error) { return nil, nil }, func(verdict) error { return nil })
	if err == nil {
		t.Error("a leader from another component was accepted")
	}
}

// memorySink keeps the chunks that a recordWriter inserts.
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
	for _, l := range []layout{{'a', 1, false}, {'b', 3, false}, {'c', 2, true}} {
		sink := &memorySink{alloc: mem.NewChecked(t, mem.Host()), not: 3}
		w := newRecordWriter(sink, l, 4, 500)
		w.chunk = 200
		rng := rand.New(rand.NewPCG(5, 5))
		var want [4][]string
		for range 300 {
			part := rng.IntN(4)
			words := make([]uint64, l.words)
			for i := range words {
				words[i] = rng.Uint64()
			}
			var blob []byte
			if l.blob {
				blob = make([]byte, rng.IntN(100))
				for i := range blob {
					blob[i] = byte(rng.Uint32())
				}
			}
			if part != 3 {
				want[part] = append(want[part], fmt.Sprint(words, blob))
			}
			if err := w.addBlob(t.Context(), part, blob, words...); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.flush(t.Context()); err != nil || w.held != 0 {
			t.Fatal(err, w.held)
		}
		var got [4][]string
		for _, c := range sink.chunks {
			recs, err := openRecords(c, l)
			if err != nil {
				t.Fatal(err)
			}
			for i := range recs.rows() {
				got[c.Partition] = append(got[c.Partition], fmt.Sprint(recs.at(i), recs.bytes(i)))
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
			if _, err := openRecords(c, l); err == nil {
				t.Errorf("layout %c: byte %d changed and nobody noticed", l.kind, i)
			}
			c.Data.Bytes()[i] ^= 0x40
		}
		for _, c := range sink.chunks {
			c.Release()
		}
	}
}

func TestTable(t *testing.T) {
	tb := &table{width: 2, words: []uint64{3, 1, 1, 2, 3, 0, 1, 2}}
	tb.sortBy(0, 1)
	tb.dropRepeats()
	if got := fmt.Sprint(tb.words); got != "[1 2 3 0 3 1]" {
		t.Error(got)
	}
}

func TestPartOfSpreadsEvenly(t *testing.T) {
	for _, step := range []uint64{1, 1 << 32, 0x9e3779b97f4a7c15} {
		const parts, n = 37, 37_000
		var count [parts]int
		for i := range uint64(n) {
			count[partOf(i*step, parts)]++
		}
		lo, hi := slices.Min(count[:]), slices.Max(count[:])
		if lo < 800 || hi > 1200 {
			t.Errorf("keys %d apart: between %d and %d in a part, expected about 1000", step, lo, hi)
		}
	}
}
