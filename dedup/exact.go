package dedup

import (
	"context"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// The exact stage gathers documents by content hash. Documents with one hash form a class; the pi-smallest
// represents it, and only representatives go on to the bands. A cluster of a million copies thus costs a
// million hashes and nothing more.
//
// Its partitions write pair files: columns doc and rep (with keep keys where they count), one row for every
// document that is not its class's representative. The members stage then brings these rows to the split of doc.
type exactStage struct {
	*run
	parts int
}

var exactRecords = layout{kind: 'x', words: 2} // content hash; the ref follows

func (s exactStage) Name() string    { return "exact" }
func (s exactStage) TotalParts() int { return s.parts }

func (s exactStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	l := exactRecords
	l.words += s.refs.words()
	return &exactActor{exactStage: s, env: env, layout: l}, nil
}

type exactActor struct {
	exactStage
	env    *executor.Env
	layout layout
}

func (a *exactActor) Close() error { return nil }

func (a *exactActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := decodeTask[signResult](task)
	if err != nil {
		return err
	}
	f, err := a.openColumns(in.File)
	if err != nil {
		return err
	}
	defer f.Close()
	hi, lo := "row_hi", "row_lo"
	if a.normalizes {
		hi, lo = "class_hi", "class_lo"
	}
	w := a.records(out, a.layout, a.parts)
	var words []uint64
	for f.next() {
		his, los, size := f.u64(hi), f.u64(lo), f.u64("bytes")
		refs := f.refs(a.refs, "keep", "ord")
		if f.err != nil {
			return f.err
		}
		for i := range f.rows {
			h := lsh.Hash128{Hi: his[i], Lo: los[i]}
			if size[i] == 0 {
				if a.spec.Empty == EmptyKeep {
					continue
				}
				h = lsh.Hash128{} // null, empty and normalized to nothing are one class
			}
			words = a.refs.append(append(words[:0], h.Hi, h.Lo), refs.at(i))
			if err := w.add(ctx, partOf(h.Hi^h.Lo, a.parts), words...); err != nil {
				return err
			}
		}
	}
	if f.err != nil {
		return f.err
	}
	return w.flush(ctx)
}

func (a *exactActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	// The first pass finds each class's representative, the second names it to the others. Memory
	// follows the number of classes in the partition.
	reps := make(map[lsh.Hash128]ref, min(part.Rows(), a.plan.share/classBytes))
	each := func(f func(h lsh.Hash128, r ref) error) error {
		return eachRecord(ctx, part, a.layout, func(w []uint64, _ []byte) error {
			r, _ := a.refs.read(w[2:])
			return f(lsh.Hash128{Hi: w[0], Lo: w[1]}, r)
		})
	}
	err := each(func(h lsh.Hash128, r ref) error {
		if old, ok := reps[h]; !ok || r.before(old) {
			reps[h] = r
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	w, err := newRowFile(out, "pairs", a.refs.columns("doc", "rep"))
	if err != nil {
		return nil, err
	}
	err = each(func(h lsh.Hash128, r ref) error {
		if rep := reps[h]; rep != r {
			return w.row(a.refs.append(a.refs.append(w.buf[:0], r), rep))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w.finish(out, part)
}

// The members stage brings each row (doc, rep) to the split of doc, sorted by doc: a member file per split. The bands leave
// these documents out, and the verdicts give them their representative's fate.
type membersStage struct{ *run }

func (s membersStage) Name() string    { return "members" }
func (s membersStage) TotalParts() int { return len(s.splits) }

func (s membersStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &membersActor{membersStage: s, env: env, layout: layout{kind: 'm', words: 2 * s.refs.words()}}, nil
}

type membersActor struct {
	membersStage
	env    *executor.Env
	layout layout
}

func (a *membersActor) Close() error { return nil }

func (a *membersActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	w := a.records(out, a.layout, len(a.splits))
	err := a.eachRow(task, a.refs.columns("doc", "rep"), func(words []uint64) error {
		doc, _ := a.refs.read(words)
		return w.add(ctx, a.splitOf(doc.ord), words...)
	})
	if err != nil {
		return err
	}
	return w.flush(ctx)
}

func (a *membersActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	rows, err := gather(ctx, part, a.layout)
	if err != nil {
		return nil, err
	}
	rows.sortBy(a.refs.words() - 1)
	w, err := newRowFile(out, "members", a.refs.columns("doc", "rep"))
	if err != nil {
		return nil, err
	}
	for i := range rows.len() {
		if err := w.row(rows.at(i)); err != nil {
			return nil, err
		}
	}
	return w.finish(out, part)
}
