package dedup

import (
	"context"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
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

var exactRecords = flow.Layout{Kind: 'x', Words: 2} // content hash; the ref follows

func (s exactStage) Name() string    { return "exact" }
func (s exactStage) TotalParts() int { return s.parts }

func (s exactStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	l := exactRecords
	l.Words += s.refs.Words()
	return &exactActor{exactStage: s, env: env, layout: l}, nil
}

type exactActor struct {
	exactStage
	env      *executor.Env
	layout   flow.Layout
	repeated flow.Repeated
}

func (a *exactActor) Close() error { return nil }

func (a *exactActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := flow.DecodeTask[signResult](task)
	if err != nil {
		return err
	}
	f, err := flow.OpenColumns(ctx, a.work, in.Files...)
	if err != nil {
		return err
	}
	defer f.Close()
	hi, lo := "row_hi", "row_lo"
	if a.normalizes {
		hi, lo = "class_hi", "class_lo"
	}
	w := a.plan.Records(out, a.layout, a.parts)
	var words []uint64
	for f.Next() {
		his, los, size := f.Uint64(hi), f.Uint64(lo), f.Uint64("bytes")
		refs := f.Refs(a.refs, "keep", "ord")
		if f.Err != nil {
			return f.Err
		}
		for i := range f.Rows {
			h := lsh.Hash128{Hi: his[i], Lo: los[i]}
			if size[i] == 0 {
				if a.spec.Empty == EmptyKeep {
					continue
				}
				h = lsh.Hash128{} // null, empty and normalized to nothing are one class
			}
			words = a.refs.Append(append(words[:0], h.Hi, h.Lo), refs.At(i))
			if err := w.Add(ctx, flow.PartOf(h.Hi^h.Lo, a.parts), words...); err != nil {
				return err
			}
		}
	}
	if f.Err != nil {
		return f.Err
	}
	return w.Flush(ctx)
}

func (a *exactActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	w, err := flow.NewRowFile(out, "pairs", a.refs.Columns("doc", "rep"))
	if err != nil {
		return nil, err
	}
	// A document whose hash occurs once is its own representative and needs no row. Most do, and are left out first.
	if err := a.repeated.Reset(ctx, part, a.layout, 1, a.plan.Share/4); err != nil {
		return nil, err
	}
	err = flow.Smallest(int(a.plan.Share/2/flow.GroupTableBytes), func(h lsh.Hash128) uint64 { return flow.PassHash(h.Lo) },
		func(row func(lsh.Hash128, flow.Ref) error) error {
			return a.repeated.Each(ctx, func(w []uint64) error {
				for ; len(w) > 0; w = w[a.layout.Words:] {
					r, _ := a.refs.Read(w[2:])
					if err := row(lsh.Hash128{Hi: w[0], Lo: w[1]}, r); err != nil {
						return err
					}
				}
				return nil
			})
		},
		func(_ lsh.Hash128, r, rep flow.Ref) error {
			if rep == r {
				return nil
			}
			return w.Row(a.refs.Append(a.refs.Append(w.Buf[:0], r), rep))
		},
		func(classes int) { a.watch("classes", int64(classes)*flow.GroupTableBytes+a.repeated.Bytes()) })
	if err != nil {
		return nil, err
	}
	return w.Finish(out, part)
}

// The members stage brings each row (doc, rep) to the split of doc, sorted by doc: a member file per split. The bands leave
// these documents out, and the verdicts give them their representative's fate.
type membersStage struct{ *run }

func (s membersStage) Name() string    { return "members" }
func (s membersStage) TotalParts() int { return len(s.splits) }

func (s membersStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &membersActor{membersStage: s, env: env, layout: flow.Layout{Kind: 'm', Words: 2 * s.refs.Words()}}, nil
}

type membersActor struct {
	membersStage
	env    *executor.Env
	layout flow.Layout
}

func (a *membersActor) Close() error { return nil }

func (a *membersActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	w := a.plan.Records(out, a.layout, len(a.splits))
	err := flow.EachRowOf(ctx, a.work, task, a.refs.Columns("doc", "rep"), func(words []uint64) error {
		doc, _ := a.refs.Read(words)
		return w.Add(ctx, a.splitOf(doc.Ord), words...)
	})
	if err != nil {
		return err
	}
	return w.Flush(ctx)
}

func (a *membersActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	rows := a.plan.Sorter(a.env.SpillDir, flow.RowKind{Width: a.layout.Words, Keys: []int{a.refs.Words() - 1}}, 2)
	defer rows.Close()
	err := flow.EachRecord(ctx, part, a.layout, func(w []uint64, _ []byte) error { return rows.Add(w, nil) })
	if err != nil {
		return nil, err
	}
	c, err := rows.Cursor()
	if err != nil {
		return nil, err
	}
	w, err := flow.NewRowFile(out, "members", a.refs.Columns("doc", "rep"))
	if err != nil {
		return nil, err
	}
	for c.Next() {
		if err := w.Row(c.Row); err != nil {
			return nil, err
		}
	}
	a.watch("members", rows.Peak)
	if c.Err != nil {
		return nil, c.Err
	}
	return w.Finish(out, part)
}
