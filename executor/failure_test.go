package executor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// When a set-up fails the actors that were set up are closed, and nothing is processed.
func TestSetupFails(t *testing.T) {
	for name, fail := range map[string]func(){
		"error":  nil,
		"panic":  func() { panic("set-up") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			e := newExecutor(t, Config{Workers: 8})
			boom := errors.New("no licence")
			st := &stage{
				setup: func(env *Env) error {
					if env.Actor == 2 {
						if fail != nil {
							fail()
						}
						return boom
					}
					return nil
				},
				process: func(context.Context, Task, *Attempt) ([]Task, error) { panic("processed") },
				close:   func(env *Env) error { return fmt.Errorf("close %d", env.Actor) },
			}
			_, err := e.Execute(t.Context(), []Stage{st}, makeTasks(20))
			switch {
			case err == nil:
				t.Fatal("no error")
			case fail == nil && (!errors.Is(err, boom) || !strings.Contains(err.Error(), `setting up actor 3 of 8 of stage "stage"`)):
				t.Errorf("got %v", err)
			case fail != nil && (!errors.Is(err, ErrPanic) || !strings.Contains(err.Error(), `panic in NewActor of stage "stage"`)):
				t.Errorf("got %v", err)
			}
			if st.setups.Load() != 7 {
				t.Errorf("%d actors set up", st.setups.Load())
			}
			st.check(t)
			for _, i := range []int{0, 1, 3, 4, 5, 6, 7} {
				if !strings.Contains(err.Error(), fmt.Sprintf("close %d", i)) {
					t.Errorf("the failure to close actor %d is missing in %v", i, err)
				}
			}
		})
	}
}

func TestTeardownFails(t *testing.T) {
	e := newExecutor(t, Config{Workers: 4})
	st := &stage{close: func(env *Env) error {
		if env.Actor == 1 {
			panic("closing")
		}
		return fmt.Errorf("close %d", env.Actor)
	}}
	out, err := e.Execute(t.Context(), []Stage{st}, makeTasks(20))
	if out != nil || !errors.Is(err, ErrPanic) {
		t.Errorf("got %d results and %v", len(out), err)
	}
	for _, want := range []string{"close 0", "close 2", "close 3", `panic in Close of stage "stage": closing`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	st.check(t)
}

func TestNoActor(t *testing.T) {
	e := newExecutor(t, Config{})
	_, err := e.Execute(t.Context(), []Stage{noActor{}}, nil)
	if err == nil || !strings.Contains(err.Error(), "NewActor returned no actor") {
		t.Errorf("got %v", err)
	}
}

type noActor struct{}

func (noActor) Name() string { return "none" }

func (noActor) Resources() Resources { return Resources{} }

func (noActor) NewActor(context.Context, *Env) (Actor, error) { return nil, nil }

func TestTaskFails(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		fail  func() error
		check func(*testing.T, error)
	}{
		"error": {func() error { return boom }, func(t *testing.T, err error) {
			var te *TaskError
			if !errors.Is(err, boom) || !errors.As(err, &te) || te.Task != "t00033" || te.Stage != "stage" {
				t.Errorf("got %#v", err)
			}
			if err.Error() != `executor: stage "stage", task "t00033": boom` {
				t.Errorf("got %v", err)
			}
		}},
		"panic": {func() error { panic("oh no") }, func(t *testing.T, err error) {
			var pe *PanicError
			if !errors.As(err, &pe) || err.Error() != `executor: stage "stage", task "t00033": panic in Process: oh no; 2 actors died of it, one after the other` {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(pe.Detail(), "failure_test.go") {
				t.Errorf("no stack in %s", pe.Detail())
			}
		}},
		"panic with an error": {func() error { panic(boom) }, func(t *testing.T, err error) {
			if !errors.Is(err, boom) || !errors.Is(err, ErrPanic) {
				t.Errorf("got %v", err)
			}
		}},
		"nil pointer": {func() error { var t *Task; t.Size++; return nil }, func(t *testing.T, err error) {
			if !errors.Is(err, ErrPanic) || !strings.Contains(err.Error(), "nil pointer") {
				t.Errorf("got %v", err)
			}
		}},
		"goexit": {func() error { runtime.Goexit(); return nil }, func(t *testing.T, err error) {
			if !errors.Is(err, ErrPanic) || !strings.Contains(err.Error(), "runtime.Goexit") {
				t.Errorf("got %v", err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newExecutor(t, Config{Ranks: 2})
			var failing atomic.Bool
			var after atomic.Int32
			st := &stage{process: func(ctx context.Context, task Task, _ *Attempt) ([]Task, error) {
				if task.ID == "t00033" {
					failing.Store(true)
					return nil, tc.fail()
				}
				if failing.Load() {
					<-ctx.Done() // or the test hangs
					after.Add(1)
				}
				return nil, nil
			}}
			out, err := e.Execute(t.Context(), []Stage{st}, makeTasks(10000))
			if out != nil || err == nil {
				t.Fatalf("got %v, %v", out, err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
			tc.check(t, err)
			st.check(t)
			if after.Load() > 3 {
				t.Errorf("%d tasks were started after the failure", after.Load())
			}
			if s := e.Stats(); len(s.Stages) != 1 || s.Stages[0].Error == "" {
				t.Errorf("the statistics do not say it: %+v", s)
			}
		})
	}
}

func TestTransient(t *testing.T) {
	for attempts, want := range map[int]bool{0: true, 1: false, 2: false, 3: true, 5: true} {
		e := newExecutor(t, Config{MaxAttempts: attempts})
		st := &stage{process: func(_ context.Context, task Task, out *Attempt) ([]Task, error) {
			out.Count("tries", 1)
			out.Progress(1)
			if task.ID == "t00003" && out.Number() < 2 {
				return nil, fmt.Errorf("reading: %w", Transient(errors.New("connection lost")))
			}
			return []Task{task}, nil
		}}
		out, err := e.Execute(t.Context(), []Stage{st}, makeTasks(10))
		if (err == nil) != want || err != nil && !IsTransient(err) {
			t.Errorf("MaxAttempts %d: %v", attempts, err)
		}
		if s := e.Stats().Stages[0]; want && (s.Attempts != 12 || s.Counters["tries"] != 10 || s.Units != 10 || len(s.Notes) != 2 || len(out) != 10) {
			t.Errorf("MaxAttempts %d: %+v", attempts, s)
		}
	}
	if Transient(nil) != nil || IsTransient(errors.New("x")) {
		t.Error("what is not transient is taken to be")
	}
}

// An error that is not marked as transient is not tried again.
func TestDeterministic(t *testing.T) {
	e := newExecutor(t, Config{MaxAttempts: 10})
	var tries atomic.Int32
	st := &stage{process: func(context.Context, Task, *Attempt) ([]Task, error) {
		tries.Add(1)
		return nil, errors.New("bad file")
	}}
	if _, err := e.Execute(t.Context(), []Stage{st}, nil); err == nil || tries.Load() != 1 {
		t.Errorf("%d tries, %v", tries.Load(), err)
	}
}

// Cancelled in set-up, while processing or between stages: nothing runs on, every actor is closed, and the
// cause is returned.
func TestCancel(t *testing.T) {
	cause := errors.New("stop it")
	for _, where := range []string{"before", "setup", "process", "second stage", "close"} {
		t.Run(where, func(t *testing.T) {
			e := newExecutor(t, Config{Workers: 4})
			ctx, cancel := context.WithCancelCause(t.Context())
			at := func(here string) {
				if here == where {
					cancel(cause)
				}
			}
			at("before")
			first := &stage{name: "first",
				setup: func(env *Env) error {
					if env.Actor == 1 {
						at("setup")
					}
					return nil
				},
				process: func(ctx context.Context, task Task, _ *Attempt) ([]Task, error) {
					if task.ID == "t00050" {
						at("process")
					}
					return []Task{task}, nil
				},
				close: func(*Env) error { at("close"); return nil },
			}
			second := &stage{name: "second", process: func(ctx context.Context, task Task, _ *Attempt) ([]Task, error) {
				at("second stage")
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			_, err := e.Execute(ctx, []Stage{first, second}, makeTasks(2000))
			if !errors.Is(err, cause) || !strings.Contains(err.Error(), "was stopped") {
				t.Errorf("got %v", err)
			}
			first.check(t)
			second.check(t)
		})
	}
}

func TestDeadline(t *testing.T) {
	e := newExecutor(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	st := &stage{process: func(ctx context.Context, _ Task, out *Attempt) ([]Task, error) {
		<-ctx.Done()
		return nil, errors.New("reading was interrupted")
	}}
	if _, err := e.Execute(ctx, []Stage{st}, makeTasks(10)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
