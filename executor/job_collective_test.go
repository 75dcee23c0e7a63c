package executor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle/collective"
)

// Each process is a rank of a collective stage. What it has finished is not done again by a second run.
func TestJobCollective(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5} {
		for _, n := range []int{2, 7} {
			t.Run(fmt.Sprintf("ranks=%d/tasks=%d", size, n), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "work")
				tj := &testJob{size: size}
				for run := range 2 {
					errs := tj.run(t, func(ctx context.Context, j *Job) error {
						return jobExecutor(ctx, j, dir, func(e *Executor) error {
							st := &together{name: "together"}
							got, err := e.Collective(ctx, st, makeTasks(n))
							if err != nil {
								return err
							}
							checkTogether(t, got, makeTasks(n))
							if calls := int(st.calls.Load()); calls != 1-run {
								return fmt.Errorf("run %d: %d calls on rank %d", run, calls, j.Rank())
							}
							if st.setups.Load() != st.closes.Load() {
								return fmt.Errorf("actors left")
							}
							s := e.Stats().Stages[0]
							if j.Root() && (s.Tasks != int64(n) || s.Counters["tasks"] != int64(n) || s.Files != int64((1-run)*n)) {
								return fmt.Errorf("run %d: %+v", run, s)
							}
							if j.Root() && run == 0 && (s.Actors != size || len(s.Shuffle.Ranks) != size || s.TaskTimes.Tasks != int64(n) ||
								size > 1 && s.Shuffle.Ranks[size-1].Statistics.Sent.Bytes == 0) {
								return fmt.Errorf("%+v", s)
							}
							return nil
						})
					})
					if err := errors.Join(errs...); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// All calls of a group work between processes, and give the same on all of them.
func TestJobCollectiveCalls(t *testing.T) {
	const size = 3
	tj := &testJob{size: size}
	errs := tj.run(t, func(ctx context.Context, j *Job) error {
		return jobExecutor(ctx, j, "", func(e *Executor) error {
			_, err := e.Collective(ctx, callsStage{}, makeTasks(size))
			return err
		})
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// callsStage makes every call of a group once.
type callsStage struct{}

func (callsStage) Name() string         { return "calls" }
func (callsStage) Resources() Resources { return Resources{} }

func (callsStage) NewCollectiveActor(_ context.Context, env *Env, g *collective.Group) (CollectiveActor, error) {
	return callsActor{env, g}, nil
}

type callsActor struct {
	env *Env
	g   *collective.Group
}

func (a callsActor) Close() error { return nil }

func (a callsActor) Process(ctx context.Context, tasks []Task, _ []*Attempt) ([][]Task, error) {
	if err := a.g.Barrier(ctx); err != nil {
		return nil, err
	}
	all, err := a.g.AllGather(ctx, []byte(fmt.Sprint("from ", a.env.Rank)))
	if err != nil {
		return nil, err
	}
	defer all.Release()
	each := make([][]byte, a.env.Size)
	for r := range each {
		each[r] = []byte(fmt.Sprint(a.env.Rank, " to ", r))
	}
	mine, err := a.g.AllToAll(ctx, each)
	if err != nil {
		return nil, err
	}
	defer mine.Release()
	for r := range a.env.Size {
		if got, want := string(all.Bytes(r)), fmt.Sprint("from ", r); got != want {
			return nil, fmt.Errorf("gathered %q, want %q", got, want)
		}
		if got, want := string(mine.Bytes(r)), fmt.Sprint(r, " to ", a.env.Rank); got != want {
			return nil, fmt.Errorf("got %q, want %q", got, want)
		}
	}
	sum := make([]float64, 100_000)
	for i := range sum {
		sum[i] = 1 / float64(1+i+a.env.Rank)
	}
	if err := collective.AllReduce(ctx, a.g, sum, collective.Sum[float64]()); err != nil {
		return nil, err
	}
	for i, got := range sum {
		want := 0.0
		for r := range a.env.Size {
			want += 1 / float64(1+i+r)
		}
		if got != want { // to the last bit, as the order of the ranks is that of the sum
			return nil, fmt.Errorf("sum %d is %v, want %v", i, got, want)
		}
	}
	return make([][]Task, len(tasks)), nil
}

// A rank that is lost at any point of a collective stage costs a round: the others do its tasks.
func TestJobCollectiveLoss(t *testing.T) {
	for _, where := range []string{"setup", "before", "middle", "after"} {
		for _, stop := range []bool{false, true} {
			t.Run(fmt.Sprint(where, "/stop=", stop), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "work")
				tj := &testJob{size: 4, silence: 2 * time.Second, stop: stop}
				var once atomic.Bool
				errs := tj.run(t, func(ctx context.Context, j *Job) error {
					return jobExecutor(ctx, j, dir, func(e *Executor) error {
						lose := func(*Env) error {
							if j.Rank() == 2 && !once.Swap(true) {
								j.links[0].conn.Break()
								time.Sleep(20 * time.Millisecond)
							}
							return nil
						}
						st := &together{name: "together"}
						switch where {
						case "setup":
							st.setup = func(env *Env, _ *collective.Group) error { return lose(env) }
						case "before":
							st.before = lose
						case "middle":
							st.middle = lose
						case "after":
							st.after = lose
						}
						got, err := e.Collective(ctx, st, makeTasks(9))
						if st.setups.Load() != st.closes.Load() {
							return fmt.Errorf("actors left, and %w", err)
						}
						if err != nil {
							return err
						}
						checkTogether(t, got, makeTasks(9))
						if s := e.Stats().Stages[0]; j.Root() && (s.Actors != 3 || s.Tasks != 9 || s.Files != 9 || s.Counters["tasks"] != 9) {
							return fmt.Errorf("%+v", s)
						}
						return nil
					})
				})
				for r, err := range errs {
					if lost := r == 2 || stop; lost && !errors.Is(err, ErrRankLost) && !strings.Contains(fmt.Sprint(err), "lost") || !lost && err != nil {
						t.Errorf("rank %d: %v", r, err)
					}
				}
			})
		}
	}
}

// A rank that takes long over its share is waited for as long as it shows signs of life. One that shows none is told to stop, and named if
// that happens again and again.
func TestJobCollectiveStandsStill(t *testing.T) {
	run := func(t *testing.T, still time.Duration, said *lines, middle func(g *collective.Group, out *Attempt) error) (*testJob, []error) {
		tj := &testJob{size: 3, silence: time.Second}
		return tj, tj.run(t, func(ctx context.Context, j *Job) error {
			cfg := Config{Job: j, Workers: 2, TaskTimeout: 500 * time.Millisecond}
			if j.Root() {
				cfg.Progress = said
			}
			e, err := New(cfg)
			if err != nil {
				return err
			}
			defer e.Close()
			e.still = still
			// Or a rank comes too late to the stage.
			if err := j.Meet(ctx, "start"); err != nil {
				return err
			}
			got, err := e.Collective(ctx, slowly(func(ctx context.Context, g *collective.Group, outs []*Attempt) error {
				if err := g.Barrier(ctx); err != nil {
					return err
				}
				if j.Rank() == 1 {
					if err := middle(g, outs[0]); err != nil {
						return err
					}
				}
				return g.Barrier(ctx)
			}), makeTasks(6))
			if err == nil && len(got) != 6 {
				err = fmt.Errorf("%d results", len(got))
			}
			return err
		})
	}
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		tj, errs := run(t, leastStandstill, new(lines), func(_ *collective.Group, out *Attempt) error {
			for start := time.Now(); time.Since(start) < 3*leastStandstill/2; out.Alive() {
				time.Sleep(leastStandstill / 20)
			}
			return nil
		})
		if err := errors.Join(errs...); err != nil || len(tj.notes) > 0 {
			t.Errorf("%v, %q", err, tj.notes)
		}
	})
	t.Run("again and again", func(t *testing.T) {
		t.Parallel()
		said := new(lines)
		_, errs := run(t, 2*time.Second, said, func(g *collective.Group, _ *Attempt) error {
			for g.Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			return g.Err()
		})
		for r, err := range errs {
			if err == nil || !strings.Contains(err.Error(), "rank 1 is busy with something else while the others wait in a call") ||
				!strings.Contains(err.Error(), "run the job again to go on") {
				t.Errorf("rank %d: %v", r, err)
			}
		}
		if notes := strings.Join(said.notes, "\n"); strings.Count(notes, `stage "slowly" begins again with 3 ranks; rank 1 says: nothing has happened`) != 2 {
			t.Errorf("rank 0 says %s", notes)
		}
	})
}

// TestSteps: whatever a rank does next changes the number that is looked at.
func TestSteps(t *testing.T) {
	last := int64(-1)
	for _, c := range []struct {
		moved int64
		begun int
		in    bool
	}{{0, 0, false}, {0, 1, true}, {3, 1, true}, {4, 1, false}, {4, 2, true}, {5, 2, false}, {9, 4, true}, {9, 4, false}} {
		n := steps(c.moved, c.begun, c.in)
		if n <= last {
			t.Errorf("%+v is %d, before it was %d", c, n, last)
		}
		last = n
	}
}

// slowly is a collective stage without results, made of what a rank does.
type slowly func(ctx context.Context, g *collective.Group, outs []*Attempt) error

func (slowly) Name() string         { return "slowly" }
func (slowly) Resources() Resources { return Resources{} }

func (s slowly) NewCollectiveActor(_ context.Context, _ *Env, g *collective.Group) (CollectiveActor, error) {
	return slowActor{s, g}, nil
}

type slowActor struct {
	s slowly
	g *collective.Group
}

func (slowActor) Close() error { return nil }

func (a slowActor) Process(ctx context.Context, tasks []Task, outs []*Attempt) ([][]Task, error) {
	results := make([][]Task, len(tasks))
	for i := range tasks {
		results[i] = tasks[i : i+1]
	}
	return results, a.s(ctx, a.g, outs)
}

// What goes wrong on one rank is told on all.
func TestJobCollectiveFails(t *testing.T) {
	for _, bad := range []int{0, 2} {
		for _, where := range []string{"setup", "middle", "after", "tasks"} {
			t.Run(fmt.Sprint(where, " on rank ", bad), func(t *testing.T) {
				tj := &testJob{size: 3}
				errs := tj.run(t, func(ctx context.Context, j *Job) error {
					return jobExecutor(ctx, j, "", func(e *Executor) error {
						boom := func(*Env) error {
							if j.Rank() == bad {
								return Transient(errors.New("boom"))
							}
							return nil
						}
						st, n := &together{name: "together"}, 5
						switch where {
						case "setup":
							st.setup = func(env *Env, _ *collective.Group) error { return boom(env) }
						case "middle":
							st.middle = boom
						case "after":
							st.after = boom
						case "tasks":
							if j.Rank() == bad {
								n = 6
							}
						}
						_, err := e.Collective(ctx, st, makeTasks(n))
						if st.setups.Load() != st.closes.Load() {
							return fmt.Errorf("actors left, and %w", err)
						}
						return err
					})
				})
				want := "boom"
				if where == "tasks" {
					want = "with other tasks than rank 0"
				}
				for r, err := range errs {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("rank %d: %v", r, err)
					}
				}
			})
		}
	}
}
