package dedup

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
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

// vertexBytes is the memory of one document in a partition's table, at worst, with room for uneven partitions.
const vertexBytes = 96

// starResult describes the edges that a partition wrote.
type starResult struct {
	flow.RowResult
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
	return &starActor{s, env, flow.Layout{Kind: 's', Words: 2 * s.refs.Words()}}, nil
}

type starActor struct {
	starStage
	env    *executor.Env
	layout flow.Layout
}

func (a *starActor) Close() error { return nil }

// Insert sends each edge to the documents that look at it: both for large-star, the larger for small-star.
func (a *starActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	w := a.plan.Records(out, a.layout, a.parts)
	var words []uint64
	send := func(u, v flow.Ref) error {
		words = a.refs.Append(a.refs.Append(words[:0], u), v)
		return w.Add(ctx, flow.PartOf(u.Ord, a.parts), words...)
	}
	err := flow.EachRowOf(a.work, task, a.refs.Columns("doc", "leader"), func(row []uint64) error {
		u, rest := a.refs.Read(row)
		v, _ := a.refs.Read(rest)
		if u.Before(v) {
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
	return w.Flush(ctx)
}

func (a *starActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	w, err := flow.NewRowFile(out, "edges", a.refs.Columns("doc", "leader"))
	if err != nil {
		return nil, err
	}
	var hash shuffle.Hash
	err = flow.Smallest(int(a.plan.Share/flow.GroupTableBytes), func(u flow.Ref) uint64 { return flow.PassHash(u.Ord) },
		func(row func(u, v flow.Ref) error) error {
			return flow.EachRecord(ctx, part, a.layout, func(w []uint64, _ []byte) error {
				u, rest := a.refs.Read(w)
				v, _ := a.refs.Read(rest)
				return row(u, v)
			})
		},
		func(u, v, m flow.Ref) error {
			if u.Before(m) {
				m = u
			}
			switch {
			case a.large && v.Before(u): // v looks at this edge from the other side
				return nil
			case !a.large && v == m:
				v = u
			}
			row := a.refs.Append(a.refs.Append(w.Buf[:0], v), m)
			hash = hash.Add(flow.RecordHash(row, nil, false))
			return w.Row(row)
		},
		func(vertices int) { a.watch("vertices", int64(vertices)*flow.GroupTableBytes) })
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	res := starResult{flow.RowResult{Part: part.Index(), File: w.Name, Rows: w.Rows()}, hash}
	return []executor.Task{flow.PartTask(part.Index(), res)}, nil
}

// starComponents labels the documents of C on disk and returns the label files.
func (r *run) starComponents(ctx context.Context, pairs []flow.RowResult) ([]string, error) {
	vertices := min(r.steps.Documents, 2*r.steps.BandPairs)
	parts := r.parts(vertices, vertexBytes)
	tasks, err := flow.EncodeTasks("file", pairs)
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
		edges, err := flow.DecodeAll[starResult](tasks)
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
			return flow.FilesOf(out)
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
	w, err := flow.NewRowFile(out, "labels", labelColumns)
	if err != nil {
		return nil, err
	}
	err = flow.EachRowOf(a.work, task, a.refs.Columns("doc", "leader"), func(row []uint64) error {
		doc, rest := a.refs.Read(row)
		label, _ := a.refs.Read(rest)
		if err := w.Row(append(w.Buf[:0], label.Ord, label.Ord)); err != nil {
			return err
		}
		return w.Row(append(w.Buf[:0], doc.Ord, label.Ord))
	})
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return flow.OneResult(task, flow.RowResult{File: w.Name, Rows: w.Rows()})
}
