package dedup

import (
	"context"
	"errors"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
)

// The columns that --write annotate adds to the files of the input, which say of every document what became of it:
//
//	dovetail_removed       bool
//	dovetail_kept_id       id of the kept document that it duplicates, of the type of the ids in removed/; null when kept
//	dovetail_cluster_size  int64, 1 without duplicates
//	dovetail_similarity    double, to the kept document; 1 for the same text, null when kept or where nothing was verified
//	dovetail_evidence      string as in removed/; null when kept
const (
	annotatedRemoved = iota
	annotatedKeptID
	annotatedSize
	annotatedSimilarity
	annotatedEvidence
)

// annotations returns the columns, without values.
func annotations(kind corpus.IDKind) []corpus.Added {
	id := corpus.AddedType(kind)
	if kind == corpus.NoIDs {
		id = corpus.AddedType(corpus.IntIDs) // generated ones
	}
	return []corpus.Added{
		annotatedRemoved:    {Name: "dovetail_removed", Type: corpus.AddedBool},
		annotatedKeptID:     {Name: "dovetail_kept_id", Type: id, Nullable: true},
		annotatedSize:       {Name: "dovetail_cluster_size", Type: corpus.AddedType(corpus.IntIDs)},
		annotatedSimilarity: {Name: "dovetail_similarity", Type: corpus.AddedDouble, Nullable: true},
		annotatedEvidence:   {Name: "dovetail_evidence", Type: corpus.AddedType(corpus.StringIDs), Nullable: true},
	}
}

// annotation is what the columns say of a document.
type annotation struct {
	removed      bool
	kept         docID
	size         uint64
	evidence     evidence
	inter, union uint64
}

// similarity is what the tables say of a removal; null where nothing was verified.
func similarity(e evidence, inter, union uint64) (_ float64, null bool) {
	switch e {
	case evidenceJaccard:
		return float64(inter) / float64(union), false
	case evidenceExact:
		return 1, false
	}
	return 0, true
}

// value is that of one column.
func (a *annotation) value(column int) (v corpus.AddedValue) {
	switch column {
	case annotatedRemoved:
		if a.removed {
			v.Int = 1
		}
		return v
	case annotatedSize:
		v.Int = int64(a.size)
		return v
	}
	if !a.removed {
		return corpus.AddedValue{Null: true}
	}
	switch column {
	case annotatedKeptID:
		v.Int, v.Bytes = int64(a.kept.num), []byte(a.kept.str)
	case annotatedSimilarity:
		v.Double, v.Null = similarity(a.evidence, a.inter, a.union)
	case annotatedEvidence:
		v.Bytes = evidenceNames[a.evidence]
	}
	return v
}

// annotator has the values of the columns for the documents of a write task. A Parquet file is written one column of a
// row group after the other, and what became of a row group's documents is not held in between: each column reads the
// removal files for itself, which hold nothing of documents that are in no cluster.
type annotator struct {
	run     *run
	members []*memberWalk
}

func newAnnotator(ctx context.Context, r *run, removals []string) (*annotator, error) {
	a := &annotator{run: r}
	for range annotations(r.set.IDKind) {
		in, err := flow.OpenColumns(ctx, r.work, removals...)
		if err != nil {
			a.close()
			return nil, err
		}
		a.members = append(a.members, &memberWalk{in: newMemberReader(in, r.set.IDKind)})
	}
	return a, nil
}

// columns are those of the rows of a file; nil without an annotator. Files are asked for in ascending order.
func (a *annotator) columns(file int) []corpus.Added {
	if a == nil {
		return nil
	}
	columns := annotations(a.run.set.IDKind)
	for i := range columns {
		columns[i].Value = func(row int64) (corpus.AddedValue, error) {
			said := annotation{size: 1}
			m, ok, err := a.members[i].at(corpus.Ordinal(file, row))
			if ok {
				said = annotation{
					removed: m.evidence != 0, kept: a.run.docID(m.kept, m.keptID), size: m.size,
					evidence: m.evidence, inter: m.inter, union: m.union,
				}
			}
			return said.value(i), err
		}
	}
	return columns
}

func (a *annotator) close() {
	if a == nil {
		return
	}
	for _, m := range a.members {
		_ = m.in.Close() // it was only read
	}
}

// memberWalk looks up members in the removal files of consecutive splits.
type memberWalk struct {
	in   *memberReader
	next member
	some bool // there is a next one
	end  bool
}

// at returns the member that a document is, if it is one. Documents are asked for in ascending order.
func (w *memberWalk) at(ord uint64) (_ member, ok bool, err error) {
	for !w.end && (!w.some || w.next.doc < ord) {
		if w.next, w.some, err = w.in.pull(); err != nil {
			return member{}, false, errors.Join(err, w.in.Close())
		}
		w.end = !w.some
	}
	return w.next, w.some && w.next.doc == ord, nil
}
