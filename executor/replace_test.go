package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An actor that dies is replaced, and only its task runs again.
func TestReplaced(t *testing.T) {
	for name, die := range map[string]func(){"panic": func() { panic("once") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			e := newExecutor(t, Config{Work: newWork(t, t.TempDir())})
			var dead atomic.Int32
			var mu sync.Mutex
			tries := make(map[string]int)
			st := &stage{process: func(_ context.Context, task Task, out *Attempt) ([]Task, error) {
				mu.Lock()
				tries[task.ID]++
				first := tries[task.ID] == 1
				mu.Unlock()
				f, err := out.Create("f")
				if err != nil {
					return nil, err
				}
				fmt.Fprint(f, task.ID)
				if first && strings.HasSuffix(task.ID, "7") {
					dead.Add(1)
					die()
				}
				out.Count("done", 1)
				return []Task{{Data: []byte(f.Name())}}, f.Close()
			}}
			out, err := e.Execute(t.Context(), []Stage{st}, makeTasks(100))
			if err != nil {
				t.Fatal(err)
			}
			st.check(t)
			s := e.Stats().Stages[0]
			if dead.Load() != 10 || s.Replaced != 10 || s.Attempts != 110 || s.Counters["done"] != 100 || len(s.Notes) != 10 {
				t.Errorf("%d died: %+v", dead.Load(), s)
			}
			if want := fmt.Sprintf("task %q of stage \"stage\" runs again, because its actor was lost: executor: panic in Process", "t00007"); !strings.Contains(strings.Join(s.Notes, "\n"), want) {
				t.Errorf("no note %q in %q", want, s.Notes)
			}
			for i, task := range out {
				f, err := e.cfg.Work.OpenCommitted(string(task.Data))
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				b.ReadFrom(f)
				f.Close()
				if want := fmt.Sprintf("t%05d", i); b.String() != want || task.ID != want {
					t.Errorf("result %d is %s with %q", i, task.ID, b.String())
				}
			}
		})
	}
}

// A batch whose actor dies is taken apart, so that the guilty task alone ends the stage.
func TestGuiltyOfBatch(t *testing.T) {
	e := newExecutor(t, Config{})
	st := &groupStage{stage: stage{}, size: 8, do: func(tasks []Task) error {
		for _, task := range tasks {
			if task.ID == "t00013" {
				panic("cannot stand it")
			}
		}
		return nil
	}}
	_, err := e.Execute(t.Context(), []Stage{st}, makeTasks(40))
	var te *TaskError
	if !errors.As(err, &te) || te.Task != "t00013" || te.Kills != 2 || te.About != "the file t00013.parquet" {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(err.Error(), `task "t00013" (the file t00013.parquet): panic in ProcessBatch: cannot stand it; 2 actors died of it`) {
		t.Errorf("got %v", err)
	}
}

type groupStage struct {
	stage
	size     int
	deadline time.Duration
	do       func([]Task) error
}

func (s *groupStage) BatchSize() int { return s.size }

func (s *groupStage) TaskDeadline() time.Duration { return s.deadline }

func (s *groupStage) DescribeTask(t Task) string { return "the file " + t.ID + ".parquet" }

func (s *groupStage) NewActor(context.Context, *Env) (Actor, error) { return groupActor{s}, nil }

type groupActor struct{ s *groupStage }

func (a groupActor) Close() error { return nil }

func (a groupActor) Process(context.Context, Task, *Attempt) ([]Task, error) { panic("not called") }

func (a groupActor) ProcessBatch(_ context.Context, tasks []Task, _ []*Attempt) ([][]Task, error) {
	return make([][]Task, len(tasks)), a.s.do(tasks)
}

// slow is a stage whose tasks have a deadline.
type slow struct {
	stage
	deadline time.Duration
}

func (s *slow) TaskDeadline() time.Duration { return s.deadline }

// An actor whose time is up is replaced, whether it listens to its context or not, and what it does then counts for
// nothing.
func TestTooSlow(t *testing.T) {
	for _, listens := range []bool{true, false} {
		// On a clock that stands still but for what waits: on a busy machine any task may be too slow.
		t.Run(fmt.Sprint("listens=", listens), inBubble(func(t *testing.T) {
			e := newExecutor(t, Config{})
			var tries atomic.Int32
			free := make(chan struct{})
			st := &slow{deadline: 20 * time.Millisecond}
			st.process = func(ctx context.Context, task Task, out *Attempt) ([]Task, error) {
				out.Count("tries", 1)
				if task.ID == "t00002" && tries.Add(1) == 1 {
					if listens {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					<-free
				} else if task.ID == "t00002" {
					close(free)
				}
				return []Task{{Data: []byte(fmt.Sprint(out.Number()))}}, nil
			}
			if listens {
				go func() { <-free }()
			}
			out, err := e.Execute(t.Context(), []Stage{st}, makeTasks(10))
			if err != nil {
				t.Fatal(err)
			}
			s := e.Stats().Stages[0]
			if len(out) != 10 || string(out[2].Data) != "1" || s.Replaced != 1 || s.Counters["tries"] != 10 || s.Attempts != 11 {
				t.Errorf("%+v", s)
			}
			st.check(t)
		}))
	}
	t.Run("always", func(t *testing.T) {
		e := newExecutor(t, Config{})
		st := &slow{deadline: 10 * time.Millisecond}
		st.process = func(ctx context.Context, task Task, _ *Attempt) ([]Task, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		_, err := e.Execute(t.Context(), []Stage{st}, makeTasks(1))
		if !errors.Is(err, errTooLong) || !strings.Contains(err.Error(), "2 actors died of it") {
			t.Errorf("got %v", err)
		}
	})
}

// Actors of a shuffle that die while they insert or extract change nothing.
func TestShuffleReplaced(t *testing.T) {
	for name, die := range map[string]func(){"panic": func() { panic("once") }, "goexit": runtime.Goexit} {
		for _, ranks := range []int{1, 3} {
			t.Run(fmt.Sprint(name, " ranks=", ranks), func(t *testing.T) {
				e := newExecutor(t, Config{Ranks: ranks, Workers: 4})
				var once sync.Map
				first := func(key any) bool { _, seen := once.LoadOrStore(key, true); return !seen }
				st := &sums{name: "sums", total: 7,
					insert: func(_ context.Context, task Task, _ *PartWriter) error {
						if task.ID[5] == '3' && first(task.ID) {
							die()
						}
						return nil
					},
					extract: func(_ context.Context, part int, _ *Attempt) error {
						if part%2 == 1 && first(part) {
							die()
						}
						return nil
					},
				}
				// An actor that dies does not say that it is not busy any more.
				out, err := e.Shuffle(t.Context(), st, shuffleTasks(25))
				if err != nil {
					t.Fatal(err)
				}
				checkSums(t, out, 25, 7)
				s := e.Stats().Stages[0]
				if s.Replaced != 6 || s.Inserts != 25 || s.Counters["rows"] != 25*rowsPerTask || s.Counters["extracted"] != 25*rowsPerTask {
					t.Errorf("%+v", s)
				}
				if n, m := st.setups.Load(), st.closes.Load(); n != m {
					t.Errorf("%d actors were set up and %d closed", n, m)
				}
			})
		}
	}
}

// The event log says what ran where, and why again.
func TestEvents(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e := newExecutor(t, Config{Events: log})
	st := &stage{process: func(_ context.Context, task Task, out *Attempt) ([]Task, error) {
		if task.ID == "t00001" && out.Number() == 0 {
			return nil, Transient(errors.New("connection lost"))
		}
		return nil, nil
	}}
	if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(3)); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for line := range strings.Lines(b.String()) {
		var ev struct{ Msg, Level, Stage, Task, Error string }
		if err := json.Unmarshal([]byte(line), &ev); err != nil || ev.Stage != "stage" {
			t.Fatalf("%s: %v", line, err)
		}
		got[strings.TrimSpace(ev.Level+" "+ev.Msg+" "+ev.Error)]++
	}
	want := map[string]int{
		"INFO stage started": 1, "INFO stage finished": 1, "DEBUG attempt started": 4, "DEBUG attempt finished": 3, "DEBUG task committed": 3,
		"WARN attempt failed connection lost": 1,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
