package dedup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/mem"
)

// ErrOutput is wrapped when the output folder cannot be used.
var ErrOutput = runfolder.ErrOutput

// ErrResume is wrapped when the work folder belongs to a run with other options or another input.
var ErrResume = runfolder.ErrResume

// ErrSaved is wrapped by errors of a run of which something was saved: the same call goes on from there.
var ErrSaved = runfolder.ErrSaved

// checkOutput returns the result of a complete run with the same Spec and input, if that is what Output holds,
// and an error if it holds anything else.
func (r *run) checkOutput() (*Result, error) {
	names := make([]string, len(r.set.Files))
	for i := range names {
		names[i] = r.set.Files[i].Name
	}
	if err := r.folders.CheckApart(names, slices.Concat(r.Inputs, r.Against)); err != nil {
		return nil, err
	}
	if empty, err := r.folders.Empty(); empty || err != nil {
		return nil, err
	}
	old, err := ReadResult(r.Output)
	if err != nil || old.Format != resultFormat {
		return nil, fmt.Errorf("%w: %s holds something else; choose another --output or empty it", ErrOutput, r.Output)
	}
	if d := old.Spec.Diff(r.spec); len(d) > 0 {
		return nil, fmt.Errorf("%w: %s holds the result of a run with other options (%s); choose another --output or remove it",
			ErrOutput, r.Output, strings.Join(d, ", "))
	}
	if d := runfolder.DiffInputs(old.Inputs, r.inputFiles()); d != "" {
		return nil, fmt.Errorf("%w: %s holds the result of a run over another input (%s); choose another --output or remove it",
			ErrOutput, r.Output, d)
	}
	if missing := r.missing(old); missing != "" {
		return nil, fmt.Errorf("%w: %s is the result of the same options and input, but %s is missing; remove the folder to run again",
			ErrOutput, r.Output, missing)
	}
	old.AlreadyDone = true
	return old, nil
}

// missing returns the first file of a result that is not there, or "". Whether files are what they were is for
// [Verify] to say, which reads them.
func (r *run) missing(old *Result) string {
	var paths []string
	for part := range old.Parts {
		paths = append(paths, tablePath("removed", part), tablePath("clusters", part))
	}
	if folder := r.spec.folder(); r.set.Format != corpus.Files && folder != "" { // of text files, removed ones leave none
		bad := old.skippedFiles()
		for i := r.set.References; i < len(r.set.Files); i++ {
			if _, ok := bad[i]; !ok {
				paths = append(paths, folder+"/"+r.set.Files[i].Path)
			}
		}
	}
	for _, p := range paths {
		if _, err := os.Stat(filepath.Join(r.Output, filepath.FromSlash(p))); err != nil {
			return p
		}
	}
	return ""
}

// jobFormat changes when work files do.
const jobFormat = "dovetail-work/4"

// openWork opens the work folder and finds out whether there is a run to go on from.
func (r *run) openWork(ctx context.Context) (err error) {
	job := runfolder.Job[Spec]{Format: jobFormat, Spec: *r.spec, Inputs: r.inputFiles()}
	r.work, r.staging, err = runfolder.OpenShared(ctx, r.Job, "dedup: ", &r.folders, &job, runfolder.Opening[Spec]{
		Restart: r.Restart, Note: r.note,
		Differs: func(old Spec) []string { return old.Diff(r.spec) },
		Splits:  func() ([]corpus.Split, error) { return r.set.Splits(ctx, r.splitTarget()) },
	})
	if err != nil {
		return err
	}
	r.splits = job.Splits
	r.starts = make([]uint64, len(r.splits))
	for i, sp := range r.splits {
		r.starts[i] = corpus.Ordinal(sp.First, sp.Row)
	}
	r.steps.Files = len(r.set.Files)
	return nil
}

// splitTarget is the size of splits: a few for every worker, but neither tiny nor so many that each
// shuffle drowns in partitions.
func (r *run) splitTarget() int64 {
	if r.Exec.SplitBytes > 0 {
		return r.Exec.SplitBytes
	}
	size := r.set.Size()
	target := min(64<<20, max(1<<20, size/int64(4*r.everyone())))
	return max(target, size/int64(min(4096, r.plan.MaxParts)))
}

// finish completes the staging folder and puts it in place. samples are nil where no report is wanted.
func (r *run) finish(w *writeResult, samples *sampleStore, started time.Time) (*Result, error) {
	stats := r.ex.Stats()
	r.steps.Kept, r.steps.Removed, r.steps.RemovedExact, r.steps.References = w.Kept, w.Removed, w.Exact, w.References
	r.steps.RemovedTextBytes, r.steps.OutputBytes = w.RemovedText, w.Bytes
	r.steps.Clusters, r.steps.LargestCluster = w.Clusters, w.Largest
	res := &Result{
		Format: resultFormat, Version: r.Version, SpecHash: r.spec.Hash(), Spec: *r.spec, Exec: r.Exec, Digest: w.Digest.String(),
		Ranks: stats.Ranks, TasksReused: stats.TasksReused, Started: started.UTC(),
		Stages: stats, InputPaths: r.paths, AgainstPaths: r.against, Inputs: r.inputFiles(), Parts: r.ranges,
		Warnings: slices.Concat(r.set.Warnings, r.warnings),
		Skipped:  r.skipped, DuplicateIDs: r.duplicates,
		Ledger: Ledger{Read: r.steps.Documents, Written: w.Kept, Removed: w.Removed, References: w.References, Hash: w.Rows},
		Budget: BudgetResult{Peak: r.budget.Stats().Peak},
	}
	if r.Exec.DeviceUse != nil {
		res.Devices = r.Exec.DeviceUse()
	}
	if l := r.budget.Limit(); l != mem.Unlimited {
		res.Budget.Limit = l
	}
	for _, s := range stats.Stages {
		switch s.Name {
		case "spread": // where nothing is verified the candidates are counted there
			r.steps.Components += s.Counters["components"]
			r.steps.Candidates += s.Counters["candidates"]
		case "decide":
			r.steps.Tests = s.Counters["tests"]
		}
		if s.Shuffle != nil {
			for _, k := range s.Shuffle.Ranks {
				res.Ledger.addRank(k)
			}
		}
	}
	if r.skipped != nil {
		r.steps.SkippedFiles = len(r.skipped.Files)
	}
	res.Steps = r.steps
	kind, sources := r.sources()
	res.Findings = r.findings(kind, sources)
	stop := func() {
		res.PeakMemory = max(runfolder.PeakMemory(), r.Job.PeakMemory())
		res.Finished, res.WallSeconds = time.Now().UTC(), time.Since(started).Seconds()
	}
	stop()
	if samples != nil {
		if err := r.writeReport(res, sources, samples); err != nil {
			return nil, err
		}
		stop()
	}
	data, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return nil, err
	}
	// A run without documents still leaves the tables' folders, for whoever opens them by pattern.
	dirs := []string{"removed", "clusters"}
	if folder := r.spec.folder(); folder != "" {
		dirs = append(dirs, folder)
	}
	for _, dir := range dirs {
		err = errors.Join(err, os.MkdirAll(filepath.Join(r.staging, dir), 0o777))
	}
	if err = errors.Join(err, runfolder.WriteSynced(filepath.Join(r.staging, resultName), append(data, '\n'))); err != nil {
		return nil, err
	}
	return res, r.folders.PutInPlace(r.staging)
}
