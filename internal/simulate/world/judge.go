package world

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

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
		if r.err != nil && !r.killed && report.Quit == "" {
			report.Quit = fmt.Sprintf("rank %d: %v", number, r.err)
		}
		switch {
		case r.err == nil || r.killed:
		case w.Calm:
			report.Fault = fmt.Sprintf("life %d: a rank fails although nothing happens: %s", w.Life, report.Quit)
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

// causes are what an error may give as its reason: a rank or link that is gone, an operation of the disk, a task that failed by
// chance too often, and whoever was killed.
var causes = []string{
	"rank is lost", "links between ranks broke", "is not there any more", "the job is about to end", "misses rank", "does not reach rank 0", "closed",
	"I/O error", errFlaky.Error(), "actors died of it", errKilled.Error(),
}

// understood reports whether an error gives a reason that people can do something about.
func understood(err error) bool {
	return slices.ContainsFunc(causes, func(s string) bool { return strings.Contains(err.Error(), s) })
}
