//go:build cuda

package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
	"github.com/dovetail-dedup/dovetail/executor"
)

// stage is one whose actors own a GPU each. It loses GPUs when it comes to certain tasks.
type stage struct {
	name string
	m    *cudatest.Machine
	lose map[string][]int // GPUs, by task

	mu   sync.Mutex
	lost map[string]bool
	done map[string]int // tasks, by UUID
}

func (s *stage) Name() string                  { return s.name }
func (s *stage) Resources() executor.Resources { return executor.Resources{GPUs: 1} }

func (s *stage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	return &actor{s, env.Device.UUID}, nil
}

type actor struct {
	s    *stage
	uuid string
}

func (a *actor) Close() error { return nil }

func (a *actor) Process(_ context.Context, t executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	if out.Number() == 0 {
		for _, gpu := range a.s.lose[t.ID] {
			if gpu < 0 { // that of whoever has the task
				for i := range 8 {
					if a.s.m.UUID(i) == a.uuid {
						gpu = i
					}
				}
			}
			a.s.m.Lose(gpu)
			a.s.lost[a.s.m.UUID(gpu)] = true
		}
	}
	if a.s.lost[a.uuid] {
		return nil, errors.New("CUDA_ERROR_UNKNOWN") // what a kernel sees of it
	}
	a.s.done[a.uuid]++
	return []executor.Task{t}, nil
}

func newStage(name string, m *cudatest.Machine) *stage {
	return &stage{name: name, m: m, lose: make(map[string][]int), lost: make(map[string]bool), done: make(map[string]int)}
}

// machine returns the executor of a machine with eight GPUs.
func machine(t *testing.T) (*cudatest.Machine, *executor.Executor) {
	t.Helper()
	m := cudatest.DGXA100()
	s, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	inv, err := s.Devices(cuda.Options{LookupEnv: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	e, err := executor.New(executor.Config{Devices: Devices(inv), CheckDevice: CheckDevice(s)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return m, e
}

func tasks(n int) (out []executor.Task) {
	for i := range n {
		out = append(out, executor.Task{ID: fmt.Sprintf("t%03d", i)})
	}
	return out
}

// One of eight GPUs falls off the bus in the middle of a stage: all tasks are done, on the others, in this stage and the next.
func TestGPULostInMidRun(t *testing.T) {
	m, e := machine(t)
	st := newStage("first", m)
	st.lose["t040"] = []int{-1}
	got, err := e.Execute(t.Context(), []executor.Stage{st}, tasks(200))
	if err != nil || len(got) != 200 {
		t.Fatal(len(got), err)
	}
	stats := e.Stats().Stages[0]
	if notes := strings.Join(stats.Notes, "\n"); stats.Actors != 8 || stats.Attempts != 201 || len(st.lost) != 1 ||
		!strings.Contains(notes, "A100") || !strings.Contains(strings.ToLower(notes), "gpu_is_lost") {
		t.Errorf("%+v", stats)
	}
	if s := e.Snapshot(); s.Devices != 8 || s.DevicesLost != 1 {
		t.Errorf("%+v", s)
	}
	next := newStage("next", m)
	next.lost = st.lost
	if _, err := e.Execute(t.Context(), []executor.Stage{next}, tasks(200)); err != nil {
		t.Fatal(err)
	}
	if stats := e.Stats().Stages[1]; stats.Actors != 7 || stats.Attempts != 200 {
		t.Errorf("%+v", stats)
	}
}

// All eight are lost at once.
func TestAllGPUsLost(t *testing.T) {
	m, e := machine(t)
	st := newStage("first", m)
	st.lose["t040"] = []int{0, 1, 2, 3, 4, 5, 6, 7}
	_, err := e.Execute(t.Context(), []executor.Stage{st}, tasks(200))
	if !errors.Is(err, executor.ErrDeviceLost) || !errors.Is(err, cuda.ErrLost) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}
