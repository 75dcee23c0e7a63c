package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// ErrOutput is wrapped when the output folder cannot be used.
var ErrOutput = runfolder.ErrOutput

// ErrResume is wrapped when the work folder belongs to a run with other options or another input.
var ErrResume = runfolder.ErrResume

// ErrSaved is wrapped by errors of a run of which something was saved: the same call goes on from there.
var ErrSaved = runfolder.ErrSaved

// Options are everything a run needs to know.
type Options struct {
	Spec Spec
	Exec Exec
	// Inputs are Parquet files, folders and globs.
	Inputs []string
	// Output is the folder the result appears in, all at once, when the run is complete.
	Output string
	// Work is the folder for intermediate files; empty means Output with ".work" behind it. It is removed at the end
	// unless KeepWork is set.
	Work     string
	KeepWork bool
	// Restart throws away what an earlier run with other options or another input left in Work.
	Restart bool
	// Job makes this process a rank of a job, all of which call Run with the same options and see the same files under the same
	// paths. Rank 0's Exec counts for all. The result is put in place by rank 0 and returned to all.
	Job *executor.Job
	// FS is where inputs are; nil means the local disk.
	FS corpus.FS
	// Progress is told how the run goes; nil means nobody is.
	Progress executor.Reporter
	// Note, if not nil, is given lines worth showing to whoever started the run.
	Note func(line string)
	// Version is recorded in run.json.
	Version string
}

// run is one run.
type run struct {
	Options
	folders runfolder.Folders
	plan    plan
	set     *corpus.Set
	layout  *layout
	splits  []corpus.Split
	work    *executor.Work
	ex      *executor.Executor
	budget  *mem.Budget
	staging string
}

// Run shuffles. The result is in Options.Output when it returns nil, and otherwise nothing is there: what was finished stays in
// the work folder, and the same call goes on from it.
func Run(ctx context.Context, o Options) (*Result, error) {
	started := time.Now()
	o.Exec.EnsureDefaults()
	if err := o.Spec.Validate(); err != nil {
		return nil, err
	}
	if err := o.Exec.Validate(&o.Spec); err != nil {
		return nil, err
	}
	if o.Job != nil && o.Exec.Ranks != 1 {
		return nil, fmt.Errorf("--ranks %d: a process that is one rank of several has no more of them", o.Exec.Ranks)
	}
	if o.FS == nil {
		o.FS = corpus.Local()
	}
	r := &run{Options: o, plan: o.Exec.plan()}
	var err error
	if r.folders, err = runfolder.New(o.Output, o.Work, o.Spec.Hash()); err != nil {
		return nil, err
	}
	r.set, err = corpus.Resolve(ctx, flow.Metered(o.FS), o.Inputs, corpus.Options{Tables: true, Workers: o.Exec.Workers})
	if err != nil {
		return nil, err
	}
	for _, w := range r.set.Warnings {
		r.note("note: " + w)
	}
	if err := r.agree(ctx); err != nil {
		return nil, err
	}
	done, err := r.checkDone(ctx)
	if err != nil || done != nil {
		return done, err
	}
	if r.layout, err = readLayout(ctx, r.set, o.Spec.On); err != nil {
		return nil, err
	}
	if r.Job.Root() {
		unlock, err := runfolder.LockOutput(r.folders.Output)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	if err := r.openWork(ctx); err != nil {
		return nil, err
	}
	res, err := r.pipeline(ctx, started)
	if r.ex != nil {
		err = errors.Join(err, r.ex.Close())
	}
	if !r.Job.Root() {
		return res, errors.Join(err, r.work.Close())
	}
	nothing := r.work.Committed("sample") == 0 && r.work.Committed("shuffle") == 0
	err = errors.Join(err, r.work.Close())
	if err != nil {
		if nothing {
			// There is nothing to go on from, and the next try may well have other options.
			return nil, errors.Join(err, r.folders.Discard())
		}
		return nil, runfolder.Saved(err)
	}
	if !o.KeepWork {
		if err := r.folders.RemoveWork(); err != nil {
			r.note("the work folder could not be removed: " + err.Error())
		}
	}
	return res, nil
}

func (r *run) note(line string) {
	if r.Note != nil {
		r.Note(line)
	}
}

// Resources are those of every stage: each embeds the run and keeps one CPU busy.
func (r *run) Resources() executor.Resources { return executor.Resources{CPUs: 1} }

func (r *run) inputFiles() []InputFile {
	out := make([]InputFile, len(r.set.Files))
	for i, f := range r.set.Files {
		out[i] = InputFile{Path: f.Path, Size: f.Size, ModTime: f.ModTime, Footer: f.Footer}
	}
	return out
}

// checkOutput returns the result of a complete run with the same Spec and input, if that is what Output holds, and an error if
// it holds anything else.
func (r *run) checkOutput() (*Result, error) {
	names := make([]string, len(r.set.Files))
	for i, f := range r.set.Files {
		names[i] = f.Name
	}
	if err := r.folders.CheckApart(names, r.Inputs); err != nil {
		return nil, err
	}
	empty, err := r.folders.Empty()
	if empty || err != nil {
		return nil, err
	}
	out := r.folders.Output
	old, err := ReadResult(out)
	if err != nil || old.Format != resultFormat {
		return nil, fmt.Errorf("%w: %s holds something else; choose another --output or empty it", ErrOutput, out)
	}
	if d := old.Spec.Diff(&r.Spec); len(d) > 0 {
		return nil, fmt.Errorf("%w: %s holds the result of a run with other options (%s); choose another --output or remove it",
			ErrOutput, out, strings.Join(d, ", "))
	}
	if d := runfolder.DiffInputs(old.Inputs, r.inputFiles()); d != "" {
		return nil, fmt.Errorf("%w: %s holds the result of a run over another input (%s); choose another --output or remove it", ErrOutput, out, d)
	}
	for _, p := range old.Partitions {
		if st, err := os.Stat(filepath.Join(out, partName(p.Part))); err != nil || st.Size() != p.Bytes {
			return nil, fmt.Errorf("%w: %s holds the result of this run, but %s is not what was written; choose another --output or remove it",
				ErrOutput, out, partName(p.Part))
		}
	}
	old.AlreadyDone = true
	return old, nil
}

// jobFormat changes when work files do.
const jobFormat = "dovetail-table-work/1"

// openWork opens the work folder and finds out whether there is a run to go on from.
func (r *run) openWork(ctx context.Context) (err error) {
	job := runfolder.Job[Spec]{Format: jobFormat, Spec: r.Spec, Inputs: r.inputFiles()}
	r.work, r.staging, err = runfolder.OpenShared(ctx, r.Job, "", &r.folders, &job, runfolder.Opening[Spec]{
		Restart: r.Restart, Note: r.note,
		Differs: func(old Spec) []string { return old.Diff(&r.Spec) },
		Splits:  func() ([]corpus.Split, error) { return r.set.Splits(ctx, r.splitTarget()) },
	})
	if err != nil {
		return err
	}
	r.splits = job.Splits
	return nil
}

// splitTarget is the size of splits: a few for every worker, but neither tiny nor too many.
func (r *run) splitTarget() int64 {
	if r.Exec.SplitBytes > 0 {
		return r.Exec.SplitBytes
	}
	size := int64(0)
	for _, f := range r.set.Files {
		size += f.Work
	}
	return max(min(256<<20, max(1<<20, size/int64(4*r.Exec.actors()*r.Job.Size()))), size/4096)
}

// pipeline runs the stages.
func (r *run) pipeline(ctx context.Context, started time.Time) (*Result, error) {
	r.budget = mem.NewBudget(r.plan.budget)
	var err error
	r.ex, err = executor.New(executor.Config{
		Ranks: r.Exec.Ranks, Workers: r.Exec.Workers, Work: r.work, Budget: r.budget, Progress: r.Progress, Job: r.Job,
		TaskTimeout: flow.TaskTimeout(r.Exec.TaskTimeout),
	})
	if err != nil {
		return nil, err
	}
	tasks := make([]executor.Task, len(r.splits))
	for i, sp := range r.splits {
		data, err := json.Marshal(splitInput{i})
		if err != nil {
			return nil, err
		}
		tasks[i] = executor.Task{ID: fmt.Sprintf("split-%06d", i), Data: data, Size: sp.Size}
	}
	st := shuffleStage{run: r}
	if r.Spec.Partition == Range {
		if st.splitters, err = r.findSplitters(ctx, tasks); err != nil {
			return nil, err
		}
	}
	if r.Job.Root() {
		if err := os.MkdirAll(r.staging, 0o777); err != nil {
			return nil, err
		}
	}
	out, err := r.ex.Shuffle(ctx, st, tasks)
	if err != nil {
		return nil, err
	}
	// Others may still read work files, which go when the result is in place.
	if err := r.Job.Meet(ctx, "result"); err != nil {
		return nil, err
	}
	var res *Result
	data, err := r.Job.Share(ctx, "result", func() (data []byte, err error) {
		if res, err = r.finish(out, started); err == nil && r.Job != nil {
			data, err = json.Marshal(res)
		}
		return data, err
	})
	if err != nil || res != nil {
		return res, err
	}
	return decodeResult(data)
}

// finish checks the ledger, completes the staging folder and puts it in place.
func (r *run) finish(out []executor.Task, started time.Time) (*Result, error) {
	stats := r.ex.Stats()
	res := &Result{
		Format: resultFormat, Version: r.Version, SpecHash: r.Spec.Hash(), Spec: r.Spec, Exec: r.Exec, Schema: r.layout.schema.String(),
		TasksReused: stats.TasksReused, Started: started.UTC(), BudgetPeak: r.budget.Stats().Peak, Stages: stats, Inputs: r.inputFiles(),
	}
	var read shuffle.Hash
	l := &res.Ledger
	for _, s := range stats.Stages {
		if s.Name != "shuffle" {
			continue
		}
		l.Read = s.Counters[countRows]
		read = shuffle.Hash{A: uint64(s.Counters[countHashA]), B: uint64(s.Counters[countHashB])}
		if s.Shuffle != nil {
			for _, k := range s.Shuffle.Ranks {
				l.ShuffledBytes += k.Statistics.Received.Bytes + k.Statistics.Self.Bytes
				l.SpilledBytes += k.Statistics.Spilled.Bytes
			}
		}
	}
	for i, t := range out {
		p, err := decodeTask[partResult](t)
		if err == nil && p.Part != i {
			err = fmt.Errorf("partition %d is where %d should be", p.Part, i)
		}
		if err != nil {
			return nil, err
		}
		res.Partitions = append(res.Partitions, p)
		l.Written += p.Rows
		l.OutputBytes += p.Bytes
		l.Hash = l.Hash.Add(p.Hash)
	}
	rows := int64(0)
	for _, f := range r.set.Files {
		rows += f.Rows
	}
	if l.Read != rows || l.Written != rows || l.Hash != read || len(res.Partitions) != r.Spec.TotalParts {
		return nil, fmt.Errorf("the input has %d rows, %d were read and %d written to %d files, or they are not the same ones: "+
			"nothing was put in place; a disk, memory or a link is faulty", rows, l.Read, l.Written, len(res.Partitions))
	}
	res.Digest = digest(res.Schema, res.Partitions)
	res.PeakMemory = runfolder.PeakMemory()
	res.Finished, res.WallSeconds = time.Now().UTC(), time.Since(started).Seconds()
	data, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := runfolder.WriteSynced(filepath.Join(r.staging, resultName), append(data, '\n')); err != nil {
		return nil, err
	}
	return res, r.folders.PutInPlace(r.staging)
}
