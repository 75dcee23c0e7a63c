package executor

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// keptShare is which part of a budget may be kept for reuse beside it: of one of 96 MiB 8 MiB.
const keptShare = 12

// Executor runs stages. It is safe for concurrent use, but each stage name may be used once.
type Executor struct {
	cfg   Config
	fs    vfs.FS
	runID uint64
	epoch uint32
	key   string        // in front of the names of stages, where several executors share a job
	idle  bool          // this is rank 0 and leaves the work to others
	still time.Duration // how long a stage of a job stands still at least before that is one
	spill string
	temp  bool // spill is a temporary folder of this executor

	devices *devices
	scant   func() // memory is no longer plentiful, or no longer scarce, as far as this executor says

	mu     sync.Mutex
	used   map[string]bool // names of stages
	stages []StageStats
	shown  []shown
	comms  []*shuffle.Communicator
	nextOp shuffle.OpID
	closed bool

	reporting sync.Mutex
}

// New checks cfg and fills in defaults.
func New(cfg Config) (*Executor, error) {
	cfg.Job.configure(&cfg)
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := cfg.checkHeadNode(); err != nil {
		return nil, err
	}
	cfg.EnsureDefaults()
	if l, ok := cfg.Progress.(EventLogger); ok && cfg.Events == nil {
		cfg.Events = l.EventLog()
	}
	e := &Executor{
		cfg: cfg, fs: vfs.OS, runID: rand.Uint64(), epoch: 1, spill: cfg.SpillDir, used: make(map[string]bool),
		devices: newDevices(&cfg), still: leastStandstill,
	}
	if w := cfg.Work; w != nil {
		e.fs, e.runID, e.epoch = w.fs, w.runID, w.epoch
		if e.spill == "" {
			e.spill = w.spillDir()
		}
	}
	if j := cfg.Job; j != nil {
		n := j.number("executor")
		e.key = fmt.Sprintf("%d/", n)
		var err error
		if e.idle, err = j.leave(&cfg); err != nil {
			return nil, err
		}
		if cfg.Work == nil {
			if err := e.shareRun(); err != nil {
				return nil, err
			}
		} else if cfg.SpillDir == "" {
			e.spill = filepath.Join(e.spill, fmt.Sprintf("rank-%d", j.Rank()))
		}
		if j.parent != nil && cfg.SpillDir == "" && n == 1 {
			// What the process before this one has left. It has ended, or this one would not be there.
			_ = os.RemoveAll(e.spill)
		}
	}
	var err error
	if e.spill == "" {
		e.temp = true
		e.spill, err = os.MkdirTemp("", "dovetail-spill-")
	} else if cfg.Job.Root() || cfg.SpillDir != "" {
		err = e.fs.MkdirAll(e.spill, 0o777)
	} else if err = makeDirIn(filepath.Dir(e.spill), 0o777); err == nil {
		err = makeDirIn(e.spill, 0o777)
	}
	if err != nil {
		return nil, ioError("making the folder for spilled data", err)
	}
	if o, ok := cfg.Progress.(Observer); ok {
		o.Observe(e)
	}
	if cfg.Budget.Limit() == mem.Unlimited {
		e.scant = mem.Plentiful()
	} else {
		e.scant = mem.KeepAtMost(cfg.Budget.Limit() / keptShare)
	}
	return e, nil
}

// shareRun has all ranks use the same number for a run, which they have from the log otherwise, and those of an isolated job a folder that
// is removed even if they are killed.
func (e *Executor) shareRun() error {
	j := e.cfg.Job
	b, err := j.Share(context.Background(), "run", func() ([]byte, error) {
		b := binary.LittleEndian.AppendUint64(nil, e.runID)
		if j.children == nil || e.cfg.SpillDir != "" {
			return b, nil
		}
		dir, err := os.MkdirTemp("", "dovetail-spill-")
		if err != nil {
			return nil, ioError("making the folder for spilled data", err)
		}
		j.mu.Lock()
		j.scratch = append(j.scratch, dir)
		j.mu.Unlock()
		return append(b, dir...), nil
	})
	if err != nil {
		return err
	}
	if len(b) < 8 {
		return errors.New("executor: rank 0 describes the run in a way that makes no sense")
	}
	e.runID = binary.LittleEndian.Uint64(b)
	if dir := string(b[8:]); dir != "" && e.cfg.SpillDir == "" {
		e.spill = filepath.Join(dir, fmt.Sprintf("rank-%d", j.Rank()))
	}
	return nil
}

// Execute runs stages one after another, each to completion: the results of one, in the order of its
// tasks, are the tasks of the next, and those of the last are returned. Without stages there are no results;
// without tasks the first stage gets [EmptyTask]; a stage that is left without tasks is an error that wraps
// [ErrNoTasks]. Tasks that the work folder knows as committed, with the same Data, are not run again.
//
// The first failure ends the run; so does ctx. Either way nothing is left running when Execute returns,
// and what was finished stays committed. All errors are returned, those of teardowns included.
func (e *Executor) Execute(ctx context.Context, stages []Stage, tasks []Task) ([]Task, error) {
	if len(stages) == 0 {
		return nil, nil
	}
	for _, st := range stages {
		if err := e.prepare(ctx, st); err != nil {
			return nil, err
		}
	}
	if len(tasks) == 0 {
		tasks = []Task{EmptyTask}
	}
	for _, st := range stages {
		var err error
		if e.cfg.Job.Root() {
			tasks, err = e.runStage(ctx, st, tasks)
		} else {
			tasks, err = e.runMember(ctx, st, tasks)
		}
		if err != nil {
			return nil, err
		}
	}
	return tasks, nil
}

func (e *Executor) runStage(ctx context.Context, st Stage, tasks []Task) (out []Task, err error) {
	if j := e.cfg.Job; j != nil {
		defer func() { j.conclude(e.key+st.Name(), out, err) }()
	}
	if err := checkTasks(st, tasks); err != nil {
		return nil, err
	}
	r := e.newRun(ctx, st, "pool")
	results := make([][]Task, len(tasks))
	todo := make([]item, 0, len(tasks))
	r.tasks.Store(int64(len(tasks)))
	for i, t := range tasks {
		r.size.Add(t.Size)
		it := item{seq: i, task: t}
		if c := r.lookup(&it); c != nil {
			results[i] = c.results
		} else {
			todo = append(todo, it)
		}
	}
	size := batchSize(st)
	n, err := r.actorCount(st, (len(todo)+size-1)/size, len(todo) == 0)
	if err != nil {
		r.fail(err)
	}
	r.actors = n
	r.announce(r.tasks.Load())
	if n > 0 {
		largestFirst(todo)
		p := &pool{stageRun: r, stage: st}
		if e.cfg.Job != nil {
			p.inputs = hashTasks(tasks, 0)
		}
		p.run(n, func(add func(...item)) { add(todo...) }, func(seq int, res []Task) { results[seq] = res })
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return slices.Concat(results...), nil
}

// lookup returns the commit of a task, after counting it as reused, and sets its input hash. Without a work
// folder there is neither.
func (r *stageRun) lookup(it *item) *commit {
	if r.work == nil {
		return nil
	}
	it.input = hashTask(it.task)
	c, note := r.work.lookup(r.name, it.task.ID, it.input)
	r.note(note)
	if c != nil {
		r.reuse(it.task, c)
	}
	return c
}

// largestFirst sorts by size in powers of two: a large task started last would keep one actor busy while
// the others wait, but among tasks of about the same size the given order reads files front to back.
func largestFirst(items []item) {
	slices.SortStableFunc(items, func(a, b item) int {
		return cmp.Compare(bits.Len64(uint64(max(b.task.Size, 0))), bits.Len64(uint64(max(a.task.Size, 0))))
	})
}

// anyStage is what both kinds of stages have.
type anyStage interface {
	Name() string
	Resources() Resources
}

// prepare checks and claims the name of a stage, and sets it up on this node.
func (e *Executor) prepare(ctx context.Context, st anyStage) error {
	name := st.Name()
	if err := checkStageName(name); err != nil {
		return fmt.Errorf("executor: a stage cannot be named %.150q: %w", name, err)
	}
	if _, _, err := ActorCount(name, st.Resources(), e.capacity(), 1, 0); err != nil {
		if n := e.devices.lostDevices(); n > 0 && st.Resources().device() {
			err = fmt.Errorf("%w; %d of %d devices were lost", err, n, len(e.devices.list))
		}
		return err
	}
	e.mu.Lock()
	closed, used := e.closed, e.used[name]
	e.used[name] = true
	e.mu.Unlock()
	if closed {
		return fmt.Errorf("executor: stage %q: %w", name, ErrClosed)
	}
	if used {
		return fmt.Errorf("executor: stage %q has run before on this executor; give every stage its own name", name)
	}
	node, ok := st.(NodeSetup)
	if !ok {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("executor: stage %q was stopped: %w", name, context.Cause(ctx))
	}
	env := e.envs(name, 1)[0]
	err := guard(name, "", "SetupOnNode", nil, func() error { return node.SetupOnNode(ctx, env) })
	if err != nil && !errors.Is(err, ErrPanic) {
		err = fmt.Errorf("executor: setting up stage %q on this node: %w", name, err)
	}
	return err
}

// checkTasks looks at all tasks of a stage before the first is started.
func checkTasks(st anyStage, tasks []Task) error {
	if len(tasks) == 0 {
		return fmt.Errorf("executor: stage %q: %w", st.Name(), ErrNoTasks)
	}
	seen := make(map[string]struct{}, len(tasks))
	for _, t := range tasks {
		if err := checkTask(st, t, seen); err != nil {
			return err
		}
	}
	return nil
}

func checkTask(st anyStage, t Task, seen map[string]struct{}) error {
	if err := checkName(t.ID, maxNameLen); err != nil {
		return fmt.Errorf("executor: stage %q: a task cannot have the ID %.150q: %w", st.Name(), t.ID, err)
	}
	if _, ok := seen[t.ID]; ok {
		return fmt.Errorf("executor: stage %q: two tasks have the ID %q; IDs must be unique in a stage", st.Name(), t.ID)
	}
	seen[t.ID] = struct{}{}
	if len(t.Data) > maxTaskData {
		return fmt.Errorf("executor: stage %q: task %q has %d bytes of data, at most %d are allowed; put bulk data into a file",
			st.Name(), t.ID, len(t.Data), maxTaskData)
	}
	v, ok := st.(InputValidator)
	if !ok {
		return nil
	}
	err := guard(st.Name(), t.ID, "ValidateInput", nil, func() error { return v.ValidateInput(t) })
	if err != nil && !errors.Is(err, ErrPanic) {
		err = fmt.Errorf("executor: task %q is no input for stage %q: %w", t.ID, st.Name(), err)
	}
	return err
}

func batchSize(st anyStage) int {
	if b, ok := st.(BatchSizer); ok {
		return max(1, b.BatchSize())
	}
	return 1
}

// actorCount applies [ActorCount] to a stage. With idle there is nothing to do, and no actor is needed.
func (r *stageRun) actorCount(st anyStage, batches int, idle bool) (int, error) {
	if idle {
		return 0, nil
	}
	workers := 0
	if w, ok := st.(WorkerCounter); ok {
		workers = w.NumWorkers()
	}
	n, warning, err := ActorCount(r.name, st.Resources(), r.e.capacity(), batches, workers)
	r.note(warning)
	return n, err
}

// capacity is what there is for actors: every rank has at least one worker.
func (e *Executor) capacity() Capacity {
	return Capacity{
		CPUs: float64(max(e.cfg.Workers, e.cfg.Ranks)), ReservedCPUs: e.cfg.ReservedCPUs, Memory: e.cfg.Budget.Limit(),
		Devices: memories(e.devices.working()), ReservedGPUs: e.cfg.ReservedGPUs,
	}
}

// envs returns the environments of n actors, dealt out to the ranks in turn.
func (e *Executor) envs(stage string, n int) []*Env {
	envs := make([]*Env, n)
	for i := range envs {
		envs[i] = &Env{
			Stage: stage, Rank: e.cfg.Job.Rank() + i%e.cfg.Ranks, Size: max(e.cfg.Ranks, e.cfg.Job.Size()), Worker: i / e.cfg.Ranks, Actor: i, Actors: n,
			Epoch: e.epoch, Budget: e.cfg.Budget, Alloc: e.cfg.Alloc, Work: e.cfg.Work, SpillDir: e.spill,
		}
		if e.cfg.Work != nil {
			envs[i].WorkDir = e.cfg.Work.Dir()
		}
	}
	return envs
}

// envsFrom returns the environments of n actors of this process, the first of which has the number first in the job.
func (e *Executor) envsFrom(stage string, n, first int) []*Env {
	envs := e.envs(stage, n)
	for i, env := range envs {
		env.Actor = first + i
	}
	return envs
}

// report calls the reporter, if there is one, while no one else does.
func (e *Executor) report(call func(Reporter)) {
	if e.cfg.Progress == nil {
		return
	}
	e.reporting.Lock()
	defer e.reporting.Unlock()
	call(e.cfg.Progress)
}

// addStats keeps what a stage has done that has ended.
func (e *Executor) addStats(r *stageRun, st StageStats) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stages = append(e.stages, st)
	e.settle(r, st.Error != "")
}

// Stats returns what was done so far; stages that still run are left out. [Executor.Snapshot] has them.
func (e *Executor) Stats() RunStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := RunStats{
		Ranks: max(e.cfg.Ranks, e.cfg.Job.Size()), Workers: e.cfg.Workers, Epoch: e.epoch, Stages: slices.Clone(e.stages),
	}
	if j := e.cfg.Job; j != nil {
		s.Launcher, s.Hosts, s.Lost = j.cfg.Launcher, j.hosts(), j.Lost()
		if j.children != nil {
			s.Ranks, s.Hosts = e.cfg.Workers, nil // all are here
		}
	}
	switch j := e.cfg.Job; {
	case s.Ranks == 1:
	case j != nil:
		s.Transport = j.cfg.Fabric.Name()
	default:
		s.Transport = "inproc"
	}
	for _, st := range e.stages {
		s.Tasks += st.Tasks
		s.TasksReused += st.Reused
	}
	return s
}

// Close disconnects the ranks and removes temporary folders. It may be called again; runs must have ended.
func (e *Executor) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	var errs []error
	for _, c := range e.comms {
		errs = append(errs, c.Close())
	}
	e.scant()
	if e.temp {
		errs = append(errs, os.RemoveAll(e.spill))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("executor: closing: %w", err)
	}
	return nil
}
