package world

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/simulate/scene"
)

// judge says how a life ended, after all its ranks have.
func (w *World) judge() scene.Report {
	report := scene.Report{Ranks: w.size, Events: w.events}
	root := w.ranks[0]
	if root.err != nil {
		report.Error = root.err.Error()
	}
	for number := range w.size {
		r := w.ranks[number]
		switch {
		case r.err == nil || r.killed:
		case w.Calm:
			report.Fault = fmt.Sprintf("life %d: rank %d fails although nothing happens: %v", w.Life, number, r.err)
		case !understood(r.err):
			report.Fault = fmt.Sprintf("life %d: rank %d fails with an error that says nothing of what happened: %v", w.Life, number, r.err)
		}
	}
	switch {
	case report.Fault != "":
	case root.err == nil && !root.killed:
		report.Done = true
		if f, err := os.Open(scene.Quiet); err == nil {
			_ = f.Close()
		}
		if err := w.load.Check(); err != nil {
			report.Fault = fmt.Sprintf("life %d: wrong: %v", w.Life, err)
		}
	}
	if report.Fault == "" {
		report.Fault = w.leak()
	}
	return report
}

// leak waits for the last goroutines and timers of the job to go, and says what stays.
func (w *World) leak() string {
	for range 100 {
		if runtime.NumGoroutine() <= w.base {
			return ""
		}
		time.Sleep(time.Second)
	}
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	return fmt.Sprintf("life %d: %d goroutines are left:\n%s", w.Life, runtime.NumGoroutine()-w.base, b)
}

// understood reports whether an error says what happened in terms of ranks, links, tasks or files.
func understood(err error) bool {
	var remote *executor.RemoteError
	var path *fs.PathError
	var task *executor.TaskError
	words := []string{"input/output error", "I/O error", "misses rank", "does not reach rank 0", "rank is lost", "closed", "killed", errFlaky.Error()}
	return errors.Is(err, executor.ErrRankLost) || errors.Is(err, executor.ErrClosed) || errors.As(err, &remote) || errors.As(err, &path) ||
		errors.As(err, &task) || slices.ContainsFunc(words, func(s string) bool { return strings.Contains(err.Error(), s) })
}
