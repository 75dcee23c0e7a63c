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
)

// Streams of a job can be chained, and give all ranks what they would give one process.
func TestJobStream(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5} {
		for _, inFlight := range []int{0, 3} {
			t.Run(fmt.Sprintf("ranks=%d/in-flight=%d", size, inFlight), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "work")
				tj := &testJob{size: size}
				for run := range 2 {
					errs := tj.run(t, func(ctx context.Context, j *Job) error {
						return jobExecutor(ctx, j, dir, func(e *Executor) error {
							e.cfg.InFlight = inFlight
							time.Sleep(time.Duration(j.Rank()) * 5 * time.Millisecond) // they do not come at one time
							double := &stage{name: "double", process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
								time.Sleep(time.Duration(len(task.Data)*300) * time.Microsecond)
								return []Task{{Data: task.Data}, {Data: task.Data}}, nil
							}}
							mark := &groupStage2{stage{name: "mark", process: func(_ context.Context, task Task, out *Attempt) ([]Task, error) {
								out.Count("tasks", 1)
								return []Task{{Data: []byte(string(task.Data) + "!")}}, nil
							}}}
							got, err := collect(e.Stream(ctx, mark, e.Stream(ctx, double, source(makeTasks(50), new(atomic.Int64)))))
							if err != nil {
								return err
							}
							for i, task := range got {
								if want := fmt.Sprintf("%d!", i/2); string(task.Data) != want {
									return fmt.Errorf("result %d is %q, want %q", i, task.Data, want)
								}
							}
							if double.setups.Load() != double.closes.Load() || len(got) != 100 {
								return fmt.Errorf("%d results, %d actors, %d closed", len(got), double.setups.Load(), double.closes.Load())
							}
							if s := e.Stats().Stages[1]; j.Root() && (s.Tasks != 100 || s.Reused != int64(100*run) || s.Counters["tasks"] != 100) {
								return fmt.Errorf("run %d: %+v", run, s)
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

// groupStage2 takes two tasks at a time.
type groupStage2 struct{ stage }

func (*groupStage2) BatchSize() int { return 2 }

// A slow consumer on any rank slows the source.
func TestJobStreamBackPressure(t *testing.T) {
	for slow := range 3 {
		tj := &testJob{size: 3}
		var taken, consumed atomic.Int64
		errs := tj.run(t, func(ctx context.Context, j *Job) error {
			return jobExecutor(ctx, j, "", func(e *Executor) error {
				e.cfg.InFlight = 4
				src, most := source(makeTasks(40), new(atomic.Int64)), int64(0)
				if j.Root() {
					src = source(makeTasks(40), &taken)
				}
				n := int64(0)
				for _, err := range e.Stream(ctx, &stage{}, src) {
					if err != nil {
						return err
					}
					if n++; j.Rank() == slow {
						time.Sleep(2 * time.Millisecond)
						// The next has begun to be consumed; what is ahead of it is in flight.
						most = max(most, taken.Load()-consumed.Add(1))
					}
				}
				if most > 4+1 || n != 40 {
					return fmt.Errorf("%d results; %d tasks ahead of rank %d", n, most, slow)
				}
				return nil
			})
		})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
}

// A rank that is lost costs its tasks; one that leaves the loop with the others costs nothing.
func TestJobStreamLoss(t *testing.T) {
	tj, turns := &testJob{size: 4, silence: 2 * time.Second}, newTurns(4)
	var once atomic.Bool
	errs := tj.run(t, func(ctx context.Context, j *Job) error {
		return jobExecutor(ctx, j, "", func(e *Executor) error {
			st := &stage{process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
				turns.at(j.Rank())
				if j.Rank() == 2 && !once.Swap(true) {
					j.links[0].conn.Break()
				}
				return []Task{task}, nil
			}}
			got, err := collect(e.Stream(ctx, st, source(makeTasks(60), new(atomic.Int64))))
			if err == nil && (len(got) != 60 || got[59].ID != "t00059") {
				err = fmt.Errorf("got %q", ids(got))
			}
			if st.setups.Load() != st.closes.Load() {
				err = errors.Join(err, errors.New("actors left"))
			}
			return err
		})
	})
	for r, err := range errs {
		if r == 2 && !errors.Is(err, ErrRankLost) || r != 2 && err != nil {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}

func TestJobStreamLeave(t *testing.T) {
	for _, leaver := range []int{-1, 0, 1} { // all of them, or one alone
		tj := &testJob{size: 3}
		errs := tj.run(t, func(ctx context.Context, j *Job) error {
			return jobExecutor(ctx, j, "", func(e *Executor) error {
				st := &stage{}
				n := 0
				for _, err := range e.Stream(ctx, st, source(makeTasks(200), new(atomic.Int64))) {
					if err != nil {
						return err
					}
					if n++; n == 30 && (leaver < 0 || leaver == j.Rank()) {
						break
					}
				}
				if st.setups.Load() != st.closes.Load() {
					return errors.New("actors left")
				}
				// And the next stage is one for all of them.
				_, err := e.Execute(ctx, []Stage{&stage{name: "next"}}, makeTasks(9))
				return err
			})
		})
		for r, err := range errs {
			if leaver == 0 && r > 0 {
				if err == nil || !strings.Contains(err.Error(), "rank 0 has left the loop") {
					t.Errorf("rank 0 leaves: rank %d: %v", r, err)
				}
			} else if err != nil && !(leaver == 0 && r == 0) {
				t.Errorf("rank %d leaves: rank %d: %v", leaver, r, err)
			}
		}
	}
}

// What goes wrong on one rank is told on all, other tasks than rank 0's included.
func TestJobStreamFails(t *testing.T) {
	boom := errors.New("boom")
	const late = "setup, and a rank comes late"
	for _, where := range []string{"source", "process", "setup", late, "tasks", "fewer"} {
		t.Run(where, func(t *testing.T) {
			tj := &testJob{size: 3}
			errs := tj.run(t, func(ctx context.Context, j *Job) error {
				return jobExecutor(ctx, j, "", func(e *Executor) error {
					tasks, st := makeTasks(50), &stage{}
					src := source(tasks, new(atomic.Int64))
					mine := j.Rank() == 1
					switch {
					case where == "source" && mine:
						src = func(yield func(Task, error) bool) { yield(Task{}, boom) }
					case where == "process":
						st.process = func(ctx context.Context, task Task, _ *Attempt) ([]Task, error) {
							if mine {
								return nil, boom
							}
							<-ctx.Done() // or one rank does it all
							return nil, nil
						}
					case where == late && j.Rank() == 2:
						time.Sleep(100 * time.Millisecond)
					case strings.HasPrefix(where, "setup") && mine:
						st.setup = func(*Env) error { return boom }
					case where == "tasks" && mine:
						tasks[7].Data = []byte("another")
					case where == "fewer" && mine:
						src = source(tasks[:40], new(atomic.Int64))
					}
					_, err := collect(e.Stream(ctx, st, src))
					if where == late && j.Root() {
						time.Sleep(300 * time.Millisecond) // or its end of the job says it all
					}
					if st.setups.Load() != st.closes.Load() {
						return fmt.Errorf("actors left, and %w", err)
					}
					return err
				})
			})
			for r, err := range errs {
				switch {
				case where == "tasks" || where == "fewer":
					if r == 1 && (err == nil || !strings.Contains(err.Error(), "other tasks than rank 0")) || r != 1 && err != nil {
						t.Errorf("rank %d: %v", r, err)
					}
				case err == nil || !strings.Contains(err.Error(), "boom"):
					t.Errorf("rank %d: %v", r, err)
				}
			}
		})
	}
}
