package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
)

// slowReader takes a while for every read.
type slowReader time.Duration

func (d slowReader) ReadAt(b []byte, _ int64) (int, error) {
	time.Sleep(time.Duration(d))
	return len(b), nil
}

// What a task takes is counted as what it is: exactly so on a clock that stands still but for what sleeps.
func TestTaskTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		budget := mem.NewBudget(10)
		e := newExecutor(t, Config{
			Workers: 1, Budget: budget, Events: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		st := &stage{name: "s", process: func(ctx context.Context, task Task, out *Attempt) ([]Task, error) {
			n := 1 + slices.IndexFunc(makeTasks(100), func(o Task) bool { return o.ID == task.ID })
			held, err := budget.Reserve(ctx, "other", 10)
			if err != nil {
				return nil, err
			}
			time.AfterFunc(time.Duration(n)*time.Millisecond, held.Release)
			if _, err := out.Reserve(ctx, "mine", 5); err != nil {
				return nil, err
			}
			if _, err := ReaderAt(ctx, slowReader(time.Duration(n)*2*time.Millisecond)).ReadAt(make([]byte, 1), 0); err != nil {
				return nil, err
			}
			time.Sleep(time.Duration(n) * 4 * time.Millisecond)
			out.ProgressRows(int64(n))
			out.Progress(int64(10 * n))
			return nil, nil
		}}
		if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(100)); err != nil {
			t.Fatal(err)
		}
		s := e.Stats().Stages[0]
		tt := s.TaskTimes
		if s.InsertTimes != nil || tt == nil || tt.Tasks != 100 {
			t.Fatalf("%+v", tt)
		}
		near := func(what string, got Spread, unit float64) {
			t.Helper()
			for i, pair := range [][2]float64{{got.Min, unit}, {got.Median, 50 * unit}, {got.P90, 90 * unit}, {got.Max, 100 * unit}} {
				if math.Abs(pair[0]-pair[1]) > 0.011*pair[1] {
					t.Errorf("%s, value %d: got %v, want %v", what, i, pair[0], pair[1])
				}
			}
		}
		near("wait", tt.Wait, 0.001)
		near("read", tt.Read, 0.002)
		near("compute", tt.Compute, 0.004)
		near("total", tt.Total, 0.007)
		near("rows", tt.Rows, 1)
		near("units", tt.Units, 10)
		if tt.Write != (Spread{}) {
			t.Errorf("write: %+v", tt.Write)
		}
		const sum = 100 * 101 / 2
		if s.ReadSeconds != 0.002*sum || s.ComputeSeconds != 0.004*sum || s.WriteSeconds != 0 || s.WaitSeconds < 0.001*sum {
			t.Errorf("%+v", s)
		}
		for i, slow := range tt.Slowest {
			n := 100 - i
			seconds := func(ms int) float64 { return (time.Duration(ms) * time.Millisecond).Seconds() }
			want := TaskTime{
				Task: fmt.Sprintf("t%05d", 99-i), Wait: seconds(n), Read: seconds(2 * n), Compute: seconds(4 * n),
				Rows: int64(n), Units: int64(10 * n),
			}
			if slow != want {
				t.Errorf("slowest %d: %+v, want %+v", i, slow, want)
			}
		}
		data, err := json.Marshal(tt)
		if err != nil || len(tt.Slowest) != maxSlowest || len(data) > 4<<10 {
			t.Errorf("%d slowest, %d bytes, %v", len(tt.Slowest), len(data), err)
		}
		if n := strings.Count(log.String(), `"msg":"task committed"`); n != 100 {
			t.Errorf("%d tasks in the event log", n)
		}
		if want := `"wait_seconds":0.003,"read_seconds":0.006,"compute_seconds":0.012,"write_seconds":0,"rows":3,"units":30,"file_bytes":0,"task":"t00002"`; !strings.Contains(log.String(), want) {
			t.Errorf("%s is missing in\n%s", want, log.String())
		}
	})
}

// In a job the times are of the ranks that did the work, and the root has those of all.
func TestTaskTimesOfJob(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "work")
	tj := &testJob{size: 3}
	errs := tj.run(t, func(ctx context.Context, j *Job) error {
		return jobExecutor(ctx, j, dir, func(e *Executor) error {
			st := &stage{name: "pool", process: func(ctx context.Context, task Task, out *Attempt) ([]Task, error) {
				out.ProgressRows(1)
				time.Sleep(5 * time.Millisecond)
				_, err := ReaderAt(ctx, slowReader(2*time.Millisecond)).ReadAt(make([]byte, 1), 0)
				f, ferr := out.Create("f")
				if ferr == nil {
					_, ferr = f.Write(make([]byte, 1000))
					ferr = errors.Join(ferr, f.Close())
				}
				return []Task{task}, errors.Join(err, ferr)
			}}
			if _, err := e.Execute(ctx, []Stage{st}, makeTasks(60)); err != nil {
				return err
			}
			sh := &sums{name: "sums", total: 12, insert: func(context.Context, Task, *PartWriter) error {
				time.Sleep(2 * time.Millisecond)
				return nil
			}}
			if _, err := e.Shuffle(ctx, sh, shuffleTasks(30)); err != nil || !j.Root() {
				return err
			}
			for _, s := range e.Stats().Stages {
				if s.TaskTimes == nil || s.TaskTimes.Tasks != s.Tasks {
					return fmt.Errorf("%s: %+v", s.Name, s.TaskTimes)
				}
			}
			pool, shuffle := e.Stats().Stages[0], e.Stats().Stages[1]
			tt := pool.TaskTimes
			if tt.Compute.Min < 0.005 || tt.Read.Min < 0.002 || tt.Write.Min <= 0 || tt.Rows.Median != 1 || tt.Slowest[0].Files != 1000 {
				return fmt.Errorf("%+v", tt)
			}
			if pool.ComputeSeconds < 60*0.005 || pool.ReadSeconds < 60*0.002 {
				return fmt.Errorf("the stage computed %v s and read %v s", pool.ComputeSeconds, pool.ReadSeconds)
			}
			if it := shuffle.InsertTimes; it == nil || it.Tasks != 30 || it.Compute.Min < 0.002 {
				return fmt.Errorf("inserts: %+v", it)
			}
			return nil
		})
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestSpentOnTheWire(t *testing.T) {
	s := spent{wait: 1, read: 1 << 40, compute: 3, write: 4, units: 5, rows: 6, device: "GPU-1"}
	if got := spentFromWire(s.append(nil)); got != s {
		t.Errorf("%+v, want %+v", got, s)
	}
	for n := range s.append(nil) {
		if got := spentFromWire(s.append(nil)[:n]); got != (spent{}) {
			t.Errorf("of %d bytes: %+v", n, got)
		}
	}
}
