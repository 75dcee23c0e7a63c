package curator

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// Exec says how to run. Nothing in it changes a result. The zero value is usable.
type Exec struct {
	// Ranks is the number of ranks, all in this process; 0 means 1.
	Ranks int
	// Workers is the number of tasks worked on at a time, over all ranks; 0 means one per CPU.
	Workers int
	// MemoryLimit bounds the resident memory of the process, in bytes; 0 means no bound.
	MemoryLimit int64
	// Work is the folder for intermediate files; empty means the output folder with ".work" behind it. What is in it
	// is removed at the end unless KeepWork is set.
	Work     string
	KeepWork bool
	// Restart throws away what a run with other options or another input left in Work.
	Restart bool
	// Overwrite replaces output folders that hold something else, as Curator does.
	Overwrite bool
	// SplitBytes is the size of the pieces in which the input is read; 0 chooses by the size of the input, and by nothing
	// else, so that a run can go on with other workers.
	SplitBytes int64
	// TaskTimeout is how long a task may show no sign of progress before its worker is taken to be stuck: 0 means an hour, less
	// than 0 for ever.
	TaskTimeout time.Duration
	// Job makes this process a rank of a job, all of which make the same calls with the same options and see the same files under the
	// same paths; Ranks is 1 then. Rank 0's Workers, MemoryLimit and SplitBytes count for all. Results are returned to all.
	Job *executor.Job
	// Devices, CheckDevice, DeviceMemory and Backend are as those of [dedup.Exec]: what signs documents.
	Devices      []executor.Device
	CheckDevice  func(executor.Device) error
	DeviceMemory int64
	Backend      func(p lsh.Params, env *executor.Env) (lsh.Backend, error)
	// Progress is told how the run goes; nil means nobody is.
	Progress executor.Reporter
	// Note, if not nil, is given lines worth showing to whoever started the run.
	Note func(line string)
	// Version is recorded in manifests.
	Version string

	onDisk bool // for tests: find components as if memory were short
}

func (e *Exec) ensureDefaults() {
	if e.Ranks == 0 {
		e.Ranks = 1
	}
	if e.Workers == 0 {
		e.Workers = runtime.GOMAXPROCS(0)
	}
	e.Workers = max(e.Workers, len(e.Devices))
	if e.Backend == nil {
		e.Backend = func(p lsh.Params, env *executor.Env) (lsh.Backend, error) { return lsh.NewCPUBackend(p, env.Alloc) }
	}
}

// splitTarget is the size of pieces of an input of size bytes.
func (e *Exec) splitTarget(size int64) int64 {
	if e.SplitBytes > 0 {
		return e.SplitBytes
	}
	return min(64<<20, max(1<<20, size/64))
}

func (e *Exec) actors() int { return max(e.Ranks, e.Workers) }

func (e *Exec) note(line string) {
	if e.Note != nil {
		e.Note(line)
	}
}

func (e *Exec) validate(f *faults) {
	f.check(e.Ranks >= 1 && e.Ranks <= 256, "--ranks %d: must be from 1 to 256", e.Ranks)
	f.check(e.Workers >= 1 && e.Workers <= 4096, "--workers %d: must be from 1 to 4096", e.Workers)
	f.check(e.Job == nil || e.Ranks == 1, "--ranks %d: a process that is one rank of several has no more of them", e.Ranks)
	least := flow.MinMemoryLimit(e.actors())
	f.check(e.MemoryLimit == 0 || e.MemoryLimit >= least, "--memory-limit %dMiB: the smallest that works is %dMiB with %d workers and %d ranks",
		e.MemoryLimit>>20, least>>20, e.Workers, e.Ranks)
	f.check(e.SplitBytes >= 0, "split size %d: must not be negative", e.SplitBytes)
}

// ErrOptions is wrapped by errors about options, which concern the caller and not the data.
var ErrOptions = errors.New("options cannot be used")

// faults gathers everything that is wrong with options.
type faults struct{ errs []error }

func (f *faults) check(ok bool, format string, args ...any) {
	if !ok {
		f.errs = append(f.errs, optionError{fmt.Errorf(format, args...)})
	}
}

func (f *faults) err() error { return errors.Join(f.errs...) }

// optionError wraps ErrOptions without saying so.
type optionError struct{ error }

func (o optionError) Is(target error) bool { return target == ErrOptions }

// ParseSize reads a size as dask does: "1GiB", "512MB", "1.5GiB", "1000". It is never negative.
func ParseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > math.MaxInt64 {
		return 0, fmt.Errorf("%q is no size; give one such as 512MiB or 1GiB", s)
	}
	return int64(n), nil
}
