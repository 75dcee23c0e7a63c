package executor

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashEnv) != "" {
		crashChild()
		return
	}
	if os.Getenv(isolatedEnv) != "" {
		os.Exit(isolatedChild())
	}
	if spec := os.Getenv(wedgeEnv); spec != "" {
		wedgedRank(spec)
		return
	}
	goleak.VerifyTestMain(m)
}

// stage is a Stage made of functions. What is nil does nothing.
type stage struct {
	name    string
	res     Resources
	setup   func(env *Env) error
	process func(ctx context.Context, t Task, out *Attempt) ([]Task, error)
	close   func(env *Env) error

	setups, closes atomic.Int32
	running, most  atomic.Int32 // calls of process at this moment, and the most at one time
}

func (s *stage) Name() string {
	if s.name == "" {
		return "stage"
	}
	return s.name
}

func (s *stage) Resources() Resources { return s.res }

func (s *stage) NewActor(ctx context.Context, env *Env) (Actor, error) {
	if s.setup != nil {
		if err := s.setup(env); err != nil {
			return nil, err
		}
	}
	s.setups.Add(1)
	return &actor{s: s, env: env}, nil
}

// check fails the test if an actor was not closed exactly once.
func (s *stage) check(t testing.TB) {
	t.Helper()
	if s.setups.Load() != s.closes.Load() {
		t.Errorf("%d actors were set up and %d closed", s.setups.Load(), s.closes.Load())
	}
}

type actor struct {
	s      *stage
	env    *Env
	busy   atomic.Bool
	closed bool
}

func (a *actor) Process(ctx context.Context, t Task, out *Attempt) ([]Task, error) {
	if !a.busy.CompareAndSwap(false, true) || a.closed {
		panic("the actor is used twice at once, or after Close")
	}
	defer a.busy.Store(false)
	n := a.s.running.Add(1)
	defer a.s.running.Add(-1)
	for m := a.s.most.Load(); n > m && !a.s.most.CompareAndSwap(m, n); m = a.s.most.Load() {
	}
	if a.s.process == nil {
		return []Task{t}, nil
	}
	return a.s.process(ctx, t, out)
}

func (a *actor) Close() error {
	a.s.closes.Add(1)
	if a.closed {
		return fmt.Errorf("closed twice")
	}
	a.closed = true
	if a.s.close != nil {
		return a.s.close(a.env)
	}
	return nil
}

func newExecutor(t testing.TB, cfg Config) *Executor {
	t.Helper()
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// inBubble has a test see a clock that stands still until all its goroutines wait.
func inBubble(f func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

func newWork(t testing.TB, dir string) *Work {
	t.Helper()
	w, err := OpenWork(dir, []byte("meta"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func makeTasks(n int) []Task {
	tasks := make([]Task, n)
	for i := range tasks {
		tasks[i] = Task{ID: fmt.Sprintf("t%05d", i), Data: []byte(fmt.Sprint(i)), Size: int64(i%7) * 1000}
	}
	return tasks
}

func ids(tasks []Task) []string {
	out := make([]string, len(tasks))
	for i, t := range tasks {
		out[i] = t.ID
	}
	return out
}

// lines is a Reporter that keeps what it is told.
type lines struct {
	mu       sync.Mutex
	calls    atomic.Int32 // at this moment
	started  []StageInfo
	progress []Progress
	finished []StageStats
	notes    []string
}

func (l *lines) enter() func() {
	if l.calls.Add(1) != 1 {
		panic("the reporter is called twice at once")
	}
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		l.calls.Add(-1)
	}
}

func (l *lines) StageStarted(s StageInfo) {
	defer l.enter()()
	l.started = append(l.started, s)
}

func (l *lines) StageProgress(p Progress) {
	defer l.enter()()
	l.progress = append(l.progress, p)
}

func (l *lines) StageFinished(s StageStats) {
	defer l.enter()()
	l.finished = append(l.finished, s)
}

func (l *lines) Note(stage, line string) {
	defer l.enter()()
	l.notes = append(l.notes, line)
}
