package components

import (
	"context"
	"errors"
	"maps"
	"math/bits"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
)

func TestUnionFind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 50).Draw(t, "vertices")
		keeps := rapid.SliceOfN(rapid.Uint64Range(0, 2), n, n).Draw(t, "keeps")
		node := func(i int) flow.Ref { return flow.Ref{Keep: keeps[i], Ord: uint64(i) << 32} }
		edge := rapid.Custom(func(t *rapid.T) [2]int {
			return [2]int{rapid.IntRange(0, n-1).Draw(t, "a"), rapid.IntRange(0, n-1).Draw(t, "b")}
		})
		edges := rapid.SliceOfN(edge, 1, 80).Draw(t, "edges")
		label := make(map[uint64]flow.Ref)
		for _, e := range edges {
			for _, i := range e {
				label[node(i).Ord] = node(i)
			}
		}
		var u unionFind
		for range n {
			for _, e := range edges {
				a, b := label[node(e[0]).Ord], label[node(e[1]).Ord]
				if b.Before(a) {
					a = b
				}
				label[node(e[0]).Ord], label[node(e[1]).Ord] = a, a
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
			if label[doc].Ord != got {
				t.Fatalf("label of %d is %d, want %d", doc, got, label[doc].Ord)
			}
		}
	})
}

// graph writes edges to row files, as an earlier stage would.
type graphStage struct{ edges [][2]uint64 }

func (graphStage) Name() string                  { return "graph" }
func (graphStage) Resources() executor.Resources { return executor.Resources{CPUs: 1} }
func (s graphStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return graphActor(s), nil
}

type graphActor struct{ edges [][2]uint64 }

func (graphActor) Close() error { return nil }

func (a graphActor) Process(_ context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	part, err := flow.DecodeTask[[2]int](task)
	if err != nil {
		return nil, err
	}
	w, err := flow.NewRowFile(out, "edges", EdgeColumns)
	if err != nil {
		return nil, err
	}
	for _, e := range a.edges[part[0]:part[1]] {
		if err := w.Row(append(w.Buf[:0], e[0], e[1])); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return flow.OneResult(task, flow.RowResult{File: w.Name, Rows: w.Rows()})
}

// find labels a graph and returns the label of every vertex and the number of rounds.
func find(t testing.TB, edges [][2]uint64, vertices, memory, share int64, ranks, parts int) (map[uint64]uint64, int) {
	t.Helper()
	work, err := executor.OpenWork(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ex, err := executor.New(executor.Config{Ranks: ranks, Workers: 2, Work: work})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(ex.Close(), work.Close()); err != nil {
			t.Error(err)
		}
	}()
	half := len(edges) / 2
	tasks, err := flow.EncodeTasks("part", [][2]int{{0, half}, {half, len(edges)}})
	if err != nil {
		t.Fatal(err)
	}
	if tasks, err = ex.Execute(t.Context(), []executor.Stage{graphStage{edges}}, tasks); err != nil {
		t.Fatal(err)
	}
	plan := flow.Memory{Actors: 2, PerRow: 1, Share: share}.Plan()
	c := &Config{Executor: ex, Work: work, Plan: plan, Vertices: vertices, Memory: memory, Parts: parts}
	labels, err := c.Find(t.Context(), tasks)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[uint64]uint64)
	for _, f := range labels.Files {
		err := flow.EachRow(t.Context(), work, f, LabelColumns, func(w []uint64) error {
			if old, ok := got[w[0]]; ok && old != w[1] {
				t.Errorf("vertex %d has labels %d and %d", w[0], old, w[1])
			}
			got[w[0]] = w[1]
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return got, labels.Rounds
}

// Random graphs have the same labels in memory and on disk, on any number of ranks and partitions, and in any share of memory.
func TestOnDiskIsInMemory(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		n := 2 + rng.Uint64N(120)
		var edges [][2]uint64
		for range 1 + rng.Uint64N(n) {
			u, v := rng.Uint64N(n), rng.Uint64N(n)
			if u != v {
				edges = append(edges, [2]uint64{u << 32, v << 32})
			}
		}
		want, _ := find(t, edges, int64(n), 0, 0, 1, 1)
		got, rounds := find(t, edges, int64(n), -1, rng.Int64N(4)*1000, 1+rng.IntN(3), 1+rng.IntN(5))
		if !maps.Equal(got, want) {
			t.Errorf("seed %d: %v, want %v", seed, got, want)
		}
		if len(edges) > 0 && rounds == 0 {
			t.Errorf("seed %d: nothing was done on disk", seed)
		}
	}
}

// A chain is the worst there is: each vertex sees two others. It ends right, in about log2 n rounds, whatever the order of
// the vertices along it.
func TestChain(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 1_000
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for name, at := range map[string]func(i int) uint64{
		"ascending": func(i int) uint64 { return uint64(i) },
		"shuffled":  func() func(int) uint64 { p := rng.Perm(n); return func(i int) uint64 { return uint64(p[i]) } }(),
		"folded": func(i int) uint64 { // large and small in turn, as far apart as can be
			if i%2 == 0 {
				return uint64(i / 2)
			}
			return uint64(n - 1 - i/2)
		},
	} {
		edges := make([][2]uint64, n-1)
		for i := range edges {
			edges[i] = [2]uint64{at(i), at(i + 1)}
		}
		got, rounds := find(t, edges, int64(n), -1, 0, 2, 4)
		if len(got) != n {
			t.Errorf("%s: %d vertices, want %d", name, len(got), n)
		}
		for v, label := range got {
			if label != 0 {
				t.Errorf("%s: vertex %d has label %d, want 0", name, v, label)
				break
			}
		}
		logN := bits.Len(uint(n))
		t.Logf("%s: %d vertices, %d rounds; the bound is %d", name, n, rounds, maxRounds(int64(n)))
		if rounds > 2*logN {
			t.Errorf("%s: %d rounds for %d vertices, more than 2 log2 n", name, rounds, n)
		}
	}
}
