package runfolder

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/executor"
)

// Job is what a work folder is for: it must be the same for a run to go on. S is the options that decide results.
type Job[S any] struct {
	Format string         `json:"format"` // the command and, behind a slash, the version of its work files
	Spec   S              `json:"spec"`
	Inputs []InputFile    `json:"inputs"`
	Splits []corpus.Split `json:"splits"` // which go on as they were: another number of workers would cut them otherwise
}

// Opening says how a work folder is opened.
type Opening[S any] struct {
	Restart bool                           // throw away what is there
	Differs func(old S) []string           // in which options a run that was left differs from this one
	Splits  func() ([]corpus.Split, error) // cuts the input
	Note    func(line string)
}

// Open opens the work folder for a job, whose Splits it fills in, and finds out whether there is a run of the same job to go
// on from. The caller closes the work folder. staging is where the result is built.
func Open[S any](f *Folders, mine *Job[S], o Opening[S]) (w *executor.Work, staging string, err error) {
	if o.Restart {
		if err := f.Discard(); err != nil {
			return nil, "", err
		}
	}
	command, _, _ := strings.Cut(mine.Format, "/")
	err = f.CheckOtherWork(func(meta []byte) string {
		var old Job[S]
		if json.Unmarshal(meta, &old) != nil || !strings.HasPrefix(old.Format, command+"/") {
			return "or of another command"
		}
		return strings.Join(o.Differs(old.Spec), ", ")
	})
	if err != nil {
		return nil, "", err
	}
	if mine.Splits, err = o.Splits(); err != nil {
		return nil, "", err
	}
	meta, err := json.Marshal(mine)
	if err != nil {
		return nil, "", err
	}
	if w, err = executor.OpenWork(f.Dir(), meta); err != nil {
		return nil, "", err
	}
	for _, n := range w.Notes() {
		o.Note(n)
	}
	staging = f.Staging(w)
	for _, other := range f.Others(staging) {
		o.Note(other + " belongs to another run; if that run is over, it can be removed")
	}
	if w.Resumed() {
		if err := mine.resume(w.Meta(), f.Dir()); err != nil {
			return nil, "", errors.Join(err, w.Close())
		}
		o.Note("going on from " + f.Dir())
	}
	return w, staging, nil
}

// resume takes over the splits of the run that was left in dir, if it was the same job.
func (j *Job[S]) resume(meta []byte, dir string) error {
	var old Job[S]
	if err := json.Unmarshal(meta, &old); err != nil || old.Format != j.Format {
		return fmt.Errorf("%w: %s was made by another version; finish with that one, or start anew with --restart", ErrResume, dir)
	}
	if d := DiffInputs(old.Inputs, j.Inputs); d != "" {
		return fmt.Errorf("%w: the input is not the one it was started with (%s); start anew with --restart", ErrResume, d)
	}
	j.Splits = old.Splits
	return nil
}

// Follow takes over the splits of the job that another rank has opened w for, if it is this one.
func (j *Job[S]) Follow(w *executor.Work) error {
	var root Job[S]
	if err := json.Unmarshal(w.Meta(), &root); err != nil || root.Format != j.Format {
		return fmt.Errorf("%w: %s is of another version than this program; use the same on all ranks", ErrResume, w.Dir())
	}
	if d := DiffInputs(root.Inputs, j.Inputs); d != "" {
		return fmt.Errorf("%w: this rank does not see the input that rank 0 sees (%s); it must be on storage that all ranks share, under one path",
			ErrResume, d)
	}
	j.Splits = root.Splits
	return nil
}
