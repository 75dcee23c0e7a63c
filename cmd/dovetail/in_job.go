package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/executor"
)

// Which ranks a command is run by, for the commands whose options are not a Spec.

// join says which rank of which job this process is; nil means that it is alone. workers is 0 if the default is meant.
func (f *jobFlags) join(cmd *cobra.Command, workers int, args []string) (*executor.JobConfig, error) {
	jc, err := f.config(cmd, cmp.Or(workers, runtime.GOMAXPROCS(0)))
	if err != nil {
		return nil, err
	}
	fabric, err := f.fabric(cmd.Flags(), jc != nil, nil)
	if err != nil || jc == nil {
		return nil, err
	}
	jc.Fabric = fabric
	jc.Name = f.name(cmd.Name())
	jc.Spec, err = jobSpec(cmd, args)
	return jc, err
}

// runIn calls work as a rank of a job, if there is one, and ends this rank's part in it.
func (f *jobFlags) runIn(cmd *cobra.Command, jc *executor.JobConfig, note func(line string), work func(j *executor.Job) error) error {
	if jc == nil {
		return work(nil)
	}
	f.speak(jc, note)
	ctx := cmd.Context()
	j, err := executor.Join(ctx, *jc)
	if err != nil {
		return notJoined(jc, err)
	}
	err = work(j)
	why := err
	if err != nil && ctx.Err() != nil {
		why = context.Cause(ctx) // and not what was being read at that moment
	}
	j.Close(why)
	return err
}

// speak has rank 0 say what there is to say.
func (f *jobFlags) speak(jc *executor.JobConfig, note func(line string)) {
	if jc.Rank != 0 {
		return
	}
	jc.Note = note
	if f.warning != "" {
		note(f.warning)
	}
}

// notShared are flags that ranks of one job may have different values of: they say how to run, or name what is compared by its contents.
var notShared = []string{
	"launcher", "rank", "size", "root", "root-port", "secret-file", "data-host", "data-ports", "listen-public", "rank-timeout", "join-timeout", "on-rank-loss", "workers", "memory-limit", "progress",
	"bind", "metrics-addr", "event-log", "task-timeout", "input", "against", "ids-to-remove", "keep-work", "restart", "help",
}

// jobSpec is what must be the same on all ranks: the version, the options and the folders that are written.
func jobSpec(cmd *cobra.Command, args []string) (string, error) {
	parts := []string{version()}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if slices.Contains(notShared, f.Name) {
			return
		}
		value := f.Value.String()
		if value != "" && slices.Contains([]string{"output", "cache", "work", "id-generator"}, f.Name) {
			abs, err := filepath.Abs(value)
			if err != nil {
				failed = err
			}
			value = abs
		}
		parts = append(parts, fmt.Sprintf("%s=%s", f.Name, value))
	})
	for _, a := range args {
		abs, err := filepath.Abs(a)
		if err != nil {
			failed = err
		}
		parts = append(parts, abs)
	}
	return strings.Join(parts, " "), failed
}
