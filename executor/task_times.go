package executor

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// TaskTimes says how long the tasks of a stage took that were done in this run, on whichever rank. It does not grow with their
// number: it has their spread and the slowest by name. All of them are in the event log ([Config].Events).
//
// Of tasks that were done in one batch, or in one call of a collective stage, each is counted with an even share of the time that
// the call computed.
type TaskTimes struct {
	Tasks int64 `json:"tasks"`
	// Total is what tasks took as a whole: the sum of the four below.
	Total Spread `json:"total_seconds"`
	// Wait is for memory and for room in the shuffle, Read the reading of files and of partitions, Write the writing and syncing of
	// the task's own files, Compute all else. In seconds.
	Wait    Spread `json:"wait_seconds"`
	Read    Spread `json:"read_seconds"`
	Compute Spread `json:"compute_seconds"`
	Write   Spread `json:"write_seconds"`
	// Rows are those of [Meter.ProgressRows], Units those of [Meter.Progress].
	Rows  Spread `json:"rows"`
	Units Spread `json:"units"`
	// Slowest are the tasks that took the longest as a whole, at most 5, the slowest first.
	Slowest []TaskTime `json:"slowest"`
}

// Spread says how values lie: the smallest, the one that half of them do not exceed, the one that nine in ten do not exceed, and
// the largest. The two in the middle are right to 1 percent.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	Max    float64 `json:"max"`
}

// TaskTime is what one task took, in seconds, in the attempt that counted.
type TaskTime struct {
	Task string `json:"task"`
	// About says what the task is about, such as the names of its files, if the stage is a [TaskDescriber].
	About string `json:"about,omitempty"`
	Rank  int    `json:"rank"`
	Actor int    `json:"actor"`
	// Device is the UUID of the device of its actor, if it owned one.
	Device  string  `json:"device,omitempty"`
	Wait    float64 `json:"wait_seconds"`
	Read    float64 `json:"read_seconds"`
	Compute float64 `json:"compute_seconds"`
	Write   float64 `json:"write_seconds"`
	Rows    int64   `json:"rows,omitempty"`
	Units   int64   `json:"units,omitempty"`
	// Files is the size of the files that it wrote, in bytes.
	Files int64 `json:"file_bytes,omitempty"`
}

// maxSlowest is how many tasks are named.
const maxSlowest = 5

// taskTimes collects [TaskTimes]. It is safe for concurrent use.
type taskTimes struct {
	mu      sync.Mutex
	n       int64
	total   distribution
	wait    distribution
	read    distribution
	compute distribution
	write   distribution
	rows    distribution
	units   distribution
	slowest []slowTask // the slowest first
}

type slowTask struct {
	task  Task
	times TaskTime
	total time.Duration
}

// add counts a task. file is the size of its files.
func (t *taskTimes) add(m *meter, files int64) {
	s := &m.spent
	total := s.sum()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n++; t.n == 1 {
		for _, d := range []*distribution{&t.total, &t.wait, &t.read, &t.compute, &t.write} {
			d.unit = int64(time.Microsecond)
		}
	}
	t.total.add(int64(total))
	t.wait.add(int64(s.wait))
	t.read.add(int64(s.read))
	t.compute.add(int64(s.compute))
	t.write.add(int64(s.write))
	t.rows.add(s.rows)
	t.units.add(s.units)
	if len(t.slowest) == maxSlowest && total <= t.slowest[maxSlowest-1].total {
		return
	}
	slow := slowTask{task: m.task, total: total, times: TaskTime{
		Task: m.task.ID, Rank: m.env.Rank, Actor: m.env.Actor, Device: s.device,
		Wait: s.wait.Seconds(), Read: s.read.Seconds(), Compute: s.compute.Seconds(), Write: s.write.Seconds(),
		Rows: s.rows, Units: s.units, Files: files,
	}}
	at, _ := slices.BinarySearchFunc(t.slowest, slow, func(a, b slowTask) int { return cmp.Compare(b.total, a.total) })
	t.slowest = slices.Insert(t.slowest, at, slow)
	t.slowest = t.slowest[:min(len(t.slowest), maxSlowest)]
}

// result returns what was collected, or nil if nothing was. describe, if not nil, says what a task is about.
func (t *taskTimes) result(describe func(Task) string) *TaskTimes {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == 0 {
		return nil
	}
	const second = float64(time.Second)
	out := &TaskTimes{
		Tasks: t.n, Total: t.total.spread(second), Wait: t.wait.spread(second), Read: t.read.spread(second),
		Compute: t.compute.spread(second), Write: t.write.spread(second), Rows: t.rows.spread(1), Units: t.units.spread(1),
	}
	for _, s := range t.slowest {
		if describe != nil {
			s.times.About = describe(s.task)
		}
		out.Slowest = append(out.Slowest, s.times)
	}
	return out
}

// distribution is how values of 0 and more lie, in a memory that does not depend on their number.
type distribution struct {
	unit     int64 // values closer to each other need not be told apart
	h        *hdrhistogram.Histogram
	min, max int64
}

const (
	// largest is where values end: a month, for times, and 2 petabytes.
	largest = 1 << 51
	digits  = 2
)

func (d *distribution) add(v int64) {
	v = min(max(v, 0), largest)
	if d.h == nil {
		d.h, d.min = hdrhistogram.New(max(d.unit, 1), largest, digits), v
	}
	d.min, d.max = min(d.min, v), max(d.max, v)
	_ = d.h.RecordValue(v) // it fails beyond the largest value only
}

// spread says how the values lie, each divided by unit.
func (d *distribution) spread(unit float64) Spread {
	at := func(percent float64) float64 {
		return float64(min(max(d.h.ValueAtQuantile(percent), d.min), d.max)) / unit
	}
	return Spread{Min: float64(d.min) / unit, Median: at(50), P90: at(90), Max: float64(d.max) / unit}
}
