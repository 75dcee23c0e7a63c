package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgress(t *testing.T) {
	// On a clock that stands still but for what sleeps: on a busy machine there would be fewer reports.
	synctest.Test(t, testProgress)
}

func testProgress(t *testing.T) {
	rep := new(lines)
	e := newExecutor(t, Config{Workers: 2, Progress: rep, ProgressInterval: time.Millisecond})
	st := &stage{name: "slow", process: func(_ context.Context, task Task, out *Attempt) ([]Task, error) {
		time.Sleep(time.Millisecond)
		out.Progress(10)
		return []Task{task}, nil
	}}
	tasks := makeTasks(30)
	if _, err := e.Execute(t.Context(), []Stage{st}, tasks); err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, task := range tasks {
		size += task.Size
	}
	if len(rep.started) != 1 || rep.started[0] != (StageInfo{Stage: "slow", Actors: 2, Tasks: 30, Size: size}) {
		t.Errorf("started: %+v", rep.started)
	}
	if len(rep.progress) < 5 {
		t.Errorf("%d reports in %v", len(rep.progress), rep.finished[0].WallSeconds)
	}
	for i, p := range rep.progress[1:] {
		if p.TasksDone < rep.progress[i].TasksDone || p.Units < rep.progress[i].Units {
			t.Errorf("progress goes back: %+v, %+v", rep.progress[i], p)
		}
	}
	if last := rep.progress[len(rep.progress)-1]; last != (Progress{Stage: "slow", Tasks: 30, Size: size, TasksDone: 30, SizeDone: size, Units: 300}) {
		t.Errorf("last: %+v", last)
	}
	if len(rep.finished) != 1 || rep.finished[0].Tasks != 30 {
		t.Errorf("finished: %+v", rep.finished)
	}
}

// Units of attempts that failed are taken back, and a failed stage is reported.
func TestProgressOfFailure(t *testing.T) {
	rep := new(lines)
	e := newExecutor(t, Config{Progress: rep})
	boom := errors.New("boom")
	st := &stage{process: func(_ context.Context, task Task, out *Attempt) ([]Task, error) {
		out.Progress(7)
		out.Count("seen", 7)
		return nil, boom
	}}
	_, err := e.Execute(t.Context(), []Stage{st}, nil)
	if !errors.Is(err, boom) || len(rep.finished) != 1 || rep.finished[0].Error != err.Error() || rep.finished[0].Units != 0 || len(rep.finished[0].Counters) != 0 {
		t.Errorf("%v, %+v", err, rep.finished)
	}
}

func TestNotesAreBounded(t *testing.T) {
	rep := new(lines)
	e := newExecutor(t, Config{Progress: rep})
	r := e.newRun(t.Context(), &stage{name: "s"}, "pool")
	for i := range 3 * maxNotes {
		r.note(fmt.Sprint(i))
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if len(rep.notes) != maxNotes || rep.notes[maxNotes-1] != "further notes are left out" {
		t.Errorf("%d notes, the last is %q", len(rep.notes), rep.notes[len(rep.notes)-1])
	}
}

func TestStatsTimes(t *testing.T) {
	e := newExecutor(t, Config{Workers: 2})
	st := &stage{
		setup: func(*Env) error { time.Sleep(5 * time.Millisecond); return nil },
		process: func(_ context.Context, task Task, out *Attempt) ([]Task, error) {
			out.Count("a", 1)
			out.Count("b", 2)
			out.Count("a", 1)
			time.Sleep(time.Millisecond)
			return nil, nil
		}}
	if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(20)); err != nil {
		t.Fatal(err)
	}
	s := e.Stats()
	st1 := s.Stages[0]
	if st1.SetupSeconds < 0.01 || st1.ComputeSeconds < 0.02 || st1.WallSeconds < 0.015 || st1.Counters["a"] != 40 || st1.Counters["b"] != 40 {
		t.Errorf("%+v", st1)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"tasks_reused":0`, `"tasks":20`, `"wall_seconds":`, `"counters":{"a":40,"b":40}`, `"name":"stage"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is missing in %s", want, data)
		}
	}
}

// A stage says how much memory the process had while it ran.
func TestPeakMemoryOfStage(t *testing.T) {
	if residentBytes() == 0 {
		t.Skip("NOT TESTED: this system does not tell")
	}
	const size = 64 << 20
	e := newExecutor(t, Config{})
	debug.FreeOSMemory() // or what the stage takes may be there already
	before := residentBytes()
	st := &stage{process: func(context.Context, Task, *Attempt) ([]Task, error) {
		b := make([]byte, size)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		time.Sleep(3 * rssInterval / 2)
		runtime.KeepAlive(b)
		return nil, nil
	}}
	if _, err := e.Execute(t.Context(), []Stage{st}, nil); err != nil {
		t.Fatal(err)
	}
	if got := e.Stats().Stages[0].PeakMemory; got < before/2+size || got > before+16*size {
		t.Errorf("%d bytes, with %d before and %d in the stage", got, before, int64(size))
	}
}
