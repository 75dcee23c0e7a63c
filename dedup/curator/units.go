package curator

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/advice"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
)

// unit is what one task reads: documents of one group, in the order of Curator's, as a list of whole files or of one
// piece of a file.
type unit struct {
	Group  int            `json:"group"`
	Splits []corpus.Split `json:"splits"`
}

// input is the documents of a stage.
type input struct {
	set    *corpus.Set
	paths  []fileSize
	groups []group
	units  []unit
}

// InputOptions say which documents are read, with Curator's names.
type InputOptions struct {
	// Inputs are files, folders and globs.
	Inputs []string
	// InputFiletype is "parquet" or "jsonl"; empty means: by the names of the files.
	InputFiletype string
	// InputBlocksize is how many bytes of files make a group, as "1GiB" or "512MB"; empty means one file each.
	InputBlocksize string
	// TextField is the column with the text; empty means "text".
	TextField string
	// IDField is a column with ids of the user's; empty means that ids are generated.
	IDField string
}

func (o *InputOptions) ensureDefaults() {
	if o.TextField == "" {
		o.TextField = "text"
	}
}

func (o *InputOptions) validate(f *faults) {
	f.check(len(o.Inputs) > 0, "--input: name a file, folder or glob to read")
	f.check(o.InputFiletype == "" || o.InputFiletype == "parquet" || o.InputFiletype == "jsonl",
		"--input-filetype %q: must be parquet or jsonl", o.InputFiletype)
	if o.InputBlocksize != "" {
		n, err := ParseSize(o.InputBlocksize)
		f.check(err == nil && n > 0, "--input-blocksize %q: give a size such as 512MiB or 1GiB", o.InputBlocksize)
	}
}

// blocksize is InputBlocksize in bytes, 0 for one file each.
func (o *InputOptions) blocksize() int64 {
	n, err := ParseSize(o.InputBlocksize)
	if err != nil {
		return 0 // it is empty, or validate has refused it
	}
	return n
}

// inputFile identifies a file for the spec.
type inputFile struct {
	Path   string    `json:"path"`
	Size   int64     `json:"size"`
	Time   time.Time `json:"mtime"`
	Footer string    `json:"footer"`
}

// resolve finds the documents and groups their files.
func (o *InputOptions) resolve(ctx context.Context, workers int) (*input, error) {
	set, err := corpus.Resolve(ctx, flow.Metered(corpus.Local()), o.Inputs, o.corpus(workers))
	if err != nil {
		return nil, o.explain(ctx, err)
	}
	in := &input{set: set}
	if in.paths, err = pathsOf(set); err != nil {
		return nil, err
	}
	in.groups = partition(in.paths, o.blocksize())
	return in, checkGroupIDs(in.groups)
}

func (o *InputOptions) corpus(workers int) corpus.Options {
	return corpus.Options{Format: corpus.Format(o.InputFiletype), TextField: o.TextField, IDField: o.IDField, Workers: workers}
}

// explain adds to an error about the documents which option is the matter, and takes out what only dedup has.
func (o *InputOptions) explain(ctx context.Context, err error) error {
	if errors.Is(err, corpus.ErrInput) {
		return reworded{err, inputWords.Replace(err.Error())}
	}
	err, _ = advice.Column(ctx, corpus.Local(), o.Inputs, o.corpus(0), err)
	return err
}

// inputWords are the options of the stages for those that package corpus speaks of: no stage takes whole files for
// documents, and the option for the format is another.
var inputWords = strings.NewReplacer(
	"; --format files takes each file as a document", "; documents are rows of Parquet or lines of JSON Lines",
	"give --format", "give --input-filetype",
)

// reworded is an error in other words.
type reworded struct {
	error
	words string
}

func (r reworded) Error() string { return r.words }
func (r reworded) Unwrap() error { return r.error }

func (in *input) fingerprints() []inputFile {
	out := make([]inputFile, len(in.set.Files))
	for i, f := range in.set.Files {
		out[i] = inputFile{in.paths[i].path, f.Size, f.ModTime, f.Footer}
	}
	return out
}

// cut makes the units: pieces of about target bytes.
func (in *input) cut(ctx context.Context, target int64) error {
	splits, err := in.set.Splits(ctx, target)
	if err != nil {
		return err
	}
	pieces := make(map[int][]corpus.Split)
	for _, s := range splits {
		if s.First == s.Last {
			pieces[s.First] = append(pieces[s.First], s)
		}
	}
	for g, group := range in.groups {
		var u unit
		held := int64(0)
		end := func() {
			if len(u.Splits) > 0 {
				in.units = append(in.units, u)
			}
			u, held = unit{Group: g}, 0
		}
		end()
		for _, file := range group.Files {
			whole := corpus.Split{First: file, Last: file, Size: in.set.Files[file].Work}
			if p := pieces[file]; len(p) > 1 {
				end()
				for _, s := range p {
					u.Splits = append(u.Splits, s)
					end()
				}
				continue
			}
			if held+whole.Size > target || len(u.Splits) >= maxUnitFiles {
				end()
			}
			u.Splits = append(u.Splits, whole)
			held += whole.Size
		}
		end()
	}
	return nil
}

// maxUnitFiles bounds the files of a unit, because opening one costs even if it is empty.
const maxUnitFiles = 4096

// tasks makes a task of each unit.
func (in *input) tasks() ([]executor.Task, error) {
	tasks, err := flow.EncodeTasks("unit", in.units)
	for i := range tasks {
		for _, s := range in.units[i].Splits {
			tasks[i].Size += s.Size
		}
	}
	return tasks, err
}

// fileEnd is the last document of a file that a unit read.
type fileEnd struct {
	File int   `json:"file"`
	Last int64 `json:"last"` // its id
}

// ends is the last ids of files, by file; files without a document have one less than their first id could be.
func (in *input) ends(of func(yield func(fileEnd))) []int64 {
	last := make([]int64, len(in.set.Files))
	for i := range last {
		last[i] = int64(corpus.Ordinal(i, 0)) - 1
	}
	of(func(e fileEnd) { last[e.File] = max(last[e.File], e.Last) })
	return last
}

// readUnit calls f for every batch of a unit. maxBytes is what one document may take.
func (j *job) readUnit(ctx context.Context, env *executor.Env, out *executor.Attempt, set *corpus.Set, u unit, maxBytes int64,
	f func(b *corpus.Batch) error) error {
	for _, s := range u.Splits {
		r, err := set.Open(s, corpus.ReadOptions{
			Alloc: env.Alloc, BatchBytes: j.plan.BatchBytes, BatchRows: j.plan.BatchRows, MaxBytes: maxBytes,
		})
		if err != nil {
			return err
		}
		for {
			b, err := r.Next(ctx)
			if err == io.EOF {
				break
			}
			if err == nil {
				n := int64(b.Text.Data.Len())
				err = f(b)
				b.Release()
				out.Progress(n)
			}
			if err != nil {
				return errors.Join(err, r.Close())
			}
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// unitFile makes a work file of a unit, whose documents it gives to batch. If one of them proves too large for the memory at
// hand it starts over with more: begin is told the name of the file each time.
func (j *job) unitFile(ctx context.Context, env *executor.Env, out *executor.Attempt, set *corpus.Set, u unit, name string,
	columns []colfile.Column, begin func(name string), batch func(b *corpus.Batch, w *colfile.Writer) error) error {
	var file *executor.File
	return j.large.Reading(ctx, out.Meter, j.plan.MaxDoc, nil, func(maxBytes int64) (err error) {
		if file != nil {
			if err := out.Remove(file); err != nil {
				return err
			}
		}
		if file, err = out.Create(name); err != nil {
			return err
		}
		begin(file.Name())
		w := colfile.NewWriter(file, columns)
		err = j.readUnit(ctx, env, out, set, u, maxBytes, func(b *corpus.Batch) error { return batch(b, w) })
		if err != nil {
			return err
		}
		return errors.Join(w.Finish(), file.Close())
	})
}

// unchanged refuses input files that are not what they were when the run began.
func (in *input) unchanged(ctx context.Context) error {
	for i := range in.set.Files {
		if err := in.set.Changed(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// lastOf returns the ends of the files in a batch, whose ordinals ascend within a file.
func lastOf(ends []fileEnd, ords []uint64) []fileEnd {
	for _, ord := range ords {
		file, _ := corpus.SplitOrdinal(ord)
		if n := len(ends); n > 0 && ends[n-1].File == file {
			ends[n-1].Last = int64(ord)
		} else {
			ends = append(ends, fileEnd{file, int64(ord)})
		}
	}
	return ends
}
