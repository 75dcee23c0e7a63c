package dedup

import (
	"cmp"
	"errors"
	"slices"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// member is a document of a cluster of two or more: a removed one, or the kept one (evidence 0).
type member struct {
	doc, kept    uint64 // ordinals
	size         uint64 // of the cluster
	inter, union uint64 // 0 unless evidence is evidenceJaccard
	evidence     evidence
	keptID       userID
}

var memberLayout = layout{kind: 'z', words: 7, blob: true}

func (m *member) words() []uint64 {
	return []uint64{m.doc, m.kept, m.size, m.inter, m.union, m.evidence, m.keptID.num}
}

func memberOf(w []uint64, str []byte) member {
	return member{
		doc: w[0], kept: w[1], size: w[2], inter: w[3], union: w[4], evidence: w[5], keptID: userID{num: w[6], str: string(str)},
	}
}

func sortMembers(m []member) {
	slices.SortFunc(m, func(a, b member) int { return cmp.Compare(a.doc, b.doc) })
}

var memberColumns = []string{"doc", "kept", "size", "inter", "union", "evidence", "kept_id"}

// memberFile writes a work file of members.
type memberFile struct {
	file *executor.File
	w    *colfile.Writer
	kind corpus.IDKind
	cols [][]uint64
	strs [][]byte
	data []colfile.Data
}

func newMemberFile(out *executor.Attempt, name string, kind corpus.IDKind) (*memberFile, error) {
	f, err := out.Create(name)
	if err != nil {
		return nil, err
	}
	var cols []colfile.Column
	for _, c := range memberColumns {
		cols = append(cols, colfile.Column{Name: c, Kind: colfile.Uint64})
	}
	if kind == corpus.StringIDs {
		cols = append(cols, colfile.Column{Name: "kept_sid", Kind: colfile.Bytes})
	}
	return &memberFile{file: f, w: colfile.NewWriter(f, cols), kind: kind, cols: make([][]uint64, len(memberColumns))}, nil
}

func (f *memberFile) add(m member) error {
	for i, w := range m.words() {
		f.cols[i] = append(f.cols[i], w)
	}
	if f.kind == corpus.StringIDs {
		f.strs = append(f.strs, []byte(m.keptID.str))
	}
	if len(f.cols[0]) == rowsPerBlock {
		return f.flush()
	}
	return nil
}

func (f *memberFile) flush() error {
	f.data = f.data[:0]
	for i, c := range f.cols {
		f.data = append(f.data, colfile.Data{Uint64: c})
		f.cols[i] = c[:0]
	}
	if f.kind == corpus.StringIDs {
		f.data = append(f.data, colfile.Data{Bytes: f.strs})
		f.strs = f.strs[:0]
	}
	return f.w.Block(f.data)
}

func (f *memberFile) finish(out *executor.Attempt, part *shuffle.Partition) ([]executor.Task, error) {
	if err := errors.Join(f.flush(), f.w.Finish(), f.file.Close()); err != nil {
		return nil, err
	}
	out.Count("rows", f.w.Rows())
	return []executor.Task{partTask(part.Index(), rowResult{part.Index(), f.file.Name(), f.w.Rows()})}, nil
}

// eachMember calls f for every member in a file.
func (r *run) eachMember(file string, f func(member) error) (err error) {
	c, err := r.openColumns(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var cols [][]uint64
	words := make([]uint64, len(memberColumns))
	for c.next() {
		cols = cols[:0]
		for _, name := range memberColumns {
			cols = append(cols, c.u64(name))
		}
		var strs [][]byte
		if r.set.IDKind == corpus.StringIDs {
			strs = c.blobs("kept_sid")
		}
		if c.err != nil {
			return c.err
		}
		for i := range c.rows {
			for k := range cols {
				words[k] = cols[k][i]
			}
			var str []byte
			if strs != nil {
				str = strs[i]
			}
			if err := f(memberOf(words, str)); err != nil {
				return err
			}
		}
	}
	return c.err
}
