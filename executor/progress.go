package executor

import "log/slog"

// Reporter is told how a run goes. Calls come from several goroutines, one at a time, and hold up the
// stage they are about, so they should return soon. Counts are polled: their cost does not grow with the
// number of tasks. A reporter may also be an [Observer] and an [EventLogger].
type Reporter interface {
	// StageStarted opens a stage.
	StageStarted(StageInfo)
	// StageProgress gives the state of a running stage every [Config.ProgressInterval] and once at its end.
	StageProgress(Progress)
	// StageFinished closes a stage, failed or not. Its error, if any, is in StageStats.Error.
	StageFinished(StageStats)
	// Note gives a line worth showing, such as why a task of an earlier run runs again.
	Note(stage, line string)
}

// Observer is implemented by reporters that want to look at the executor itself, such as for metrics.
type Observer interface {
	// Observe is called once by [New]. The executor stays open for [Executor.Snapshot] as long as the program likes.
	Observe(e *Executor)
}

// EventLogger is implemented by reporters that keep an event log. It is asked once, by [New], if [Config].Events is nil.
type EventLogger interface {
	// EventLog returns what [Config].Events may be, or nil.
	EventLog() *slog.Logger
}

// StageInfo describes a stage that starts.
type StageInfo struct {
	Stage  string
	Actors int
	// Tasks is the number of tasks, for a shuffle stage tasks to insert plus partitions to extract; -1 if it
	// is not known ([Executor.Stream]).
	Tasks int64
	// Size is the sum of [Task.Size].
	Size int64
	// Reused of the tasks were committed by an earlier run and are not run again.
	Reused int64
}

// Progress is a snapshot of a running stage.
type Progress struct {
	Stage string
	// Tasks, Size and Reused are as in [StageInfo]; with a stream they grow.
	Tasks, Size, Reused int64
	// TasksDone and SizeDone include reused tasks.
	TasksDone, SizeDone int64
	// Units is the sum of what tasks reported through [Meter.Progress].
	Units int64
	// Rows is the same of [Meter.ProgressRows].
	Rows int64
	// SpilledBytes were written to spill files by the shuffle of this stage so far.
	SpilledBytes int64
}
