package executor

import (
	"slices"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Snapshot is the state of an executor at one moment, for metrics.
type Snapshot struct {
	// Stages are those that were started so far, in that order. Ended ones stay, so that what is counted never decreases.
	Stages []StageSnapshot
	// Memory is the state of [Config].Budget.
	Memory mem.BudgetStats
	// Devices is the number of [Config].Devices, and DevicesLost how many of them were lost.
	Devices, DevicesLost int
}

// StageSnapshot is the state of a stage. Counts only grow, but for Units, and fit together: TasksDone is at most Tasks, and what it counts is
// in all others. Times are sums over actors, in seconds, and grow when a call or a wait ends.
type StageSnapshot struct {
	Name    string
	Kind    string // "pool", "shuffle" or "collective"
	Running bool
	Failed  bool // it has ended, with an error
	Actors  int  // that are set up in this process

	// Tasks is the number of tasks known so far, with a shuffle stage tasks to insert plus partitions to extract. TasksDone of
	// them are done, of which Reused were committed by an earlier run.
	Tasks, TasksDone, Reused int64
	// Attempts are all tries in this run, Retries those that failed and were tried again, and Replaced the actors that were set up
	// in the place of others that died.
	Attempts, Retries, Replaced int64
	// Units and Rows are the sums of [Meter.Progress], without attempts that failed, and of [Meter.ProgressRows].
	Units, Rows int64
	// Files and Bytes are of the files committed in this run.
	Files, Bytes int64
	// SpilledBytes were written to spill files by the shuffle.
	SpilledBytes int64

	WallSeconds, SetupSeconds, ReadSeconds, ComputeSeconds, WriteSeconds, WaitSeconds, CommitSeconds float64
}

// shown is a stage in the snapshots: running as long as r is not nil, and final then.
type shown struct {
	r     *stageRun
	final StageSnapshot
}

// Snapshot returns the state of all stages and of memory. It may be called at any time from any goroutine, also after
// [Executor.Close].
func (e *Executor) Snapshot() Snapshot {
	s := Snapshot{Memory: e.cfg.Budget.Stats(), Devices: len(e.devices.list), DevicesLost: e.devices.lostDevices()}
	e.mu.Lock() // so that no stage ends meanwhile
	defer e.mu.Unlock()
	s.Stages = make([]StageSnapshot, len(e.shown))
	for i, st := range e.shown {
		s.Stages[i] = st.final
		if st.r != nil {
			s.Stages[i] = st.r.snapshot()
		}
	}
	return s
}

// show lists a stage that is about to run in the snapshots, unless it is listed.
func (e *Executor) show(r *stageRun) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.ContainsFunc(e.shown, func(s shown) bool { return s.r == r }) {
		e.shown = append(e.shown, shown{r: r})
	}
}

// settle makes the state of a stage that has ended final. The lock is held.
func (e *Executor) settle(r *stageRun, failed bool) {
	at := slices.IndexFunc(e.shown, func(s shown) bool { return s.r == r })
	if at < 0 {
		e.shown = append(e.shown, shown{})
		at = len(e.shown) - 1
	}
	f := r.snapshot()
	f.Running, f.Failed, f.Actors = false, failed, 0
	e.shown[at] = shown{final: f}
}

// snapshot reads the counts of a stage, those first that others must not fall short of.
func (r *stageRun) snapshot() StageSnapshot {
	seconds := func(ns int64) float64 { return time.Duration(ns).Seconds() }
	s := StageSnapshot{
		Name: r.name, Kind: r.kind, Running: true, Actors: int(r.living.Load()), Reused: r.reused.Load(), Retries: r.retries.Load(),
	}
	s.TasksDone = r.tasksDone.Load()
	s.Tasks = r.tasks.Load()
	s.Attempts, s.Replaced = r.attempts.Load(), r.replaced.Load()
	s.Units, s.Rows, s.Files, s.Bytes = r.units.Load(), r.rows.Load(), r.files.Load(), r.bytes.Load()
	if r.spilled != nil {
		s.SpilledBytes = r.spilled()
	}
	s.WallSeconds, s.SetupSeconds = time.Since(r.start).Seconds(), seconds(r.setupNS.Load())
	s.ComputeSeconds, s.WaitSeconds = seconds(r.computeNS.Load()), seconds(r.waitNS.Load())
	s.ReadSeconds, s.WriteSeconds = seconds(r.readNS.Load()), seconds(r.writeNS.Load())
	s.CommitSeconds = seconds(r.commitNS.Load())
	return s
}
