package dedup

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// The ids stage gathers documents by the user's id, of which it shuffles a 128-bit hash, and counts those whose id
// an earlier document has: with them, kept_id and cluster_id would not say which document is meant. It runs only with
// --id-field, right after the documents were read.
type idsStage struct {
	*run
	parts int
}

// idBytes is the memory of one document in a partition of the ids stage: its record, twice while it is sorted.
const idBytes = 64

var idRecords = flow.Layout{Kind: 'i', Words: 3} // hash of the id, ordinal

// idsResult is what a partition found.
type idsResult struct {
	Duplicates int64 `json:"duplicates"`
	// First and Second are the ordinals of the documents with one id of which the second has the smallest ordinal.
	First  uint64 `json:"first"`
	Second uint64 `json:"second"`
}

func (s idsStage) Name() string    { return "ids" }
func (s idsStage) TotalParts() int { return s.parts }

func (s idsStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &idsActor{s, env}, nil
}

type idsActor struct {
	idsStage
	env *executor.Env
}

func (a *idsActor) Close() error { return nil }

func (a *idsActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) (err error) {
	in, err := flow.DecodeTask[signResult](task)
	if err != nil {
		return err
	}
	f, err := flow.OpenColumns(ctx, a.work, in.Files...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := a.plan.Records(out, idRecords, a.parts)
	for f.Next() {
		ords := f.Uint64("ord")
		hash, err := idHashes(f, a.set.IDKind)
		if err != nil {
			return err
		}
		for i, ord := range ords {
			h := hash(i)
			if err := w.Add(ctx, flow.PartOf(h.Hi^h.Lo, a.parts), h.Hi, h.Lo, ord); err != nil {
				return err
			}
		}
	}
	if f.Err != nil {
		return f.Err
	}
	return w.Flush(ctx)
}

// idHashes returns the hashes of the ids of the block that f has in hand.
func idHashes(f *flow.ColumnReader, kind corpus.IDKind) (func(i int) xxh3.Uint128, error) {
	if kind.Ints() {
		ids := f.Uint64("id")
		return func(i int) xxh3.Uint128 { return xxh3.Uint128{Lo: ids[i]} }, f.Err
	}
	ids := f.Blobs("sid")
	return func(i int) xxh3.Uint128 { return xxh3.Hash128(ids[i]) }, f.Err
}

func (a *idsActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	rows := a.plan.Sorter(a.env.SpillDir, flow.RowKind{Width: 3, Keys: []int{0, 1, 2}}, 2)
	defer rows.Close()
	err := flow.EachRecord(ctx, part, idRecords, func(w []uint64, _ []byte) error { return rows.Add(w, nil) })
	if err != nil {
		return nil, err
	}
	c, err := rows.Cursor()
	if err != nil {
		return nil, err
	}
	var res idsResult
	var first [3]uint64 // of those with the id in hand
	for n := 0; c.Next(); n++ {
		if n == 0 || first[0] != c.Row[0] || first[1] != c.Row[1] {
			first = [3]uint64(c.Row)
			continue
		}
		if res.Duplicates++; res.Duplicates == 1 || c.Row[2] < res.Second {
			res.First, res.Second = first[2], c.Row[2]
		}
	}
	if c.Err != nil {
		return nil, c.Err
	}
	out.Count("duplicates", res.Duplicates)
	return []executor.Task{flow.PartTask(part.Index(), res)}, nil
}

// DuplicateIDs says that documents share ids.
type DuplicateIDs struct {
	// Count is how many documents have an id that an earlier one has.
	Count int64 `json:"count"`
	// ID is such an id, and First and Second say where two documents with it are.
	ID     string `json:"id"`
	First  string `json:"first"`
	Second string `json:"second"`
}

func (d *DuplicateIDs) String() string {
	s := fmt.Sprintf("id %s is that of two documents, %s and %s", d.ID, d.First, d.Second)
	if d.Count > 1 {
		s += fmt.Sprintf(", and %d more documents have an id that another has", d.Count-1)
	}
	return s
}

// ErrDuplicateIDs is wrapped when documents share ids and Exec.OnDuplicateID does not allow for it.
var ErrDuplicateIDs = errors.New("--id-field")

// check returns the error of duplicate ids, or says that they are there.
func (r *run) allowDuplicateIDs(d *DuplicateIDs) error {
	if r.Exec.OnDuplicateID != OnDuplicateWarn {
		return fmt.Errorf("%w: %s; make ids unique, or go on with --on-duplicate-id warn and read removed/ with care", ErrDuplicateIDs, d)
	}
	r.note("note: " + d.String())
	return nil
}

// checkIDs looks for documents that share an id.
func (r *run) checkIDs(ctx context.Context) error {
	if r.set.IDKind == corpus.NoIDs || len(r.signs) == 0 {
		return nil
	}
	tasks, err := flow.EncodeTasks("split", r.signs)
	if err != nil {
		return err
	}
	out, err := r.ex.Shuffle(ctx, idsStage{r, r.parts(r.steps.Documents, idBytes)}, tasks)
	if err != nil {
		return err
	}
	parts, err := flow.DecodeAll[idsResult](out)
	if err != nil {
		return err
	}
	var total idsResult
	for _, p := range parts {
		if p.Duplicates > 0 && (total.Duplicates == 0 || p.Second < total.Second) {
			total.First, total.Second = p.First, p.Second
		}
		total.Duplicates += p.Duplicates
	}
	if total.Duplicates == 0 {
		return nil
	}
	id, err := r.idOf(ctx, total.Second)
	if err != nil {
		return err
	}
	r.duplicates = &DuplicateIDs{
		Count: total.Duplicates, ID: r.docID(total.Second, id).String(),
		First: r.where(total.First), Second: r.where(total.Second),
	}
	return r.allowDuplicateIDs(r.duplicates)
}

// idOf looks up the user's id of one document.
func (r *run) idOf(ctx context.Context, ord uint64) (id userID, err error) {
	in, err := r.openIDs(ctx, r.splitOf(ord))
	if err != nil {
		return id, err
	}
	defer in.close()
	return in.of(ord)
}

// String returns the id as people read it.
func (d docID) String() string {
	switch {
	case d.kind == corpus.StringIDs:
		return fmt.Sprintf("%.200q", d.str)
	case d.kind.Bytes():
		return fmt.Sprintf("0x%.100x", d.str)
	case d.kind == corpus.IntIDs:
		return fmt.Sprint(int64(d.num))
	}
	return fmt.Sprint(d.num)
}

// where names the place of a document: its file and its line, counted from 1 as editors do, or its row, counted from 0 as
// in ids.
func (r *run) where(ord uint64) string { return whereIn(r.set, ord) }

func whereIn(set *corpus.Set, ord uint64) string {
	file, row := corpus.SplitOrdinal(ord)
	name := set.Files[file].Name
	switch set.Format {
	case corpus.JSONL:
		return fmt.Sprintf("%s:%d", name, row+1)
	case corpus.Files:
		return name
	}
	return fmt.Sprintf("%s: row %d (counted from 0)", name, row)
}
