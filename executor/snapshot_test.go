package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// watcher is a reporter that also looks at the executor.
type watcher struct {
	lines
	seen *Executor
	log  *slog.Logger
}

func (w *watcher) Observe(e *Executor)    { w.seen = e }
func (w *watcher) EventLog() *slog.Logger { return w.log }

func TestObserver(t *testing.T) {
	var b, other bytes.Buffer
	w := &watcher{log: slog.New(slog.NewJSONHandler(&b, nil))}
	e := newExecutor(t, Config{Progress: w})
	if w.seen != e {
		t.Error("it was not told of the executor")
	}
	if _, err := e.Execute(t.Context(), []Stage{&stage{}}, makeTasks(1)); err != nil || !strings.Contains(b.String(), "stage finished") {
		t.Errorf("%v, %q", err, &b)
	}
	b.Reset()
	e = newExecutor(t, Config{Progress: w, Events: slog.New(slog.NewJSONHandler(&other, nil))})
	if _, err := e.Execute(t.Context(), []Stage{&stage{}}, makeTasks(1)); err != nil || b.Len() > 0 || other.Len() == 0 {
		t.Errorf("%v, %q, %q", err, &b, &other)
	}
}

// While stages run, snapshots never contradict themselves nor go back; when they have ended, they say what the statistics say.
func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	run := func(t *testing.T, fail bool) (*Executor, []Snapshot) {
		work, err := OpenWork(dir, []byte("meta"))
		if err != nil {
			t.Fatal(err)
		}
		defer work.Close()
		e := newExecutor(t, Config{Work: work, Ranks: 2, Workers: 4, Devices: someDevices(2)})
		stop := make(chan struct{})
		var watch sync.WaitGroup
		var all []Snapshot
		watch.Go(func() {
			for {
				all = append(all, e.Snapshot())
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		first := &stage{name: "first", process: func(_ context.Context, task Task, out *Attempt) ([]Task, error) {
			out.Progress(10)
			out.ProgressRows(2)
			if task.ID == "t00007" && out.Number() == 0 {
				return nil, Transient(errors.New("again"))
			}
			if task.ID == "t00009" && out.Number() == 0 {
				panic("once")
			}
			if fail && task.ID == "t00011" {
				return nil, errors.New("a bad task")
			}
			f, err := out.Create("f")
			if err != nil {
				return nil, err
			}
			fmt.Fprint(f, "12345")
			return nil, f.Close()
		}}
		_, err = e.Execute(t.Context(), []Stage{first}, makeTasks(50))
		if fail != (err != nil) {
			t.Error(err)
		}
		st := &sums{name: "sums", total: 7}
		if _, err := e.Shuffle(t.Context(), st, shuffleTasks(9)); err != nil {
			t.Error(err)
		}
		close(stop)
		watch.Wait()
		return e, append(all, e.Snapshot())
	}
	_, failing := run(t, true)
	if s := failing[len(failing)-1].Stages[0]; !s.Failed || s.Running || s.Actors != 0 {
		t.Errorf("%+v", s)
	}
	e, all := run(t, false)
	for i, snap := range all {
		for k, s := range snap.Stages {
			if s.TasksDone > s.Tasks || s.Reused > s.TasksDone || s.Attempts < s.TasksDone-s.Reused || s.Actors > 0 && !s.Running {
				t.Fatalf("%+v", s)
			}
			if i == 0 || k >= len(all[i-1].Stages) {
				continue
			}
			p := all[i-1].Stages[k]
			if s.Name != p.Name || s.Tasks < p.Tasks || s.TasksDone < p.TasksDone || s.Attempts < p.Attempts || s.Bytes < p.Bytes ||
				s.Rows < p.Rows || s.ComputeSeconds < p.ComputeSeconds || s.WallSeconds < p.WallSeconds || s.Running && !p.Running {
				t.Fatalf("%+v, then %+v", p, s)
			}
		}
	}
	last, stats := all[len(all)-1], e.Stats().Stages
	if len(last.Stages) != 2 || last.Devices != 2 || last.DevicesLost != 0 || last.Memory.Limit == 0 {
		t.Fatalf("%+v", last)
	}
	for i, s := range last.Stages {
		st := stats[i]
		if s.Name != st.Name || s.Kind != st.Kind || s.Running || s.Failed || s.TasksDone != st.Tasks+st.Inserts || s.Tasks < s.TasksDone ||
			s.Reused != st.Reused || s.Attempts != st.Attempts || s.Replaced != st.Replaced || s.Units != st.Units || s.Files != st.Files || s.Bytes != st.Bytes {
			t.Errorf("%+v, but %+v", s, st)
		}
	}
	if s := last.Stages[0]; s.Tasks != 50 || s.Reused == 50 || s.Attempts != 50-s.Reused+s.Retries || s.Rows != 2*s.Attempts || s.Bytes != 5*(50-s.Reused) {
		t.Errorf("%+v", s)
	}
	if s := last.Stages[1]; s.Tasks != 7 || s.Reused != 7 {
		t.Errorf("%+v", s)
	}
}
