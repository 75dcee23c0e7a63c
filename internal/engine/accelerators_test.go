//go:build cuda

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// signStage signs a text in each task, on the device of its actor.
type signStage struct {
	a      *Accelerators
	shared float64 // part of a GPU that an actor owns
}

func (s *signStage) Name() string { return "sign" }
func (s *signStage) Resources() executor.Resources {
	return executor.Resources{CPUs: -1, GPUs: s.shared}
}

func (s *signStage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	b, err := s.a.Backend(lsh.DefaultParams(), env)
	if err != nil {
		return nil, err
	}
	return &signActor{b, env}, nil
}

type signActor struct {
	lsh.Backend
	env *executor.Env
}

func (a *signActor) Process(ctx context.Context, task executor.Task, _ *executor.Attempt) ([]executor.Task, error) {
	off := mem.NewHostBuffer(mem.TierHost, make([]byte, 16), nil)
	mem.Int64s(off)[1] = int64(len(task.Data))
	keys, err := a.env.Alloc.Alloc(a.Params().BandKeyBytes(1))
	if err != nil {
		return nil, err
	}
	defer keys.Release()
	f, err := a.Start(ctx, &mem.Strings{Rows: 1, Offsets: off, Data: mem.NewHostBuffer(mem.TierHost, task.Data, nil)}, nil, keys)
	if err != nil {
		return nil, err
	}
	if err := f.Wait(ctx); err != nil {
		return nil, err
	}
	return []executor.Task{{ID: task.ID, Data: fmt.Append(nil, mem.Uint64s(keys))}}, nil
}

// signAll signs n texts on simulated GPUs and compares with the processor.
func signAll(t *testing.T, simulation string, gpus, n int, shared float64) (executor.StageStats, *Accelerators, error) {
	t.Helper()
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	a, err := Open(Options{Device: Sim, SimGPUs: gpus, Simulation: simulation, PoolSize: 200000, PinnedSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	e, err := executor.New(executor.Config{Devices: a.Devices(), CheckDevice: a.Check})
	if err != nil {
		t.Fatal(err)
	}
	var tasks []executor.Task
	for i := range n {
		tasks = append(tasks, executor.Task{ID: fmt.Sprintf("t%03d", i), Data: []byte(strings.Repeat(fmt.Sprintf("text %d of them, ", i), 3))})
	}
	out, err := e.Execute(t.Context(), []executor.Stage{&signStage{a, shared}}, tasks)
	if err == nil {
		r, rerr := lsh.NewReference(lsh.DefaultParams())
		if rerr != nil {
			t.Fatal(rerr)
		}
		for i, task := range out {
			if want := fmt.Sprint(r.BandKeys(r.Sign(tasks[i].Data))); string(task.Data) != want {
				t.Errorf("task %d: %s, want %s", i, task.Data, want)
			}
		}
	}
	stats := e.Stats().Stages[0]
	if err := errors.Join(e.Close(), a.Close()); err != nil {
		t.Error(err)
	}
	for _, what := range []string{"retained", "used", "pinned", "streams", "events", "modules", "queued"} {
		if n := cuda.SimulatorStat(what, -1); n != 0 {
			t.Errorf("at the end the simulation has %s = %d", what, n)
		}
	}
	return stats, a, err
}

// Actors of several GPUs, and several of one, sign what the processor signs.
func TestSimulatedActors(t *testing.T) {
	for _, tc := range []struct {
		gpus   int
		shared float64
		actors int
	}{{1, 1, 1}, {3, 1, 3}, {2, 0.5, 4}} {
		stats, _, err := signAll(t, "seed=1", tc.gpus, 12, tc.shared)
		if err != nil || stats.Actors != tc.actors || stats.Attempts != 12 {
			t.Errorf("%+v: %+v, %v", tc, stats, err)
		}
	}
}

// The tasks of a GPU that is lost, or whose context a kernel breaks, go to the other, and it gets no actor any more.
func TestSimulatedGPULost(t *testing.T) {
	for _, fault := range []string{"lost-at-launch=1@34", "crash=1@37"} {
		stats, _, err := signAll(t, "seed=2,"+fault, 2, 16, 1)
		if notes := strings.Join(stats.Notes, "\n"); err != nil || stats.Attempts < 17 || !strings.Contains(notes, "is lost") {
			t.Errorf("%s: %+v, %v", fault, stats, err)
		}
	}
}

// Where all are lost the stage ends with what the driver said.
func TestSimulatedGPUsAllLost(t *testing.T) {
	_, _, err := signAll(t, "seed=3,lost-at-launch=0@40", 1, 16, 1)
	if !errors.Is(err, executor.ErrDeviceLost) || !errors.Is(err, cuda.ErrLost) || !strings.Contains(err.Error(), "CUDA_ERROR_UNKNOWN") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

// A launch that fails is tried again.
func TestSimulatedTransient(t *testing.T) {
	stats, _, err := signAll(t, "seed=4,launch=41", 1, 12, 1)
	if err != nil || stats.Attempts <= 12 {
		t.Errorf("%+v, %v", stats, err)
	}
}

// The driver and NVML call instances of a GPU by different names. A GPU that NVML does not know works until the driver says otherwise.
func TestCheckAsksNVML(t *testing.T) {
	m := cudatest.DGXA100()
	m.Divide(1, 2)
	s, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	inv, err := s.Devices(cuda.Options{LookupEnv: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(cuda.VisibleDevices, "")
	os.Unsetenv(cuda.VisibleDevices)
	g := &cudaGPUs{nvml: s}
	g.askNVML()
	instance := inv.Devices[1]
	if instance.MIG == nil || !strings.HasPrefix(instance.UUID, "MIG-") {
		t.Fatalf("%+v", instance)
	}
	as := func(uuid string) executor.Device { return executor.Device{UUID: uuid} }
	driverName := "GPU-" + identity(instance.UUID)
	for _, uuid := range []string{driverName, m.UUID(3), "GPU-of-another-machine"} {
		if err := g.check(as(uuid)); err != nil {
			t.Errorf("%s: %v", uuid, err)
		}
	}
	m.Lose(1)
	m.Lose(3)
	for _, uuid := range []string{driverName, m.UUID(3)} {
		if err := g.check(as(uuid)); !errors.Is(err, cuda.ErrLost) {
			t.Errorf("%s: %v", uuid, err)
		}
	}
}

// Open says what is wrong with options, and with what it finds.
func TestOpenMistakes(t *testing.T) {
	for _, tc := range []struct {
		o    Options
		says string
	}{
		{Options{Device: "tpu"}, "must be auto, cpu, cuda or sim"},
		{Options{Device: CPU, SimGPUs: 1}, "only with --device sim"},
		{Options{Device: Sim, SimGPUs: -1}, "--sim-gpus -1"},
		{Options{Device: Sim, Simulation: "gpus=0"}, errNone.Error()},
	} {
		if _, err := Open(tc.o); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v", tc.o, err)
		}
	}
	a, err := Open(Options{})
	if err != nil || a.Name() != CPU || a.Summary() != "" || a.Check(executor.Device{}) != nil || len(a.Devices()) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	sim, err := cuda.SimulatorPath()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(cuda.SimulatorVariable, sim+".missing")
	if _, err := Open(Options{Device: Sim}); err == nil || !strings.Contains(err.Error(), "loading the simulated driver") {
		t.Errorf("%v", err)
	}
	if os.Getenv(cuda.LibraryVariable) == "" {
		if _, err := os.Stat("/dev/nvidia0"); err != nil { // there is no GPU, so there is no driver
			if _, err := Open(Options{Device: CUDA}); err == nil {
				t.Error("a GPU was found where there is none")
			}
		}
	}
}

// TestShare: ranks that see the same GPUs take different ones, and open no others.
func TestShare(t *testing.T) {
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	seen := make(map[string]int)
	for r := range 3 {
		asked := 0
		a, err := Open(Options{Device: Sim, SimGPUs: 6, PoolSize: 200000, PinnedSize: 1 << 20, Share: func(visible int) (from, to int) {
			asked = visible
			return r * visible / 3, (r + 1) * visible / 3
		}})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(a.Devices()); n != 2 || asked != 6 || len(a.gpus.(*cudaGPUs).open) != 2 {
			t.Errorf("rank %d has %d of %d GPUs, and opened %d", r, n, asked, len(a.gpus.(*cudaGPUs).open))
		}
		for _, d := range a.Devices() {
			seen[d.UUID]++
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(seen) != 6 {
		t.Errorf("together they have %d GPUs, want 6", len(seen))
	}
}
