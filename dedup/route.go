package dedup

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/internal/components"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// The route stage brings the pairs of C and the components' labels to the split of their document, and
// writes a candidate file per split, one row per candidate in the order of the ordinals:
//
//	ord      the ordinal
//	keep     the keep key; left out where Keep is "first"
//	label    its component
//	row_hi/lo  content hash of the raw text, which the text pass must find again
//	leaders  its distinct leaders in pi order, each as keep and ord (uint64, little-endian)
type routeStage struct{ *run }

// routeInput is a task of the route stage: a file of pairs (doc, leader), or one of labels (doc, label).
type routeInput struct {
	File   string `json:"file"`
	Labels bool   `json:"labels"`
}

// routeResult describes the candidate file of one split.
type routeResult struct {
	Split      int    `json:"split"`
	File       string `json:"file"`
	Candidates int64  `json:"candidates"`
	Pairs      int64  `json:"pairs"`
	Components int64  `json:"components"` // whose label is here
	TextBytes  int64  `json:"text_bytes"` // of the candidates
	MaxDoc     int64  `json:"max_doc"`    // bytes of the longest of them
}

func (s routeStage) Name() string    { return "route" }
func (s routeStage) TotalParts() int { return len(s.splits) }

func (s routeStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &routeActor{
		routeStage: s, env: env,
		pairs:  flow.Layout{Kind: 'p', Words: 2 * s.refs.Words()},
		labels: flow.Layout{Kind: 'l', Words: 2},
	}, nil
}

type routeActor struct {
	routeStage
	env           *executor.Env
	pairs, labels flow.Layout
}

func (a *routeActor) Close() error { return nil }

func (a *routeActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := flow.DecodeTask[routeInput](task)
	if err != nil {
		return err
	}
	l, columns := a.pairs, a.refs.Columns("doc", "leader")
	if in.Labels {
		l, columns = a.labels, components.LabelColumns
	}
	w := a.plan.Records(out, l, len(a.splits))
	err = flow.EachRow(ctx, a.work, in.File, columns, func(words []uint64) error {
		doc := words[0]
		if !in.Labels {
			r, _ := a.refs.Read(words)
			doc = r.Ord
		}
		return w.Add(ctx, a.splitOf(doc), words...)
	})
	if err != nil {
		return err
	}
	return w.Flush(ctx)
}

func (a *routeActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) (_ []executor.Task, err error) {
	// A pair that met in many bands arrives as often.
	n := a.refs.Words()
	byDoc := []int{n - 1}
	for i := range n {
		byDoc = append(byDoc, n+i)
	}
	labels := a.plan.Sorter(a.env.SpillDir, flow.RowKind{Width: 2, Keys: []int{0}, Distinct: true}, 4)
	defer labels.Close()
	pairs := a.plan.Sorter(a.env.SpillDir, flow.RowKind{Width: a.pairs.Words, Keys: byDoc, Distinct: true}, 4)
	defer pairs.Close()
	err = flow.EachRecordOf(ctx, part, []flow.Layout{a.pairs, a.labels}, func(which int, w []uint64, _ []byte) error {
		if which == 1 {
			return labels.Add(w, nil)
		}
		return pairs.Add(w, nil)
	})
	if err != nil {
		return nil, err
	}
	l, err := labels.Cursor()
	if err != nil {
		return nil, err
	}
	p, err := pairs.Cursor()
	if err != nil {
		return nil, err
	}
	a.watch("route", labels.Peak+pairs.Peak)

	res := routeResult{Split: part.Index()}
	file, err := out.Create("candidates")
	if err != nil {
		return nil, err
	}
	res.File = file.Name()
	w := &candidateFile{w: colfile.NewWriter(file, a.candidateColumns()), withKeep: a.refs.WithKeep}
	if err := a.join(ctx, l, p, w, &res); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := errors.Join(w.flush(), w.w.Finish(), file.Close()); err != nil {
		return nil, err
	}
	out.Count("candidates", res.Candidates)
	out.Count("pairs", res.Pairs)
	out.Count("components", res.Components)
	return []executor.Task{flow.PartTask(part.Index(), res)}, nil
}

func (r *run) candidateColumns() []colfile.Column {
	cols := []colfile.Column{{Name: "ord", Kind: colfile.Uint64}}
	if r.refs.WithKeep {
		cols = append(cols, colfile.Column{Name: "keep", Kind: colfile.Uint64})
	}
	return append(cols,
		colfile.Column{Name: "label", Kind: colfile.Uint64},
		colfile.Column{Name: "row_hi", Kind: colfile.Uint64},
		colfile.Column{Name: "row_lo", Kind: colfile.Uint64},
		colfile.Column{Name: "leaders", Kind: colfile.Bytes})
}

// candidateFile writes candidates in blocks of bounded size.
type candidateFile struct {
	w        *colfile.Writer
	withKeep bool
	cols     [5][]uint64 // ord, keep, label, row_hi, row_lo
	leaders  [][]byte
	arena    []uint64 // of leaders
	ends     []int    // of each candidate's leaders in arena
}

// candidateWords bounds the leaders in a block.
const candidateWords = 32 << 10

// add adds a candidate whose leaders were appended to arena.
func (f *candidateFile) add(words ...uint64) error {
	for i, w := range words {
		f.cols[i] = append(f.cols[i], w)
	}
	f.ends = append(f.ends, len(f.arena))
	if len(f.ends) < flow.RowsPerBlock && len(f.arena) < candidateWords {
		return nil
	}
	return f.flush()
}

func (f *candidateFile) flush() error {
	at := 0
	for _, end := range f.ends {
		f.leaders = append(f.leaders, flow.BytesOf(f.arena[at:end]))
		at = end
	}
	var data []colfile.Data
	for i, c := range f.cols {
		if i != 1 || f.withKeep {
			data = append(data, colfile.Data{Uint64: c})
		}
		f.cols[i] = c[:0]
	}
	err := f.w.Block(append(data, colfile.Data{Bytes: f.leaders}))
	f.leaders, f.arena, f.ends = f.leaders[:0], f.arena[:0], f.ends[:0]
	return err
}

// join walks over the sign files of the split beside the sorted labels and pairs and writes a row for every label.
func (a *routeActor) join(ctx context.Context, labels, pairs *flow.RowCursor, w *candidateFile, res *routeResult) (err error) {
	f, err := flow.OpenColumns(ctx, a.work, a.signs[res.Split].Files...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	label, pair := labels.Next(), pairs.Next()
	for label && f.Next() {
		refs := f.Refs(a.refs, "keep", "ord")
		hi, lo, size := f.Uint64("row_hi"), f.Uint64("row_lo"), f.Uint64("bytes")
		if f.Err != nil {
			return f.Err
		}
		for i := range f.Rows {
			ord := refs.Ord[i]
			if !label || labels.Row[0] != ord {
				continue
			}
			for ; pair; pair = pairs.Next() {
				doc, rest := a.refs.Read(pairs.Row)
				if doc.Ord != ord {
					break
				}
				leader, _ := a.refs.Read(rest)
				w.arena = append(w.arena, leader.Keep, leader.Ord)
				res.Pairs++
			}
			res.Candidates++
			if labels.Row[1] == ord {
				res.Components++
			}
			res.TextBytes += int64(size[i])
			res.MaxDoc = max(res.MaxDoc, int64(size[i]))
			if err := w.add(ord, refs.At(i).Keep, labels.Row[1], hi[i], lo[i]); err != nil {
				return err
			}
			label = labels.Next()
		}
	}
	if err := errors.Join(f.Err, labels.Err, pairs.Err); err != nil {
		return err
	}
	if label || pair {
		return fmt.Errorf("dedup: split %d: a label or a pair belongs to none of its documents", res.Split)
	}
	return nil
}
