package dedup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// narrow is a backend whose memory has room for so many bytes of text, and that fails for want of it now and then.
type narrow struct {
	lsh.PairBackend
	most   int
	every  int
	calls  int
	failed int
}

func (n *narrow) Load(ctx context.Context, texts *mem.Strings) error {
	if n.calls++; texts.Rows > 0 && (texts.Data.Len() > n.most || n.calls%n.every == 0) {
		n.failed++
		_ = n.PairBackend.Close()
		return &mem.NoMemoryError{Need: int64(texts.Data.Len()), Limit: int64(n.most)}
	}
	return n.PairBackend.Load(ctx, texts)
}

func (n *narrow) Compare(ctx context.Context, pairs *mem.Buffer, k int, out *mem.Buffer) (mem.Fence, error) {
	if n.calls++; n.calls%n.every == 0 {
		n.failed++
		return nil, &mem.NoMemoryError{Need: int64(k)}
	}
	return n.PairBackend.Compare(ctx, pairs, k, out)
}

// Whatever is compared ahead, in pieces of whatever size, and wherever memory is short: verdicts, counts and their order are those of
// the rule alone.
func TestAhead(t *testing.T) {
	threshold, err := lsh.ParseThreshold("0.4")
	if err != nil {
		t.Fatal(err)
	}
	comparer, err := lsh.NewComparer(3)
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := lsh.NewCPUPairs(3)
	if err != nil {
		t.Fatal(err)
	}
	type doc struct {
		label uint64
		ref   flow.Ref
		place textPlace
	}
	short, surplus, compared := 0, int64(0), int64(0)
	for seed := range uint64(120) {
		rng := rand.New(rand.NewPCG(seed, 1))
		withKeep := seed%2 == 0
		var store textStore
		var docs []doc
		words := strings.Fields("aa bb cc dd ee ff gg hh 漢字 ж")
		for label := range uint64(1 + rng.IntN(6)) {
			var refs []flow.Ref
			var texts []string
			for i := range 1 + rng.IntN(1+rng.IntN(60)) {
				text := "the quick brown fox "
				if i > 0 && rng.IntN(3) > 0 {
					text = texts[rng.IntN(i)]
				}
				texts = append(texts, edit(rng, text+words[rng.IntN(len(words))], words))
				ref := flow.Ref{Ord: label*1000 + uint64(10*i)}
				if withKeep {
					ref.Keep = uint64(i / 2)
				}
				var leaders []uint64
				for j, l := range refs {
					if rng.IntN(4) == 0 || j == i-1 && rng.IntN(2) == 0 {
						leaders = append(leaders, l.Keep, l.Ord)
					}
				}
				refs = append(refs, ref)
				place, err := store.add(append(flow.BytesOf(leaders), texts[i]...), uint64(len(leaders)/2))
				if err != nil {
					t.Fatal(err)
				}
				docs = append(docs, doc{100 + label, ref, place})
			}
		}
		run := func(a *ahead, d *decider) (out []string) {
			d.text = store.get
			d.emit = func(v verdict) error {
				out = append(out, fmt.Sprint(v.removed, v.kept, v.inter, v.union))
				return nil
			}
			last := uint64(0)
			decide := func(label uint64, ref flow.Ref, place textPlace) error {
				if label != last {
					d.begin(0)
					last = label
				}
				return d.next(ref, place)
			}
			for _, x := range docs {
				var err error
				if a == nil {
					err = decide(x.label, x.ref, x.place)
				} else {
					err = a.next(t.Context(), x.label, x.ref, x.place, decide)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if a != nil {
				if err := a.run(t.Context(), decide); err != nil {
					t.Fatal(err)
				}
			}
			return append(out, fmt.Sprint(d.tests, d.rejected))
		}
		reference := func(ord uint64) bool { return ord%70 == 0 }
		made := func() *decider {
			return &decider{comparer: comparer, threshold: threshold, cacheSize: 1 << 20, withKeep: withKeep, reference: reference}
		}
		want := run(nil, made())
		for _, tc := range []struct{ most, narrow, every, few int }{
			{1 << 20, 1 << 20, 1 << 20, 1}, {1 << 20, 1 << 20, 1 << 20, fewPairs}, {300, 1 << 20, 1 << 20, fewPairs}, {1 << 20, 500, 1 << 20, fewPairs}, {1500, 1 << 20, 3, 2},
		} {
			d := made()
			backend := &narrow{PairBackend: pairs, most: tc.narrow, every: tc.every}
			a := newAhead(d, backend, int64(tc.most))
			a.few, d.known = tc.few, a.find
			if got := run(a, d); !slices.Equal(got, want) {
				t.Fatalf("seed %d, %+v: %v, want %v", seed, tc, got, want)
			}
			if a.stats.used > a.stats.compared || int64(backend.failed) < a.stats.short {
				t.Errorf("%+v, %d", a.stats, backend.failed)
			}
			if tc.few == 1 && a.stats.used != d.tests {
				t.Errorf("of %d tests %d were found: what is compared ahead is not what the rule asks for", d.tests, a.stats.used)
			}
			compared, surplus, short = compared+a.stats.compared, surplus+a.stats.compared-a.stats.used, short+int(a.stats.short)
		}
	}
	t.Logf("%d pairs compared ahead, %d in vain; memory was short %d times", compared, surplus, short)
	if compared == 0 || surplus == 0 || surplus > compared/2 || short == 0 {
		t.Errorf("%d pairs compared ahead, %d in vain; memory was short %d times", compared, surplus, short)
	}
}

// What is wrong with a device ends the partition, and says so.
func TestAheadFails(t *testing.T) {
	threshold, err := lsh.ParseThreshold("0.4")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the device is lost")
	pairs, err := lsh.NewCPUPairs(3)
	if err != nil {
		t.Fatal(err)
	}
	var store textStore
	d := &decider{threshold: threshold, text: store.get}
	a := newAhead(d, failing{pairs, broken}, 1<<20)
	decide := func(uint64, flow.Ref, textPlace) error { t.Error("a document is decided"); return nil }
	for i := range uint64(10) {
		var leaders []uint64
		if i > 0 {
			leaders = []uint64{0, 0}
		}
		place, err := store.add(append(flow.BytesOf(leaders), "a text"...), uint64(len(leaders)/2))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.next(t.Context(), 1, flow.Ref{Ord: i}, place, decide); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.run(t.Context(), decide); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type failing struct {
	lsh.PairBackend
	err error
}

func (f failing) Load(_ context.Context, texts *mem.Strings) error {
	if texts.Rows > 0 {
		return f.err
	}
	return nil
}
