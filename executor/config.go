package executor

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Config says how to run, never what comes out: no field changes a result. The zero value is usable.
type Config struct {
	// Ranks is the number of ranks, all in this process; 0 means 1.
	Ranks int
	// Job makes the executor run stages together with those of other processes. Ranks is 1 then, and Workers counts the slots
	// of this process. nil means that this process is alone.
	Job *Job
	// Workers is the number of CPU slots of all ranks together; 0 means one per CPU. Every rank gets
	// its share, the first ones one more where it does not come out even, and at least one each.
	Workers int
	// ReservedCPUs of the slots are left to others: actors get what remains.
	ReservedCPUs float64
	// Devices are what actors of stages with [Resources].GPUs or GPUMemoryGB own, those of this process. Each stage deals them
	// out anew.
	Devices []Device
	// ReservedGPUs of the devices, the last ones, are left to others; a fraction is that part of one.
	ReservedGPUs float64
	// CheckDevice is asked when an actor fails that owns a device: an error says that the device is lost. Then the actor counts
	// as lost, whatever its own error was: its task goes to another actor, and the device gets no actor any more, in this
	// stage and in all that follow. A stage that no device is left for fails with [ErrDeviceLost]. It is called from
	// several goroutines and should return soon. nil means that devices are never lost.
	CheckDevice func(Device) error
	// IgnoreHeadNode keeps actors off the head node, as in NeMo Curator: rank 0 of a job runs none. It is for jobs whose other ranks
	// are on other machines. A process that is alone, or has all its actors beside it, has nothing left to run on: [New] fails with
	// [ErrNoResources] then, as Curator does on a cluster of one node. The environment variables DOVETAIL_IGNORE_HEAD_NODE and
	// CURATOR_IGNORE_RAY_HEAD_NODE mean the same if they are 1, true or yes in any case.
	IgnoreHeadNode bool
	// Work is the folder for committed results, from [OpenWork]. The caller closes it after the executor.
	// With nil nothing is kept: [Attempt.Create] fails, [Attempt.Place] works.
	Work *Work
	// Budget bounds the memory of actors and shuffles; nil means one without a limit.
	Budget *mem.Budget
	// Alloc makes buffers that the budget does not count by itself; pay for them with
	// [mem.Reservation.Alloc]. nil means [mem.Host].
	Alloc mem.Allocator
	// Progress is told how the run goes; nil means no one is.
	Progress Reporter
	// ProgressInterval is the time between reports of a running stage; 0 means 200 ms.
	ProgressInterval time.Duration
	// MaxAttempts is how often a task is tried if it fails with a [Transient] error; 0 means 3. Between attempts there
	// is a pause, 50 ms at first, that doubles up to 5 s.
	MaxAttempts int
	// TaskTimeout is how long an actor may hold a task without a sign that it goes on: something read through [ReaderAt] or [Chunks],
	// written to a [File], inserted, counted or reported by [Meter.Progress] or [Meter.Alive]. After it the actor is taken to be
	// stuck: as after [Deadliner].TaskDeadline, it is replaced, and the task is given to another, once. Waiting for memory or for room is no reason.
	// In a job a rank that does not come to a shuffle or collective stage for as long is lost, and so is one that does not stop when it is told
	// to because such a stage has stood still for twice as long. It must be the same on all ranks. 0 means for ever.
	TaskTimeout time.Duration
	// Events, if not nil, is told who ran what, where and when, and why again: stages and what went wrong at level Info and
	// above, every attempt at level Debug. It is called from many goroutines, some of which hold a lock.
	Events *slog.Logger
	// InFlight is the largest number of tasks [Executor.Stream] has taken from its source and not yet given
	// to its consumer; 0 means 4 per actor.
	InFlight int
	// SpillDir is the folder for spilled chunks and scratch files of actors. Empty means a folder in the work
	// folder, or without one a temporary folder that [Executor.Close] removes.
	SpillDir string
	// SpillMemoryLimit is the number of bytes of shuffled chunks each rank keeps in memory; 0 means that
	// only the budget decides.
	SpillMemoryLimit int64
}

// EnsureDefaults replaces zero values by what they mean, except for SpillDir, Work, Progress and InFlight.
func (c *Config) EnsureDefaults() {
	if c.Ranks == 0 {
		c.Ranks = 1
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Budget == nil {
		c.Budget = mem.NewBudget(0)
	}
	if c.Alloc == nil {
		c.Alloc = mem.Host()
	}
	if c.ProgressInterval == 0 {
		c.ProgressInterval = 200 * time.Millisecond
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 3
	}
}

// Validate reports all faults at once.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("executor: config: "+format, args...))
		}
	}
	check(c.Ranks >= 0 && c.Ranks <= maxRanks, "Ranks is %d, want 0 to %d", c.Ranks, maxRanks)
	check(c.Job == nil || c.Ranks <= 1, "Ranks is %d; with a job it must be 1: start more processes instead", c.Ranks)
	check(c.Workers >= 0 && c.Workers <= maxWorkers, "Workers is %d, want 0 to %d", c.Workers, maxWorkers)
	check(c.ReservedCPUs >= 0, "ReservedCPUs is %v, want 0 or more", c.ReservedCPUs)
	check(c.ReservedGPUs >= 0, "ReservedGPUs is %v, want 0 or more", c.ReservedGPUs)
	seen := make(map[string]bool)
	for i, d := range c.Devices {
		check(d.UUID != "", "device %d of Devices has no UUID", i)
		check(!seen[d.UUID], "device %d of Devices has the UUID %q, as another has", i, d.UUID)
		check(d.Memory >= 0, "device %d of Devices has %d bytes of memory, want 0 or more", i, d.Memory)
		seen[d.UUID] = true
	}
	check(c.ProgressInterval >= 0, "ProgressInterval is %v, want 0 or more", c.ProgressInterval)
	check(c.MaxAttempts >= 0, "MaxAttempts is %d, want 0 or more", c.MaxAttempts)
	check(c.TaskTimeout >= 0, "TaskTimeout is %v, want 0 or more", c.TaskTimeout)
	check(c.InFlight >= 0, "InFlight is %d, want 0 or more", c.InFlight)
	check(c.SpillMemoryLimit >= 0, "SpillMemoryLimit is %d, want 0 or more", c.SpillMemoryLimit)
	return errors.Join(errs...)
}

const (
	maxRanks   = 1 << 12
	maxWorkers = 1 << 16
)
