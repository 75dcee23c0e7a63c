package dedup

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/components"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Three small shuffles turn what was decided about representatives into what is written about documents.
//
//	spread    at the split of the representative: every member of a class gets its representative's fate
//	clusters  at the split of the kept document: its id is attached, and the size of its cluster
//	removals  at the split of the removed document: sorted by ordinal, ready for writing

// evidence says why a document was removed.
type evidence = uint64

const (
	// evidenceExact: the normalized texts are identical (equal 128-bit content hashes).
	evidenceExact evidence = 1
	// evidenceJaccard: the exact Jaccard similarity was computed and reaches the threshold.
	evidenceJaccard evidence = 2
	// evidenceCandidate: the documents are connected by candidate pairs and nothing was verified.
	evidenceCandidate evidence = 3
)

// spreadStage joins verdicts about representatives with the members of their classes. Its row files say of each
// removed document: doc, kept, inter, union, evidence (ordinals only: pi has done its work).
type spreadStage struct{ *run }

// spreadInput is a task: a file of verdicts (or of labels, with Verify "none"), or of members.
type spreadInput struct {
	File    string `json:"file"`
	Members bool   `json:"members"`
}

var (
	verdictRecords = flow.Layout{Kind: 'v', Words: 5} // representative, kept, inter, union, evidence
	memberRecords  = flow.Layout{Kind: 'c', Words: 2} // representative, member
	removedColumns = []string{"doc", "kept", "inter", "union", "evidence"}
)

func (s spreadStage) Name() string    { return "spread" }
func (s spreadStage) TotalParts() int { return len(s.splits) }

func (s spreadStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &spreadActor{s, env}, nil
}

type spreadActor struct {
	spreadStage
	env *executor.Env
}

func (a *spreadActor) Close() error { return nil }

func (a *spreadActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := flow.DecodeTask[spreadInput](task)
	if err != nil {
		return err
	}
	if in.Members {
		w := a.plan.Records(out, memberRecords, len(a.splits))
		err := flow.EachRow(ctx, a.work, in.File, []string{"doc", "rep"}, func(r []uint64) error {
			if a.set.IsReference(r[0]) {
				return nil
			}
			return w.Add(ctx, a.splitOf(r[1]), r[1], r[0])
		})
		if err != nil {
			return err
		}
		return w.Flush(ctx)
	}
	w := a.plan.Records(out, verdictRecords, len(a.splits))
	if a.spec.Verify == VerifyNone {
		// A document that is its own label is kept, and one of a reference set. They come along to be counted.
		err = flow.EachRow(ctx, a.work, in.File, components.LabelColumns, func(r []uint64) error {
			return w.Add(ctx, a.splitOf(r[0]), r[0], r[1], 0, 0, evidenceCandidate)
		})
	} else {
		err = flow.EachRow(ctx, a.work, in.File, verdictColumns, func(r []uint64) error {
			return w.Add(ctx, a.splitOf(r[0]), r[0], r[1], r[2], r[3], evidenceJaccard)
		})
	}
	if err != nil {
		return err
	}
	return w.Flush(ctx)
}

func (a *spreadActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	verdicts := a.plan.Sorter(a.env.SpillDir, flow.RowKind{Width: 5, Keys: []int{0}, Distinct: true}, 4) // label files may repeat a row
	defer verdicts.Close()
	members := a.plan.Sorter(a.env.SpillDir, flow.RowKind{Width: 2, Keys: []int{0}}, 4)
	defer members.Close()
	err := flow.EachRecordOf(ctx, part, []flow.Layout{verdictRecords, memberRecords}, func(which int, r []uint64, _ []byte) error {
		if which == 0 {
			return verdicts.Add(r, nil)
		}
		return members.Add(r, nil)
	})
	if err != nil {
		return nil, err
	}
	v, err := verdicts.Cursor()
	if err != nil {
		return nil, err
	}
	m, err := members.Cursor()
	if err != nil {
		return nil, err
	}
	a.watch("spread", verdicts.Peak+members.Peak)
	w, err := flow.NewRowFile(out, "removed", removedColumns)
	if err != nil {
		return nil, err
	}
	candidates, components := int64(0), int64(0)
	// verdict moves to the next one, which it writes unless it says that a document is kept.
	verdict := func() (bool, error) {
		if !v.Next() {
			return false, v.Err
		}
		candidates++
		if v.Row[0] == v.Row[1] {
			components++
			return true, nil
		}
		if a.set.IsReference(v.Row[0]) {
			return true, nil
		}
		return true, w.Row(v.Row)
	}
	have, err := verdict()
	for err == nil && m.Next() {
		for have && v.Row[0] < m.Row[0] {
			if have, err = verdict(); err != nil {
				return nil, err
			}
		}
		row := append(w.Buf[:0], m.Row[1])
		if have && v.Row[0] == m.Row[0] && v.Row[1] != v.Row[0] && !a.set.IsReference(v.Row[0]) {
			row = append(row, v.Row[1:]...)
		} else {
			row = append(row, m.Row[0], 0, 0, evidenceExact)
		}
		err = w.Row(row)
	}
	for err == nil && have {
		have, err = verdict()
	}
	if err = errors.Join(err, m.Err); err != nil {
		return nil, err
	}
	if a.spec.Verify == VerifyNone { // otherwise verdicts are about the removed alone
		out.Count("candidates", candidates)
		out.Count("components", components)
	}
	return w.Finish(out, part)
}

// clustersStage counts the members of every cluster and attaches the kept document's own id. It writes row
// files with a row for each removed document and one for each kept document that has any: doc, kept, size, inter,
// union, evidence (0 for the kept document itself), and the kept document's id where ids are the user's.
type clustersStage struct{ *run }

var removedRecords = flow.Layout{Kind: 'r', Words: 5}

func (s clustersStage) Name() string    { return "clusters" }
func (s clustersStage) TotalParts() int { return len(s.splits) }

func (s clustersStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &clustersActor{s, env}, nil
}

type clustersActor struct {
	clustersStage
	env *executor.Env
}

func (a *clustersActor) Close() error { return nil }

func (a *clustersActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	w := a.plan.Records(out, removedRecords, len(a.splits))
	err := flow.EachRowOf(ctx, a.work, task, removedColumns, func(r []uint64) error {
		return w.Add(ctx, a.splitOf(r[1]), r...)
	})
	if err != nil {
		return err
	}
	return w.Flush(ctx)
}

func (a *clustersActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	rows := a.plan.Sorter(a.env.SpillDir, flow.RowKind{Width: removedRecords.Words, Keys: []int{1}}, 4)
	defer rows.Close()
	err := flow.EachRecord(ctx, part, removedRecords, func(r []uint64, _ []byte) error { return rows.Add(r, nil) })
	if err != nil {
		return nil, err
	}
	c, err := rows.Cursor()
	if err != nil {
		return nil, err
	}
	ahead, err := rows.Cursor() // counts the members of a cluster before the first of them is written
	if err != nil {
		return nil, err
	}
	a.watch("clusters", rows.Peak)
	ids, err := a.openIDs(ctx, part.Index())
	if err != nil {
		return nil, err
	}
	defer ids.close()
	w, err := newMemberFile(out, "clustered", a.set.IDKind)
	if err != nil {
		return nil, err
	}
	var cluster uint64 // the size of the one in hand
	var keptID userID
	more := ahead.Next()
	for left := uint64(0); c.Next(); left-- {
		r := c.Row
		if left == 0 {
			for ; more && ahead.Row[1] == r[1]; more = ahead.Next() {
				left++
			}
			size := left + 1
			id, err := ids.of(r[1])
			if err != nil {
				return nil, err
			}
			if err := w.add(member{doc: r[1], kept: r[1], size: size, keptID: id}); err != nil {
				return nil, err
			}
			cluster, keptID = size, id
		}
		err := w.add(member{doc: r[0], kept: r[1], size: cluster, inter: r[2], union: r[3], evidence: r[4], keptID: keptID})
		if err != nil {
			return nil, err
		}
	}
	if err := errors.Join(c.Err, ahead.Err); err != nil {
		return nil, err
	}
	return w.finish(out, part)
}

// userID is a document's own id: an int64 in num, or a string.
type userID struct {
	num uint64
	str string
}

// idReader looks up the user's ids of documents of one split, in ascending order.
type idReader struct {
	f    *flow.ColumnReader // nil without user ids
	kind corpus.IDKind
	ords []uint64 // of the block in hand
	id   func(i int) userID
	at   int
}

func (r *run) openIDs(ctx context.Context, split int) (*idReader, error) {
	if r.set.IDKind == corpus.NoIDs {
		return &idReader{}, nil
	}
	f, err := flow.OpenColumns(ctx, r.work, r.signs[split].Files...)
	return &idReader{f: f, kind: r.set.IDKind}, err
}

func (r *idReader) of(ord uint64) (userID, error) {
	if r.f == nil {
		return userID{}, nil
	}
	for {
		for ; r.at < len(r.ords); r.at++ {
			if r.ords[r.at] == ord {
				return r.id(r.at), nil
			}
		}
		if !r.f.Next() {
			if r.f.Err != nil {
				return userID{}, r.f.Err
			}
			return userID{}, fmt.Errorf("dedup: document %d was decided on and is not in its split", ord)
		}
		var err error
		if r.id, err = userIDs(r.f, r.kind); err != nil {
			return userID{}, err
		}
		if r.ords, r.at = r.f.Uint64("ord"), 0; r.f.Err != nil {
			return userID{}, r.f.Err
		}
	}
}

func (r *idReader) close() {
	if r.f != nil {
		_ = r.f.Close() // it was only read
	}
}

// userIDs returns access to the id column of the block that f has in hand.
func userIDs(f *flow.ColumnReader, kind corpus.IDKind) (func(i int) userID, error) {
	switch {
	case kind.Ints():
		ids := f.Uint64("id")
		return func(i int) userID { return userID{num: ids[i]} }, f.Err
	case kind.Bytes():
		ids := f.Blobs("sid")
		return func(i int) userID { return userID{str: string(ids[i])} }, f.Err
	}
	return func(int) userID { return userID{} }, f.Err
}

// removalsStage brings the rows to the split of their document and sorts them.
type removalsStage struct{ *run }

func (s removalsStage) Name() string    { return "removals" }
func (s removalsStage) TotalParts() int { return len(s.splits) }

func (s removalsStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &removalsActor{s, env}, nil
}

type removalsActor struct {
	removalsStage
	env *executor.Env
}

func (a *removalsActor) Close() error { return nil }

func (a *removalsActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := flow.DecodeTask[flow.RowResult](task)
	if err != nil {
		return err
	}
	w := a.plan.Records(out, memberLayout, len(a.splits))
	err = a.eachMember(ctx, in.File, func(m member) error {
		return w.AddBlob(ctx, a.splitOf(m.doc), []byte(m.keptID.str), m.words()...)
	})
	if err != nil {
		return err
	}
	return w.Flush(ctx)
}

func (a *removalsActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	rows := a.plan.Sorter(a.env.SpillDir, flow.RowKind{Width: memberLayout.Words, Keys: []int{0}, Blob: true}, 2)
	defer rows.Close()
	if err := flow.EachRecord(ctx, part, memberLayout, rows.Add); err != nil {
		return nil, err
	}
	c, err := rows.Cursor()
	if err != nil {
		return nil, err
	}
	a.watch("removals", rows.Peak)
	w, err := newMemberFile(out, "removals", a.set.IDKind)
	if err != nil {
		return nil, err
	}
	for c.Next() {
		if err := w.add(memberOf(c.Row, c.Bytes)); err != nil {
			return nil, err
		}
	}
	if c.Err != nil {
		return nil, c.Err
	}
	return w.finish(out, part)
}
