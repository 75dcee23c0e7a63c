package executor

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// nothing is a stage whose actors do nothing.
type nothing struct{ name string }

func (n nothing) Name() string                                  { return n.name }
func (n nothing) Resources() Resources                          { return Resources{} }
func (n nothing) NewActor(context.Context, *Env) (Actor, error) { return n, nil }
func (n nothing) Close() error                                  { return nil }
func (n nothing) Process(context.Context, Task, *Attempt) ([]Task, error) {
	return nil, nil
}

// BenchmarkTasks measures what the executor adds to a task, as tasks per second.
func BenchmarkTasks(b *testing.B) {
	for _, work := range []string{"memory", "log"} {
		for _, how := range []string{"Execute", "Stream"} {
			b.Run(how+"/"+work, func(b *testing.B) {
				cfg := Config{Workers: 2}
				if work == "log" {
					cfg.Work = newWork(b, b.TempDir())
				}
				e := newExecutor(b, cfg)
				tasks := makeTasks(b.N)
				b.ReportAllocs()
				b.ResetTimer()
				var err error
				if how == "Execute" {
					_, err = e.Execute(b.Context(), []Stage{nothing{"nothing"}}, tasks)
				} else {
					_, err = collect(e.Stream(b.Context(), nothing{"nothing"}, source(tasks, new(atomic.Int64))))
				}
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			})
		}
	}
}

// BenchmarkCommitFiles measures tasks that each commit one small file.
func BenchmarkCommitFiles(b *testing.B) {
	for _, workers := range []int{1, 2, 8} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			e := newExecutor(b, Config{Workers: workers, Work: newWork(b, b.TempDir())})
			data := make([]byte, 4096)
			st := &stage{process: func(_ context.Context, _ Task, out *Attempt) ([]Task, error) {
				f, err := out.Create("f")
				if err != nil {
					return nil, err
				}
				f.Write(data)
				return nil, f.Close()
			}}
			tasks := makeTasks(b.N)
			b.ResetTimer()
			if _, err := e.Execute(b.Context(), []Stage{st}, tasks); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
		})
	}
}

// BenchmarkOpenWork measures reading a log of b.N commits without files.
func BenchmarkOpenWork(b *testing.B) {
	dir := b.TempDir()
	w := newWork(b, dir)
	e := newExecutor(b, Config{Work: w})
	st := &stage{process: func(_ context.Context, t Task, out *Attempt) ([]Task, error) {
		out.Count("rows", 1)
		return []Task{t}, nil
	}}
	if _, err := e.Execute(b.Context(), []Stage{st}, makeTasks(b.N)); err != nil {
		b.Fatal(err)
	}
	w.Close()
	b.ResetTimer()
	w = newWork(b, dir)
	if w.Committed("stage") != b.N {
		b.Fatal(w.Committed("stage"))
	}
}

// BenchmarkWrite measures writing a file through an attempt, without committing it.
func BenchmarkWrite(b *testing.B) {
	e := newExecutor(b, Config{})
	dir := b.TempDir()
	row := make([]byte, 100)
	b.SetBytes(int64(len(row)))
	st := &stage{process: func(_ context.Context, _ Task, out *Attempt) ([]Task, error) {
		f, err := out.Place(dir + "/f")
		if err != nil {
			return nil, err
		}
		start := time.Now()
		for range b.N {
			f.Write(row)
		}
		b.ReportMetric(float64(time.Since(start).Nanoseconds())/float64(b.N), "ns/row")
		return nil, io.ErrUnexpectedEOF // and throw it away
	}}
	_, _ = e.Execute(b.Context(), []Stage{st}, nil)
}
