package dedup

import (
	"context"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// A bands stage shuffles the keys of a range of bands, one record per representative and band, and finds
// the buckets: documents of one band with one key. In every bucket the four pi-smallest documents are its
// leaders, and each member d is paired with the leaders before it. C, the set of candidates, is the union of
// these pairs over all bands.
//
// Partition p holds keys of band lo + p/perBand only, so keys are compared within their band, whatever
// bands share a stage. Partitions write pair files: columns doc and leader.
type bandsStage struct {
	*run
	lo, hi  int // bands [lo, hi)
	perBand int // partitions per band
}

// bandInput is a task of a bands stage: a split's sign files, and the member file that names the documents
// left out of it.
type bandInput struct {
	Signs   []string `json:"signs"`
	Members string   `json:"members"`
}

func (s bandsStage) Name() string    { return fmt.Sprintf("bands-%03d-%03d", s.lo, s.hi) }
func (s bandsStage) TotalParts() int { return (s.hi - s.lo) * s.perBand }

func (s bandsStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &bandsActor{bandsStage: s, env: env, layout: flow.Layout{Kind: 'b', Words: 1 + s.refs.Words()}}, nil
}

type bandsActor struct {
	bandsStage
	env    *executor.Env
	layout flow.Layout
	table  bucketTable
}

func (a *bandsActor) Close() error { return nil }

func (a *bandsActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := flow.DecodeTask[bandInput](task)
	if err != nil {
		return err
	}
	members, err := flow.OpenOrdinals(ctx, a.work, in.Members, "doc")
	if err != nil {
		return err
	}
	defer members.Close()
	member, more, err := members.Pull()
	if err != nil {
		return err
	}
	f, err := flow.OpenColumns(ctx, a.work, in.Signs...)
	if err != nil {
		return err
	}
	defer f.Close()
	w := a.plan.Records(out, a.layout, a.TotalParts())
	var words []uint64
	var reps []int // rows of the block that enter the bands
	for f.Next() {
		size := f.Uint64("bytes")
		refs := f.Refs(a.refs, "keep", "ord")
		if f.Err != nil {
			return f.Err
		}
		reps = reps[:0]
		for i := range f.Rows {
			if more && member == refs.Ord[i] {
				if member, more, err = members.Pull(); err != nil {
					return err
				}
			} else if size[i] > 0 {
				reps = append(reps, i)
			}
		}
		for b := a.lo; b < a.hi; b++ {
			keys := f.Uint64(bandColumn(b))
			if f.Err != nil {
				return f.Err
			}
			base := (b - a.lo) * a.perBand
			for _, i := range reps {
				words = a.refs.Append(append(words[:0], keys[i]), refs.At(i))
				if err := w.Add(ctx, base+flow.PartOf(keys[i], a.perBand), words...); err != nil {
					return err
				}
			}
		}
	}
	if f.Err != nil {
		return f.Err
	}
	return w.Flush(ctx)
}

func (a *bandsActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	w, err := flow.NewRowFile(out, "pairs", a.refs.Columns("doc", "leader"))
	if err != nil {
		return nil, err
	}
	buckets := int64(0)
	for in := flow.AllHashes(); ; {
		a.table.reset()
		err := flow.EachRecord(ctx, part, a.layout, func(w []uint64, _ []byte) error {
			if !in.Has(flow.PassHash(w[0])) {
				return nil
			}
			r, _ := a.refs.Read(w[1:])
			a.table.add(w[0], r)
			for a.table.bytes() > a.plan.Share/2 && in.Halve() {
				a.table.retain(func(key uint64) bool { return in.Has(flow.PassHash(key)) })
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		a.watch("buckets", a.table.bytes())
		buckets += int64(len(a.table.groups))
		if len(a.table.groups) > 0 {
			if err := a.pairs(ctx, part, in, w); err != nil {
				return nil, err
			}
		}
		if !in.Next() {
			break
		}
	}
	out.Count("buckets", buckets)
	return w.Finish(out, part)
}

// pairs writes the pairs of the buckets in the table.
func (a *bandsActor) pairs(ctx context.Context, part *shuffle.Partition, in flow.HashRange, w *flow.RowFile) error {
	return flow.EachRecord(ctx, part, a.layout, func(rec []uint64, _ []byte) error {
		if !in.Has(flow.PassHash(rec[0])) {
			return nil
		}
		r, _ := a.refs.Read(rec[1:])
		for _, l := range a.table.leadersOf(rec[0]) {
			if !l.Before(r) {
				break
			}
			if err := w.Row(a.refs.Append(a.refs.Append(w.Buf[:0], r), l)); err != nil {
				return err
			}
		}
		return nil
	})
}
