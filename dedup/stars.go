package dedup

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Connected components by alternating large-star and small-star operations (Kiveris, Lattanzi, Mirrokni,
// Rastogi, Vassilvitskii: Connected Components in MapReduce and Beyond, 2014): O(log^2 n) rounds of two
// shuffles each, in the memory of one partition, whatever the number of documents and the shape of the
// components.
//
// An edge joins a document to another. At each document u with smallest neighbour m (u included), large-star
// replaces each edge to a larger neighbour v by (v, m), and small-star each edge to a smaller neighbour v by (v, m),
// or (u, m) where v is m. Either keeps components and never adds an edge. When a round changes nothing, every edge
// joins a document to the pi-smallest of its component.
type starStage struct {
	*run
	round int
	large bool
	parts int
}

// starResult describes the edges that a partition wrote.
type starResult struct {
	rowResult
	Hash shuffle.Hash `json:"hash"` // multiset hash of the edges
}

func (s starStage) Name() string {
	if s.large {
		return fmt.Sprintf("star-%02d-large", s.round)
	}
	return fmt.Sprintf("star-%02d-small", s.round)
}

func (s starStage) TotalParts() int { return s.parts }

func (s starStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &starActor{s, env, layout{kind: 's', words: 2 * s.refs.words()}}, nil
}

type starActor struct {
	starStage
	env    *executor.Env
	layout layout
}

func (a *starActor) Close() error { return nil }

// Insert sends each edge to the documents that look at it: both for large-star, the larger for small-star.
func (a *starActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	w := a.records(out, a.layout, a.parts)
	var words []uint64
	send := func(u, v ref) error {
		words = a.refs.append(a.refs.append(words[:0], u), v)
		return w.add(ctx, partOf(u.ord, a.parts), words...)
	}
	err := a.eachRow(task, a.refs.columns("doc", "leader"), func(row []uint64) error {
		u, rest := a.refs.read(row)
		v, _ := a.refs.read(rest)
		if u.before(v) {
			u, v = v, u
		}
		if a.large {
			if err := send(v, u); err != nil {
				return err
			}
		}
		return send(u, v)
	})
	if err != nil {
		return err
	}
	return w.flush(ctx)
}

func (a *starActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	smallest := make(map[ref]ref)
	each := func(f func(u, v ref) error) error {
		return eachRecord(ctx, part, a.layout, func(w []uint64, _ []byte) error {
			u, rest := a.refs.read(w)
			v, _ := a.refs.read(rest)
			return f(u, v)
		})
	}
	err := each(func(u, v ref) error {
		m, ok := smallest[u]
		if !ok {
			m = u
		}
		if v.before(m) {
			m = v
		}
		smallest[u] = m
		return nil
	})
	if err != nil {
		return nil, err
	}
	w, err := newRowFile(out, "edges", a.refs.columns("doc", "leader"))
	if err != nil {
		return nil, err
	}
	var hash shuffle.Hash
	err = each(func(u, v ref) error {
		m := smallest[u]
		switch {
		case a.large && v.before(u): // v looks at this edge from the other side
			return nil
		case !a.large && v == m:
			v = u
		}
		row := a.refs.append(a.refs.append(w.buf[:0], v), m)
		hash = hash.Add(recordHash(row, nil, false))
		return w.row(row)
	})
	if err != nil {
		return nil, err
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	res := starResult{rowResult{part.Index(), w.name, w.w.Rows()}, hash}
	return []executor.Task{partTask(part.Index(), res)}, nil
}

// starComponents labels the documents of C on disk and returns the label files.
func (r *run) starComponents(ctx context.Context, pairs []rowResult) ([]string, error) {
	const vertexBytes = 96 // of one document in a partition's table, at worst
	vertices := min(r.steps.Documents, 2*r.steps.BandPairs)
	parts := r.parts(vertices, vertexBytes)
	tasks, err := encodeTasks("file", pairs)
	if err != nil {
		return nil, err
	}
	// The constant leaves the proven O(log^2 n) plenty of room; only a fault in the program reaches the bound.
	logN := bits.Len64(uint64(vertices))
	var last shuffle.Hash
	for round := range 16 + 4*logN*logN {
		for _, large := range []bool{true, false} {
			if tasks, err = r.ex.Shuffle(ctx, starStage{r, round, large, parts}, tasks); err != nil {
				return nil, err
			}
		}
		edges, err := decodeAll[starResult](tasks)
		if err != nil {
			return nil, err
		}
		var sum shuffle.Hash
		for _, e := range edges {
			sum = sum.Add(e.Hash)
		}
		if round > 0 && sum.Equal(last) {
			out, err := r.ex.Execute(ctx, []executor.Stage{labelStage{r}}, tasks)
			if err != nil {
				return nil, err
			}
			return filesOf(out)
		}
		last = sum
	}
	return nil, errors.New("dedup: connected components did not settle; this is a fault of the program, please report it")
}

// labelStage turns edges that point to the smallest document of their component into labels.
type labelStage struct{ *run }

func (s labelStage) Name() string { return "labels" }

func (s labelStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return labelActor(s), nil
}

type labelActor struct{ *run }

func (a labelActor) Close() error { return nil }

func (a labelActor) Process(_ context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	w, err := newRowFile(out, "labels", labelColumns)
	if err != nil {
		return nil, err
	}
	err = a.eachRow(task, a.refs.columns("doc", "leader"), func(row []uint64) error {
		doc, rest := a.refs.read(row)
		label, _ := a.refs.read(rest)
		if err := w.row(append(w.buf[:0], label.ord, label.ord)); err != nil {
			return err
		}
		return w.row(append(w.buf[:0], doc.ord, label.ord))
	})
	if err != nil {
		return nil, err
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	return oneResult(task, rowResult{File: w.name, Rows: w.w.Rows()})
}
