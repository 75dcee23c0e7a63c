package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
		pairs:  layout{kind: 'p', words: 2 * s.refs.words()},
		labels: layout{kind: 'l', words: 2},
	}, nil
}

type routeActor struct {
	routeStage
	env           *executor.Env
	pairs, labels layout
}

func (a *routeActor) Close() error { return nil }

func (a *routeActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := decodeTask[routeInput](task)
	if err != nil {
		return err
	}
	l, columns := a.pairs, a.refs.columns("doc", "leader")
	if in.Labels {
		l, columns = a.labels, labelColumns
	}
	w := a.records(out, l, len(a.splits))
	err = a.eachRowOf(in.File, columns, func(words []uint64) error {
		doc := words[0]
		if !in.Labels {
			r, _ := a.refs.read(words)
			doc = r.ord
		}
		return w.add(ctx, a.splitOf(doc), words...)
	})
	if err != nil {
		return err
	}
	return w.flush(ctx)
}

func (a *routeActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) (_ []executor.Task, err error) {
	labels := &table{width: 2}
	pairs := &table{width: a.pairs.words}
	// A pair that met in many bands arrives as often. Compacting whenever the table has doubled keeps
	// memory at twice the distinct pairs.
	n := a.refs.words()
	docOrd := n - 1
	var key []int
	key = append(key, docOrd)
	for i := range n {
		key = append(key, n+i)
	}
	compactAt := 1 << 16
	compact := func() {
		pairs.sortBy(key...)
		pairs.dropRepeats()
		compactAt = max(1<<16, 2*pairs.len())
	}
	err = eachRecordOf(ctx, part, []layout{a.pairs, a.labels}, func(which int, w []uint64, _ []byte) error {
		if which == 1 {
			labels.words = append(labels.words, w...)
			return nil
		}
		pairs.words = append(pairs.words, w...)
		if pairs.len() >= compactAt {
			compact()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	compact()
	labels.sortBy(0)
	labels.dropRepeats()

	res := routeResult{Split: part.Index(), Candidates: int64(labels.len()), Pairs: int64(pairs.len())}
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
	return []executor.Task{partTask(part.Index(), res)}, nil
}

func (r *run) candidateColumns() []colfile.Column {
	cols := []colfile.Column{{Name: "ord", Kind: colfile.Uint64}}
	if r.refs.withKeep {
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
func (a *routeActor) join(labels, pairs *table, w *colfile.Writer, res *routeResult) (err error) {
	f, err := a.openColumns(a.signs[res.Split].File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	l, p := 0, 0
	for f.next() && l < labels.len() {
		refs := f.refs(a.refs, "keep", "ord")
		hi, lo, size := f.u64("row_hi"), f.u64("row_lo"), f.u64("bytes")
		if f.err != nil {
			return f.err
		}
		var ords, keeps, labs, his, los []uint64
		var leaders [][]byte
		for i := range f.rows {
			if l == labels.len() || labels.at(l)[0] != refs.ord[i] {
				continue
			}
			ords = append(ords, refs.ord[i])
			keeps = append(keeps, refs.at(i).keep)
			labs = append(labs, labels.at(l)[1])
			his, los = append(his, hi[i]), append(los, lo[i])
			var mine []uint64
			for ; p < pairs.len(); p++ {
				doc, rest := a.refs.read(pairs.at(p))
				if doc.ord != refs.ord[i] {
					break
				}
				leader, _ := a.refs.read(rest)
				mine = append(mine, leader.keep, leader.ord)
			}
			leaders = append(leaders, bytesOf(mine))
			res.TextBytes += int64(size[i])
			res.MaxDoc = max(res.MaxDoc, int64(size[i]))
			l++
		}
		data := []colfile.Data{{Uint64: ords}}
		if a.refs.withKeep {
			data = append(data, colfile.Data{Uint64: keeps})
		}
		data = append(data, colfile.Data{Uint64: labs}, colfile.Data{Uint64: his}, colfile.Data{Uint64: los}, colfile.Data{Bytes: leaders})
		if err := w.Block(data); err != nil {
			return err
		}
	}
	if f.err != nil {
		return f.err
	}
	if l != labels.len() || p != pairs.len() {
		return fmt.Errorf("dedup: split %d: %d of %d labels and %d of %d pairs belong to its documents", res.Split, l, labels.len(), p, pairs.len())
	}
	return nil
}

// dropRepeats removes rows equal to the one before.
func (t *table) dropRepeats() {
	at := 0
	for i := range t.len() {
		if i > 0 && slices.Equal(t.at(i), t.words[at-t.width:at]) {
			continue
		}
		copy(t.words[at:], t.at(i))
		at += t.width
	}
	t.words = t.words[:at]
}
