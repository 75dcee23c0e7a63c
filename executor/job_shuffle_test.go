package executor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestJobShuffle(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "work")
			tj := &testJob{size: size}
			if size == 3 {
				tj.secret = doorSecret
			}
			for run := range 2 {
				errs := tj.run(t, func(ctx context.Context, j *Job) error {
					return jobExecutor(ctx, j, dir, func(e *Executor) error {
						st := &sums{name: "sums", total: 11}
						got, err := e.Shuffle(ctx, st, shuffleTasks(40))
						if err != nil {
							return err
						}
						if j.Root() {
							checkSums(t, got, 40, 11)
							s := e.Stats().Stages[0]
							want := int64(40)
							if run == 1 {
								want = 0
							}
							if s.Inserts != want || s.Counters["rows"] != 40*rowsPerTask || s.Counters["extracted"] != 40*rowsPerTask || s.Tasks != 11 {
								return fmt.Errorf("run %d: %+v", run, s)
							}
							if run == 0 && len(s.Shuffle.Ranks) != size {
								return fmt.Errorf("statistics of %d ranks", len(s.Shuffle.Ranks))
							}
						} else if len(got) != 11 {
							return fmt.Errorf("%d results", len(got))
						}
						if st.setups.Load() != st.closes.Load() {
							return fmt.Errorf("actors left")
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

// A rank that is lost in a shuffle, while it inserts or while it extracts, costs a round and nothing else.
func TestJobShuffleLoss(t *testing.T) {
	for _, where := range []string{"insert", "extract", "both"} {
		t.Run(where, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "work")
			tj, turns := &testJob{size: 4, silence: 2 * time.Second}, newTurns(4)
			var once [2]atomic.Bool
			errs := tj.run(t, func(ctx context.Context, j *Job) error {
				return jobExecutor(ctx, j, dir, func(e *Executor) error {
					lose := func(i int) {
						if j.Rank() == i+1 && !once[i].Swap(true) {
							j.links[0].conn.Break()
							time.Sleep(10 * time.Millisecond)
						}
					}
					st := &sums{name: "sums", total: 16,
						insert: func(context.Context, Task, *PartWriter) error {
							turns.at(j.Rank())
							if where != "extract" {
								lose(0)
							}
							return nil
						},
						extract: func(context.Context, int, *Attempt) error {
							if where != "insert" {
								lose(1)
							}
							return nil
						},
					}
					got, err := e.Shuffle(ctx, st, shuffleTasks(40))
					if err != nil {
						return err
					}
					if j.Root() {
						checkSums(t, got, 40, 16)
						s := e.Stats().Stages[0]
						if s.Inserts != 40 || s.Counters["rows"] != 40*rowsPerTask || s.Counters["extracted"] != 40*rowsPerTask {
							return fmt.Errorf("%+v", s)
						}
					}
					return nil
				})
			})
			lost := map[string][]int{"insert": {1}, "extract": {2}, "both": {1, 2}}[where]
			for rank, err := range errs {
				isLost := false
				for _, r := range lost {
					isLost = isLost || r == rank
				}
				if isLost != errors.Is(err, ErrRankLost) || !isLost && err != nil {
					t.Errorf("rank %d: %v", rank, err)
				}
			}
		})
	}
}

// What goes wrong on one rank reaches all.
func TestJobShuffleFails(t *testing.T) {
	for _, where := range []string{"setup", "insert", "extract", "panic"} {
		t.Run(where, func(t *testing.T) {
			tj := &testJob{size: 3}
			errs := tj.run(t, func(ctx context.Context, j *Job) error {
				return jobExecutor(ctx, j, "", func(e *Executor) error {
					fail := func(here string) error {
						if here == where && j.Rank() == 1 {
							return errors.New("the disk is full")
						}
						if where == "panic" && here == "insert" && j.Rank() == 1 {
							panic("the disk is full")
						}
						return nil
					}
					st := &sums{name: "sums", total: 16,
						setup: func(*Env) error { return fail("setup") },
						insert: func(ctx context.Context, _ Task, _ *PartWriter) error {
							if j.Rank() != 1 && (where == "insert" || where == "panic") {
								<-ctx.Done() // or one rank does it all
							}
							return fail("insert")
						},
						extract: func(context.Context, int, *Attempt) error { return fail("extract") },
					}
					_, err := e.Shuffle(ctx, st, shuffleTasks(40))
					return err
				})
			})
			for rank, err := range errs {
				if err == nil || !strings.Contains(err.Error(), "the disk is full") || rank != 1 && !strings.Contains(err.Error(), "rank 1") {
					t.Errorf("rank %d: %v", rank, err)
				}
			}
		})
	}
}

// A rank that comes back after it was lost catches up with what was done, and takes part again.
func TestJobComesBack(t *testing.T) {
	tj, turns := &testJob{size: 3}, newTurns(3)
	var once atomic.Bool
	var mu sync.Mutex
	var late int
	back := make(chan struct{})
	body := func(ctx context.Context, j *Job, second bool) error {
		return jobExecutor(ctx, j, "", func(e *Executor) error {
			first := &stage{name: "first", process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
				turns.at(j.Rank())
				if j.Rank() == 1 && !once.Swap(true) {
					j.links[0].conn.Break()
				}
				return []Task{task}, nil
			}}
			got, err := e.Execute(ctx, []Stage{first}, shuffleTasks(50))
			if err != nil {
				return err
			}
			if j.Root() {
				<-back
			}
			st := &sums{name: "sums", total: 16, extract: func(context.Context, int, *Attempt) error {
				mu.Lock()
				defer mu.Unlock()
				if second {
					late++
				}
				return nil
			}}
			if got, err = e.Shuffle(ctx, st, got); err == nil && j.Root() {
				checkSums(t, got, 50, 16)
			}
			return err
		})
	}
	errs := tj.run(t, func(ctx context.Context, j *Job) error {
		err := body(ctx, j, false)
		if j.Rank() != 1 {
			return err
		}
		if !errors.Is(err, ErrRankLost) {
			return fmt.Errorf("it was not lost: %w", err)
		}
		j2, err := Join(ctx, j.cfg)
		close(back)
		if err != nil {
			return err
		}
		err = body(ctx, j2, true)
		j2.Close(err)
		return err
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if late == 0 {
		t.Error("the rank that came back did nothing")
	}
}
