package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle/collective"
)

// together is a collective stage: the result of a task is its number, and the sum and the largest of all.
type together struct {
	name string
	// Hooks; what is nil does nothing.
	setup  func(env *Env, g *collective.Group) error
	before func(env *Env) error // before the first call
	middle func(env *Env) error // between the calls
	after  func(env *Env) error // after the last call
	close  func(env *Env) error

	setups, closes, calls atomic.Int32
	mu                    sync.Mutex
	shares                map[int][]string // IDs of the tasks of each rank
	sessions              map[[16]byte]bool
}

func (s *together) Name() string         { return s.name }
func (s *together) Resources() Resources { return Resources{} }

func (s *together) NewCollectiveActor(ctx context.Context, env *Env, g *collective.Group) (CollectiveActor, error) {
	if g.Rank() != env.Rank || g.Size() != env.Size {
		return nil, fmt.Errorf("group of rank %d of %d for rank %d of %d", g.Rank(), g.Size(), env.Rank, env.Size)
	}
	if s.setup != nil {
		if err := s.setup(env, g); err != nil {
			return nil, err
		}
	}
	if err := g.Barrier(ctx); err != nil { // in the set-up, too
		return nil, err
	}
	s.setups.Add(1)
	return &peer{s, env, g}, nil
}

type peer struct {
	s   *together
	env *Env
	g   *collective.Group
}

func hook(f func(*Env) error, env *Env) error {
	if f == nil {
		return nil
	}
	return f(env)
}

func (a *peer) Process(ctx context.Context, tasks []Task, outs []*Attempt) ([][]Task, error) {
	a.s.calls.Add(1)
	a.s.mu.Lock()
	if a.s.shares == nil {
		a.s.shares, a.s.sessions = make(map[int][]string), make(map[[16]byte]bool)
	}
	a.s.shares[a.env.Rank] = ids(tasks)
	a.s.sessions[a.g.Session()] = true
	a.s.mu.Unlock()
	if err := hook(a.s.before, a.env); err != nil {
		return nil, err
	}
	sum, most := []int64{0}, []int64{0}
	for _, t := range tasks {
		n, err := strconv.ParseInt(string(t.Data), 10, 64)
		if err != nil {
			return nil, err
		}
		sum[0] += n
		most[0] = max(most[0], n)
	}
	if err := collective.AllReduce(ctx, a.g, sum, collective.Sum[int64]()); err != nil {
		return nil, err
	}
	if err := hook(a.s.middle, a.env); err != nil {
		return nil, err
	}
	if err := collective.AllReduce(ctx, a.g, most, collective.Max[int64]()); err != nil {
		return nil, err
	}
	results := make([][]Task, len(tasks))
	for i, t := range tasks {
		text := fmt.Sprintf("%s of %d, at most %d", t.Data, sum[0], most[0])
		results[i] = []Task{{Data: []byte(text)}}
		outs[i].Count("tasks", 1)
		if a.env.Work == nil {
			continue
		}
		f, err := outs[i].Create("text")
		if err != nil {
			return nil, err
		}
		io.WriteString(f, text)
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return results, hook(a.s.after, a.env)
}

func (a *peer) Close() error {
	a.s.closes.Add(1)
	return hook(a.s.close, a.env)
}

func checkTogether(t *testing.T, got, tasks []Task) {
	t.Helper()
	sum, most := 0, 0
	for i := range tasks {
		sum += i
		most = max(most, i)
	}
	var want, texts []string
	for i := range tasks {
		want = append(want, fmt.Sprintf("%s: %d of %d, at most %d", tasks[i].ID, i, sum, most))
	}
	for _, g := range got {
		texts = append(texts, g.ID+": "+string(g.Data))
	}
	if !slices.Equal(texts, want) {
		t.Errorf("got %q, want %q", texts, want)
	}
}

// Results come in the order of the tasks, whatever the number of ranks, and every rank takes part, with tasks or without.
func TestCollective(t *testing.T) {
	for _, ranks := range []int{1, 2, 3, 5, 8} {
		for _, n := range []int{1, 2, 7, 20} {
			t.Run(fmt.Sprintf("ranks=%d/tasks=%d", ranks, n), func(t *testing.T) {
				budget := mem.NewBudget(1 << 20)
				e := newExecutor(t, Config{Ranks: ranks, Workers: 2, Budget: budget, Alloc: mem.NewChecked(t, mem.Host())})
				tasks := makeTasks(n)
				sessions := 0
				for _, name := range []string{"first", "second"} {
					st := &together{name: name}
					got, err := e.Collective(t.Context(), st, tasks)
					if err != nil {
						t.Fatal(err)
					}
					checkTogether(t, got, tasks)
					var all []string
					for r := range ranks {
						if k := len(st.shares[r]); k != n/ranks && k != n/ranks+1 {
							t.Errorf("rank %d of %d got %d of %d tasks", r, ranks, k, n)
						}
						all = append(all, st.shares[r]...)
					}
					if len(st.shares) != ranks || !slices.Equal(all, ids(tasks)) {
						t.Errorf("shares are %v", st.shares)
					}
					if st.setups.Load() != int32(ranks) || st.closes.Load() != int32(ranks) {
						t.Errorf("%d actors set up, %d closed", st.setups.Load(), st.closes.Load())
					}
					if len(st.sessions) != 1 {
						t.Errorf("%d sessions in one stage", len(st.sessions))
					}
					sessions += len(st.sessions)
				}
				st := e.Stats().Stages[1]
				if tt := st.TaskTimes; tt == nil || tt.Tasks != int64(n) || tt.Slowest[0].Compute <= 0 {
					t.Errorf("times of tasks are %+v", tt)
				}
				if st.Kind != "collective" || st.Tasks != int64(n) || st.Actors != ranks || st.Counters["tasks"] != int64(n) ||
					len(st.Shuffle.Ranks) != ranks || ranks > 1 && st.Shuffle.Ranks[ranks-1].Statistics.Sent.Bytes == 0 {
					t.Errorf("stats are %+v", st)
				}
				if used := budget.Stats().Used; used != 0 {
					t.Errorf("%d bytes are left in the budget", used)
				}
			})
		}
	}
}

// Whatever happens to one rank ends the stage with that, on all ranks, and commits nothing.
func TestCollectiveFails(t *testing.T) {
	boom := errors.New("boom")
	ways := map[string]func() error{
		"error":  func() error { return boom },
		"panic":  func() error { panic(boom) },
		"goexit": func() error { runtime.Goexit(); return nil },
	}
	for _, where := range []string{"setup", "before", "middle", "after", "close"} {
		for way, fail := range ways {
			for _, tasks := range []int{2, 20} { // rank 3 is without tasks, or not
				t.Run(fmt.Sprintf("%s %s %d", where, way, tasks), func(t *testing.T) {
					budget := mem.NewBudget(1 << 20)
					work := newWork(t, t.TempDir())
					e := newExecutor(t, Config{Ranks: 4, Alloc: mem.NewChecked(t, mem.Host()), Budget: budget, Work: work})
					at := func(here string) func(*Env) error {
						return func(env *Env) error {
							if here == where && env.Rank == 3 {
								return fail()
							}
							return nil
						}
					}
					st := &together{
						name: "together", before: at("before"), middle: at("middle"), after: at("after"), close: at("close"),
						setup: func(env *Env, _ *collective.Group) error { return at("setup")(env) },
					}
					got, err := e.Collective(t.Context(), st, makeTasks(tasks))
					if got != nil || err == nil || !strings.Contains(err.Error(), `stage "together"`) {
						t.Fatalf("%d results and %v", len(got), err)
					}
					if way == "error" && !errors.Is(err, boom) || way != "error" && !errors.Is(err, ErrPanic) {
						t.Errorf("got %v", err)
					}
					if way == "error" && where != "setup" && where != "close" && !strings.Contains(err.Error(), "rank 3 of 4") {
						t.Errorf("got %v", err)
					}
					if strings.Contains(err.Error(), "\n") {
						t.Errorf("more than one thing went wrong: %v", err)
					}
					if st.setups.Load() != st.closes.Load() {
						t.Errorf("%d actors were set up and %d closed", st.setups.Load(), st.closes.Load())
					}
					if n := work.Committed("together"); n != 0 && where != "close" {
						t.Errorf("%d tasks are committed", n)
					}
					if files, _ := filepath.Glob(filepath.Join(work.Dir(), "together", "*")); len(files) > 0 && where != "close" {
						t.Errorf("files are left: %v", files)
					}
					if err := e.Close(); err != nil { // a message may be under way until then
						t.Error(err)
					}
					if used := budget.Stats().Used; used != 0 {
						t.Errorf("%d bytes are left in the budget", used)
					}
				})
			}
		}
	}
}

// A rank that makes fewer calls than the others does not leave them waiting.
func TestCollectiveEarlyReturn(t *testing.T) {
	e := newExecutor(t, Config{Ranks: 3})
	_, err := e.Collective(t.Context(), quitter{}, makeTasks(5))
	if err == nil || !strings.Contains(err.Error(), "rank 1 left the group") {
		t.Errorf("got %v", err)
	}
}

type quitter struct{}

func (quitter) Name() string         { return "quitter" }
func (quitter) Resources() Resources { return Resources{} }

func (quitter) NewCollectiveActor(_ context.Context, env *Env, g *collective.Group) (CollectiveActor, error) {
	return quits{g}, nil
}

type quits struct{ g *collective.Group }

func (q quits) Process(ctx context.Context, tasks []Task, _ []*Attempt) ([][]Task, error) {
	if q.g.Rank() != 1 {
		if err := q.g.Barrier(ctx); err != nil {
			return nil, err
		}
	}
	return make([][]Task, len(tasks)), nil
}

func (q quits) Close() error { return nil }

// The end of ctx reaches ranks that wait for each other.
func TestCollectiveCanceled(t *testing.T) {
	stopped := errors.New("stopped by the test")
	ctx, cancel := context.WithCancelCause(t.Context())
	e := newExecutor(t, Config{Ranks: 3})
	st := &together{name: "together", middle: func(env *Env) error {
		if env.Rank == 2 {
			cancel(stopped)
			<-ctx.Done()
		}
		return nil
	}}
	if _, err := e.Collective(ctx, st, makeTasks(5)); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
}

// A stage that is committed is not run again, with any number of ranks; if anything of it is missing, all of it is.
func TestCollectiveResume(t *testing.T) {
	dir := t.TempDir()
	tasks := makeTasks(7)
	run := func(ranks int, tasks []Task) (calls int, st StageStats) {
		t.Helper()
		work, err := OpenWork(dir, []byte("meta"))
		if err != nil {
			t.Fatal(err)
		}
		defer work.Close()
		e := newExecutor(t, Config{Ranks: ranks, Work: work})
		s := &together{name: "together"}
		got, err := e.Collective(t.Context(), s, tasks)
		if err != nil {
			t.Fatal(err)
		}
		checkTogether(t, got, tasks)
		if n := work.Committed("together"); n < len(tasks) {
			t.Errorf("%d tasks are committed", n)
		}
		return int(s.calls.Load()), e.Stats().Stages[0]
	}
	if calls, st := run(3, tasks); calls != 3 || st.Reused != 0 || st.Files != 7 {
		t.Errorf("first run: %d calls, %+v", calls, st)
	}
	if calls, st := run(5, tasks); calls != 0 || st.Reused != 7 || st.Counters["tasks"] != 7 {
		t.Errorf("second run: %d calls, %+v", calls, st)
	}
	files, err := filepath.Glob(filepath.Join(dir, "together", "*"))
	if err != nil || len(files) != 7 {
		t.Fatalf("files %v, %v", files, err)
	}
	if err := os.Remove(files[4]); err != nil {
		t.Fatal(err)
	}
	if calls, st := run(2, tasks); calls != 2 || st.Reused != 0 || st.Files != 7 {
		t.Errorf("with a file missing: %d calls, %+v", calls, st)
	}
	if files, _ = filepath.Glob(filepath.Join(dir, "together", "*")); len(files) != 7 {
		t.Errorf("files %v", files)
	}
	if calls, _ := run(2, makeTasks(6)); calls != 2 {
		t.Errorf("with other tasks: %d calls", calls)
	}
}

// Two runs that were killed while they committed can leave commits of all tasks, which are not those of one run.
func TestCollectiveMixedCommits(t *testing.T) {
	dir := t.TempDir()
	tasks := makeTasks(4)
	for i := range 2 {
		w := newWorkAt(t, dir)
		var cs []*commit
		for _, task := range tasks[2*i : 2*i+2] {
			cs = append(cs, &commit{stage: "together", task: task.ID, epoch: w.Epoch(), input: hashTasks(tasks, 0),
				results: []Task{{ID: task.ID, Data: []byte("left over")}}})
		}
		if err := w.commitAll(cs, true); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorkAt(t, dir)
	defer w.Close()
	s := &together{name: "together"}
	got, err := newExecutor(t, Config{Ranks: 2, Work: w}).Collective(t.Context(), s, tasks)
	if err != nil {
		t.Fatal(err)
	}
	checkTogether(t, got, tasks)
}

func newWorkAt(t *testing.T, dir string) *Work {
	t.Helper()
	w, err := OpenWork(dir, []byte("meta"))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestCollectiveBadInput(t *testing.T) {
	e := newExecutor(t, Config{Ranks: 2})
	for want, tasks := range map[string][]Task{
		"no tasks to process":   nil,
		"two tasks have the ID": slices.Concat(makeTasks(1), makeTasks(1)),
	} {
		st := &together{name: strings.ReplaceAll(want, " ", "-")}
		if _, err := e.Collective(t.Context(), st, tasks); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	small := newExecutor(t, Config{Ranks: 2, Budget: mem.NewBudget(4)})
	_, err := small.Collective(t.Context(), &together{name: "together"}, makeTasks(2))
	if err == nil || !strings.Contains(err.Error(), "budget's limit") {
		t.Errorf("got %v", err)
	}
}
