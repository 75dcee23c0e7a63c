package executor

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// pipeline is a job of two stages: "write" makes two files per task, "read" puts their content together and
// places it in the folder out.
type pipeline struct {
	write, read *stage
	writes      atomic.Int32
	reads       atomic.Int32
}

func content(task Task, name string) string {
	return strings.Repeat(task.ID+"/"+name+"\n", 1+len(task.Data)*20)
}

func newPipeline(out string) *pipeline {
	p := &pipeline{}
	p.write = &stage{name: "write", process: func(_ context.Context, task Task, a *Attempt) ([]Task, error) {
		p.writes.Add(1)
		a.Count("written", 1)
		a.Progress(2)
		var names []string
		for _, name := range []string{"one", "two.bin"} {
			f, err := a.Create(name)
			if err != nil {
				return nil, err
			}
			if _, err := io.WriteString(f, content(task, name)); err != nil {
				return nil, err
			}
			if err := f.Close(); err != nil {
				return nil, err
			}
			names = append(names, f.Name())
		}
		return []Task{{Data: []byte(strings.Join(names, "\n"))}}, nil
	}}
	p.read = &stage{name: "read", process: func(_ context.Context, task Task, a *Attempt) ([]Task, error) {
		p.reads.Add(1)
		a.Count("read", 1)
		f, err := a.Place(filepath.Join(out, task.ID+".txt"))
		if err != nil {
			return nil, err
		}
		for name := range strings.SplitSeq(string(task.Data), "\n") {
			in, err := a.m.env.Work.OpenCommitted(name)
			if err != nil {
				return nil, err
			}
			defer in.Close()
			if _, err := io.Copy(f, in); err != nil {
				return nil, err
			}
		}
		return []Task{{ID: "done-" + task.ID}}, f.Close()
	}}
	return p
}

func (p *pipeline) run(t testing.TB, dir string, tasks []Task) (RunStats, *Work, error) {
	t.Helper()
	w, err := OpenWork(dir, []byte("meta"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e := newExecutor(t, Config{Workers: 3, Work: w})
	_, err = e.Execute(context.Background(), []Stage{p.write, p.read}, tasks)
	return e.Stats(), w, err
}

// checkOut fails unless the folder out holds exactly what the tasks lead to.
func checkOut(t testing.TB, out string, tasks []Task) {
	t.Helper()
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(tasks) {
		t.Errorf("%d files in %s, want %d", len(entries), out, len(tasks))
	}
	for _, task := range tasks {
		got, err := os.ReadFile(filepath.Join(out, task.ID+".txt"))
		if err != nil || string(got) != content(task, "one")+content(task, "two.bin") {
			t.Errorf("%s has %d bytes, %v", task.ID, len(got), err)
		}
	}
}

func stageFiles(t testing.TB, dir, stage string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, stage))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
