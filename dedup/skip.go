package dedup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/advice"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
)

// What cannot be used is left out with Spec.OnBadFile and Spec.OnBadRecord "skip", and nothing else ever is: an error of
// a disk, a lack of memory or of permission stops the run.
//
// A file is left out as a whole or not at all, and before any later stage sees one of its rows. The sign stage reads
// every split to its end; a task that finds a file damaged starts over without it, and where other tasks have signed
// other parts of it, the leave-out stage replaces what they wrote by nothing. Ordinals do not shift.
//
// A record that is left out has no row in the sign file. Its ordinal stands in the bad file of its split, so that the
// write stage knows that it was left out and not lost.

// Skipped says what was left out of a result.
type Skipped struct {
	Files []SkippedFile `json:"files,omitempty"`
	// Records counts lines and rows in other files, and Examples are the first of them.
	Records  int64           `json:"records"`
	Examples []SkippedRecord `json:"examples,omitempty"`
}

// SkippedFile is a file that was left out.
type SkippedFile struct {
	Index  int    `json:"index"` // in the inputs
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// SkippedRecord is a record that was left out.
type SkippedRecord struct {
	Path   string `json:"path"`
	Row    int64  `json:"row"`            // counted from 0, as in ids; of JSON Lines the line less one
	Line   int64  `json:"line,omitempty"` // counted from 1, of JSON Lines alone
	Reason string `json:"reason"`
}

func skippedRecord(set *corpus.Set, b badRecord) SkippedRecord {
	file, row := corpus.SplitOrdinal(b.Ord)
	rec := SkippedRecord{Path: set.Files[file].Path, Row: row, Reason: b.Reason}
	if set.Format == corpus.JSONL {
		rec.Line = row + 1
	}
	return rec
}

// badFile and badRecord are what a sign task reports.
type badFile struct {
	File   int    `json:"file"`
	Reason string `json:"reason"`
}

type badRecord struct {
	Ord    uint64 `json:"ord"`
	Reason string `json:"reason"`
}

// badExamples is how many bad records are named.
const badExamples = 10

// unreadable is an error of a reader, with the file it came from.
type unreadable struct {
	file int
	err  error
}

func (u *unreadable) Error() string { return u.err.Error() }
func (u *unreadable) Unwrap() error { return u.err }

// readError notes which file an error of a reader is about.
func readError(r *corpus.Reader, err error) error { return &unreadable{r.File(), err} }

// badFileOf returns the file that an error says is bad, if that is a reason to leave it out.
func (r *run) badFileOf(err error) (badFile, bool) {
	var u *unreadable
	fe, bad := corpus.BadFile(err)
	if !bad || r.spec.OnBadFile != OnBadSkip || !errors.As(err, &u) {
		return badFile{}, false
	}
	return badFile{u.file, fe.Reason()}, true
}

// badFiles reads the files [first, last] and returns those that are to be left out.
func (a *signActor) badFiles(ctx context.Context, m executor.Meter, first, last int) ([]badFile, error) {
	var out []badFile
	for file := first; file <= last; file++ {
		err := a.reading(ctx, m, func(maxBytes int64) error {
			_, err := a.eachBatch(ctx, corpus.Split{First: file, Last: file}, a.readOptions(maxBytes, nil), func(*corpus.Batch) error { return nil })
			return err
		})
		if bad, ok := a.badFileOf(err); ok {
			out = append(out, bad)
		} else if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readOptions are those of the sign stage, which leaves out the bad files.
func (a *signActor) readOptions(maxBytes int64, bad []badFile) corpus.ReadOptions {
	o := corpus.ReadOptions{
		Alloc: a.env.Alloc, BatchBytes: a.plan.BatchBytes, BatchRows: a.plan.BatchRows, MaxBytes: maxBytes,
		// What is found wrong only when the file is written is found too late to leave it out.
		Verify: a.spec.OnBadFile == OnBadSkip,
	}
	for _, b := range bad {
		o.Without = append(o.Without, b.File)
	}
	return o
}

// eachBatch calls f for every batch of a split and releases it. It returns what reading to the end took, see
// [corpus.Reader.Largest].
func (r *run) eachBatch(ctx context.Context, sp corpus.Split, o corpus.ReadOptions, f func(*corpus.Batch) error) (need int64, err error) {
	reader, err := r.set.Open(sp, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for {
		b, err := reader.Next(ctx)
		if err == io.EOF {
			return reader.Largest(), nil
		}
		if err != nil {
			return 0, readError(reader, err)
		}
		err = f(b)
		b.Release()
		if err != nil {
			return 0, err
		}
	}
}

// badRows writes the bad file of a split, when there is something for it.
type badRows struct {
	out  *executor.Attempt
	file *flow.RowFile
}

func (b *badRows) add(res *signResult, bad []corpus.Bad) (err error) {
	if b.file == nil && len(bad) > 0 {
		if b.file, err = flow.NewRowFile(b.out, "bad", []string{"ord"}); err != nil {
			return err
		}
		res.BadFile = b.file.Name
	}
	for _, r := range bad {
		if len(res.BadExamples) < badExamples {
			res.BadExamples = append(res.BadExamples, badRecord{r.Ord, r.Reason})
		}
		res.BadRecords++
		if err := b.file.Row([]uint64{r.Ord}); err != nil {
			return err
		}
	}
	return nil
}

func (b *badRows) close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}

// leaveOutStage gives splits of files that were found bad in another split a sign file without documents.
type leaveOutStage struct{ *run }

func (leaveOutStage) Name() string { return "leave-out" }

func (s leaveOutStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return leaveOutActor(s), nil
}

type leaveOutActor struct{ *run }

func (leaveOutActor) Close() error { return nil }

func (a leaveOutActor) Process(_ context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	split, err := flow.DecodeTask[int](task)
	if err != nil {
		return nil, err
	}
	file, err := out.Create("sign")
	if err != nil {
		return nil, err
	}
	w := colfile.NewWriter(file, a.signColumns())
	if err := errors.Join(w.Finish(), file.Close()); err != nil {
		return nil, err
	}
	return flow.OneResult(task, signResult{Split: split, Files: []string{file.Name()}})
}

// leaveOut takes the files that were found bad out of the set, and their rows out of the sign files.
func (r *run) leaveOut(ctx context.Context) error {
	found := false
	for _, s := range r.signs {
		for _, b := range s.Bad {
			if f := &r.set.Files[b.File]; f.Bad == "" { // of several faults, the first
				f.Bad, found = b.Reason, true
			}
		}
	}
	if found {
		if err := r.dropSigns(ctx); err != nil {
			return err
		}
	}
	var skipped Skipped
	first := "" // where the first record is
	for i := range r.set.Files {
		if f := &r.set.Files[i]; f.Bad != "" {
			skipped.Files = append(skipped.Files, SkippedFile{i, f.Path, f.Bad})
		}
	}
	for _, s := range r.signs {
		skipped.Records += s.BadRecords
		for _, b := range s.BadExamples[:min(len(s.BadExamples), badExamples-len(skipped.Examples))] {
			if first == "" {
				first = r.where(b.Ord)
			}
			skipped.Examples = append(skipped.Examples, skippedRecord(r.set, b))
		}
	}
	if len(skipped.Files) == 0 && skipped.Records == 0 {
		return nil
	}
	r.skipped = &skipped
	if n := len(skipped.Files); n > 0 && n == len(r.set.Files) {
		return fmt.Errorf("%w: all %d files are bad; the first is %s: %s", errUseless, n, r.set.Files[0].Name, skipped.Files[0].Reason)
	}
	for i, f := range skipped.Files {
		if i == badExamples {
			r.note(fmt.Sprintf("note: %d more files are left out; run.json names them", len(skipped.Files)-i))
			break
		}
		r.note(fmt.Sprintf("note: %s is left out: %s", r.set.Files[f.Index].Name, f.Reason))
	}
	if n := skipped.Records; n > 0 {
		r.note(fmt.Sprintf("note: %d records are left out, the first is %s: %s", n, first, skipped.Examples[0].Reason))
	}
	return nil
}

// dropSigns replaces the sign files of parts of bad files.
func (r *run) dropSigns(ctx context.Context) error {
	var splits []int
	for i, s := range r.signs {
		// Only a file that has its splits to itself is in several.
		if sp := r.splits[i]; sp.First == sp.Last && r.set.Files[sp.First].Bad != "" && (s.Docs > 0 || s.BadRecords > 0) {
			splits = append(splits, i)
		}
	}
	tasks, err := flow.EncodeTasks("split", splits)
	if err != nil || len(tasks) == 0 {
		return err
	}
	out, err := r.ex.Execute(ctx, []executor.Stage{leaveOutStage{r}}, tasks)
	if err != nil {
		return err
	}
	empty, err := flow.DecodeAll[signResult](out)
	if err != nil {
		return err
	}
	for _, s := range empty {
		r.signs[s.Split] = s
	}
	return nil
}

// badReader walks over the ordinals of the records that were left out of consecutive splits.
type badReader struct {
	*run
	ctx   context.Context // of the attempt that reads
	files []string        // bad files of splits, "" for none
	in    *flow.ColumnReader
	ords  []uint64
}

// take reports whether ord is the next of them, and passes over it if so.
func (b *badReader) take(ord uint64) (bool, error) {
	ok, err := b.more()
	if !ok || err != nil || b.ords[0] != ord {
		return false, err
	}
	b.ords = b.ords[1:]
	return true, nil
}

// more reports whether there are any left, and has them in ords.
func (b *badReader) more() (bool, error) {
	for len(b.ords) == 0 {
		switch {
		case b.in == nil && len(b.files) == 0:
			return false, nil
		case b.in == nil && b.files[0] == "":
			b.files = b.files[1:]
		case b.in == nil:
			var err error
			if b.in, err = flow.OpenColumns(b.ctx, b.work, b.files[0]); err != nil {
				return false, err
			}
			b.files = b.files[1:]
		case b.in.Next():
			if b.ords = slices.Clone(b.in.Uint64("ord")); b.in.Err != nil {
				return false, b.in.Err
			}
		default:
			err := errors.Join(b.in.Err, b.in.Close())
			if b.in = nil; err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

func (b *badReader) close() {
	if b.in != nil {
		_ = b.in.Close() // after a failure that is reported already
	}
}

// advise adds to an error about the contents of a file of the inputs, which are read as o says, what can be done about it.
func (r *run) advise(ctx context.Context, inputs []string, o corpus.Options, err error) error {
	if !r.advises {
		return err
	}
	_, badFile := corpus.BadFile(err)
	_, badRecord := corpus.BadRecord(err)
	if !(badFile && r.spec.OnBadFile != OnBadSkip) && !(badRecord && r.spec.OnBadRecord != OnBadSkip) {
		return err
	}
	column, record := errors.Is(err, corpus.ErrColumn), badRecord
	err, everywhere := advice.Column(ctx, r.FS, inputs, o, err)
	switch {
	case everywhere: // there would be nothing left
		return err
	case column:
		return fmt.Errorf("%w; name a column that all files have, or leave such files out with --on-bad-file skip (and --restart)", err)
	case record:
		return fmt.Errorf("%w; repair it, or leave such records out with --on-bad-record skip (and --restart)", err)
	}
	return fmt.Errorf("%w; repair the file, or leave it out with --on-bad-file skip (and --restart)", err)
}
