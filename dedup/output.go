package dedup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/mem"
)

// ErrOutput is wrapped when the output folder cannot be used.
var ErrOutput = errors.New("output folder cannot be used")

// ErrResume is wrapped when the work folder belongs to a run with other options or another input.
var ErrResume = errors.New("work folder belongs to another run")

// checkOutput returns the result of a complete run with the same Spec and input, if that is what Output holds,
// and an error if it holds anything else.
func (r *run) checkOutput() (*Result, error) {
	if err := r.checkApart(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(r.Output)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil, r.checkParent()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	old, err := ReadResult(r.Output)
	if err != nil || old.Format != resultFormat {
		return nil, fmt.Errorf("%w: %s holds something else; choose another --output or empty it", ErrOutput, r.Output)
	}
	if d := old.Spec.Diff(r.spec); len(d) > 0 {
		return nil, fmt.Errorf("%w: %s holds the result of a run with other options (%s); choose another --output or remove it",
			ErrOutput, r.Output, strings.Join(d, ", "))
	}
	if d := diffInputs(old.Inputs, r.inputFiles()); d != "" {
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
	if r.set.Format != corpus.Files { // of those, removed ones leave none
		bad := old.skippedFiles()
		for i := r.set.References; i < len(r.set.Files); i++ {
			if _, ok := bad[i]; !ok {
				paths = append(paths, "kept/"+r.set.Files[i].Path)
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

// checkApart refuses folders of which one lies in another: a result in the input would be the input of the next run.
func (r *run) checkApart() error {
	for _, dir := range []string{r.Output, r.Work} {
		for i := range r.set.Files {
			if within(r.set.Files[i].Name, dir) {
				return fmt.Errorf("%w: the input %s lies in %s; choose an --output and a --work outside of the input",
					ErrOutput, r.set.Files[i].Name, dir)
			}
		}
		for _, in := range slices.Concat(r.Inputs, r.Against) {
			abs, err := filepath.Abs(in)
			if err != nil {
				return err
			}
			if st, err := os.Stat(abs); err == nil && st.IsDir() && within(dir, abs) {
				return fmt.Errorf("%w: %s lies in the input %s; choose an --output and a --work outside of the input", ErrOutput, dir, in)
			}
		}
	}
	if within(r.Work, r.Output) || within(r.Output, r.Work) {
		return fmt.Errorf("%w: --output %s and --work %s lie in one another; choose another --work", ErrOutput, r.Output, r.Work)
	}
	return nil
}

// stagingOf is where a run builds its result, beside the output. The random id of the work folder is in its
// name, so it belongs to that run alone, whatever else runs or was left there.
func (r *run) stagingOf(w *executor.Work) string {
	return fmt.Sprintf("%s.%016x.partial", r.Output, w.RunID())
}

// checkParent finds out before hours of work that the result could not be put in place.
func (r *run) checkParent() error {
	parent := filepath.Dir(r.Output)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return fmt.Errorf("%w: %w", ErrOutput, err)
	}
	f, err := os.CreateTemp(parent, ".dovetail-*")
	if err != nil {
		return fmt.Errorf("%w: cannot write beside it: %w", ErrOutput, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// within reports whether name is dir or lies below it.
func within(name, dir string) bool {
	abs, err := filepath.Abs(name)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(dir, abs)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// diffInputs says in a few words how two lists of input files differ; it is empty if they do not.
func diffInputs(was, is []InputFile) string {
	byPath := make(map[string]InputFile, len(was))
	for _, f := range was {
		byPath[f.name()] = f
	}
	var changed, added []string
	for _, f := range is {
		name := f.name()
		old, ok := byPath[name]
		delete(byPath, name)
		switch {
		case !ok:
			added = append(added, name)
		case old.Size != f.Size || old.Footer != f.Footer || !old.ModTime.Equal(f.ModTime):
			changed = append(changed, name)
		}
	}
	var gone []string
	for _, f := range was {
		if _, ok := byPath[f.name()]; ok {
			gone = append(gone, f.name())
		}
	}
	var out []string
	say := func(what string, files []string) {
		if len(files) > 0 {
			s := what + " " + files[0]
			if len(files) > 1 {
				s += fmt.Sprintf(" and %d more", len(files)-1)
			}
			out = append(out, s)
		}
	}
	say("changed:", changed)
	say("added:", added)
	say("gone:", gone)
	return strings.Join(out, "; ")
}

// name tells files apart: those of the input and of the reference set may have one path.
func (f *InputFile) name() string {
	if f.Reference {
		return "--against " + f.Path
	}
	return f.Path
}

// job is what the work folder is for: it must be the same for a run to go on.
type job struct {
	Format string         `json:"format"`
	Spec   Spec           `json:"spec"`
	Inputs []InputFile    `json:"inputs"`
	Splits []corpus.Split `json:"splits"`
}

// jobFormat changes when work files do.
const jobFormat = "dovetail-work/3"

// openWork opens the work folder and finds out whether there is a run to go on from.
func (r *run) openWork(ctx context.Context) error {
	dir := r.workDir()
	if r.Restart {
		if err := r.discard(); err != nil {
			return err
		}
	}
	if err := r.checkOtherWork(dir); err != nil {
		return err
	}
	splits, err := r.set.Splits(ctx, r.splitTarget())
	if err != nil {
		return err
	}
	mine := job{Format: jobFormat, Spec: *r.spec, Inputs: r.inputFiles(), Splits: splits}
	meta, err := json.Marshal(mine)
	if err != nil {
		return err
	}
	if r.work, err = executor.OpenWork(dir, meta); err != nil {
		return err
	}
	for _, n := range r.work.Notes() {
		r.note(n)
	}
	r.staging = r.stagingOf(r.work)
	if others, err := filepath.Glob(r.Output + ".????????????????.partial"); err == nil {
		for _, o := range others {
			if o != r.staging {
				r.note(o + " belongs to another run; if that run is over, it can be removed")
			}
		}
	}
	if r.work.Resumed() {
		var old job
		if err = json.Unmarshal(r.work.Meta(), &old); err != nil || old.Format != jobFormat {
			err = fmt.Errorf("%w: %s was made by another version; finish with that one, or start anew with --restart", ErrResume, dir)
		} else if d := diffInputs(old.Inputs, mine.Inputs); d != "" {
			err = fmt.Errorf("%w: the input is not the one it was started with (%s); start anew with --restart", ErrResume, d)
		}
		if err != nil {
			return errors.Join(err, r.work.Close())
		}
		splits = old.Splits // another number of workers would have cut them otherwise
		r.note(fmt.Sprintf("going on from %s", dir))
	}
	r.splits = splits
	r.starts = make([]uint64, len(splits))
	for i, sp := range splits {
		r.starts[i] = corpus.Ordinal(sp.First, sp.Row)
	}
	r.steps.Files = len(r.set.Files)
	return nil
}

// workDir is the folder of runs with this Spec.
func (r *run) workDir() string { return filepath.Join(r.Work, r.spec.Hash()) }

// discard removes what other runs left. The lock of a run that still goes on protects it.
func (r *run) discard() error {
	entries, err := os.ReadDir(r.Work)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(r.Work, e.Name())
		if !isSpecHash(e.Name()) {
			return fmt.Errorf("%w: %s holds %s, which is not a run's; choose another --work", ErrResume, r.Work, e.Name())
		}
		w, err := executor.OpenWork(dir, nil)
		if errors.Is(err, executor.ErrLogDamaged) {
			w, err = nil, nil // which staging folder was its cannot be told any more
		}
		if err != nil {
			return err
		}
		if w != nil {
			err = os.RemoveAll(r.stagingOf(w))
		}
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
		if w != nil {
			_ = w.Close() // its folder is gone, with the lock
		}
	}
	if err := os.Remove(r.Work); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// checkOtherWork refuses a work folder in which a run with another Spec was left.
func (r *run) checkOtherWork(mine string) error {
	entries, err := os.ReadDir(r.Work)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(r.Work, e.Name())
		if dir == mine {
			continue
		}
		if !isSpecHash(e.Name()) {
			return fmt.Errorf("%w: %s holds %s, which is not a run's; choose another --work", ErrResume, r.Work, e.Name())
		}
		w, err := executor.OpenWork(dir, nil)
		if err != nil {
			return err
		}
		var old job
		differs := "other options"
		if json.Unmarshal(w.Meta(), &old) == nil {
			differs = strings.Join(old.Spec.Diff(r.spec), ", ")
		}
		if err := w.Close(); err != nil {
			return err
		}
		return fmt.Errorf("%w: %s was left by a run with other options (%s); finish that one, or start anew with --restart",
			ErrResume, dir, differs)
	}
	return nil
}

func isSpecHash(name string) bool {
	return len(name) == 16 && strings.Trim(name, "0123456789abcdef") == ""
}

// removeWork removes the work folder of a run that is complete.
func (r *run) removeWork() error {
	if err := os.RemoveAll(r.workDir()); err != nil {
		return err
	}
	if err := os.Remove(r.Work); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// splitTarget is the size of splits: a few for every worker, but neither tiny nor so many that each
// shuffle drowns in partitions.
func (r *run) splitTarget() int64 {
	if r.Exec.SplitBytes > 0 {
		return r.Exec.SplitBytes
	}
	size := r.set.Size()
	target := min(64<<20, max(1<<20, size/int64(4*r.Exec.actors())))
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
		Skipped: r.skipped, DuplicateIDs: r.duplicates,
		Ledger: Ledger{Read: r.steps.Documents, Written: w.Kept, Removed: w.Removed, References: w.References, Hash: w.Rows},
		Budget: BudgetResult{Peak: r.budget.Stats().Peak},
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
		res.PeakMemory = runfolder.PeakMemory()
		res.Finished = time.Now().UTC()
		res.WallSeconds = res.Finished.Sub(started).Seconds()
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
	for _, dir := range []string{"kept", "removed", "clusters"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(r.staging, dir), 0o777))
	}
	if err = errors.Join(err, runfolder.WriteSynced(filepath.Join(r.staging, resultName), append(data, '\n'))); err != nil {
		return nil, err
	}
	if err := runfolder.SyncTree(r.staging); err != nil {
		return nil, err
	}
	// An empty folder of that name may exist, and only an empty one can be removed.
	if err := os.Remove(r.Output); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: something else was put there while this run went on: %w", ErrOutput, err)
	}
	if err := os.Rename(r.staging, r.Output); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	return res, runfolder.SyncFolder(filepath.Dir(r.Output))
}
