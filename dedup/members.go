package dedup

import (
	"context"
	"errors"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
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

var memberLayout = flow.Layout{Kind: 'z', Words: 7, Blob: true}

func (m *member) words() []uint64 {
	return []uint64{m.doc, m.kept, m.size, m.inter, m.union, m.evidence, m.keptID.num}
}

func memberOf(w []uint64, str []byte) member {
	return member{
		doc: w[0], kept: w[1], size: w[2], inter: w[3], union: w[4], evidence: w[5], keptID: userID{num: w[6], str: string(str)},
	}
}

var memberColumns = []string{"doc", "kept", "size", "inter", "union", "evidence", "kept_id"}

// memberFile writes a work file of members.
type memberFile struct {
	file  *executor.File
	w     *colfile.Writer
	kind  corpus.IDKind
	cols  [][]uint64
	strs  [][]byte
	bytes int // of strs
	data  []colfile.Data
}

// memberBytes bounds the ids in a block.
const memberBytes = 256 << 10

func newMemberFile(out *executor.Attempt, name string, kind corpus.IDKind) (*memberFile, error) {
	f, err := out.Create(name)
	if err != nil {
		return nil, err
	}
	var cols []colfile.Column
	for _, c := range memberColumns {
		cols = append(cols, colfile.Column{Name: c, Kind: colfile.Uint64})
	}
	if kind.Bytes() {
		cols = append(cols, colfile.Column{Name: "kept_sid", Kind: colfile.Bytes})
	}
	return &memberFile{file: f, w: colfile.NewWriter(f, cols), kind: kind, cols: make([][]uint64, len(memberColumns))}, nil
}

func (f *memberFile) add(m member) error {
	for i, w := range m.words() {
		f.cols[i] = append(f.cols[i], w)
	}
	if f.kind.Bytes() {
		f.strs = append(f.strs, []byte(m.keptID.str))
		f.bytes += len(m.keptID.str)
	}
	if len(f.cols[0]) == flow.RowsPerBlock || f.bytes >= memberBytes {
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
	if f.kind.Bytes() {
		f.data = append(f.data, colfile.Data{Bytes: f.strs})
		f.strs, f.bytes = f.strs[:0], 0
	}
	return f.w.Block(f.data)
}

func (f *memberFile) finish(out *executor.Attempt, part *shuffle.Partition) ([]executor.Task, error) {
	if err := errors.Join(f.flush(), f.w.Finish(), f.file.Close()); err != nil {
		return nil, err
	}
	out.Count("rows", f.w.Rows())
	return []executor.Task{flow.PartTask(part.Index(), flow.RowResult{Part: part.Index(), File: f.file.Name(), Rows: f.w.Rows()})}, nil
}

// memberReader walks over the members in a file.
type memberReader struct {
	*flow.ColumnReader
	kind  corpus.IDKind
	cols  [][]uint64 // of the block in hand
	strs  [][]byte
	words []uint64
	at    int // the next member of the block
}

// openMembers opens a file of members; an empty name is an empty file.
func (r *run) openMembers(ctx context.Context, file string) (*memberReader, error) {
	c, err := flow.OpenColumns(ctx, r.work, file)
	return newMemberReader(c, r.set.IDKind), err
}

func newMemberReader(c *flow.ColumnReader, kind corpus.IDKind) *memberReader {
	return &memberReader{ColumnReader: c, kind: kind, words: make([]uint64, len(memberColumns))}
}

// pull returns the next member; ok is false at the end.
func (m *memberReader) pull() (_ member, ok bool, err error) {
	for len(m.cols) == 0 || m.at == m.Rows {
		if !m.Next() {
			return member{}, false, m.Err
		}
		m.cols, m.at = m.cols[:0], 0
		for _, name := range memberColumns {
			m.cols = append(m.cols, m.Uint64(name))
		}
		if m.kind.Bytes() {
			m.strs = m.Blobs("kept_sid")
		}
		if m.Err != nil {
			return member{}, false, m.Err
		}
	}
	for k := range m.cols {
		m.words[k] = m.cols[k][m.at]
	}
	var str []byte
	if m.strs != nil {
		str = m.strs[m.at]
	}
	m.at++
	return memberOf(m.words, str), true, nil
}

// eachMember calls f for every member in a file.
func (r *run) eachMember(ctx context.Context, file string, f func(member) error) (err error) {
	m, err := r.openMembers(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	for {
		d, ok, err := m.pull()
		if err != nil || !ok {
			return err
		}
		if err := f(d); err != nil {
			return err
		}
	}
}
