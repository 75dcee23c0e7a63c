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
	w := a.records(out, l, len(a.splits))
	err = a.eachRowOf(in.File, columns, func(words []uint64) error {
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
	labels := &flow.Table{Width: 2}
	pairs := &flow.Table{Width: a.pairs.Words}
	// A pair that met in many bands arrives as often. Compacting whenever the table has doubled keeps
	// memory at twice the distinct pairs.
	n := a.refs.Words()
	docOrd := n - 1
	var key []int
	key = append(key, docOrd)
	for i := range n {
		key = append(key, n+i)
	}
	compactAt := 1 << 16
	compact := func() {
		pairs.SortBy(key...)
		pairs.DropRepeats()
		compactAt = max(1<<16, 2*pairs.Len())
	}
	err = flow.EachRecordOf(ctx, part, []flow.Layout{a.pairs, a.labels}, func(which int, w []uint64, _ []byte) error {
		if which == 1 {
			labels.Words = append(labels.Words, w...)
			return nil
		}
		pairs.Words = append(pairs.Words, w...)
		if pairs.Len() >= compactAt {
			compact()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	compact()
	labels.SortBy(0)
	labels.DropRepeats()

	res := routeResult{Split: part.Index(), Candidates: int64(labels.Len()), Pairs: int64(pairs.Len())}
	file, err := out.Create("candidates")
	if err != nil {
		return nil, err
	}
	res.File = file.Name()
	w := colfile.NewWriter(file, a.candidateColumns())
	if err := a.join(labels, pairs, w, &res); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := errors.Join(w.Finish(), file.Close()); err != nil {
		return nil, err
	}
	out.Count("candidates", res.Candidates)
	out.Count("pairs", res.Pairs)
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

// join walks over the sign file of the split beside the sorted labels and pairs and writes a row for every
// label.
func (a *routeActor) join(labels, pairs *flow.Table, w *colfile.Writer, res *routeResult) (err error) {
	f, err := a.openColumns(a.signs[res.Split].File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	l, p := 0, 0
	for f.Next() && l < labels.Len() {
		refs := f.Refs(a.refs, "keep", "ord")
		hi, lo, size := f.Uint64("row_hi"), f.Uint64("row_lo"), f.Uint64("bytes")
		if f.Err != nil {
			return f.Err
		}
		var ords, keeps, labs, his, los []uint64
		var leaders [][]byte
		for i := range f.Rows {
			if l == labels.Len() || labels.At(l)[0] != refs.Ord[i] {
				continue
			}
			ords = append(ords, refs.Ord[i])
			keeps = append(keeps, refs.At(i).Keep)
			labs = append(labs, labels.At(l)[1])
			his, los = append(his, hi[i]), append(los, lo[i])
			var mine []uint64
			for ; p < pairs.Len(); p++ {
				doc, rest := a.refs.Read(pairs.At(p))
				if doc.Ord != refs.Ord[i] {
					break
				}
				leader, _ := a.refs.Read(rest)
				mine = append(mine, leader.Keep, leader.Ord)
			}
			leaders = append(leaders, flow.BytesOf(mine))
			res.TextBytes += int64(size[i])
			res.MaxDoc = max(res.MaxDoc, int64(size[i]))
			l++
		}
		data := []colfile.Data{{Uint64: ords}}
		if a.refs.WithKeep {
			data = append(data, colfile.Data{Uint64: keeps})
		}
		data = append(data, colfile.Data{Uint64: labs}, colfile.Data{Uint64: his}, colfile.Data{Uint64: los}, colfile.Data{Bytes: leaders})
		if err := w.Block(data); err != nil {
			return err
		}
	}
	if f.Err != nil {
		return f.Err
	}
	if l != labels.Len() || p != pairs.Len() {
		return fmt.Errorf("dedup: split %d: %d of %d labels and %d of %d pairs belong to its documents", res.Split, l, labels.Len(), p, pairs.Len())
	}
	return nil
}
