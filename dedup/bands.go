package dedup

import (
	"context"
	"fmt"
	"slices"

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
	env      *executor.Env
	layout   flow.Layout
	scatter  *flow.Scatter // kept from one insert to the next
	rows     bandRows
	table    bucketTable
	repeated flow.Repeated
	entries  []uint32 // of the table, by record, where all records come at once and all buckets fit
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
	if a.scatter == nil {
		a.scatter = a.plan.Scatter(a.layout, a.TotalParts())
	}
	a.scatter.Reset(out)
	rows := &a.rows
	for f.Next() {
		size := f.Uint64("bytes")
		refs := f.Refs(a.refs, "keep", "ord")
		if f.Err != nil {
			return f.Err
		}
		rows.reset(refs)
		for i := range f.Rows {
			if more && member == refs.Ord[i] {
				if member, more, err = members.Pull(); err != nil {
					return err
				}
			} else if size[i] > 0 {
				rows.reps = append(rows.reps, i)
			}
		}
		columns := rows.refs(refs)
		for b := a.lo; b < a.hi; b++ {
			keys := f.Uint64(bandColumn(b))
			if f.Err != nil {
				return f.Err
			}
			if err := a.scatter.Add(ctx, (b-a.lo)*a.perBand, a.perBand, rows.keys(keys), columns...); err != nil {
				return err
			}
		}
	}
	if f.Err != nil {
		return f.Err
	}
	return a.scatter.Flush(ctx)
}

// bandRows picks the rows of a block that enter the bands.
type bandRows struct {
	all     int
	reps    []int
	scratch [3][]uint64 // keep keys, ordinals and band keys of them, unless they are all
	columns [][]uint64
}

func (r *bandRows) reset(refs flow.RefColumn) { r.all, r.reps = len(refs.Ord), r.reps[:0] }

// pick returns the entries of a column that belong to reps.
func (r *bandRows) pick(column []uint64, scratch *[]uint64) []uint64 {
	if len(r.reps) == r.all {
		return column
	}
	picked := slices.Grow((*scratch)[:0], len(r.reps))[:len(r.reps)]
	for i, row := range r.reps {
		picked[i] = column[row]
	}
	*scratch = picked
	return picked
}

// refs returns the words that follow the key in a record, column by column.
func (r *bandRows) refs(refs flow.RefColumn) [][]uint64 {
	r.columns = r.columns[:0]
	if refs.Keep != nil {
		r.columns = append(r.columns, r.pick(refs.Keep, &r.scratch[0]))
	}
	r.columns = append(r.columns, r.pick(refs.Ord, &r.scratch[1]))
	return r.columns
}

func (r *bandRows) keys(keys []uint64) []uint64 { return r.pick(keys, &r.scratch[2]) }

// Extract finds the buckets of a partition. Most keys occur once, so they are left out first (see [flow.Repeated]); what is
// left is read twice, as [bucketTable] wants it.
func (a *bandsActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	a.scatter, a.rows = nil, bandRows{} // the actor's share is for extracting now
	w, err := flow.NewRowFile(out, "pairs", a.refs.Columns("doc", "leader"))
	if err != nil {
		return nil, err
	}
	if err := a.repeated.Reset(ctx, part, a.layout, 0, a.plan.Share/4); err != nil {
		return nil, err
	}
	buckets := int64(0)
	for in := flow.AllHashes(); ; {
		a.table.reset()
		a.entries = a.entries[:0]
		err := a.repeated.Each(ctx, func(records []uint64) error {
			for ; len(records) > 0; records = records[a.layout.Words:] {
				if !in.All() && !in.Has(flow.PassHash(records[0])) {
					continue
				}
				r, _ := a.refs.Read(records[1:])
				a.entries = append(a.entries, a.table.add(records[0], r))
				for a.table.bytes() > a.plan.Share/2 && in.Halve() {
					a.table.retain(func(key uint64) bool { return in.Has(flow.PassHash(key)) })
				}
			}
			if !a.repeated.Once() {
				a.entries = a.entries[:0] // as many as there are records in all would be too many
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		a.watch("buckets", a.table.bytes()+a.repeated.Bytes()+int64(4*cap(a.entries)))
		buckets += int64(len(a.table.groups))
		if len(a.table.groups) > 0 {
			if err := a.repeated.Each(ctx, func(records []uint64) error { return a.pairs(records, in, w) }); err != nil {
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
func (a *bandsActor) pairs(records []uint64, in flow.HashRange, w *flow.RowFile) error {
	known := in.All() && a.repeated.Once()
	for i := 0; i < len(records); i += a.layout.Words {
		var leaders []flow.Ref
		switch rec := records[i:]; {
		case known:
			leaders = a.table.leadersAt(a.entries[i/a.layout.Words])
		case in.All() || in.Has(flow.PassHash(rec[0])):
			leaders = a.table.leadersOf(rec[0])
		}
		if len(leaders) == 0 {
			continue
		}
		r, _ := a.refs.Read(records[i+1:])
		for _, l := range leaders {
			if !l.Before(r) {
				break
			}
			if err := w.Row(a.refs.Append(a.refs.Append(w.Buf[:0], r), l)); err != nil {
				return err
			}
		}
	}
	return nil
}
