package components

import (
	"context"
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
	*Config
	read  func(ctx context.Context, task executor.Task, f func(u, v flow.Ref) error) error
	round int
	large bool
}

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

func (s starStage) Resources() executor.Resources { return executor.Resources{CPUs: 1} }
func (s starStage) TotalParts() int               { return s.Parts }

func (s starStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &starActor{s, env, flow.Layout{Kind: 's', Words: 2 * s.Refs.Words()}}, nil
}

type starActor struct {
	starStage
	env    *executor.Env
	layout flow.Layout
}

func (a *starActor) Close() error { return nil }

// Insert sends each edge to the documents that look at it: both for large-star, the larger for small-star.
func (a *starActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	w := a.Plan.Records(out, a.layout, a.Parts)
	var words []uint64
	send := func(u, v flow.Ref) error {
		words = a.Refs.Append(a.Refs.Append(words[:0], u), v)
		return w.Add(ctx, flow.PartOf(u.Ord, a.Parts), words...)
	}
	err := a.read(ctx, task, func(u, v flow.Ref) error {
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
	w, err := flow.NewRowFile(out, "edges", a.Refs.Columns(EdgeColumns...))
	if err != nil {
		return nil, err
	}
	var hash shuffle.Hash
	err = flow.Smallest(int(a.Plan.Share/flow.GroupTableBytes), func(u flow.Ref) uint64 { return flow.PassHash(u.Ord) },
		func(row func(u, v flow.Ref) error) error {
			return flow.EachRecord(ctx, part, a.layout, func(w []uint64, _ []byte) error {
				u, rest := a.Refs.Read(w)
				v, _ := a.Refs.Read(rest)
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
			row := a.Refs.Append(a.Refs.Append(w.Buf[:0], v), m)
			hash = hash.Add(flow.RecordHash(row, nil, false))
			return w.Row(row)
		},
		func(vertices int) {
			if a.Watch != nil {
				a.Watch("vertices", int64(vertices)*flow.GroupTableBytes)
			}
		})
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	res := starResult{flow.RowResult{Part: part.Index(), File: w.Name, Rows: w.Rows()}, hash}
	return []executor.Task{flow.PartTask(part.Index(), res)}, nil
}

// maxRounds is a number of rounds that is never reached: the constants leave the proven O(log^2 n) plenty of room.
func maxRounds(vertices int64) int {
	logN := bits.Len64(uint64(vertices))
	return 16 + 4*logN*logN
}

// onDisk is Find for a graph that does not fit in memory.
func (c *Config) onDisk(ctx context.Context, tasks []executor.Task) (*Labels, error) {
	edges := c.edges()
	var last shuffle.Hash
	for round := range maxRounds(c.Vertices) {
		for _, large := range []bool{true, false} {
			var err error
			if tasks, err = c.Executor.Shuffle(ctx, starStage{c, edges, round, large}, tasks); err != nil {
				return nil, err
			}
			edges = c.rowEdges
		}
		found, err := flow.DecodeAll[starResult](tasks)
		if err != nil {
			return nil, err
		}
		var sum shuffle.Hash
		for _, e := range found {
			sum = sum.Add(e.Hash)
		}
		if round > 0 && sum.Equal(last) {
			out, err := c.Executor.Execute(ctx, []executor.Stage{labelStage{c}}, tasks)
			if err != nil {
				return nil, err
			}
			files, err := flow.FilesOf(out)
			return &Labels{Files: files, Rounds: round + 1}, err
		}
		last = sum
	}
	return nil, errUnsettled
}

// EdgeColumns are the refs in the columns of edge files, those between rounds too; see [flow.RefCodec.Columns].
var EdgeColumns = []string{"doc", "leader"}

// rowEdges reads the edge file that is the result of a round.
func (c *Config) rowEdges(ctx context.Context, task executor.Task, f func(u, v flow.Ref) error) error {
	return flow.EachRowOf(ctx, c.Work, task, c.Refs.Columns(EdgeColumns...), func(row []uint64) error {
		u, rest := c.Refs.Read(row)
		v, _ := c.Refs.Read(rest)
		return f(u, v)
	})
}

// labelStage turns edges that point to the smallest document of their component into labels.
type labelStage struct{ *Config }

func (s labelStage) Name() string                  { return "labels" }
func (s labelStage) Resources() executor.Resources { return executor.Resources{CPUs: 1} }

func (s labelStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return labelActor(s), nil
}

type labelActor struct{ *Config }

func (a labelActor) Close() error { return nil }

func (a labelActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	w, err := flow.NewRowFile(out, "labels", LabelColumns)
	if err != nil {
		return nil, err
	}
	err = a.rowEdges(ctx, task, func(doc, label flow.Ref) error {
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
