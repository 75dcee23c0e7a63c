package main

import (
	"fmt"
	"math"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/dedup"
)

// machineFlags are the flags that say what a command may take of the machine and how it says what it does. No command's
// result depends on them.
type machineFlags struct {
	memoryLimit string
	progress    string
	taskTimeout time.Duration
	watch       watchFlags
}

// add declares them; a command without ranks passes nil.
func (f *machineFlags) add(fl *pflag.FlagSet, workers, ranks *int) {
	fl.StringVar(&f.memoryLimit, "memory-limit", "", "bound on resident memory, such as 8GiB (default: none)")
	fl.IntVar(workers, "workers", 0, "tasks worked on at a time (default: one per CPU)")
	if ranks != nil {
		fl.IntVar(ranks, "ranks", 1, "ranks, all in this process")
	}
	fl.DurationVar(&f.taskTimeout, "task-timeout", dedup.DefaultTaskTimeout, "how long a task may neither read, write nor report anything before its worker is taken to be stuck and the task given to another; 0 for ever")
	fl.StringVar(&f.progress, "progress", "auto", "auto, plain, json or none")
	f.watch.add(fl)
}

// limit is the memory limit in bytes, 0 for none.
func (f *machineFlags) limit() (int64, error) { return parseSizeFlag("memory-limit", f.memoryLimit) }

// stuckAfter is --task-timeout as package dedup and its likes take it.
func (f *machineFlags) stuckAfter() (time.Duration, error) {
	switch {
	case f.taskTimeout < 0:
		return 0, fmt.Errorf("--task-timeout %v: give a duration such as 10m, or 0 for ever", f.taskTimeout)
	case f.taskTimeout == 0:
		return -1, nil
	}
	return f.taskTimeout, nil
}

// parseSizeFlag reads a size in bytes; an empty one is 0.
func parseSizeFlag(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, fmt.Errorf("--%s %q: give a size such as 512MiB or 8GiB", flag, text)
	}
	return int64(n), nil
}

// addWork declares the flags of commands with a work folder; of is the folder that it is named after.
func addWork(fl *pflag.FlagSet, of string, work *string, keep, restart *bool) {
	fl.StringVar(work, "work", "", "folder for intermediate files (default: "+of+" with .work behind it)")
	fl.BoolVar(keep, "keep-work", false, "leave the work folder when the run is complete")
	fl.BoolVar(restart, "restart", false, "throw away what an unfinished run left in the work folder")
}
