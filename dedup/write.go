package dedup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/dedup/internal/texts"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// The write stage filters the input files into kept/, or annotates them into annotated/, and writes the tables. A task covers some consecutive
// files and all splits that lie in them, reads what became of their documents, and adds them to the digest.
// What it writes goes to the staging folder beside the output, under its final relative path.
type writeStage struct{ *run }

// writeInput is a task: files [First, Last], the splits that cover them, and their removal files.
type writeInput struct {
	Index    int        `json:"index"`
	First    int        `json:"first"`
	Last     int        `json:"last"`
	Splits   []int      `json:"splits"`
	Signs    [][]string `json:"signs"` // of each split
	Removals []string   `json:"removals"`
	Bad      []string   `json:"bad"` // files of the records that were left out, "" for none
}

// writeResult is what a task adds to the result of the run.
type writeResult struct {
	Digest  Digest       `json:"digest"`
	Rows    shuffle.Hash `json:"rows"` // multiset hash of (ordinal, content hash) of all documents
	Docs    int64        `json:"docs"`
	Skipped int64        `json:"skipped"` // records that were left out
	Kept    int64        `json:"kept"`
	Removed int64        `json:"removed"`
	// References are documents of the reference set.
	References int64 `json:"references"`
	Exact      int64 `json:"exact"` // of the removed
	Clusters   int64 `json:"clusters"`
	Bytes      int64 `json:"bytes"` // written to kept/ or annotated/
	// RemovedText is bytes of text.
	RemovedText int64 `json:"removed_text"`
	// Largest is the size of the largest cluster whose kept document is here, and Of its ordinal.
	Largest int64  `json:"largest"`
	Of      uint64 `json:"of"`
	// Found is the work file with what else was found.
	Found string `json:"found"`
}

func (s writeStage) Name() string { return "write" }

func (s writeStage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	return &writeActor{run: s.run, env: env}, nil
}

type writeActor struct {
	*run
	env *executor.Env
}

func (a *writeActor) Close() error { return nil }

func (a *writeActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	in, err := flow.DecodeTask[writeInput](task)
	if err != nil {
		return nil, err
	}
	largest := &a.signs[in.Splits[0]]
	for _, split := range in.Splits {
		if s := &a.signs[split]; s.Need+s.MaxDoc > largest.Need+largest.MaxDoc {
			largest = s
		}
	}
	turn, err := a.readTurn(ctx, out.Meter, largest, 1)
	if err != nil {
		return nil, err
	}
	defer turn.Done()
	w := &fileWriter{writeActor: a, ctx: ctx, out: out, in: in}
	defer w.close()
	if err := w.open(); err != nil {
		return nil, err
	}
	for i := in.First; i <= in.Last; i++ {
		if err := w.file(i); err != nil {
			return nil, err
		}
	}
	if err := w.finish(); err != nil {
		return nil, err
	}
	out.Count("kept", w.res.Kept)
	out.Count("removed", w.res.Removed)
	out.Count("bytes", w.res.Bytes)
	return flow.OneResult(task, w.res)
}

// fileWriter writes the files of one task.
type fileWriter struct {
	*writeActor
	ctx context.Context
	out *executor.Attempt
	in  writeInput
	res writeResult

	found            *found
	docs             *docReader // every document, asked before its row is written
	written          *docReader // the same once more, for the rows that are written later; nil for lines, which are written at once
	annotator        *annotator // nil unless files are annotated
	bad              *badReader
	touched          []bool // files of the task of which not every document is kept
	removed, cluster *tableWriter
	tables           []*executor.File
	line             []byte
	texts            *texts.Reader // of the split textSplit, nil if they are not in memory
	textSplit        int
}

func (w *fileWriter) open() (err error) {
	w.docs = &docReader{run: w.run, ctx: w.ctx, signs: w.in.Signs, removals: w.in.Removals}
	if !w.writesLines() {
		w.written = &docReader{run: w.run, ctx: w.ctx, signs: w.in.Signs, removals: w.in.Removals}
	}
	w.bad = &badReader{run: w.run, ctx: w.ctx, files: w.in.Bad}
	if w.spec.Write == WriteAnnotate {
		if w.annotator, err = newAnnotator(w.ctx, w.run, w.in.Removals); err != nil {
			return err
		}
	}
	if err := w.findTouched(); err != nil {
		return err
	}
	w.found = newFound(w.in.First, w.in.Last-w.in.First+1)
	if w.removed, err = w.table("removed", removedFields(w.set.IDKind)); err != nil {
		return err
	}
	w.cluster, err = w.table("clusters", clustersFields(w.set.IDKind))
	return err
}

// findTouched finds out which files lose a document.
func (w *fileWriter) findTouched() error {
	w.touched = make([]bool, w.in.Last-w.in.First+1)
	touch := func(ord uint64) {
		if file, _ := corpus.SplitOrdinal(ord); file >= w.in.First && file <= w.in.Last {
			w.touched[file-w.in.First] = true
		}
	}
	for _, name := range w.in.Removals {
		members, err := w.openMembers(w.ctx, name)
		if err != nil {
			return err
		}
		m, some, err := members.pull()
		for ; some && err == nil; m, some, err = members.pull() {
			if m.evidence != 0 {
				touch(m.doc)
			}
		}
		if err = errors.Join(err, members.Close()); err != nil {
			return err
		}
	}
	bad := &badReader{run: w.run, ctx: w.ctx, files: w.in.Bad}
	defer bad.close()
	for {
		more, err := bad.more()
		if err != nil || !more {
			return err
		}
		for _, ord := range bad.ords {
			touch(ord)
		}
		bad.ords = nil
	}
}

// place makes a file of the result, given its path relative to the output folder.
func (w *fileWriter) place(rel string) (*executor.File, error) {
	rel = filepath.FromSlash(rel)
	if err := runfolder.MakeBelow(w.staging, filepath.Dir(rel)); err != nil {
		return nil, err
	}
	return w.out.Place(filepath.Join(w.staging, rel))
}

// file filters or annotates one input file.
func (w *fileWriter) file(index int) error {
	file := &w.set.Files[index]
	if file.Bad != "" {
		return nil
	}
	if err := w.set.Changed(w.ctx, index); err != nil {
		return err
	}
	if file.Reference || w.spec.Write == WriteIDs {
		return w.unwritten(index)
	}
	if w.set.Format == corpus.Files {
		if d, err := w.docs.next(index); err != nil || d != nil && d.removed() {
			if err == nil {
				_, err = w.nextWritten(index) // passes over it
			}
			if err == nil {
				err = w.account(d)
			}
			return err // a text file that goes leaves no empty file behind
		} else if d != nil {
			w.docs.unread()
		}
	}
	if done, err := w.copied(index); done || err != nil {
		return err
	}
	dst, err := w.place(w.spec.folder() + "/" + file.Path)
	if err != nil {
		return err
	}
	if w.set.Format == corpus.Files {
		dst.Like(file.Mode, file.ModTime) // it is the same file
	}
	// Rewrite asks for the rows in ascending order and shows those to be written in the same order but later: of a Parquet
	// file a row group later. What became of them is not held in between but read again.
	var wrong error
	asked, kept, shown := int64(0), int64(0), int64(0) // kept is how many are to be written
	var last *outcome                                  // what was asked for last
	stats, err := w.set.Rewrite(w.ctx, index,
		func(row int64) bool {
			if wrong != nil {
				return false
			}
			if bad, err := w.leftOut(corpus.Ordinal(index, row)); bad || err != nil {
				wrong = err
				asked++
				return false
			}
			d, err := w.docs.next(index)
			if err == nil && (d == nil || rowOf(d.ord) != row) {
				err = w.changed(corpus.Ordinal(index, row))
			}
			if err == nil {
				err = w.account(d) // in the order of the rows, so that the tables are
			}
			if err != nil {
				wrong = err
				return false
			}
			asked++
			last = d
			if w.annotator == nil && d.removed() {
				return false
			}
			kept++
			return true
		},
		corpus.Sink{
			W: dst, Alloc: w.env.Alloc, Add: w.annotator.columns(index), Whole: !w.touched[index-w.in.First],
			Kept: func(row int64, text []byte, null bool) error {
				if wrong != nil {
					return wrong
				}
				d, err := w.nextWritten(index)
				if err != nil {
					return err
				}
				if d == nil || rowOf(d.ord) != row || textHash(text, null) != d.text {
					return w.changed(corpus.Ordinal(index, row))
				}
				shown++
				return nil
			},
			Line:  w.lineCheck(index, &last, &shown),
			Texts: func(_ int, row int64) *corpus.GroupTexts { return w.textsOf(index, row) },
			Sum:   func(group int, row int64) (uint64, bool) { return w.groupSum(index, group, row) },
			Copied: func(row, n int64) error {
				for i := range n {
					d, err := w.nextWritten(index)
					if err != nil {
						return err
					}
					if d == nil || rowOf(d.ord) != row+i {
						return w.changed(corpus.Ordinal(index, row+i))
					}
					shown++
				}
				return nil
			},
		})
	if wrong != nil {
		err = wrong
	}
	if cerr := dst.Close(); err == nil { // which says the same again if writing failed
		err = cerr
	}
	if err != nil {
		return err
	}
	rest, err := w.docs.next(index)
	if err != nil {
		return err
	}
	unseen, err := w.nextWritten(index)
	if err != nil {
		return err
	}
	if rest != nil || unseen != nil || shown != kept || stats.Kept != kept || stats.Rows != asked {
		return fmt.Errorf("dedup: %s: %d of %d documents were written and %d of %d should have been: the file changed during the run; start again",
			file.Name, stats.Kept, stats.Rows, kept, asked)
	}
	w.res.Bytes += stats.Bytes
	w.out.Progress(stats.Bytes)
	return nil
}

// textsOf returns the texts of a row group of a file, which begins at row, if they are in memory.
func (w *fileWriter) textsOf(index int, row int64) *corpus.GroupTexts {
	split := w.splitOf(corpus.Ordinal(index, row))
	if w.texts == nil || split != w.textSplit {
		w.texts.Close()
		w.texts, w.textSplit = w.run.texts.OpenResident(split), split
	}
	if w.texts == nil {
		return nil
	}
	return &corpus.GroupTexts{At: func(row int64) ([]byte, bool, error) {
		ord := corpus.Ordinal(index, row)
		text, null, ok := w.texts.Text(ord)
		if !ok {
			return nil, false, w.changed(ord)
		}
		return text, null, nil
	}}
}

// groupSum returns the hash of the texts of a row group of a file, which begins at row, when they were signed.
func (w *fileWriter) groupSum(index, group int, row int64) (sum uint64, ok bool) {
	groups := w.signs[w.splitOf(corpus.Ordinal(index, row))].Groups
	i, ok := slices.BinarySearchFunc(groups, corpus.GroupSum{File: index, Group: group}, func(a, b corpus.GroupSum) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Group, b.Group))
	})
	if ok {
		sum = groups[i].Sum
	}
	return sum, ok
}

// unwritten accounts for a file of which nothing is written.
func (w *fileWriter) unwritten(index int) error {
	for {
		d, err := w.docs.next(index)
		if err != nil {
			return err
		}
		if d == nil {
			break
		}
		if err := w.account(d); err != nil {
			return err
		}
	}
	for {
		d, err := w.nextWritten(index) // passes over them
		if err != nil {
			return err
		}
		if d == nil {
			break
		}
	}
	for {
		more, err := w.bad.more()
		if err != nil || !more {
			return err
		}
		if f, _ := corpus.SplitOrdinal(w.bad.ords[0]); f != index {
			return nil
		}
		if _, err := w.leftOut(w.bad.ords[0]); err != nil {
			return err
		}
	}
}

// leftOut accounts for a record if it was left out, and reports whether it was.
func (w *fileWriter) leftOut(ord uint64) (bool, error) {
	bad, err := w.bad.take(ord)
	if bad {
		w.res.Skipped++
		w.res.Digest.skippedRecord(ord)
	}
	return bad, err
}

// nextWritten returns the next document of the file that is to be written and was not yet, or nil.
func (w *fileWriter) nextWritten(file int) (*outcome, error) {
	if w.written == nil {
		return nil, nil
	}
	for {
		d, err := w.written.next(file)
		if err != nil || d == nil || w.annotator != nil || !d.removed() {
			return d, err
		}
	}
}

// account adds a document to the tables, the digest and the ledger.
func (w *fileWriter) account(d *outcome) error {
	id := w.docID(d.ord, d.id)
	kept := id
	if d.clustered {
		kept = w.docID(d.member.kept, d.member.keptID)
	}
	w.line = w.res.Digest.add(line{
		id: id, keptID: kept, verdict: w.verdict(d), inter: d.member.inter, union: d.member.union, text: d.text,
	}, w.line)
	w.res.Rows = w.res.Rows.Add(flow.RecordHash([]uint64{d.ord, d.text.Hi, d.text.Lo}, nil, false))
	w.res.Docs++
	file, _ := corpus.SplitOrdinal(d.ord)
	w.found.document(d, file)
	if d.removed() {
		w.res.Removed++
		w.res.RemovedText += int64(d.bytes)
		if d.member.evidence == evidenceExact {
			w.res.Exact++
		}
		if err := w.removed.removed(id, kept, d.member); err != nil {
			return err
		}
	} else if w.set.IsReference(d.ord) {
		w.res.References++
	} else {
		w.res.Kept++
	}
	if !d.clustered {
		return nil
	}
	if !d.removed() {
		w.res.Clusters++
		if int64(d.member.size) > w.res.Largest {
			w.res.Largest, w.res.Of = int64(d.member.size), d.ord
		}
	}
	return w.cluster.cluster(id, kept, d.member.size)
}

func (r *run) verdict(d *outcome) byte {
	switch {
	case d.removed():
		return verdictRemoved
	case r.set.IsReference(d.ord):
		return verdictReference
	}
	return verdictKept
}

// docID is a document's id for people: the user's, or else the ordinal.
func (r *run) docID(ord uint64, id userID) docID {
	if r.set.IDKind == corpus.NoIDs {
		return docID{num: ord}
	}
	return docID{kind: r.set.IDKind, num: id.num, str: id.str}
}

func (w *fileWriter) finish() error {
	err := w.docs.finished()
	if w.written != nil {
		err = errors.Join(err, w.written.finished())
	}
	if err != nil {
		return err
	}
	more, err := w.bad.more()
	if err == nil && more {
		err = errors.New("dedup: records that were left out are in no file")
	}
	err = errors.Join(err, w.removed.close(), w.cluster.close())
	for _, f := range w.tables {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return err
	}
	f, err := w.out.Create("found")
	if err != nil {
		return err
	}
	w.res.Found = f.Name()
	return errors.Join(json.NewEncoder(f).Encode(w.found), f.Close())
}

// close releases what an attempt that failed left open.
func (w *fileWriter) close() {
	for _, d := range []*docReader{w.docs, w.written} {
		if d != nil {
			d.close()
		}
	}
	if w.bad != nil {
		w.bad.close()
	}
	w.annotator.close()
	w.texts.Close()
}

// rowOf returns the row of an ordinal in its file.
func rowOf(ord uint64) int64 {
	_, row := corpus.SplitOrdinal(ord)
	return row
}

func (w *fileWriter) table(kind string, fields []field) (*tableWriter, error) {
	f, err := w.place(tablePath(kind, w.in.Index))
	if err != nil {
		return nil, err
	}
	w.tables = append(w.tables, f)
	return newTableWriter(f, fields, w.plan.Share/4)
}
