package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/collective"
)

// An actor that is stuck is replaced; one that is slow, and reads, writes, reports or waits, is not.
func TestStuck(t *testing.T) {
	const timeout, long = time.Second, 20 * time.Second
	for name, c := range map[string]struct {
		stuck bool
		do    func(ctx context.Context, e *Executor, out *Attempt) error
	}{
		"stuck": {true, func(ctx context.Context, _ *Executor, _ *Attempt) error {
			time.Sleep(long)
			return ctx.Err()
		}},
		"progress": {false, func(_ context.Context, _ *Executor, out *Attempt) error {
			for range 40 {
				time.Sleep(timeout / 2)
				out.Progress(1)
			}
			return nil
		}},
		"alive": {false, func(_ context.Context, _ *Executor, out *Attempt) error {
			for range 40 {
				time.Sleep(timeout / 2)
				out.Alive()
			}
			return nil
		}},
		"reads": {false, func(ctx context.Context, _ *Executor, out *Attempt) error {
			for range 40 {
				if _, err := ReaderAt(ctx, slowReader(timeout/2)).ReadAt(make([]byte, 1), 0); err != nil {
					return err
				}
			}
			return nil
		}},
		"writes": {false, func(_ context.Context, _ *Executor, out *Attempt) error {
			f, err := out.Create("f")
			for i := 0; err == nil && i < 40; i++ {
				time.Sleep(timeout / 2)
				_, err = f.Write(make([]byte, 64<<10))
			}
			return errors.Join(err, f.Close())
		}},
		"waits": {false, func(ctx context.Context, e *Executor, out *Attempt) error {
			held, err := e.cfg.Budget.Reserve(ctx, "other", 10)
			if err != nil {
				return err
			}
			time.AfterFunc(long, held.Release)
			_, err = out.Reserve(ctx, "mine", 10)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				e := newExecutor(t, Config{Workers: 1, TaskTimeout: timeout, Budget: mem.NewBudget(10), Work: newWork(t, filepath.Join(dir, "work"))})
				var tries atomic.Int32
				st := &stage{process: func(ctx context.Context, task Task, out *Attempt) ([]Task, error) {
					if task.ID == "t00001" && tries.Add(1) == 1 {
						return nil, c.do(ctx, e, out)
					}
					return nil, nil
				}}
				if _, err := e.Execute(t.Context(), []Stage{st}, makeTasks(3)); err != nil {
					t.Fatal(err)
				}
				s := e.Stats().Stages[0]
				if want := map[bool]int64{true: 1}[c.stuck]; s.Replaced != want || s.Attempts != 3+want || s.Tasks != 3 {
					t.Errorf("%+v", s)
				}
				if took := time.Duration(s.WallSeconds * float64(time.Second)); c.stuck && took > 2*timeout+2*lastGrace {
					t.Errorf("noticed after %v", took)
				}
				time.Sleep(long) // for those left behind
			})
		})
	}
}

// A stage that fails ends although one of its actors is stuck, be that on another rank.
func TestStuckWhenTheStageFails(t *testing.T) {
	boom := errors.New("boom")
	for _, stuck := range []int{0, 1} {
		for _, kind := range []string{"pool", "insert", "extract"} {
			t.Run(fmt.Sprint(kind, " on rank ", stuck), func(t *testing.T) {
				tj, free := &testJob{size: 2}, make(chan struct{})
				errs := tj.run(t, func(ctx context.Context, j *Job) error {
					e, err := New(Config{Job: j, Workers: 2, TaskTimeout: 200 * time.Millisecond})
					if err != nil {
						return err
					}
					defer e.Close()
					// Or a rank comes too late to the stage.
					if err := j.Meet(ctx, "start"); err != nil {
						return err
					}
					var n atomic.Int32
					do := func(at string) error {
						if at != kind {
							return nil
						}
						time.Sleep(time.Millisecond) // or one rank does it all
						if n.Add(1) > 1 {
							return boom
						} else if j.Rank() == stuck {
							<-free
						}
						return nil
					}
					if kind == "pool" {
						_, err = e.Execute(ctx, []Stage{&stage{process: func(context.Context, Task, *Attempt) ([]Task, error) { return nil, do("pool") }}}, makeTasks(50))
						return err
					}
					_, err = e.Shuffle(ctx, &sums{name: "sums", total: 20,
						insert:  func(context.Context, Task, *PartWriter) error { return do("insert") },
						extract: func(context.Context, int, *Attempt) error { return do("extract") },
					}, shuffleTasks(40))
					return err
				})
				close(free)
				for r, err := range errs {
					if err == nil || !strings.Contains(err.Error(), "boom") && !strings.Contains(err.Error(), "2 actors died of it") {
						t.Errorf("rank %d: %v", r, err)
					}
				}
			})
		}
	}
}

// wedgeEnv makes the test binary a rank whose actors get stuck: DOVETAIL_WEDGE is "address,rank,where".
const wedgeEnv = "DOVETAIL_WEDGE"

// wedgedRank is the life of that rank.
func wedgedRank(spec string) {
	addr, rest, _ := strings.Cut(spec, ",")
	rank, where, _ := strings.Cut(rest, ",")
	n := 0
	fmt.Sscan(rank, &n)
	j, err := Join(context.Background(), wedgeConfig(n, addr, where))
	if err == nil {
		err = wedgeProgram(context.Background(), j, where)
		j.Close(err)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func wedgeConfig(rank int, addr, where string) JobConfig {
	c := JobConfig{
		Rank: rank, Size: 3, Root: addr, Name: "wedge", Spec: "s", Workers: 2, JoinTimeout: time.Minute, Silence: 30 * time.Second,
	}
	if where == "wire" && rank == 1 {
		c.Fabric = stuckFabric{TCPFabric(nil)}
	}
	return c
}

// stuckFabric makes transports that stop in the middle of a shuffle, with whoever uses them.
type stuckFabric struct{ Fabric }

func (f stuckFabric) Open(host string) (Port, error) {
	p, err := f.Fabric.Open(host)
	return stuckPort{p}, err
}

type stuckPort struct{ Port }

func (p stuckPort) Connect(ctx context.Context, m Meeting) (shuffle.Transport, error) {
	t, err := p.Port.Connect(ctx, m)
	return &stuckTransport{Transport: t}, err
}

type stuckTransport struct {
	shuffle.Transport
	events int
}

func (t *stuckTransport) Poll(events []shuffle.Event) (int, error) {
	n, err := t.Transport.Poll(events)
	if t.events += n; t.events > 20 {
		select {}
	}
	return n, err
}

// wedgeProgram is what all ranks run: a stage, a shuffle and a collective stage. What is said by where gets stuck on rank 1, once or always.
func wedgeProgram(ctx context.Context, j *Job, where string) error {
	e, err := New(Config{Job: j, Workers: 2, TaskTimeout: 2 * time.Second})
	if err != nil {
		return err
	}
	defer e.Close()
	var stuck atomic.Bool
	wedge := func(at string) {
		if j.Rank() == 1 && where == at && !stuck.Swap(true) {
			select {}
		}
		time.Sleep(time.Millisecond) // or one rank does it all
	}
	st := &stage{name: "pool", process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
		wedge("pool")
		return []Task{task}, nil
	}}
	got, err := e.Execute(ctx, []Stage{st}, shuffleTasks(60))
	if err != nil {
		return err
	}
	if j.Rank() == 1 && where == "between" {
		time.Sleep(time.Hour)
	}
	sh := &sums{name: "sums", total: 12,
		insert:  func(context.Context, Task, *PartWriter) error { wedge("insert"); return nil },
		extract: func(context.Context, int, *Attempt) error { wedge("extract"); return nil },
	}
	out, err := e.Shuffle(ctx, sh, got)
	if err != nil {
		return err
	}
	for p, want := range wantSums(60, 12) {
		if string(out[p].Data) != want {
			return fmt.Errorf("partition %d: %q, want %q", p, out[p].Data, want)
		}
	}
	all := &together{name: "together",
		setup:  func(*Env, *collective.Group) error { wedge("setup"); return nil },
		middle: func(*Env) error { wedge("collective"); return nil },
	}
	if got, err = e.Collective(ctx, all, makeTasks(7)); err != nil {
		return err
	}
	if len(got) != 7 || string(got[6].Data) != "6 of 21, at most 6" {
		return fmt.Errorf("together: %q", got[6].Data)
	}
	return nil
}

// A rank in another process whose program is stuck, while its heartbeats go on, is noticed: its task, or the rank, is done without.
func TestWedgedRank(t *testing.T) {
	for _, where := range []string{"pool", "insert", "extract", "between", "wire", "setup", "collective"} {
		lost := where != "pool" && where != "insert" && where != "extract"
		t.Run(where, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var children []*exec.Cmd
			for rank := 1; rank < 3; rank++ {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%d,%s", wedgeEnv, l.Addr(), rank, where))
				cmd.Stderr = os.Stderr
				if lost && rank == 1 {
					cmd.Stderr = nil // it says that it is lost
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = cmd.Process.Kill() })
				children = append(children, cmd)
			}
			cfg := wedgeConfig(0, l.Addr().String(), where)
			cfg.Listener = l
			j, err := Join(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			err = wedgeProgram(t.Context(), j, where)
			took, gone := time.Since(start), j.Lost()
			if lost {
				_ = children[0].Process.Kill() // it sleeps for an hour
			}
			j.Close(err)
			if err != nil || took > time.Minute {
				t.Errorf("after %v: %v", took, err)
			}
			if lost != (len(gone) == 1 && strings.Contains(gone[0].Why, "its program is stuck")) {
				t.Errorf("lost are %+v", gone)
			}
			for i, cmd := range children {
				if err := cmd.Wait(); err != nil && !(lost && i == 0) {
					t.Errorf("rank %d: %v", i+1, err)
				}
			}
		})
	}
}
