package executor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// breakData cuts the data links of a rank in the middle of a round, if it is in one, as a bad cable would.
func breakData(j *Job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, a := range j.stages {
		var now *mesh
		switch m := a.h.(type) {
		case *shuffleMember:
			m.rmu.Lock()
			if m.cur != nil {
				now = m.cur.mesh
			}
			m.rmu.Unlock()
		case *collectiveMember:
			m.rmu.Lock()
			if m.cur != nil {
				now = m.cur.mesh
			}
			m.rmu.Unlock()
		}
		if now != nil {
			if c := now.comm.Load(); c != nil {
				go c.Close()
			}
		}
	}
}

// TestJobAnyFaults cuts links at random moments of a pipeline: rank 0 ends with the right results, or says that it cannot; no rank
// hangs, and none ends with wrong results.
func TestJobAnyFaults(t *testing.T) {
	runs := 200
	if testing.Short() {
		runs = 12
	}
	seed := uint64(time.Now().UnixNano())
	finished := 0
	for n := range runs {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		size := 2 + rng.IntN(4)
		tj := &testJob{size: size, silence: 400 * time.Millisecond, stop: rng.IntN(4) == 0}
		dir := filepath.Join(t.TempDir(), "work")
		type fault struct {
			after time.Duration
			data  bool
		}
		faults := make([][]fault, size)
		for range 1 + rng.IntN(3) {
			r := 1 + rng.IntN(size-1)
			faults[r] = append(faults[r], fault{time.Duration(rng.Int64N(int64(80 * time.Millisecond))), rng.IntN(2) == 0})
		}
		errs := tj.run(t, func(ctx context.Context, j *Job) error {
			for _, f := range faults[j.Rank()] {
				defer time.AfterFunc(f.after, func() {
					if f.data {
						breakData(j)
						return
					}
					j.mu.Lock()
					l := j.links[0]
					j.mu.Unlock()
					if l != nil {
						l.conn.Break()
					}
				}).Stop()
			}
			return jobExecutor(ctx, j, dir, func(e *Executor) error {
				wait := func() { time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) }
				first := &stage{name: "first", process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
					wait()
					return []Task{task}, nil
				}}
				got, err := e.Execute(ctx, []Stage{first}, shuffleTasks(24))
				if err != nil {
					return err
				}
				streamed := &stage{name: "streamed", process: first.process}
				if out, err := collect(e.Stream(ctx, streamed, source(makeTasks(30), new(atomic.Int64)))); err != nil {
					return err
				} else if len(out) != 30 || out[29].ID != "t00029" {
					return fmt.Errorf("WRONG: streamed %q", ids(out))
				}
				all := &together{name: "together", middle: func(*Env) error { wait(); return nil }, after: func(*Env) error { wait(); return nil }}
				if out, err := e.Collective(ctx, all, makeTasks(7)); err != nil {
					return err
				} else if len(out) != 7 || string(out[6].Data) != "6 of 21, at most 6" {
					return fmt.Errorf("WRONG: %+v", out)
				}
				for i := range 3 {
					st := &sums{name: fmt.Sprint("sums", i), total: 9,
						insert:  func(context.Context, Task, *PartWriter) error { wait(); return nil },
						extract: func(context.Context, int, *Attempt) error { wait(); return nil },
					}
					out, err := e.Shuffle(ctx, st, got)
					if err != nil {
						return err
					}
					for p, want := range wantSums(24, 9) {
						if string(out[p].Data) != want {
							return fmt.Errorf("WRONG: stage %d, partition %d: %q, want %q", i, p, out[p].Data, want)
						}
					}
					if st.setups.Load() != st.closes.Load() {
						return fmt.Errorf("WRONG: actors left")
					}
				}
				return nil
			})
		})
		if errs[0] == nil {
			finished++
		}
		for r, err := range errs {
			if err != nil && (strings.Contains(err.Error(), "WRONG") || !understood(err)) {
				t.Errorf("seed %d run %d: rank %d of %d: %v", seed, n, r, size, err)
			}
		}
		// Of two ranks that are lost over one task the task is thought to be the reason.
		if errs[0] != nil && !tj.stop && !strings.Contains(errs[0].Error(), "links between ranks broke") &&
			!strings.Contains(errs[0].Error(), "2 actors died of it") {
			t.Errorf("seed %d run %d: rank 0 gave up: %v", seed, n, errs[0])
		}
	}
	if finished < runs/3 {
		t.Errorf("seed %d: only %d of %d runs finished", seed, finished, runs)
	}
}

// understood reports whether an error is one that a cut link may lead to.
func understood(err error) bool {
	var re *RemoteError
	return errors.Is(err, ErrRankLost) || errors.Is(err, ErrClosed) || errors.As(err, &re) && strings.Contains(re.Text, "lost")
}
