package executor

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

func TestShuffleBadInput(t *testing.T) {
	e := newExecutor(t, Config{Ranks: 2})
	for want, run := range map[string]func() error{
		"no tasks to process": func() error {
			_, err := e.Shuffle(t.Context(), &sums{name: "a", total: 1}, nil)
			return err
		},
		"TotalParts is 0": func() error {
			_, err := e.Shuffle(t.Context(), &sums{name: "b"}, shuffleTasks(1))
			return err
		},
		"two tasks have the ID": func() error {
			_, err := e.Shuffle(t.Context(), &sums{name: "c", total: 1}, slices.Concat(shuffleTasks(1), shuffleTasks(1)))
			return err
		},
		"chunk for partition 3 of 3": func() error {
			_, err := e.Shuffle(t.Context(), &sums{name: "d", total: 3, insert: func(ctx context.Context, _ Task, out *PartWriter) error {
				buf, err := out.Alloc(ctx, 10)
				if err != nil {
					return err
				}
				return out.Insert(ctx, shuffle.Chunk{Partition: 3, Rows: 1, Data: buf})
			}}, shuffleTasks(1))
			return err
		},
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A failure at any point, on any actor, ends the stage on all ranks with that failure, and releases everything.
func TestShuffleFails(t *testing.T) {
	boom := errors.New("boom")
	ways := map[string]func() error{
		"error":  func() error { return boom },
		"panic":  func() error { panic(boom) },
		"goexit": func() error { runtime.Goexit(); return nil },
	}
	for where, want := range map[string]string{
		"setup": "", "insert": `task "t00007"`, "extract": `task "part-00004"`, "close": "", "last insert": `task "t00019"`,
	} {
		for way, fail := range ways {
			t.Run(where+" "+way, func(t *testing.T) {
				budget := mem.NewBudget(1 << 20)
				e := newExecutor(t, Config{Ranks: 3, Workers: 6, Alloc: mem.NewChecked(t, mem.Host()), Budget: budget, SpillMemoryLimit: 5000})
				at := func(here string, match bool) error {
					if here == where && match {
						return fail()
					}
					return nil
				}
				st := &sums{
					name: "sums", total: 9,
					setup:   func(env *Env) error { return at("setup", env.Actor == 4) },
					extract: func(_ context.Context, part int, _ *Attempt) error { return at("extract", part == 4) },
					close:   func(env *Env) error { return at("close", env.Actor == 4) },
					insert: func(_ context.Context, task Task, _ *PartWriter) error {
						return errors.Join(at("insert", task.ID == "t00007"), at("last insert", task.ID == "t00019"))
					},
				}
				got, err := e.Shuffle(t.Context(), st, shuffleTasks(20))
				if got != nil || err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `stage "sums"`) {
					t.Fatalf("%d results and %v", len(got), err)
				}
				if way != "goexit" && !errors.Is(err, boom) || way != "error" && !errors.Is(err, ErrPanic) {
					t.Errorf("got %v", err)
				}
				if st.setups.Load() != st.closes.Load() {
					t.Errorf("%d set up, %d closed", st.setups.Load(), st.closes.Load())
				}
				// The ranks still work.
				again := &sums{name: "again", total: 4}
				if got, err = e.Shuffle(t.Context(), again, shuffleTasks(5)); err != nil {
					t.Fatal(err)
				}
				checkSums(t, got, 5, 4)
				// What was under way between ranks when the stage ended is gone with them.
				e.Close()
				if s := budget.Stats(); s.Used != 0 {
					t.Errorf("budget: %+v", s)
				}
			})
		}
	}
}

func TestShuffleCancel(t *testing.T) {
	cause := errors.New("stop it")
	for _, where := range []string{"before", "setup", "insert", "last insert", "extract", "close"} {
		t.Run(where, func(t *testing.T) {
			e := newExecutor(t, Config{Ranks: 3, Workers: 3, Alloc: mem.NewChecked(t, mem.Host())})
			ctx, cancel := context.WithCancelCause(t.Context())
			at := func(here string, match bool) error {
				if here == where && match {
					cancel(cause)
				}
				return nil
			}
			at("before", true)
			st := &sums{
				name: "sums", total: 9,
				setup:   func(env *Env) error { return at("setup", env.Actor == 1) },
				extract: func(_ context.Context, part int, _ *Attempt) error { return at("extract", part == 4) },
				close:   func(env *Env) error { return at("close", env.Actor == 1) },
				insert: func(_ context.Context, task Task, _ *PartWriter) error {
					return errors.Join(at("insert", task.ID == "t00007"), at("last insert", task.ID == "t00019"))
				},
			}
			_, err := e.Shuffle(ctx, st, shuffleTasks(20))
			if !errors.Is(err, cause) {
				t.Errorf("got %v", err)
			}
			if st.setups.Load() != st.closes.Load() {
				t.Errorf("%d set up, %d closed", st.setups.Load(), st.closes.Load())
			}
		})
	}
}

// A task or partition that is tried again counts once.
func TestShuffleTransient(t *testing.T) {
	e := newExecutor(t, Config{Ranks: 2, Workers: 4, MaxAttempts: 3, Alloc: mem.NewChecked(t, mem.Host())})
	lost := Transient(errors.New("connection lost"))
	st := &sums{
		name: "sums", total: 5,
		insert: func(_ context.Context, task Task, out *PartWriter) error {
			if out.Number() < 2 && strings.HasSuffix(task.ID, "3") {
				return lost
			}
			return nil
		},
		extract: func(_ context.Context, part int, out *Attempt) error {
			if out.Number() < 1 && part == 2 {
				return lost
			}
			return nil
		},
	}
	got, err := e.Shuffle(t.Context(), st, shuffleTasks(20))
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, got, 20, 5)
	if s := e.Stats().Stages[0]; s.Attempts != 20+4+5+1 || s.Counters["rows"] != 20*rowsPerTask || s.Units != 20*rowsPerTask || s.Inserts != 20 {
		t.Errorf("%+v", s)
	}
}
