package dedup

import (
	"context"
	"fmt"

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
	return &bandsActor{bandsStage: s, env: env, layout: layout{kind: 'b', words: 1 + s.refs.words()}}, nil
}

type bandsActor struct {
	bandsStage
	env    *executor.Env
	layout layout
	table  bucketTable
}

func (a *bandsActor) Close() error { return nil }

func (a *bandsActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := decodeTask[bandInput](task)
	if err != nil {
		return err
	}
	members, err := a.openOrdinals(in.Members, "doc")
	if err != nil {
		return err
	}
	defer members.Close()
	member, more, err := members.pull()
	if err != nil {
		return err
	}
	f, err := a.openColumns(in.Signs...)
	if err != nil {
		return err
	}
	defer f.Close()
	w := a.records(out, a.layout, a.TotalParts())
	var words []uint64
	var reps []int // rows of the block that enter the bands
	for f.next() {
		size := f.u64("bytes")
		refs := f.refs(a.refs, "keep", "ord")
		if f.err != nil {
			return f.err
		}
		reps = reps[:0]
		for i := range f.rows {
			if more && member == refs.ord[i] {
				if member, more, err = members.pull(); err != nil {
					return err
				}
			} else if size[i] > 0 {
				reps = append(reps, i)
			}
		}
		for b := a.lo; b < a.hi; b++ {
			keys := f.u64(bandColumn(b))
			if f.err != nil {
				return f.err
			}
			base := (b - a.lo) * a.perBand
			for _, i := range reps {
				words = a.refs.append(append(words[:0], keys[i]), refs.at(i))
				if err := w.add(ctx, base+partOf(keys[i], a.perBand), words...); err != nil {
					return err
				}
			}
		}
	}
	if f.err != nil {
		return f.err
	}
	return w.flush(ctx)
}

func (a *bandsActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	w, err := newRowFile(out, "pairs", a.refs.columns("doc", "leader"))
	if err != nil {
		return nil, err
	}
	buckets := int64(0)
	for in := allHashes(); ; {
		a.table.reset()
		err := eachRecord(ctx, part, a.layout, func(w []uint64, _ []byte) error {
			if !in.has(passHash(w[0])) {
				return nil
			}
			r, _ := a.refs.read(w[1:])
			a.table.add(w[0], r)
			for a.table.bytes() > a.plan.share/2 && in.halve() {
				a.table.retain(func(key uint64) bool { return in.has(passHash(key)) })
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
		if !in.next() {
			break
		}
	}
	out.Count("buckets", buckets)
	return w.finish(out, part)
}

// pairs writes the pairs of the buckets in the table.
func (a *bandsActor) pairs(ctx context.Context, part *shuffle.Partition, in hashRange, w *rowFile) error {
	return eachRecord(ctx, part, a.layout, func(rec []uint64, _ []byte) error {
		if !in.has(passHash(rec[0])) {
			return nil
		}
		r, _ := a.refs.read(rec[1:])
		for _, l := range a.table.leadersOf(rec[0]) {
			if !l.before(r) {
				break
			}
			if err := w.row(a.refs.append(a.refs.append(w.buf[:0], r), l)); err != nil {
				return err
			}
		}
		return nil
	})
}
