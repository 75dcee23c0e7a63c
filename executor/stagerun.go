package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// errGivenUp ends what was finished after the stage had failed to commit something; it is never returned.
var errGivenUp = errors.New("given up after an earlier failure")

// stageRun is one stage being run: what is common to pools and shuffles.
type stageRun struct {
	e      *Executor
	name   string
	key    string // names the stage among those of the job
	kind   string
	stage  anyStage
	work   *Work
	start  time.Time
	actors int
	*scope

	tasks, size, reused        atomic.Int64
	tasksDone, sizeDone, units atomic.Int64
	rows                       atomic.Int64
	attempts, insertsDone      atomic.Int64
	files, bytes               atomic.Int64
	setupNS, computeNS, waitNS atomic.Int64
	readNS, writeNS, commitNS  atomic.Int64
	replaced, retries, living  atomic.Int64
	spilled                    func() int64 // set before the stage is announced
	taskTimes, insertTimes     taskTimes

	mu        sync.Mutex
	counters  map[string]int64
	notes     []string
	teardowns []error // failures of Close, which end nothing
	shuffle   *ShuffleStats

	rss        *rssWatch
	used       time.Duration // processor time of the process when the stage started
	stopTicker func()        // nil if no one is told how the stage goes
}

const maxNotes = 100

// kindCollective is the kind of stages none of whose actors can do without the others.
const kindCollective = "collective"

func (e *Executor) newRun(ctx context.Context, st anyStage, kind string) *stageRun {
	r := &stageRun{
		e: e, name: st.Name(), key: e.key + st.Name(), kind: kind, stage: st, work: e.cfg.Work, start: time.Now(), used: processorTime(), scope: newScope(ctx),
		counters: make(map[string]int64),
	}
	return r
}

// announce tells the reporter that the stage starts, and from then on how it goes. tasks < 0 means unknown.
func (r *stageRun) announce(tasks int64) {
	r.rss = watchRSS(r.e.cfg.Job.resident)
	r.e.show(r)
	r.event(slog.LevelInfo, "stage started", nil, slog.Int("actors", r.actors), slog.Int64("tasks", tasks),
		slog.Int64("reused", r.reused.Load()))
	if r.e.cfg.Progress == nil {
		return
	}
	r.e.report(func(p Reporter) {
		p.StageStarted(StageInfo{
			Stage: r.name, Actors: r.actors, Tasks: tasks, Size: r.size.Load(), Reused: r.reused.Load(),
		})
	})
	r.stopTicker = every(r.e.cfg.ProgressInterval, r.progress)
}

func (r *stageRun) progress() {
	p := Progress{
		Stage: r.name, Tasks: r.tasks.Load(), Size: r.size.Load(), Reused: r.reused.Load(),
		TasksDone: r.tasksDone.Load(), SizeDone: r.sizeDone.Load(), Units: r.units.Load(), Rows: r.rows.Load(),
	}
	if r.spilled != nil {
		p.SpilledBytes = r.spilled()
	}
	r.e.report(func(rep Reporter) { rep.StageProgress(p) })
}

// note keeps a line for the statistics and shows it.
func (r *stageRun) note(line string) {
	if line == "" {
		return
	}
	r.mu.Lock()
	room := len(r.notes) < maxNotes
	if len(r.notes) == maxNotes-1 {
		line = "further notes are left out"
	}
	if room {
		r.notes = append(r.notes, line)
	}
	r.mu.Unlock()
	if room {
		r.e.report(func(p Reporter) { p.Note(r.name, line) })
	}
}

// taskError says which task failed for good, in an actor with that environment. kills is how many actors died of it.
func (r *stageRun) taskError(env *Env, task Task, attempt uint32, kills int, err error) error {
	e := &TaskError{Stage: r.name, Task: task.ID, Attempt: attempt, Kills: kills, Err: err}
	if env != nil {
		e.Rank, e.Worker = env.Rank, env.Worker
	}
	e.About = r.describe(task)
	return e
}

// describe says what a task is about, if the stage can.
func (r *stageRun) describe(task Task) (about string) {
	if d, ok := r.stage.(TaskDescriber); ok {
		// Whatever goes wrong in here must not hide what went wrong before.
		_ = guard(r.name, task.ID, "DescribeTask", nil, func() error { about = d.DescribeTask(task); return nil })
	}
	return about
}

// addCounters adds the counters of an attempt, or of a commit of an earlier run, to those of the stage.
func (r *stageRun) addCounters(cs []counter) {
	if len(cs) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range cs {
		r.counters[c.name] += c.n
	}
}

// reuse counts a task that an earlier run has committed.
func (r *stageRun) reuse(t Task, c *commit) {
	r.addCounters(c.counters)
	r.tasksDone.Add(1)
	r.reused.Add(1) // which is never more than are done
	r.sizeDone.Add(t.Size)
}

// committed counts a task that is now committed.
func (r *stageRun) committed(p *pending) {
	m := p.a.m
	r.addCounters(m.counts)
	size := int64(0)
	for _, f := range m.files {
		size += f.size
	}
	r.files.Add(int64(len(m.files)))
	r.bytes.Add(size)
	r.tasksDone.Add(1)
	r.sizeDone.Add(m.task.Size)
	r.timed(&r.taskTimes, m, "task committed", size)
}

// spend counts what attempts took, whatever became of them.
func (r *stageRun) spend(s spent) {
	r.waitNS.Add(int64(s.wait))
	r.readNS.Add(int64(s.read))
	r.computeNS.Add(int64(s.compute))
	r.writeNS.Add(int64(s.write))
}

// timed counts what a task took whose attempt m counts, and tells the event log. files is the size of its files.
func (r *stageRun) timed(to *taskTimes, m *meter, what string, files int64) {
	to.add(m, files)
	if l := r.e.cfg.Events; l == nil || !l.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	s := &m.spent
	attrs := []slog.Attr{
		slog.Float64("wait_seconds", s.wait.Seconds()), slog.Float64("read_seconds", s.read.Seconds()),
		slog.Float64("compute_seconds", s.compute.Seconds()), slog.Float64("write_seconds", s.write.Seconds()),
		slog.Int64("rows", s.rows), slog.Int64("units", s.units), slog.Int64("file_bytes", files),
	}
	if s.device != "" {
		attrs = append(attrs, slog.String("uuid", s.device))
	}
	r.attemptEvent(slog.LevelDebug, what, nil, m.env, m.task.ID, m.number, attrs...)
}

// end closes the stage: it puts the tail of the log on disk, adds the stage to the statistics and returns
// all that went wrong.
func (r *stageRun) end() error {
	if r.work != nil {
		if err := errors.Join(r.work.sweep(r.name), r.work.seal()); err != nil {
			r.fail(err)
		}
	}
	var errs []error
	switch first := r.reason(); {
	case first != nil:
		errs = append(errs, first)
	case r.parent.Err() != nil:
		errs = append(errs, fmt.Errorf("executor: stage %q was stopped: %w", r.name, context.Cause(r.parent)))
	}
	r.cancel(nil)
	err := errors.Join(append(errs, r.teardowns...)...)
	if r.stopTicker != nil {
		r.stopTicker()
	}
	st := r.stats(err)
	r.e.addStats(r, st)
	if err != nil {
		r.event(slog.LevelError, "stage failed", err)
	} else {
		r.event(slog.LevelInfo, "stage finished", nil, slog.Int64("tasks", st.Tasks), slog.Int64("attempts", st.Attempts),
			slog.Float64("seconds", st.WallSeconds))
	}
	r.e.report(func(p Reporter) { p.StageFinished(st) })
	return err
}

func (r *stageRun) stats(err error) StageStats {
	st := StageStats{
		Name: r.name, Kind: r.kind, Actors: r.actors,
		Tasks: r.tasksDone.Load() - r.insertsDone.Load(), Reused: r.reused.Load(), Inserts: r.insertsDone.Load(),
		Attempts: r.attempts.Load(), Replaced: r.replaced.Load(), Units: r.units.Load(), Files: r.files.Load(), Bytes: r.bytes.Load(),
		WallSeconds:      time.Since(r.start).Seconds(),
		SetupSeconds:     time.Duration(r.setupNS.Load()).Seconds(),
		ComputeSeconds:   time.Duration(r.computeNS.Load()).Seconds(),
		ReadSeconds:      time.Duration(r.readNS.Load()).Seconds(),
		WriteSeconds:     time.Duration(r.writeNS.Load()).Seconds(),
		WaitSeconds:      time.Duration(r.waitNS.Load()).Seconds(),
		CommitSeconds:    time.Duration(r.commitNS.Load()).Seconds(),
		PeakMemory:       r.rss.end(),
		ProcessorSeconds: (processorTime() - r.used).Seconds(),
		Counters:         r.counters, Shuffle: r.shuffle, Notes: r.notes,
		TaskTimes: r.taskTimes.result(r.describe), InsertTimes: r.insertTimes.result(r.describe),
	}
	if err != nil {
		st.Error = err.Error()
	}
	return st
}
