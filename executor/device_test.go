package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dovetail-dedup/dovetail/shuffle/collective"
)

// someDevices returns n devices of 80 GB.
func someDevices(n int) (devs []Device) {
	for i := range n {
		devs = append(devs, Device{Kind: "test", Index: i, UUID: fmt.Sprintf("dev-%d", i), Name: "Test 80", Memory: 80e9, NUMANode: -1})
	}
	return devs
}

// rig is a set of devices that can be lost, and counts who uses them.
type rig struct {
	mu     sync.Mutex
	lost   map[string]bool
	asked  int
	actors map[string]int // set up, by device
	tasks  map[string]int // done, by device
}

func newRig() *rig {
	return &rig{lost: make(map[string]bool), actors: make(map[string]int), tasks: make(map[string]int)}
}

func (r *rig) lose(uuid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[uuid] = true
}

func (r *rig) check(d Device) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.lost[d.UUID] {
		return errors.New("fell off the bus")
	}
	return nil
}

func (r *rig) use(counts map[string]int, env *Env) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost[env.Device.UUID] {
		return errors.New("CUDA_ERROR_UNKNOWN")
	}
	counts[env.Device.UUID]++
	return nil
}

// each makes the first n calls wait for each other, so that every one of n actors has a task.
func each(n int) func() {
	var there atomic.Int32
	all := make(chan struct{})
	return func() {
		if int(there.Add(1)) == n {
			close(all)
		}
		<-all // closed for all that come later
	}
}

func TestActorsOwnDevices(t *testing.T) {
	for _, tc := range []struct {
		name string
		need Resources
		cfg  Config
		want string // actors of each device
	}{
		{"one each", Resources{GPUs: 1}, Config{Devices: someDevices(3)}, "1 1 1"},
		{"two share one", Resources{GPUs: 0.5}, Config{Devices: someDevices(3)}, "2 2 2"},
		{"three on one", Resources{GPUs: 0.3}, Config{Devices: someDevices(2)}, "3 3"},
		{"CPUs decide, and the actors are spread", Resources{CPUs: 1, GPUs: 0.25}, Config{Devices: someDevices(4), Workers: 3}, "1 1 1 0"},
		{"memory", Resources{GPUMemoryGB: 30}, Config{Devices: someDevices(2)}, "2 2"},
		{"reserved", Resources{GPUs: 0.5}, Config{Devices: someDevices(3), ReservedGPUs: 1.5}, "2 1 0"},
		{"CPUs alone", Resources{CPUs: 1}, Config{Devices: someDevices(2), Workers: 2}, "0 0"},
		{"reserved CPUs", Resources{CPUs: 1, GPUs: 0.1}, Config{Devices: someDevices(2), Workers: 5, ReservedCPUs: 1.5}, "2 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newExecutor(t, tc.cfg)
			r := newRig()
			st := &stage{res: tc.need, setup: func(env *Env) error {
				if (env.Device != nil) != tc.need.device() {
					t.Errorf("device %v", env.Device)
				}
				if env.Device != nil {
					return r.use(r.actors, env)
				}
				return nil
			}}
			if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(100)); err != nil {
				t.Fatal(err)
			}
			st.check(t)
			var got []string
			for _, d := range tc.cfg.Devices {
				got = append(got, fmt.Sprint(r.actors[d.UUID]))
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("the devices have %s actors, want %s", s, tc.want)
			}
		})
	}
}

// An actor that asks for memory gets a device that has it, as many share one as fit, and others get none.
func TestDeviceWithEnoughMemory(t *testing.T) {
	devs := someDevices(3)
	devs[0].Memory, devs[2].Memory = 16e9, 40e9
	e := newExecutor(t, Config{Devices: devs})
	r := newRig()
	st := &stage{res: Resources{GPUMemoryGB: 20}, setup: func(env *Env) error { return r.use(r.actors, env) }}
	if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(100)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(r.actors) != "map[dev-1:4 dev-2:2]" {
		t.Errorf("got %v", r.actors)
	}
}

// A device that is lost loses its actor: the task is done on another device, the device gets no actor any more, also not in
// the next stage, and what its actor says when it is closed fails nothing.
func TestDeviceLost(t *testing.T) {
	for name, die := range map[string]func() error{
		"error": func() error { return errors.New("CUDA_ERROR_UNKNOWN") },
		"panic": func() error { panic("CUDA_ERROR_UNKNOWN") },
		"exit":  func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			r := newRig()
			e := newExecutor(t, Config{
				Devices: someDevices(3), CheckDevice: r.check, Work: newWork(t, t.TempDir()),
				Events: slog.New(slog.NewJSONHandler(&b, nil)),
			})
			wait := each(3)
			var once sync.Once
			process := func(env *Env, task Task, out *Attempt) (err error) {
				wait()
				if env.Device.UUID == "dev-1" {
					once.Do(func() {
						r.lose("dev-1")
						err = die()
					})
				}
				return errors.Join(err, r.use(r.tasks, env))
			}
			st := &owning{stage: stage{res: Resources{GPUs: 1}, close: func(env *Env) error {
				if env.Device.UUID == "dev-1" {
					return errors.New("cannot free memory")
				}
				return nil
			}}, process: process}
			if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(30)); err != nil {
				t.Fatal(err)
			}
			if r.tasks["dev-0"]+r.tasks["dev-2"] != 30 || r.tasks["dev-1"] != 0 {
				t.Errorf("done: %v", r.tasks)
			}
			s := e.Stats().Stages[0]
			notes := strings.Join(s.Notes, "\n")
			if s.Attempts != 31 || s.Replaced != 0 || !strings.Contains(notes, "device 1 (Test 80, dev-1) is lost: fell off the bus; it gets no actor any more") ||
				!strings.Contains(notes, "goes on with one actor less") || !strings.Contains(notes, "runs again, because its actor was lost") {
				t.Errorf("%+v", s)
			}
			if !strings.Contains(b.String(), `"level":"ERROR","msg":"device lost"`) {
				t.Error(b.String())
			}
			next := &stage{name: "next", res: Resources{GPUs: 1}, setup: func(env *Env) error { return r.use(r.actors, env) }}
			if _, err := e.Execute(t.Context(), []Stage{next}, makeTasks(30)); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(r.actors) != "map[dev-0:1 dev-2:1]" {
				t.Errorf("the next stage has %v", r.actors)
			}
		})
	}
}

// owning is a stage whose tasks see the environment of their actor.
type owning struct {
	stage
	process func(*Env, Task, *Attempt) error
}

func (s *owning) NewActor(ctx context.Context, env *Env) (Actor, error) {
	a, err := s.stage.NewActor(ctx, env)
	if err != nil {
		return nil, err
	}
	return &owner{a.(*actor), s}, nil
}

type owner struct {
	*actor
	own *owning
}

func (a *owner) Process(_ context.Context, task Task, out *Attempt) ([]Task, error) {
	return nil, a.own.process(a.env, task, out)
}

// Many actors share the device that is lost. Those that were idle take no task any more, so none is blamed for their end; and
// those that find room move.
func TestSharedDeviceLost(t *testing.T) {
	r := newRig()
	e := newExecutor(t, Config{Devices: someDevices(2), CheckDevice: r.check})
	var done atomic.Int32
	idle := make(chan struct{})
	var lost atomic.Bool
	wait := each(20)
	st := &owning{stage: stage{res: Resources{GPUs: 0.1}}}
	st.process = func(env *Env, task Task, out *Attempt) error {
		wait()
		if err := r.use(r.tasks, env); err != nil {
			return err
		}
		if env.Device.UUID == "dev-0" && lost.CompareAndSwap(false, true) {
			<-idle // all others have done theirs
			r.lose("dev-0")
			return errors.New("CUDA_ERROR_UNKNOWN")
		}
		if done.Add(1) == 19 {
			close(idle)
		}
		return nil
	}
	if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(20)); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats().Stages[0]; s.Tasks != 20 || s.Attempts != 21 {
		t.Errorf("%+v", s)
	}
}

// When an actor cannot be set up on a device that proves lost, it is on another.
func TestDeviceLostAtSetUp(t *testing.T) {
	r := newRig()
	r.lose("dev-0")
	e := newExecutor(t, Config{Devices: someDevices(2), CheckDevice: r.check})
	st := &stage{res: Resources{GPUs: 0.5}, setup: func(env *Env) error { return r.use(r.actors, env) }}
	if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(2)); err != nil {
		t.Fatal(err)
	}
	st.check(t)
	if s := e.Stats().Stages[0]; r.actors["dev-1"] != 2 || s.Replaced != 1 {
		t.Errorf("%v, %+v", r.actors, s)
	}
}

func TestNoDeviceLeft(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		for _, share := range []float64{1, 0.5} {
			t.Run(fmt.Sprint(n, " devices, ", share, " each"), func(t *testing.T) {
				r := newRig()
				for _, d := range someDevices(n) {
					r.lose(d.UUID)
				}
				e := newExecutor(t, Config{Devices: someDevices(n), CheckDevice: r.check})
				var alive atomic.Int32
				st := &owning{stage: stage{res: Resources{GPUs: share}}}
				st.process = func(env *Env, task Task, out *Attempt) error {
					// Only the last one finds out that it is lost by doing a task.
					alive.Add(1)
					return r.use(r.tasks, env)
				}
				_, err := e.Execute(t.Context(), []Stage{st}, makeTasks(20))
				if !errors.Is(err, ErrDeviceLost) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("got %v", err)
				}
				// A task that two devices in a row are lost under is taken for the culprit.
				if !strings.Contains(err.Error(), "2 actors died of it") &&
					!strings.Contains(err.Error(), fmt.Sprintf("no device is left that it could use, of %d there were: device ", n)) {
					t.Errorf("got %v", err)
				}
				if n <= 2 {
					_, err = e.Execute(t.Context(), []Stage{&stage{name: "next", res: Resources{GPUs: 1}}}, makeTasks(1))
					if !errors.Is(err, ErrNoResources) || !strings.Contains(err.Error(), fmt.Sprintf("there are 0; %d of %d devices were lost", n, n)) {
						t.Errorf("then: %v", err)
					}
				}
				st.check(t)
			})
		}
	}
}

// With what is left reserved for others, nobody could go on.
func TestLostButReserved(t *testing.T) {
	r := newRig()
	r.lose("dev-0")
	e := newExecutor(t, Config{Devices: someDevices(2), ReservedGPUs: 1, CheckDevice: r.check})
	st := &stage{res: Resources{GPUs: 1}, setup: func(env *Env) error { return r.use(r.actors, env) }}
	_, err := e.Execute(t.Context(), []Stage{st}, makeTasks(3))
	if !errors.Is(err, ErrDeviceLost) || !strings.Contains(err.Error(), "no other device has room for an actor of rank 0: device 0") {
		t.Errorf("got %v", err)
	}
}

// A device that works has nothing to do with what its actor says, and without a check none is ever lost.
func TestDeviceNotLost(t *testing.T) {
	for _, checked := range []bool{true, false} {
		r := newRig()
		cfg := Config{Devices: someDevices(2)}
		if checked {
			cfg.CheckDevice = r.check
		}
		e := newExecutor(t, cfg)
		st := &owning{stage: stage{res: Resources{GPUs: 1}}, process: func(*Env, Task, *Attempt) error { return errors.New("a bad task") }}
		_, err := e.Execute(t.Context(), []Stage{st}, makeTasks(1))
		if err == nil || errors.Is(err, ErrDeviceLost) || !strings.HasSuffix(err.Error(), `task "t00000": a bad task`) {
			t.Errorf("got %v", err)
		}
		if checked && r.asked == 0 {
			t.Error("it was not asked")
		}
	}
}

// Ranks of a shuffle own devices too: one whose device is lost goes on with another, and without one the stage fails.
func TestShuffleDevices(t *testing.T) {
	for _, tc := range []struct {
		devices int
		need    float64
		err     string
	}{{3, 1, ""}, {2, 0.5, ""}, {2, 1, "no other device has room for an actor of rank "}} {
		t.Run(fmt.Sprint(tc.devices, " devices, ", tc.need, " each"), func(t *testing.T) {
			r := newRig()
			e := newExecutor(t, Config{Ranks: 2, Workers: 2, Devices: someDevices(tc.devices), CheckDevice: r.check})
			var once sync.Once
			st := &sumsOnDevices{sums: sums{name: "sums", total: 7, workers: 2}, need: tc.need, insert: func(env *Env) (err error) {
				once.Do(func() { r.lose(env.Device.UUID) })
				return r.use(r.tasks, env)
			}}
			out, err := e.Shuffle(t.Context(), st, shuffleTasks(25))
			if tc.err != "" {
				if !errors.Is(err, ErrDeviceLost) || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkSums(t, out, 25, 7)
		})
	}
	e := newExecutor(t, Config{Ranks: 3, Devices: someDevices(2)})
	_, err := e.Shuffle(t.Context(), &sumsOnDevices{sums: sums{name: "sums", total: 7}, need: 1}, shuffleTasks(3))
	if !errors.Is(err, ErrNoResources) || !strings.Contains(err.Error(), "needs 3 actors with a device each, and there is room for 2") {
		t.Errorf("got %v", err)
	}
}

// sumsOnDevices is a stage of sums whose actors own devices.
type sumsOnDevices struct {
	sums
	need   float64
	insert func(*Env) error
}

func (s *sumsOnDevices) Resources() Resources { return Resources{GPUs: s.need} }

func (s *sumsOnDevices) NewShuffleActor(ctx context.Context, env *Env) (ShuffleActor, error) {
	a, err := s.sums.NewShuffleActor(ctx, env)
	return &sumOnDevice{a, s, env}, err
}

type sumOnDevice struct {
	ShuffleActor
	s   *sumsOnDevices
	env *Env
}

func (a *sumOnDevice) Insert(ctx context.Context, task Task, out *PartWriter) error {
	if err := a.s.insert(a.env); err != nil {
		return err
	}
	return a.ShuffleActor.Insert(ctx, task, out)
}

func TestIgnoreHeadNode(t *testing.T) {
	_, err := New(Config{IgnoreHeadNode: true})
	if !errors.Is(err, ErrNoResources) || !strings.Contains(err.Error(), "IgnoreHeadNode") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"DOVETAIL_IGNORE_HEAD_NODE", "CURATOR_IGNORE_RAY_HEAD_NODE"} {
		for value, ignores := range map[string]bool{"1": true, "true": true, "YES": true, "True": true, "0": false, "": false, "on": false} {
			t.Run(name+"="+value, func(t *testing.T) {
				t.Setenv(name, value)
				e, err := New(Config{})
				if err == nil {
					if err := e.Close(); err != nil {
						t.Error(err)
					}
				}
				if ignores != errors.Is(err, ErrNoResources) || ignores && !strings.Contains(err.Error(), name+" leaves out the head node") {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// In a job rank 0 can leave the work to others.
func TestIgnoreHeadNodeOfJob(t *testing.T) {
	for _, lose := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "work")
		tj := &testJob{size: 3}
		errs := tj.run(t, func(ctx context.Context, j *Job) error {
			w, err := j.ShareWork(ctx, func() (*Work, error) { return OpenWork(dir, nil) })
			if err != nil {
				return err
			}
			defer w.Close()
			e, err := New(Config{Job: j, Work: w, Workers: 2, IgnoreHeadNode: true})
			if err != nil {
				return err
			}
			defer e.Close()
			here := func() error {
				if j.Root() {
					return errors.New("an actor on rank 0")
				}
				if lose { // one after the other
					j.mu.Lock()
					l := j.links[0]
					j.mu.Unlock()
					if l != nil {
						l.conn.Break()
					}
					<-j.ctx.Done()
				}
				return nil
			}
			st := &stage{process: func(_ context.Context, t Task, _ *Attempt) ([]Task, error) { return []Task{t}, here() }}
			out, err := e.Execute(ctx, []Stage{st}, shuffleTasks(20))
			if err != nil {
				return err
			}
			su := &sums{name: "sums", total: 7, insert: func(context.Context, Task, *PartWriter) error { return here() }}
			if out, err = e.Shuffle(ctx, su, out); err != nil {
				return err
			}
			if j.Root() {
				checkSums(t, out, 20, 7)
			}
			return nil
		})
		err := errors.Join(errs...)
		if !lose && err != nil {
			t.Error(err)
		}
		if lose && !errors.Is(errs[0], ErrRankLost) {
			t.Errorf("rank 0: %v", errs[0])
		}
	}
}

// A rank of a collective whose device is lost ends the stage on all: they cannot go on without it, nor wait for another.
func TestCollectiveDeviceLost(t *testing.T) {
	for _, when := range []string{"set-up", "process"} {
		t.Run(when, func(t *testing.T) {
			r := newRig()
			e := newExecutor(t, Config{Ranks: 2, Devices: someDevices(3), CheckDevice: r.check})
			_, err := e.Collective(t.Context(), &meeting{r: r, when: when}, makeTasks(4))
			if !errors.Is(err, ErrDeviceLost) || !strings.Contains(err.Error(), "device 1 (Test 80, dev-1) is lost: fell off the bus") {
				t.Errorf("got %v", err)
			}
		})
	}
	e := newExecutor(t, Config{Ranks: 2, Devices: someDevices(1)})
	if _, err := e.Collective(t.Context(), &meeting{r: newRig()}, makeTasks(4)); !errors.Is(err, ErrNoResources) {
		t.Errorf("got %v", err)
	}
}

// meeting is a collective whose ranks wait for each other in every call, and where device 1 is lost in one.
type meeting struct {
	r    *rig
	when string
}

func (m *meeting) Name() string         { return "meeting" }
func (m *meeting) Resources() Resources { return Resources{GPUs: 1} }

func (m *meeting) NewCollectiveActor(ctx context.Context, env *Env, group *collective.Group) (CollectiveActor, error) {
	a := &attendant{m, env, group}
	return a, a.meet(ctx, "set-up")
}

type attendant struct {
	m     *meeting
	env   *Env
	group *collective.Group
}

func (a *attendant) meet(ctx context.Context, when string) error {
	if when == a.m.when && a.env.Device.UUID == "dev-1" {
		a.m.r.lose("dev-1")
		return errors.New("CUDA_ERROR_UNKNOWN")
	}
	return a.group.Barrier(ctx)
}

func (a *attendant) Process(ctx context.Context, tasks []Task, _ []*Attempt) ([][]Task, error) {
	return make([][]Task, len(tasks)), a.meet(ctx, "process")
}

func (a *attendant) Close() error { return nil }
