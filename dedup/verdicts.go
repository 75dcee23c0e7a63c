package dedup

import (
	"context"
	"errors"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
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
	verdictRecords = layout{kind: 'v', words: 5} // representative, kept, inter, union, evidence
	memberRecords  = layout{kind: 'c', words: 2} // representative, member
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
	in, err := decodeTask[spreadInput](task)
	if err != nil {
		return err
	}
	if in.Members {
		w := a.records(out, memberRecords, len(a.splits))
		err := a.eachRowOf(in.File, []string{"doc", "rep"}, func(r []uint64) error {
			return w.add(ctx, a.splitOf(r[1]), r[1], r[0])
		})
		if err != nil {
			return err
		}
		return w.flush(ctx)
	}
	w := a.records(out, verdictRecords, len(a.splits))
	if a.spec.Verify == VerifyNone {
		err = a.eachRowOf(in.File, labelColumns, func(r []uint64) error {
			if r[0] == r[1] {
				return nil
			}
			return w.add(ctx, a.splitOf(r[0]), r[0], r[1], 0, 0, evidenceCandidate)
		})
	} else {
		err = a.eachRowOf(in.File, verdictColumns, func(r []uint64) error {
			return w.add(ctx, a.splitOf(r[0]), r[0], r[1], r[2], r[3], evidenceJaccard)
		})
	}
	if err != nil {
		return err
	}
	return w.flush(ctx)
}

func (a *spreadActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	// The first pass takes the verdicts, one per removed representative; the second streams the members,
	// of which there may be any number.
	fate := make(map[uint64][4]uint64)
	both := []layout{verdictRecords, memberRecords}
	w, err := newRowFile(out, "removed", removedColumns)
	if err != nil {
		return nil, err
	}
	err = eachRecordOf(ctx, part, both, func(which int, r []uint64, _ []byte) error {
		if _, seen := fate[r[0]]; which != 0 || seen {
			return nil // label files may repeat a row
		}
		fate[r[0]] = [4]uint64(r[1:])
		return w.row(r)
	})
	if err != nil {
		return nil, err
	}
	err = eachRecordOf(ctx, part, both, func(which int, r []uint64, _ []byte) error {
		if which != 1 {
			return nil
		}
		row := append(w.buf[:0], r[1])
		if f, removed := fate[r[0]]; removed {
			row = append(row, f[:]...)
		} else {
			row = append(row, r[0], 0, 0, evidenceExact)
		}
		return w.row(row)
	})
	if err != nil {
		return nil, err
	}
	return w.finish(out, part)
}

// clustersStage counts the members of every cluster and attaches the kept document's own id. It writes row
// files with a row for each removed document and one for each kept document that has any: doc, kept, size, inter,
// union, evidence (0 for the kept document itself), and the kept document's id where ids are the user's.
type clustersStage struct{ *run }

var removedRecords = layout{kind: 'r', words: 5}

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
	w := a.records(out, removedRecords, len(a.splits))
	err := a.eachRow(task, removedColumns, func(r []uint64) error {
		return w.add(ctx, a.splitOf(r[1]), r...)
	})
	if err != nil {
		return err
	}
	return w.flush(ctx)
}

func (a *clustersActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	sizes := make(map[uint64]uint64)
	err := eachRecord(ctx, part, removedRecords, func(r []uint64, _ []byte) error {
		sizes[r[1]]++
		return nil
	})
	if err != nil {
		return nil, err
	}
	ids, err := a.idsOf(part.Index(), sizes)
	if err != nil {
		return nil, err
	}
	w, err := newMemberFile(out, "clustered", a.set.IDKind)
	if err != nil {
		return nil, err
	}
	for kept, n := range sizes {
		if err := w.add(member{doc: kept, kept: kept, size: n + 1, keptID: ids[kept]}); err != nil {
			return nil, err
		}
	}
	err = eachRecord(ctx, part, removedRecords, func(r []uint64, _ []byte) error {
		return w.add(member{
			doc: r[0], kept: r[1], size: sizes[r[1]] + 1, inter: r[2], union: r[3], evidence: r[4], keptID: ids[r[1]],
		})
	})
	if err != nil {
		return nil, err
	}
	return w.finish(out, part)
}

// userID is a document's own id: an int64 in num, or a string.
type userID struct {
	num uint64
	str string
}

// idsOf looks up the user's ids of documents of one split. Without user ids it returns nil.
func (r *run) idsOf(split int, docs map[uint64]uint64) (_ map[uint64]userID, err error) {
	if r.set.IDKind == corpus.NoIDs || len(docs) == 0 {
		return nil, nil
	}
	f, err := r.openColumns(r.signs[split].File)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := make(map[uint64]userID, len(docs))
	for f.next() {
		ords := f.u64("ord")
		id, err := f.userIDs(r.set.IDKind)
		if err != nil {
			return nil, err
		}
		for i, ord := range ords {
			if _, ok := docs[ord]; ok {
				out[ord] = id(i)
			}
		}
	}
	return out, f.err
}

// userIDs returns access to the id column of the block in hand.
func (f *columnReader) userIDs(kind corpus.IDKind) (func(i int) userID, error) {
	switch kind {
	case corpus.IntIDs:
		ids := f.u64("id")
		return func(i int) userID { return userID{num: ids[i]} }, f.err
	case corpus.StringIDs:
		ids := f.blobs("sid")
		return func(i int) userID { return userID{str: string(ids[i])} }, f.err
	}
	return func(int) userID { return userID{} }, f.err
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
	in, err := decodeTask[rowResult](task)
	if err != nil {
		return err
	}
	w := a.records(out, memberLayout, len(a.splits))
	err = a.eachMember(in.File, func(m member) error {
		return w.addBlob(ctx, a.splitOf(m.doc), []byte(m.keptID.str), m.words()...)
	})
	if err != nil {
		return err
	}
	return w.flush(ctx)
}

func (a *removalsActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	members := make([]member, 0, part.Rows())
	err := eachRecord(ctx, part, memberLayout, func(w []uint64, blob []byte) error {
		members = append(members, memberOf(w, blob))
		return nil
	})
	if err != nil {
		return nil, err
	}
	sortMembers(members)
	w, err := newMemberFile(out, "removals", a.set.IDKind)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if err := w.add(m); err != nil {
			return nil, err
		}
	}
	return w.finish(out, part)
}
