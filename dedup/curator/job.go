package curator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/mem"
)

// Errors to compare with errors.Is.
var (
	// ErrOutput is wrapped when an output folder cannot be used.
	ErrOutput = runfolder.ErrOutput
	// ErrResume is wrapped when the work folder belongs to a run with other options or another input.
	ErrResume = runfolder.ErrResume
	// ErrSaved is wrapped by errors of a call of which something was saved: the same call goes on from there.
	ErrSaved = runfolder.ErrSaved
)

// manifestName is the file in an output folder that says what it is. Curator and Parquet readers pass over it.
const manifestName = "_dovetail.manifest"

// manifest is what that file says.
type manifest struct {
	Format  string          `json:"format"`
	Stage   string          `json:"stage"`
	Version string          `json:"version"`
	Hash    string          `json:"hash"` // of Spec
	Spec    json.RawMessage `json:"spec"` // options and inputs: what the result is a function of
	Result  json.RawMessage `json:"result"`
	Files   []string        `json:"files"` // the other files of the folder, by their paths
}

const manifestFormat = "dovetail-curator/1"

// job is one stage on its way from inputs to output folders.
type job struct {
	Exec
	stage string
	plan  flow.Plan
	spec  []byte
	hash  string

	folders []*folder
	made    []string // folders that were made for them
	dir     string   // the work folder
	unlock  []func() // the output folders
	work    *executor.Work
	ex      *executor.Executor
	large   *flow.Large
}

// folder is an output folder and where it is built, beside it.
type folder struct {
	final, staging string
	done           bool // it holds what this job would make
}

// Resources are those of every stage: each embeds the job and keeps one CPU busy.
func (j *job) Resources() executor.Resources { return executor.Resources{CPUs: 1} }

// newJob looks at the output folders. spec is everything the result is a function of.
func newJob(stage string, e Exec, perRow int, spec any, folders ...string) (*job, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(manifestFormat+" "+stage+"\n"), data...))
	j := &job{
		Exec: e, stage: stage, spec: data, hash: hex.EncodeToString(sum[:]),
		plan: flow.Memory{Limit: max(0, e.MemoryLimit-e.DeviceMemory), Actors: e.actors(), PerRow: int64(perRow)}.Plan(),
	}
	j.large = flow.NewLarge(j.plan.Budget)
	for _, dir := range folders {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		j.folders = append(j.folders, &folder{final: abs})
	}
	if j.dir = e.Work; j.dir == "" {
		j.dir = j.folders[0].final + ".work"
	}
	j.dir, err = filepath.Abs(j.dir)
	return j, err
}

// lookAll reports whether the output is there already and then decodes its result. It refuses folders that hold
// anything else, unless they may be overwritten.
func (j *job) lookAll(result any) (bool, error) {
	done := 0
	for _, f := range j.folders {
		m, err := j.look(f)
		if err != nil {
			return false, err
		}
		if m == nil {
			continue
		}
		f.done = true
		done++
		runfolder.ForgetLock(f.final)
		if err := json.Unmarshal(m.Result, result); err != nil {
			return false, fmt.Errorf("%w: %s: its manifest cannot be read: %w", ErrOutput, f.final, err)
		}
	}
	if done < len(j.folders) {
		return false, nil
	}
	return true, j.tidy()
}

// tidy removes what a call with these options left that was killed in its last moment, when its output was in place.
func (j *job) tidy() error {
	if _, err := os.Stat(j.dir); err != nil || j.KeepWork {
		return nil
	}
	w, err := executor.OpenWork(j.dir, []byte(j.hash))
	if err != nil {
		return nil // it is none of a stage's, or in use
	}
	if string(w.Meta()) != j.hash {
		return w.Close() // of other options
	}
	j.work = w
	err = j.discard()
	j.work = nil
	return err
}

// look returns the manifest of a folder that is this job's, and nil if there is nothing or it may be overwritten.
func (j *job) look(f *folder) (*manifest, error) {
	entries, err := os.ReadDir(f.final)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutput, err)
	}
	m, err := readManifest(f.final)
	if err == nil && m.Hash == j.hash {
		return m, nil
	}
	if j.Overwrite {
		return nil, checkOverwrite(f.final)
	}
	what := "something else"
	if err == nil {
		what = "the result of other options or another input"
		if d := diffSpecs(m.Spec, j.spec); d != "" {
			what += " (" + d + ")"
		}
	}
	return nil, fmt.Errorf("%w: %s holds %s; choose another folder, remove it, or replace it with --overwrite", ErrOutput, f.final, what)
}

func readManifest(dir string) (*manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, err
	}
	m := new(manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, err
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("it is of format %q", m.Format)
	}
	return m, nil
}

// diffSpecs names the options in which two specs differ.
func diffSpecs(was, is []byte) string {
	var a, b map[string]json.RawMessage
	if json.Unmarshal(was, &a) != nil || json.Unmarshal(is, &b) != nil {
		return ""
	}
	var out []string
	for name, v := range b {
		old, ok := a[name]
		switch {
		case ok && string(old) == string(v):
		case name == "inputs":
			out = append(out, "the input")
		default:
			out = append(out, fmt.Sprintf("--%s was %s and is now %s", strings.ReplaceAll(name, "_", "-"), old, v))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// checkOverwrite refuses to replace a folder that holds something and was not made by a stage: one without a manifest.
func checkOverwrite(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOutput, err)
	}
	m, err := readManifest(dir)
	if err != nil {
		return fmt.Errorf("%w: %s was not made by a stage of deduplication (%s: %w), so it is not overwritten", ErrOutput, dir, manifestName, err)
	}
	files, err := listFiles(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOutput, err)
	}
	for _, f := range files {
		if f != manifestName && !slices.Contains(m.Files, f) {
			return fmt.Errorf("%w: %s was not written by the stage that made %s, so the folder is not overwritten", ErrOutput, filepath.Join(dir, f), dir)
		}
	}
	return nil
}

// listFiles returns the paths of the files below a folder, relative to it, sorted.
func listFiles(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files = append(files, filepath.ToSlash(rel))
		return err
	})
	return files, err
}

// open opens the work folder and makes the executor.
func (j *job) open(ctx context.Context) (err error) {
	if j.work, err = j.Job.ShareWork(ctx, j.openWork); err != nil {
		return err
	}
	for _, f := range j.folders {
		f.staging = j.beside(f, partial)
	}
	j.ex, err = executor.New(executor.Config{
		Ranks: j.Ranks, Workers: j.Workers, Work: j.work, Budget: mem.NewBudget(j.plan.Budget), Progress: j.Progress, Job: j.Job,
		TaskTimeout: flow.TaskTimeout(j.TaskTimeout), Devices: j.Devices, CheckDevice: j.CheckDevice,
	})
	if err != nil {
		return errors.Join(err, j.work.Close())
	}
	return nil
}

// openWork opens the work folder, and makes those in which the outputs are built.
func (j *job) openWork() (w *executor.Work, err error) {
	for _, f := range j.folders {
		parent := filepath.Dir(f.final)
		if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
			j.made = append(j.made, parent)
		}
		if err := runfolder.CheckWritable(parent); err != nil {
			return nil, err
		}
	}
	if err := j.lock(); err != nil {
		return nil, err
	}
	meta := []byte(j.hash)
	if j.work, err = executor.OpenWork(j.dir, meta); err != nil {
		return nil, err
	}
	if j.work.Resumed() && (j.Restart || string(j.work.Meta()) != j.hash) {
		if !j.Restart {
			err := fmt.Errorf("%w: %s was left by a run with other options or another input; finish that one, or start anew with --restart",
				ErrResume, j.dir)
			return nil, errors.Join(err, j.work.Close())
		}
		if err := j.discard(); err != nil {
			return nil, err
		}
		if j.work, err = executor.OpenWork(j.dir, meta); err != nil {
			return nil, err
		}
	}
	for _, n := range j.work.Notes() {
		j.note(n)
	}
	if j.work.Resumed() {
		j.note("going on from " + j.dir)
	}
	for _, f := range j.folders {
		if err := os.MkdirAll(j.beside(f, partial), 0o777); err != nil {
			return nil, errors.Join(err, j.work.Close())
		}
	}
	return j.work, nil
}

// lock makes sure that no other run makes one of the output folders.
func (j *job) lock() error {
	for _, f := range j.folders {
		unlock, err := runfolder.LockOutput(f.final)
		if err != nil {
			return err
		}
		j.unlock = append(j.unlock, unlock)
	}
	return nil
}

// release unlocks the output folders.
func (j *job) release() {
	for _, unlock := range j.unlock {
		unlock()
	}
	j.unlock = nil
}

// discard removes the work folder and what it left beside the outputs. It has the lock, and gives it up.
func (j *job) discard() error {
	var errs []error
	for _, f := range j.folders {
		errs = append(errs, executor.RemoveAll(j.beside(f, partial)))
		if _, err := os.Stat(f.final); err == nil { // else what was to be replaced may be all there is
			errs = append(errs, executor.RemoveAll(j.beside(f, replaced)))
		}
	}
	errs = append(errs, executor.RemoveAll(j.dir))
	_ = j.work.Close() // its folder is gone, with the lock
	return errors.Join(errs...)
}

// run opens the job, calls f, which writes into the staging folders and returns the result, and puts the folders in
// place. After an error what was finished stays in the work folder for the next call.
func (j *job) run(ctx context.Context, f func(ctx context.Context) (result any, err error)) error {
	if !j.Job.Root() {
		return j.follow(ctx, f)
	}
	defer j.release()
	if err := j.open(ctx); err != nil {
		return err
	}
	nothing := !j.work.Resumed()
	result, err := f(ctx)
	err = errors.Join(err, j.ex.Close())
	if err == nil {
		err = j.meet(ctx, result)
	}
	if err != nil {
		for _, s := range j.ex.Stats().Stages {
			nothing = nothing && s.Tasks == 0
		}
		if nothing { // there is nothing to go on from, and the next try may have other options
			err = errors.Join(err, j.discard())
			j.release()
			for _, dir := range j.made {
				_ = os.Remove(dir) // if it is empty
			}
			return err
		}
		return runfolder.Saved(errors.Join(err, j.work.Close()))
	}
	if j.KeepWork {
		return j.work.Close()
	}
	return j.discard()
}

// What stands beside an output folder while a job runs, by the end of its name.
const (
	partial  = "partial" // where it is built
	replaced = "old"     // what was in its place, until it is
)

// beside is the path of one of them. The work folder is open.
func (j *job) beside(f *folder, what string) string {
	return fmt.Sprintf("%s.%016x.%s", f.final, j.work.RunID(), what)
}

// place puts the output folders in place.
func (j *job) place(result any) error {
	data, err := json.Marshal(result)
	if err != nil {
		return err
	}
	m := manifest{Format: manifestFormat, Stage: j.stage, Version: j.Version, Hash: j.hash, Spec: j.spec, Result: data}
	for _, f := range j.folders {
		if f.done {
			continue // by an earlier call that was killed while it placed them
		}
		if m.Files, err = listFiles(f.staging); err != nil {
			return err
		}
		m.Files = slices.DeleteFunc(m.Files, func(name string) bool { return name == manifestName }) // of an earlier try
		if data, err = json.MarshalIndent(m, "", " "); err != nil {
			return err
		}
		if err := runfolder.WriteSynced(filepath.Join(f.staging, manifestName), append(data, '\n')); err != nil {
			return err
		}
		if err := runfolder.SyncTree(f.staging); err != nil {
			return err
		}
		if m, err := j.look(f); err != nil || m != nil {
			return errors.Join(err, fmt.Errorf("%w: %s was made by somebody else while this run went on", ErrOutput, f.final))
		}
		// What is replaced steps aside first, so that a crash leaves one or the other.
		old := j.beside(f, replaced)
		if err := os.Rename(f.final, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrOutput, err)
		}
		if err := os.Rename(f.staging, f.final); err != nil {
			return fmt.Errorf("%w: %w", ErrOutput, err)
		}
		if err := os.RemoveAll(old); err != nil {
			return fmt.Errorf("%w: %w", ErrOutput, err)
		}
		if err := runfolder.SyncFolder(filepath.Dir(f.final)); err != nil {
			return err
		}
	}
	return nil
}

// apart refuses outputs in inputs: what is written would be read by the next run.
func (j *job) apart(inputs []string) error {
	for _, f := range j.folders {
		for _, in := range inputs {
			if st, err := os.Stat(in); err == nil && st.IsDir() && (runfolder.Within(f.final, in) || runfolder.Within(in, f.final)) {
				return fmt.Errorf("%w: the input %s and the output %s lie in one another; choose an output outside of the input", ErrOutput, in, f.final)
			}
		}
	}
	return nil
}

// placeFile makes a file of output folder n, given its path in it.
func (j *job) placeFile(out *executor.Attempt, n int, rel string) (*executor.File, error) {
	rel = filepath.FromSlash(rel)
	if err := runfolder.MakeBelow(j.folders[n].staging, filepath.Dir(rel)); err != nil {
		return nil, err
	}
	return out.Place(filepath.Join(j.folders[n].staging, rel))
}

// parts returns a number of partitions for n things of size bytes.
func (j *job) parts(n, size int64) int { return j.plan.Parts(n, size, j.everyone()) }

// records returns a writer whose buffers take a part of an actor's share of memory.
func (j *job) records(out flow.ChunkSink, l flow.Layout, parts int) *flow.RecordWriter {
	return j.plan.Records(out, l, parts)
}

// sorter returns a sorter of whole rows that takes a part of an actor's share of memory.
func (j *job) sorter(env *executor.Env, words int, blob bool) *flow.Sorter {
	return j.plan.Sorter(env.SpillDir, flow.Whole(words, blob), 4)
}

// writeIDGenerator writes the state of the id generator, at once. In a job rank 0 does it.
func (e *Exec) writeIDGenerator(path string, files []fileSize, last []int64) error {
	if !e.Job.Root() {
		return nil
	}
	data, err := newIDGenerator(files, last).encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	temp := path + ".partial"
	if err := runfolder.WriteSynced(temp, data); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return runfolder.SyncFolder(filepath.Dir(path))
}
