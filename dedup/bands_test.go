package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/mem"
)

// bandDocs are documents as the bands stage sees them: a made-up sign file of each split.
type bandDocs struct {
	docs, bands, splits int
	same                func(rng *rand.Rand) bool // whether a document is a copy of an earlier one: half of its keys are that one's
	keep                bool                      // refs have keep keys
	empty               bool                      // some documents are empty, and some are in the member files
}

// rows returns the columns of a split's sign file and its members. Keys of copies depend on the split alone.
func (d bandDocs) rows(split int) (cols [][]uint64, members []uint64) {
	rng := rand.New(rand.NewPCG(uint64(split), 5))
	n := d.docs / d.splits
	cols = make([][]uint64, 3+d.bands)
	for c := range cols {
		cols[c] = make([]uint64, n)
	}
	for i := range n {
		ord := uint64(split)<<32 | uint64(i)
		cols[0][i], cols[1][i], cols[2][i] = ord, 100, rng.Uint64N(5)
		if d.empty && rng.IntN(10) == 0 {
			cols[1][i] = 0
		}
		if d.empty && rng.IntN(10) == 0 {
			members = append(members, ord)
		}
		of := -1
		if i > 0 && d.same(rng) {
			of = rng.IntN(i)
		}
		for b := range d.bands {
			key := rng.Uint64()
			if of >= 0 && key&1 == 0 {
				key = cols[3+b][of]
			}
			cols[3+b][i] = key
		}
	}
	return cols, members
}

func (d bandDocs) names() []string {
	names := []string{"ord", "bytes", "keep"}
	for b := range d.bands {
		names = append(names, bandColumn(b))
	}
	return names
}

type bandDocsStage struct{ bandDocs }

func (bandDocsStage) Name() string                  { return "sign" }
func (bandDocsStage) Resources() executor.Resources { return executor.Resources{CPUs: 1} }
func (s bandDocsStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return s, nil
}
func (bandDocsStage) Close() error { return nil }

func (s bandDocsStage) Process(_ context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	split, err := flow.DecodeTask[int](task)
	if err != nil {
		return nil, err
	}
	cols, members := s.rows(split)
	w, err := flow.NewRowFile(out, "sign", s.names())
	if err != nil {
		return nil, err
	}
	for i := range cols[0] {
		row := w.Buf[:0]
		for _, c := range cols {
			row = append(row, c[i])
		}
		if err := w.Row(row); err != nil {
			return nil, err
		}
	}
	m, err := flow.NewRowFile(out, "members", []string{"doc"})
	if err != nil {
		return nil, err
	}
	for _, ord := range members {
		if err := m.Row([]uint64{ord}); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), m.Close()); err != nil {
		return nil, err
	}
	return flow.OneResult(task, bandInput{Signs: []string{w.Name}, Members: m.Name})
}

// prepare returns a run that is about to look for pairs, in a work folder of its own.
func (d bandDocs) prepare(tb testing.TB, e Exec) *run {
	tb.Helper()
	s := DefaultSpec()
	s.NumBands = d.bands
	if d.keep {
		s.Keep = KeepLongest
	}
	r, err := prepare(&Options{Spec: s, Exec: e, Output: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	if r.work, err = executor.OpenWork(tb.TempDir(), nil); err != nil {
		tb.Fatal(err)
	}
	r.budget = mem.NewBudget(r.plan.Budget)
	r.ex, err = executor.New(executor.Config{Ranks: r.Exec.Ranks, Workers: r.Exec.Workers, Work: r.work, Budget: r.budget})
	if err != nil {
		tb.Fatal(err)
	}
	splits := make([]int, d.splits)
	for i := range splits {
		splits[i] = i
	}
	tasks, err := flow.EncodeTasks("split", splits)
	if err != nil {
		tb.Fatal(err)
	}
	if tasks, err = r.ex.Execute(tb.Context(), []executor.Stage{bandDocsStage{d}}, tasks); err != nil {
		tb.Fatal(err)
	}
	inputs, err := flow.DecodeAll[bandInput](tasks)
	if err != nil {
		tb.Fatal(err)
	}
	for i, in := range inputs {
		r.signs = append(r.signs, signResult{Split: i, Files: in.Signs, Docs: int64(d.docs / d.splits)})
		r.members = append(r.members, flow.RowResult{File: in.Members})
	}
	r.steps.Documents = int64(d.docs)
	return r
}

func (r *run) closeAll(tb testing.TB) {
	tb.Helper()
	if err := errors.Join(r.ex.Close(), r.work.Close()); err != nil {
		tb.Error(err)
	}
}

// pairs returns how often each pair of member and leader has to be found, and the number of buckets, by the plain rule.
func (d bandDocs) pairs() (pairs map[[2]flow.Ref]int, buckets int64) {
	pairs = make(map[[2]flow.Ref]int)
	members := make(map[uint64]bool)
	var cols [][]uint64
	for split := range d.splits {
		c, m := d.rows(split)
		for _, ord := range m {
			members[ord] = true
		}
		if cols == nil {
			cols = c
			continue
		}
		for i := range c {
			cols[i] = append(cols[i], c[i]...)
		}
	}
	for b := range d.bands {
		bucket := make(map[uint64][]flow.Ref)
		for i, ord := range cols[0] {
			r := flow.Ref{Ord: ord}
			if d.keep {
				r.Keep = cols[2][i]
			}
			if cols[1][i] > 0 && !members[ord] {
				bucket[cols[3+b][i]] = append(bucket[cols[3+b][i]], r)
			}
		}
		for _, refs := range bucket {
			if len(refs) > 1 {
				buckets++
			}
			slices.SortFunc(refs, flow.CompareRefs)
			for i, r := range refs {
				for _, l := range refs[:min(i, numLeaders)] {
					pairs[[2]flow.Ref{r, l}]++
				}
			}
		}
	}
	return pairs, buckets
}

// TestBandPairs finds the pairs of the plain rule, whatever the memory, the ranks and the shape of the buckets.
func TestBandPairs(t *testing.T) {
	n := 60_000
	if testing.Short() {
		n = 9_000
	}
	shapes := map[string]func(rng *rand.Rand) bool{
		"alone":  func(*rand.Rand) bool { return false },
		"copies": func(rng *rand.Rand) bool { return rng.IntN(4) == 0 },
		"chains": func(*rand.Rand) bool { return true }, // most buckets are large
	}
	execs := map[string]Exec{
		"one":           {Workers: 1},
		"two ranks":     {Workers: 2, Ranks: 2},
		"short":         {Workers: 2, share: 32 << 10, BandsPerIteration: 2},
		"short, spills": {Workers: 3, Ranks: 3, share: 64 << 10, budget: 1 << 20},
	}
	for shape, same := range shapes {
		for _, keep := range []bool{false, true} {
			d := bandDocs{docs: n, bands: 3, splits: 3, same: same, keep: keep, empty: true}
			want, buckets := d.pairs()
			for name, e := range execs {
				t.Run(fmt.Sprint(shape, " ", keep, " ", name), func(t *testing.T) {
					r := d.prepare(t, e)
					defer r.closeAll(t)
					files, err := r.findPairs(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					got := make(map[[2]flow.Ref]int)
					for _, f := range files {
						err := flow.EachRow(t.Context(), r.work, f.File, r.refs.Columns("doc", "leader"), func(w []uint64) error {
							doc, rest := r.refs.Read(w)
							leader, _ := r.refs.Read(rest)
							got[[2]flow.Ref{doc, leader}]++
							return nil
						})
						if err != nil {
							t.Fatal(err)
						}
					}
					if !maps.Equal(got, want) {
						t.Errorf("%d pairs, want %d", len(got), len(want))
					}
					counted := int64(0)
					for _, s := range r.ex.Stats().Stages {
						if strings.HasPrefix(s.Name, "bands-") {
							counted += s.Counters["buckets"]
						}
					}
					if counted != buckets {
						t.Errorf("%d buckets, want %d", counted, buckets)
					}
				})
			}
		}
	}
}
