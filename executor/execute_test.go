package executor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
)

func TestEmptyInputs(t *testing.T) {
	e := newExecutor(t, Config{})
	ctx := t.Context()
	if out, err := e.Execute(ctx, nil, makeTasks(3)); out != nil || err != nil {
		t.Errorf("no stages: %v, %v", out, err)
	}
	first := &stage{name: "first"}
	if out, err := e.Execute(ctx, []Stage{first}, nil); err != nil || len(out) != 1 || out[0].ID != EmptyTask.ID {
		t.Errorf("no tasks: %v, %v", out, err)
	}
	none := &stage{name: "none", process: func(context.Context, Task, *Attempt) ([]Task, error) { return nil, nil }}
	after := &stage{name: "after"}
	_, err := e.Execute(ctx, []Stage{none, after}, makeTasks(3))
	if !errors.Is(err, ErrNoTasks) || err.Error() != `executor: stage "after": no tasks to process` {
		t.Errorf("a stage without tasks: %v", err)
	}
	first.check(t)
	none.check(t)
	if after.setups.Load() != 0 {
		t.Error("a stage without tasks was set up")
	}
}

// Results are in the order of the tasks, whatever order they were done in, over several stages that fan out.
func TestOrder(t *testing.T) {
	for _, cfg := range []Config{{Workers: 1}, {Workers: 4}, {Workers: 8, Ranks: 3}} {
		e := newExecutor(t, cfg)
		fan := &stage{name: "fan", process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
			var out []Task
			for i := range len(task.Data) % 4 {
				out = append(out, Task{Data: fmt.Appendf(nil, "%s/%d", task.Data, i)})
			}
			return out, nil
		}}
		one := &stage{name: "one", process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
			return []Task{{Data: append([]byte("x"), task.Data...)}}, nil
		}}
		var want []string
		tasks := makeTasks(200)
		for _, task := range tasks {
			for i := range len(task.Data) % 4 {
				want = append(want, fmt.Sprintf("x%s/%d", task.Data, i))
			}
		}
		out, err := e.Execute(t.Context(), []Stage{fan, one}, tasks)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) != len(want) {
			t.Fatalf("%d results, want %d", len(out), len(want))
		}
		for i := range out {
			if string(out[i].Data) != want[i] {
				t.Fatalf("result %d is %q, want %q", i, out[i].Data, want[i])
			}
		}
		fan.check(t)
		one.check(t)
		if n := int(fan.setups.Load()); n != e.cfg.Workers {
			t.Errorf("%d actors for %d workers", n, e.cfg.Workers)
		}
	}
}

func TestResultIDs(t *testing.T) {
	results := []Task{{}, {ID: "named"}, {}}
	if err := nameResults(Task{ID: "a"}, results); err != nil {
		t.Fatal(err)
	}
	if got := ids(results); !slices.Equal(got, []string{"a-0", "named", "a-2"}) {
		t.Errorf("got %v", got)
	}
	single := []Task{{}}
	if err := nameResults(Task{ID: "a"}, single); err != nil || single[0].ID != "a" {
		t.Errorf("got %v, %v", single, err)
	}
	for _, bad := range []Task{
		{ID: "a/b"}, {ID: ".."}, {ID: ".a"}, {ID: "a@1"}, {ID: strings.Repeat("a", 129)}, {ID: "a\n"},
		{ID: "ok", Data: make([]byte, maxTaskData+1)},
	} {
		if err := nameResults(Task{ID: "a"}, []Task{bad}); err == nil {
			t.Errorf("%.20q was taken", bad.ID)
		}
	}
	large := Task{ID: "l", Data: make([]byte, maxTaskData)}
	if err := nameResults(Task{ID: "a"}, []Task{large, large}); err == nil {
		t.Error("32 MiB of results were taken")
	}
}

func TestBadTasksAndStages(t *testing.T) {
	e := newExecutor(t, Config{})
	run := func(name string, tasks ...Task) error {
		st := &stage{name: name}
		_, err := e.Execute(t.Context(), []Stage{st}, tasks)
		if err != nil && st.setups.Load() > 0 {
			t.Errorf("%s: actors were set up", name)
		}
		return err
	}
	for want, err := range map[string]error{
		`two tasks have the ID "a"`:     run("twice", Task{ID: "a"}, Task{ID: "b"}, Task{ID: "a"}),
		`cannot have the ID ""`:         run("empty", Task{}),
		`it has '/', want only letters`: run("slash", Task{ID: "a/b"}),
		`at most 16777216 are allowed`:  run("large", Task{ID: "a", Data: make([]byte, maxTaskData+1)}),
		`cannot be named "a b"`:         run("a b", Task{ID: "a"}),
		`cannot be named "log"`:         run("log", Task{ID: "a"}),
		`has run before`:                errors.Join(run("same", Task{ID: "a"}), run("same", Task{ID: "a"})),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	e.Close()
	if err := run("late", Task{ID: "a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// What can never be met is refused before any stage starts.
func TestResourcesRefusedAtStart(t *testing.T) {
	e := newExecutor(t, Config{Workers: 2, Budget: mem.NewBudget(1000)})
	for i, res := range []Resources{{GPUs: 1}, {GPUMemoryGB: 1}, {CPUs: 3}, {Memory: 1001}} {
		first := &stage{name: fmt.Sprint("first", i)}
		_, err := e.Execute(t.Context(), []Stage{first, &stage{name: fmt.Sprint(i), res: res}}, nil)
		if !errors.Is(err, ErrNoResources) {
			t.Errorf("%+v: %v", res, err)
		}
		if first.setups.Load() > 0 {
			t.Error("the first stage was started")
		}
	}
}

type validating struct{ stage }

func (v *validating) ValidateInput(t Task) error {
	if string(t.Data) == "7" {
		return errors.New("seven is not allowed")
	}
	return nil
}

type counting struct {
	stage
	workers, batch, nodes int
}

func (c *counting) NumWorkers() int { return c.workers }

func (c *counting) BatchSize() int { return c.batch }

func (c *counting) SetupOnNode(_ context.Context, env *Env) error {
	c.nodes++
	if c.setups.Load() > 0 {
		return errors.New("set up on the node after an actor")
	}
	if c.workers == 13 {
		return errors.New("unlucky")
	}
	return nil
}

func TestOptionalInterfaces(t *testing.T) {
	rep := new(lines)
	e := newExecutor(t, Config{Workers: 4, Progress: rep})
	v := &validating{stage{name: "validating"}}
	_, err := e.Execute(t.Context(), []Stage{v}, makeTasks(20))
	if err == nil || err.Error() != `executor: task "t00007" is no input for stage "validating": seven is not allowed` {
		t.Errorf("validation: %v", err)
	}
	for i, tc := range []struct {
		workers, batch, tasks int
		want                  int32
		note                  bool
	}{
		{0, 0, 2, 2, false}, {0, 0, 20, 4, false}, {3, 0, 20, 3, false}, {9, 0, 20, 4, true}, {0, 10, 20, 2, false}, {0, 7, 20, 3, false},
	} {
		rep.notes = nil
		c := &counting{stage: stage{name: fmt.Sprint("c", i)}, workers: tc.workers, batch: tc.batch}
		out, err := e.Execute(t.Context(), []Stage{c}, makeTasks(tc.tasks))
		if err != nil || len(out) != tc.tasks {
			t.Fatalf("%+v: %d results, %v", tc, len(out), err)
		}
		if c.setups.Load() != tc.want || c.nodes != 1 || (len(rep.notes) > 0) != tc.note {
			t.Errorf("%+v: %d actors, %d node set-ups, notes %q", tc, c.setups.Load(), c.nodes, rep.notes)
		}
		c.check(t)
	}
	c := &counting{stage: stage{name: "node"}, workers: 13}
	_, err = e.Execute(t.Context(), []Stage{c}, makeTasks(20))
	if err == nil || err.Error() != `executor: setting up stage "node" on this node: unlucky` || c.setups.Load() > 0 {
		t.Errorf("node set-up: %v", err)
	}
}

type batching struct {
	counting
	sizes sync.Map
}

func (b *batching) NewActor(ctx context.Context, env *Env) (Actor, error) {
	a, err := b.counting.NewActor(ctx, env)
	return &batchActor{a.(*actor), b}, err
}

type batchActor struct {
	*actor
	b *batching
}

func (a *batchActor) ProcessBatch(ctx context.Context, tasks []Task, outs []*Attempt) ([][]Task, error) {
	a.b.sizes.Store(len(tasks), true)
	results := make([][]Task, len(tasks))
	for i, t := range tasks {
		if outs[i].Task().ID != t.ID {
			return nil, fmt.Errorf("attempt %d is of task %s, not %s", i, outs[i].Task().ID, t.ID)
		}
		if string(t.Data) == "13" && a.b.workers == 1 {
			return results[:1], nil
		}
		results[i] = []Task{{Data: []byte(t.ID)}}
	}
	return results, nil
}

func TestBatchActor(t *testing.T) {
	e := newExecutor(t, Config{})
	b := &batching{counting: counting{stage: stage{name: "b"}, batch: 8}}
	tasks := makeTasks(30)
	out, err := e.Execute(t.Context(), []Stage{b}, tasks)
	if err != nil || len(out) != 30 {
		t.Fatalf("%d results, %v", len(out), err)
	}
	for i := range out {
		if string(out[i].Data) != tasks[i].ID {
			t.Errorf("result %d is %q", i, out[i].Data)
		}
	}
	if _, ok := b.sizes.Load(8); !ok {
		t.Error("no batch of 8")
	}
	b = &batching{counting: counting{stage: stage{name: "wrong"}, batch: 20, workers: 1}}
	_, err = e.Execute(t.Context(), []Stage{b}, makeTasks(20))
	if err == nil || !strings.Contains(err.Error(), "1 lists of results for 20 tasks") {
		t.Errorf("too few results: %v", err)
	}
	b.check(t)
}

// An actor that waits for memory is told when the stage ends, and what it reserved is given back.
func TestReserve(t *testing.T) {
	b := mem.NewBudget(1000)
	e := newExecutor(t, Config{Workers: 4, Budget: b})
	st := &stage{name: "a", process: func(ctx context.Context, _ Task, out *Attempt) ([]Task, error) {
		r, err := out.Reserve(ctx, "read", 400)
		if err != nil {
			return nil, err
		}
		buf, err := r.Alloc(mem.Host(), 300)
		if err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Microsecond)
		buf.Release()
		return nil, nil // without releasing the rest
	}}
	if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(50)); err != nil {
		t.Fatal(err)
	}
	if s := b.Stats(); s.Used != 0 || s.Peak > 1000 || s.Peak < 400 {
		t.Errorf("%+v", s)
	}
	boom := errors.New("boom")
	st = &stage{name: "b", process: func(ctx context.Context, task Task, out *Attempt) ([]Task, error) {
		if _, err := out.Reserve(ctx, "read", 900); err != nil {
			return nil, err
		}
		for b.Stats().Waiting < 3 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return nil, boom
	}}
	if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(50)); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if s := b.Stats(); s.Used != 0 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	st = &stage{name: "c", process: func(ctx context.Context, task Task, out *Attempt) ([]Task, error) {
		_, err := out.Reserve(ctx, "read", 1001)
		return nil, err
	}}
	if _, err := e.Execute(t.Context(), []Stage{st}, nil); !errors.Is(err, mem.ErrNoMemory) {
		t.Errorf("got %v", err)
	}
}

// Larger tasks are started first, those of about the same size in order.
func TestLargestFirst(t *testing.T) {
	e := newExecutor(t, Config{Workers: 1})
	var order []string
	st := &stage{process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
		order = append(order, task.ID)
		return []Task{task}, nil
	}}
	tasks := []Task{{ID: "a", Size: 10}, {ID: "b", Size: 1000}, {ID: "c", Size: 1001}, {ID: "d", Size: -5}, {ID: "e", Size: 5000}, {ID: "f", Size: 11}}
	out, err := e.Execute(t.Context(), []Stage{st}, tasks)
	if err != nil || !slices.Equal(ids(out), ids(tasks)) {
		t.Fatalf("%v, %v", ids(out), err)
	}
	if !slices.Equal(order, []string{"e", "b", "c", "a", "f", "d"}) {
		t.Errorf("started in order %v", order)
	}
}

func TestEnv(t *testing.T) {
	for _, tc := range []struct{ ranks, workers, perRank, all int }{{1, 4, 4, 4}, {2, 4, 2, 4}, {3, 4, 2, 4}, {5, 2, 1, 5}} {
		e := newExecutor(t, Config{Ranks: tc.ranks, Workers: tc.workers})
		var mu sync.Mutex
		seen := make(map[[2]int]bool)
		st := &stage{setup: func(env *Env) error {
			mu.Lock()
			defer mu.Unlock()
			seen[[2]int{env.Rank, env.Worker}] = true
			if env.Size != tc.ranks || env.Actors != tc.all || env.Epoch != 1 || env.Budget == nil || env.Alloc == nil ||
				env.SpillDir == "" || env.Work != nil || env.Rank >= tc.ranks || env.Worker >= tc.perRank || env.Stage != "stage" {
				t.Errorf("%+v: %+v", tc, env)
			}
			return nil
		}}
		if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(50)); err != nil {
			t.Fatal(err)
		}
		if len(seen) != tc.all {
			t.Errorf("%+v: %v", tc, seen)
		}
	}
}
