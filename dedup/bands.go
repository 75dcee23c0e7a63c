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

// bandInput is a task of a bands stage: a split's sign file, and the member file that names the documents
// left out of it.
type bandInput struct {
	Sign    string `json:"sign"`
	Members string `json:"members"`
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
	members, err := a.ordinals(in.Members, "doc")
	if err != nil {
		return err
	}
	f, err := a.openColumns(in.Sign)
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
			if len(members) > 0 && members[0] == refs.ord[i] {
				members = members[1:]
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
	a.table.reset()
	err := eachRecord(ctx, part, a.layout, func(w []uint64, _ []byte) error {
		r, _ := a.refs.read(w[1:])
		a.table.add(w[0], r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	w, err := newRowFile(out, "pairs", a.refs.columns("doc", "leader"))
	if err != nil {
		return nil, err
	}
	if len(a.table.groups) > 0 {
		err = eachRecord(ctx, part, a.layout, func(rec []uint64, _ []byte) error {
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
		if err != nil {
			return nil, err
		}
	}
	out.Count("buckets", int64(len(a.table.groups)))
	return w.finish(out, part)
}

// ordinals reads one column of a row file into memory. An empty name is an empty file.
func (r *run) ordinals(file, column string) ([]uint64, error) {
	if file == "" {
		return nil, nil
	}
	var out []uint64
	err := r.eachRowOf(file, []string{column}, func(w []uint64) error {
		out = append(out, w[0])
		return nil
	})
	return out, err
}
