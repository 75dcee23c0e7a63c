package dedup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/dedup/internal/texts"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// Options are everything a run needs to know.
type Options struct {
	Spec Spec
	Exec Exec
	// Inputs are files, folders and globs.
	Inputs []string
	// Against are files, folders and globs of a reference set: its documents come first in pi, are all kept and
	// never written. Only documents of Inputs are removed.
	Against []string
	// Output is the folder the result appears in, all at once, when the run is complete.
	Output string
	// Work is the folder for intermediate files; empty means Output with ".work" behind it. It is removed
	// at the end unless KeepWork is set.
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

// run is one run of the pipeline.
type run struct {
	Options
	folders    runfolder.Folders
	paths      []string // Inputs, absolute if they are on the local disk
	against    []string // the same of Against
	spec       *Spec
	advises    bool // errors about files say what options there are; verify has none
	refs       flow.RefCodec
	norm       lsh.Normalization
	normalizes bool // norm changes something
	threshold  lsh.Threshold
	params     lsh.Params
	plan       flow.Plan

	set     *corpus.Set
	splits  []corpus.Split
	starts  []uint64 // first ordinal of each split
	work    *executor.Work
	ex      *executor.Executor
	budget  *mem.Budget
	staging string
	large   *flow.Large
	texts   *texts.Cache

	signs    []signResult
	members  []flow.RowResult
	warnings []string    // for run.json and the report
	ranges   []FileRange // of the files that each task of the write stage has
	steps    Steps

	skipped    *Skipped              // nil if nothing was left out
	duplicates *DuplicateIDs         // nil if there are none
	rejected   [similarityBins]int64 // pairs compared and found below the threshold, by similarity
	found      *found                // by the write stage
}

// Run deduplicates. The result is in Options.Output when it returns nil, and otherwise nothing is there: what
// was finished stays in the work folder, and the same call goes on from it.
func Run(ctx context.Context, o Options) (*Result, error) {
	started := time.Now()
	r, err := prepare(&o)
	if err != nil {
		return nil, err
	}
	r.advises = true
	if err := r.resolve(ctx); err != nil {
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
	err = r.advise(ctx, slices.Concat(r.Inputs, r.Against), r.corpusOptions(), err)
	if r.ex != nil {
		err = errors.Join(err, r.ex.Close())
	}
	if !r.Job.Root() {
		return res, errors.Join(err, r.work.Close())
	}
	// An input error that comes up later is a line with a field that was to be added.
	nothing := r.work.Committed("sign") == 0 || errors.Is(err, errUseless) || errors.Is(err, corpus.ErrInput)
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

// checkDone returns the result of a run that is complete, if there is one, and cleans up after it.
func (r *run) checkDone(ctx context.Context) (done *Result, err error) {
	data, err := r.Job.Share(ctx, "output folder", func() ([]byte, error) {
		if done, err = r.checkOutput(); err != nil || done == nil {
			return nil, err
		}
		if done.DuplicateIDs != nil {
			if err := r.allowDuplicateIDs(done.DuplicateIDs); err != nil {
				return nil, err
			}
		}
		// A run that was killed in its last moment may have left its lock and its work folder.
		runfolder.ForgetLock(r.folders.Output)
		if !r.KeepWork {
			if err := r.folders.Tidy(); err != nil {
				return nil, err
			}
		}
		return json.Marshal(done)
	})
	if err != nil || done != nil || len(data) == 0 {
		return done, err
	}
	return decodeResult(data)
}

// decodeResult is how ranks other than the root learn of the result.
func decodeResult(data []byte) (*Result, error) { return runfolder.Result[Result]("dedup: ", data) }

// agree takes over rank 0's Exec: what it cuts into how many parts must be the same on all ranks.
func (r *run) agree(ctx context.Context) error {
	if err := runfolder.Agree(ctx, r.Job, "dedup: ", &r.Exec); err != nil || r.Job.Root() {
		return err
	}
	r.plan = r.Exec.plan(r.params)
	r.large = flow.NewLarge(r.plan.Budget)
	return nil
}

// everyone is the most actors that work at a time, on all ranks.
func (r *run) everyone() int {
	if r.Exec.Isolation == IsolationProcess {
		return r.Exec.Workers
	}
	return r.Exec.actors() * r.Job.Size()
}

// errUseless is wrapped by errors after which there is no point in going on from what was finished.
var errUseless = errors.New("nothing to deduplicate")

func prepare(o *Options) (_ *run, err error) {
	if o.Exec.BandsPerIteration == 0 {
		o.Exec.BandsPerIteration = max(1, min(DefaultBandsPerIteration, o.Spec.NumBands))
	}
	o.Exec.EnsureDefaults()
	if err := errors.Join(o.Spec.Validate(), o.Exec.Validate(o.Spec.NumBands)); err != nil {
		return nil, err
	}
	if err := o.Spec.canonical(); err != nil {
		return nil, err
	}
	if (o.Exec.Isolation == IsolationProcess) != o.Job.Isolated() {
		return nil, errors.New("dedup: Exec.Isolation is IsolationProcess if, and only if, Options.Job is of executor.Isolate")
	}
	if o.Job != nil && o.Exec.Ranks != 1 {
		return nil, fmt.Errorf("--ranks %d: a process that is one rank of several has no more of them", o.Exec.Ranks)
	}
	paths, against := o.Inputs, o.Against
	if o.FS == nil {
		o.FS = corpus.Local()
		if paths, err = absolutePaths(o.Inputs); err != nil {
			return nil, err
		}
		if against, err = absolutePaths(o.Against); err != nil {
			return nil, err
		}
	}
	o.FS = flow.Metered(o.FS)
	folders, err := runfolder.New(o.Output, o.Work, o.Spec.Hash())
	if err != nil {
		return nil, err
	}
	o.Output, o.Work = folders.Output, folders.Work
	norm, threshold, err := o.Spec.parse()
	if err != nil {
		return nil, err
	}
	r := &run{
		Options: *o, folders: folders, paths: paths, against: against, norm: norm, normalizes: norm != 0, threshold: threshold, params: o.Spec.Params(),
		refs: flow.RefCodec{WithKeep: o.Spec.Keep != KeepFirst},
	}
	r.spec = &r.Spec
	r.plan = r.Exec.plan(r.params)
	r.large = flow.NewLarge(r.plan.Budget)
	return r, nil
}

// resolve finds the files of the input and of the reference set.
func (r *run) resolve(ctx context.Context) error {
	o := r.corpusOptions()
	in, err := corpus.Resolve(ctx, r.FS, r.Inputs, o)
	if err != nil || len(r.Against) == 0 {
		r.set = in
		return r.advise(ctx, r.Inputs, o, err)
	}
	o.KeepField = "" // they come first whatever it says
	o.Adds = nil     // they are not written
	ref, err := corpus.Resolve(ctx, r.FS, r.Against, o)
	if err != nil {
		return fmt.Errorf("--against: %w", r.advise(ctx, r.Against, o, err))
	}
	r.set, err = corpus.Join(ctx, ref, in)
	return r.advise(ctx, nil, o, err)
}

func (r *run) corpusOptions() corpus.Options {
	var adds []string
	if r.spec.Write == WriteAnnotate {
		for _, c := range annotations(corpus.NoIDs) {
			adds = append(adds, c.Name)
		}
	}
	return corpus.Options{
		Adds: adds, Format: corpus.Format(r.spec.Format), TextField: r.spec.TextField, IDField: r.spec.IDField,
		KeepField: r.spec.KeepField(), Workers: r.Exec.Workers,
		SkipFiles: r.spec.OnBadFile == OnBadSkip, SkipRecords: r.spec.OnBadRecord == OnBadSkip,
	}
}

// watch tells a test how much a table takes.
func (r *run) watch(table string, held int64) {
	if r.Exec.watch != nil {
		r.Exec.watch(table, held)
	}
}

func (r *run) note(line string) {
	if r.Note != nil {
		r.Note(line)
	}
}

// Resources are those of every stage: each embeds the run and keeps one CPU busy.
func (r *run) Resources() executor.Resources { return executor.Resources{CPUs: 1} }

// splitOf returns the split that a document is in.
func (r *run) splitOf(ord uint64) int {
	i, found := slices.BinarySearch(r.starts, ord)
	if found {
		return i
	}
	return max(0, i-1)
}

// changed reports that a document is not what it was when it was first read.
func (r *run) changed(ord uint64) error {
	return fmt.Errorf("dedup: %s is not what it was when it was first read: the file changed during the run, "+
		"or a disk, memory or a link is faulty; start again with --restart", r.where(ord))
}

// pipeline runs the stages.
func (r *run) pipeline(ctx context.Context, started time.Time) (*Result, error) {
	r.budget = mem.NewBudget(r.plan.Budget)
	var err error
	r.ex, err = executor.New(executor.Config{
		Ranks: r.Exec.Ranks, Workers: r.Exec.Workers, Work: r.work, Budget: r.budget, Progress: r.Progress,
		Job: r.Job, TaskTimeout: flow.TaskTimeout(r.Exec.TaskTimeout), Devices: r.Exec.Devices, CheckDevice: r.Exec.CheckDevice,
	})
	if err != nil {
		return nil, err
	}
	r.texts = r.Exec.keepTexts(&r.plan)
	defer r.texts.Close()
	if err := r.sign(ctx); err != nil {
		return nil, err
	}
	if err := r.checkIDs(ctx); err != nil {
		return nil, err
	}
	if err := r.findClasses(ctx); err != nil {
		return nil, err
	}
	pairs, err := r.findPairs(ctx)
	if err != nil {
		return nil, err
	}
	verdicts, err := r.decide(ctx, pairs)
	if err != nil {
		return nil, err
	}
	removals, err := r.gatherRemovals(ctx, verdicts)
	if err != nil {
		return nil, err
	}
	written, err := r.write(ctx, removals)
	if err != nil {
		return nil, err
	}
	if err := r.checkSources(); err != nil {
		return nil, err
	}
	var samples *sampleStore
	if !r.Exec.NoReport {
		if samples, err = r.samples(ctx); err != nil {
			return nil, err
		}
	}
	r.texts.Close()
	// Others may still read work files, which go when the result is in place.
	if err := r.Job.Meet(ctx, "result"); err != nil {
		return nil, err
	}
	var res *Result
	data, err := r.Job.Share(ctx, "result", func() (data []byte, err error) {
		if res, err = r.finish(written, samples, started); err == nil && r.Job != nil {
			data, err = json.Marshal(res)
		}
		return data, err
	})
	if err != nil || res != nil {
		return res, err
	}
	return decodeResult(data)
}

func (r *run) sign(ctx context.Context) error {
	if len(r.splits) == 0 {
		return r.leaveOut(ctx)
	}
	indexes := make([]int, len(r.splits))
	for i := range indexes {
		indexes[i] = i
	}
	tasks, err := flow.EncodeTasks("split", indexes)
	if err != nil {
		return err
	}
	for i, sp := range r.splits {
		tasks[i].Size = sp.Size
	}
	out, err := r.ex.Execute(ctx, []executor.Stage{signStage{r}}, tasks)
	if err != nil {
		return err
	}
	if r.signs, err = flow.DecodeAll[signResult](out); err != nil {
		return err
	}
	if err := r.leaveOut(ctx); err != nil {
		return err
	}
	null := int64(0)
	for _, s := range r.signs {
		r.steps.Documents += s.Docs
		r.steps.Empty += s.Empty
		null += s.Null
		r.steps.TextBytes += s.TextBytes
		r.steps.SkippedRecords += s.BadRecords
		r.steps.LongestBytes = max(r.steps.LongestBytes, s.MaxDoc)
		r.steps.read = r.steps.read.Add(s.Rows)
	}
	if n := r.steps.Documents; n > 0 && null == n {
		return fmt.Errorf("%w: none of %d documents has a text in %q; name the field that holds it with --text-field",
			errUseless, n, r.spec.TextField)
	}
	return nil
}

// parts returns how many partitions hold n things of the given size.
func (r *run) parts(n, size int64) int { return r.plan.Parts(n, size, r.everyone()) }

// decideBytes is the size of a partition of the decide stage, at most.
const decideBytes = 16 << 20

// classBytes is the memory of one class in the exact stage's table, at worst, with room for uneven partitions.
const classBytes = 96

func (r *run) findClasses(ctx context.Context) error {
	if len(r.signs) == 0 {
		return nil
	}
	tasks, err := flow.EncodeTasks("split", r.signs)
	if err != nil {
		return err
	}
	out, err := r.ex.Shuffle(ctx, exactStage{r, r.parts(r.steps.Documents, classBytes)}, tasks)
	if err != nil {
		return err
	}
	if out, err = r.ex.Shuffle(ctx, membersStage{r}, out); err != nil {
		return err
	}
	if r.members, err = flow.DecodeAll[flow.RowResult](out); err != nil {
		return err
	}
	for _, m := range r.members {
		r.steps.ExactDuplicates += m.Rows
	}
	return nil
}

// findPairs runs the bands and returns the pair files.
func (r *run) findPairs(ctx context.Context) ([]flow.RowResult, error) {
	if len(r.signs) == 0 {
		return nil, nil
	}
	inputs := make([]bandInput, len(r.signs))
	for i, s := range r.signs {
		inputs[i] = bandInput{Signs: s.Files, Members: r.members[i].File}
	}
	tasks, err := flow.EncodeTasks("split", inputs)
	if err != nil {
		return nil, err
	}
	for i, s := range r.signs {
		tasks[i].Size = s.Docs
	}
	reps := r.steps.Documents - r.steps.ExactDuplicates
	perBand := bandParts(bucketTableBytes(reps), r.plan.Share)
	// Where the partitions of all bands together are too many, fewer bands are taken at a time.
	bands := int(max(1, min(int64(r.Exec.BandsPerIteration), int64(r.plan.MaxParts)/perBand)))
	perBand = min(perBand, int64(r.plan.MaxParts))
	var pairs []flow.RowResult
	for lo := 0; lo < r.spec.NumBands; lo += bands {
		hi := min(r.spec.NumBands, lo+bands)
		out, err := r.ex.Shuffle(ctx, bandsStage{r, lo, hi, int(perBand)}, tasks)
		if err != nil {
			return nil, err
		}
		files, err := flow.DecodeAll[flow.RowResult](out)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if f.Rows > 0 {
				pairs = append(pairs, f)
				r.steps.BandPairs += f.Rows
			}
		}
	}
	return pairs, nil
}

// decide finds the components and decides them, and returns the verdict files.
func (r *run) decide(ctx context.Context, pairs []flow.RowResult) ([]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	labels, err := r.components(ctx, pairs)
	if err != nil {
		return nil, err
	}
	if r.spec.Verify == VerifyNone {
		return labels, nil // which are verdicts then
	}
	var inputs []routeInput
	for _, l := range labels {
		inputs = append(inputs, routeInput{File: l, Labels: true})
	}
	for _, p := range pairs {
		inputs = append(inputs, routeInput{File: p.File})
	}
	tasks, err := flow.EncodeTasks("file", inputs)
	if err != nil {
		return nil, err
	}
	out, err := r.ex.Shuffle(ctx, routeStage{r}, tasks)
	if err != nil {
		return nil, err
	}
	routes, err := flow.DecodeAll[routeResult](out)
	if err != nil {
		return nil, err
	}
	text, longest := int64(0), int64(0)
	tasks = tasks[:0]
	for i, rt := range routes {
		r.steps.Candidates += rt.Candidates
		r.steps.Pairs += rt.Pairs
		r.steps.Components += rt.Components
		text += rt.TextBytes
		longest = max(longest, rt.MaxDoc)
		if rt.Candidates > 0 {
			t := out[i]
			t.Size = rt.TextBytes
			tasks = append(tasks, t)
		}
	}
	r.steps.CandidateBytes = text
	// Beside its text a candidate takes its place in the list and in its component, and its leaders. A quarter of a share
	// is left for the windows that are compared.
	perCandidate := int64(256) + 24*(r.steps.Pairs/max(1, r.steps.Candidates))
	size := 2*text + perCandidate*r.steps.Candidates
	// There is nothing to be gained from partitions as large as a large share.
	size *= max(1, r.plan.Share/decideBytes)
	out, err = r.ex.Shuffle(ctx, decideStage{r, r.parts(1, size), longest}, tasks)
	if err != nil {
		return nil, err
	}
	results, err := flow.DecodeAll[decideResult](out)
	if err != nil {
		return nil, err
	}
	for _, res := range results {
		for i, n := range res.Rejected {
			r.rejected[i] += n
		}
	}
	return flow.FilesOf(out)
}

// gatherRemovals brings verdicts and members together and returns a removal file for each split, or "".
func (r *run) gatherRemovals(ctx context.Context, verdicts []string) ([]string, error) {
	removals := make([]string, len(r.splits))
	var inputs []spreadInput
	for _, v := range verdicts {
		inputs = append(inputs, spreadInput{File: v})
	}
	for _, m := range r.members {
		if m.Rows > 0 {
			inputs = append(inputs, spreadInput{File: m.File, Members: true})
		}
	}
	tasks, err := flow.EncodeTasks("file", inputs)
	if err != nil || len(tasks) == 0 {
		return removals, err
	}
	out, err := r.ex.Shuffle(ctx, spreadStage{r}, tasks)
	if err != nil {
		return nil, err
	}
	if out, err = r.ex.Shuffle(ctx, clustersStage{r}, out); err != nil {
		return nil, err
	}
	if out, err = r.ex.Shuffle(ctx, removalsStage{r}, out); err != nil {
		return nil, err
	}
	files, err := flow.DecodeAll[flow.RowResult](out)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Rows > 0 {
			removals[f.Part] = f.File
		}
	}
	return removals, nil
}

// write filters the files and returns the sum of what the tasks say.
func (r *run) write(ctx context.Context, removals []string) (*writeResult, error) {
	if r.Job.Root() {
		if err := os.MkdirAll(r.staging, 0o777); err != nil {
			return nil, err
		}
	}
	var inputs []writeInput
	var sizes []int64
	for at := 0; at < len(r.splits); {
		// Splits that share a file belong to one task.
		in := writeInput{Index: len(inputs), First: r.splits[at].First, Last: r.splits[at].Last}
		size := int64(0)
		for at < len(r.splits) && r.splits[at].First <= in.Last {
			in.Last = r.splits[at].Last
			in.Splits = append(in.Splits, at)
			in.Signs = append(in.Signs, r.signs[at].Files)
			in.Removals = append(in.Removals, removals[at])
			in.Bad = append(in.Bad, r.signs[at].BadFile)
			size += r.splits[at].Size
			at++
		}
		inputs, sizes = append(inputs, in), append(sizes, size)
		r.ranges = append(r.ranges, FileRange{in.First, in.Last})
	}
	total := &writeResult{}
	if r.skipped != nil {
		for _, f := range r.skipped.Files {
			total.Digest.skippedFile(f.Index, f.Path)
		}
	}
	r.found = newFound(0, len(r.set.Files))
	tasks, err := flow.EncodeTasks("files", inputs)
	if err != nil || len(tasks) == 0 {
		return total, err
	}
	for i, size := range sizes {
		tasks[i].Size = size
	}
	out, err := r.ex.Execute(ctx, []executor.Stage{writeStage{r}}, tasks)
	if err != nil {
		return nil, err
	}
	parts, err := flow.DecodeAll[writeResult](out)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		total.add(&p)
		if err := r.addFound(p.Found); err != nil {
			return nil, err
		}
	}
	return total, r.checkLedger(total)
}

func (w *writeResult) add(o *writeResult) {
	w.Digest.merge(o.Digest)
	w.Rows = w.Rows.Add(o.Rows)
	w.Docs += o.Docs
	w.Skipped += o.Skipped
	w.Kept += o.Kept
	w.Removed += o.Removed
	w.References += o.References
	w.Exact += o.Exact
	w.Clusters += o.Clusters
	w.Bytes += o.Bytes
	w.RemovedText += o.RemovedText
	if o.Largest > w.Largest {
		w.Largest, w.Of = o.Largest, o.Of
	}
}

// checkLedger compares what was written with what was read.
func (r *run) checkLedger(w *writeResult) error {
	if w.Docs != r.steps.Documents || w.Skipped != r.steps.SkippedRecords || !w.Rows.Equal(r.steps.read) ||
		w.Kept+w.Removed+w.References != w.Docs {
		return fmt.Errorf("dedup: %d documents were read and %d written or removed, or they are not the same ones: "+
			"nothing was put in place; a disk, memory or a link is faulty", r.steps.Documents, w.Docs)
	}
	return nil
}
