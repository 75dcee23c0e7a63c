package executor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// source yields tasks and counts how many were taken.
func source(tasks []Task, taken *atomic.Int64) iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		for _, t := range tasks {
			taken.Add(1)
			if !yield(t, nil) {
				return
			}
		}
	}
}

func collect(seq iter.Seq2[Task, error]) (out []Task, err error) {
	for t, err := range seq {
		if err != nil {
			return out, err
		}
		out = append(out, t)
	}
	return out, nil
}

func TestStreamOrder(t *testing.T) {
	e := newExecutor(t, Config{Workers: 4})
	var taken atomic.Int64
	st := &stage{process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
		time.Sleep(time.Duration(len(task.Data)*50) * time.Microsecond)
		if task.ID == "t00004" {
			return nil, nil
		}
		return []Task{{Data: task.Data}, {Data: task.Data}}, nil
	}}
	tasks := makeTasks(120)
	out, err := collect(e.Stream(t.Context(), st, source(tasks, &taken)))
	if err != nil || len(out) != 238 {
		t.Fatalf("%d results, %v", len(out), err)
	}
	if !slices.IsSortedFunc(out, func(a, b Task) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("out of order: %v", ids(out))
	}
	st.check(t)
	if s := e.Stats().Stages[0]; s.Tasks != 120 || s.Attempts != 120 {
		t.Errorf("%+v", s)
	}
}

func TestStreamNothing(t *testing.T) {
	e := newExecutor(t, Config{Workers: 4})
	st := &stage{}
	out, err := collect(e.Stream(t.Context(), st, source(nil, new(atomic.Int64))))
	if out != nil || err != nil {
		t.Errorf("got %v, %v", out, err)
	}
	st.check(t)
}

// However slow the consumer, no more than InFlight tasks are under way, through two stages.
func TestStreamBackPressure(t *testing.T) {
	const inFlight = 6
	for _, batch := range []int{1, 4, 20} {
		e := newExecutor(t, Config{Workers: 3, InFlight: inFlight})
		var taken atomic.Int64
		first := &counting{stage: stage{name: "first"}, batch: batch}
		second := &counting{stage: stage{name: "second"}, batch: 1}
		consumed, most := int64(0), int64(0)
		limit := int64(max(inFlight, batch) + inFlight)
		for task, err := range e.Stream(t.Context(), second, e.Stream(t.Context(), first, source(makeTasks(60), &taken))) {
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("t%05d", consumed); task.ID != want {
				t.Fatalf("got %s, want %s", task.ID, want)
			}
			time.Sleep(500 * time.Microsecond)
			most = max(most, taken.Load()-consumed)
			consumed++
		}
		if consumed != 60 || most > limit {
			t.Errorf("batch %d: %d consumed, %d in flight, want at most %d", batch, consumed, most, limit)
		}
		if most < limit/2 {
			t.Errorf("batch %d: only %d in flight: the test shows nothing", batch, most)
		}
		first.check(t)
		second.check(t)
	}
}

func TestStreamLeave(t *testing.T) {
	e := newExecutor(t, Config{Workers: 4})
	var taken atomic.Int64
	st := &stage{name: "leave"}
	n := 0
	for _, err := range e.Stream(t.Context(), st, source(makeTasks(10000), &taken)) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 10 {
			break
		}
	}
	st.check(t)
	if taken.Load() > 100 {
		t.Errorf("%d tasks taken", taken.Load())
	}
	// A panic in the loop stops the stage too, and is not swallowed.
	st = &stage{name: "panic"}
	func() {
		defer func() {
			if recover() != "consumer" {
				t.Error("the panic is gone")
			}
		}()
		for range e.Stream(t.Context(), st, source(makeTasks(10000), &taken)) {
			panic("consumer")
		}
	}()
	st.check(t)
}

func TestStreamErrors(t *testing.T) {
	boom := errors.New("boom")
	e := newExecutor(t, Config{Workers: 4})
	failing := func(yield func(Task, error) bool) {
		for _, task := range makeTasks(20) {
			if !yield(task, nil) {
				return
			}
		}
		yield(Task{}, boom)
	}
	st := &stage{name: "source"}
	if _, err := collect(e.Stream(t.Context(), st, failing)); !errors.Is(err, boom) {
		t.Errorf("source: %v", err)
	}
	st.check(t)

	st = &stage{name: "source-panics"}
	panics := func(yield func(Task, error) bool) { panic("source") }
	if _, err := collect(e.Stream(t.Context(), st, panics)); !errors.Is(err, ErrPanic) || !strings.Contains(err.Error(), "source of tasks") {
		t.Errorf("source: %v", err)
	}
	st.check(t)

	st = &stage{name: "source-exits"}
	exits := func(yield func(Task, error) bool) {
		for _, task := range makeTasks(20) {
			if !yield(task, nil) {
				return
			}
		}
		runtime.Goexit()
	}
	if _, err := collect(e.Stream(t.Context(), st, exits)); !errors.Is(err, ErrPanic) {
		t.Errorf("source: %v", err)
	}
	st.check(t)

	st = &stage{name: "task", process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
		if task.ID == "t00013" {
			return nil, boom
		}
		return []Task{task}, nil
	}}
	out, err := collect(e.Stream(t.Context(), st, source(makeTasks(100), new(atomic.Int64))))
	if !errors.Is(err, boom) || len(out) > 13 {
		t.Errorf("task: %d results, %v", len(out), err)
	}
	st.check(t)

	st = &stage{name: "twice"}
	double := slices.Concat(makeTasks(3), makeTasks(1))
	if _, err := collect(e.Stream(t.Context(), st, source(double, new(atomic.Int64)))); err == nil || !strings.Contains(err.Error(), "two tasks") {
		t.Errorf("twice: %v", err)
	}
	st = &stage{name: "gpu", res: Resources{GPUs: 1}}
	if _, err := collect(e.Stream(t.Context(), st, source(double, new(atomic.Int64)))); !errors.Is(err, ErrNoResources) {
		t.Errorf("gpu: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st = &stage{name: "cancelled"}
	n := 0
	for _, err = range e.Stream(ctx, st, source(makeTasks(10000), new(atomic.Int64))) {
		if n++; n == 20 {
			cancel()
		}
	}
	if !errors.Is(err, context.Canceled) || n > 200 {
		t.Errorf("cancelled: %v after %d", err, n)
	}
	st.check(t)
}
