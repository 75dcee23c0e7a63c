package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
	"github.com/dovetail-dedup/dovetail/executor/internal/vfs/crashfs"
)

// A full disk ends the run with one line that names the file and says what to do; the run goes on when there
// is room.
func TestDiskFull(t *testing.T) {
	for _, room := range []int{0, 10, 500, 5000, 12000, 30000} {
		fsys := crashfs.New()
		tasks := makeTasks(60)
		run := func() error {
			w, err := openWork(fsys, "/jobs/one", nil)
			if err != nil {
				return err
			}
			defer w.Close()
			e, err := New(Config{Workers: 3, Work: w})
			if err != nil {
				return err
			}
			defer e.Close()
			p := newPipeline("/out")
			_, err = e.Execute(context.Background(), []Stage{p.write}, tasks)
			return err
		}
		fsys.Fill(room)
		err := run()
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room on that file system") ||
			!strings.Contains(err.Error(), "/jobs/one/") {
			t.Errorf("room %d: %v", room, err)
		}
		if line, rest, _ := strings.Cut(err.Error(), "\n"); rest != "" && !strings.Contains(rest, "closing work folder") {
			t.Errorf("room %d: more than one line: %s\n%s", room, line, rest)
		}
		fsys.Fill(-1)
		if err := run(); err != nil {
			t.Errorf("room %d: when there is room: %v", room, err)
		}
	}
}

func TestPermission(t *testing.T) {
	if err := ioError("creating a", &os.PathError{Op: "open", Path: "/w/a", Err: syscall.EACCES}); err.Error() !=
		"executor: creating a: open /w/a: permission denied; allow this user to write there, or choose another folder" {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWork(filepath.Join(file, "work"), nil); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
	if os.Getuid() != 0 {
		if _, err := OpenWork("/proc/work", nil); err == nil || !strings.Contains(err.Error(), "/proc/work") {
			t.Errorf("got %v", err)
		}
	}
}

func TestFiles(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	w := newWork(t, dir)
	boom := errors.New("boom")
	n := 0
	try := func(process func(out *Attempt) error) error {
		e := newExecutor(t, Config{Work: w})
		n++
		st := &stage{name: fmt.Sprint("s", n), process: func(_ context.Context, _ Task, out *Attempt) ([]Task, error) {
			return nil, process(out)
		}}
		_, err := e.Execute(t.Context(), []Stage{st}, nil)
		if err != nil {
			if names := stageFiles(t, dir, st.name); len(names) > 0 {
				t.Errorf("left %v", names)
			}
		}
		return err
	}
	for _, tc := range []struct {
		want    string
		process func(a *Attempt) error
	}{
		{"was not closed", func(a *Attempt) error {
			_, err := a.Create("open")
			return err
		}},
		{"it was created before", func(a *Attempt) error {
			f, err := a.Create("twice")
			if err != nil {
				return err
			}
			f.Close()
			_, err = a.Create("twice")
			return err
		}},
		{`creating file "a/b": it has '/'`, func(a *Attempt) error {
			_, err := a.Create("a/b")
			if _, err2 := a.Create("x"); err2 != nil {
				return err2
			}
			return err
		}},
		{"no such file or directory", func(a *Attempt) error {
			if _, err := a.Create("x"); err != nil {
				return err
			}
			_, err := a.Place(filepath.Join(out, "missing", "file"))
			return err
		}},
		{"file already closed", func(a *Attempt) error {
			f, err := a.Create("late")
			if err != nil {
				return err
			}
			f.Close()
			_, err = f.Write([]byte("x"))
			return err
		}},
		{"putting a finished file in place", func(a *Attempt) error {
			if err := os.MkdirAll(filepath.Join(out, "folder", "full"), 0o777); err != nil {
				return err
			}
			f, err := a.Place(filepath.Join(out, "folder"))
			if err != nil {
				return err
			}
			x, err := a.Create("x")
			if err != nil {
				return err
			}
			return errors.Join(f.Close(), x.Close())
		}},
		{"boom", func(a *Attempt) error {
			f, err := a.Place(filepath.Join(out, "file"))
			if err != nil {
				return err
			}
			f.Write(make([]byte, 100000))
			if _, err := a.Create("x"); err != nil {
				return err
			}
			return boom
		}},
	} {
		if err := try(tc.process); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q", err, tc.want)
		}
		os.RemoveAll(filepath.Join(out, "folder"))
	}
	if entries, _ := os.ReadDir(out); len(entries) > 0 {
		t.Errorf("left %v", entries)
	}
	var late *Attempt
	if err := try(func(a *Attempt) error {
		late = a
		f, err := a.Place(filepath.Join(out, "file"))
		if err != nil {
			return err
		}
		f.Write([]byte("12345"))
		if f.Size() != 5 || f.Name() != filepath.Join(out, "file") {
			t.Errorf("%d, %s", f.Size(), f.Name())
		}
		g, err := a.Create("empty")
		return errors.Join(err, g.Close(), f.Close(), f.Close())
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Create("late"); err == nil || !strings.Contains(err.Error(), "the attempt has ended") {
		t.Errorf("after the attempt: %v", err)
	}
	f, err := w.OpenCommitted(filepath.Join(out, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); string(got) != "12345" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := w.OpenCommitted("../../etc/passwd"); err == nil || !strings.Contains(err.Error(), "is not a committed file") {
		t.Errorf("got %v", err)
	}
	// Without a work folder.
	e := newExecutor(t, Config{})
	st := &stage{process: func(_ context.Context, _ Task, a *Attempt) ([]Task, error) {
		if _, err := a.Create("x"); err == nil || !strings.Contains(err.Error(), "there is no work folder") {
			return nil, fmt.Errorf("got %v", err)
		}
		f, err := a.Place(filepath.Join(out, "file"))
		if err != nil {
			return nil, err
		}
		io.WriteString(f, "replaced")
		return nil, f.Close()
	}}
	if _, err := e.Execute(t.Context(), []Stage{st}, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(out, "file")); string(got) != "replaced" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// slowFS holds up every SyncDir of a stage's folder until it is let go.
type slowFS struct {
	vfs.FS
	gate chan struct{}
}

func (s slowFS) SyncDir(path string) error {
	if filepath.Base(path) == "stage" {
		<-s.gate
	}
	return s.FS.SyncDir(path)
}

// A slow disk slows the actors: what is done and not committed is bounded.
func TestCommitBackPressure(t *testing.T) {
	for _, tc := range []struct{ files, tasks, most int }{
		{files: 1, tasks: 1000, most: commitWindow/(1+fileWeight) + 4},
		{files: 3, tasks: 1000, most: commitWindow/(1+3*fileWeight) + 4},
	} {
		fsys := slowFS{crashfs.New(), make(chan struct{})}
		w, err := openWork(fsys, "/job", nil)
		if err != nil {
			t.Fatal(err)
		}
		e := newExecutor(t, Config{Workers: 4, Work: w})
		var done atomic.Int32
		st := &stage{process: func(_ context.Context, task Task, out *Attempt) ([]Task, error) {
			defer done.Add(1)
			for i := range tc.files {
				f, err := out.Create(fmt.Sprint("f", i))
				if err != nil {
					return nil, err
				}
				if err := f.Close(); err != nil {
					return nil, err
				}
			}
			return []Task{task}, nil
		}}
		go func() {
			before := int32(-1)
			for same := 0; same < 10; same++ {
				// Half of what is allowed is certain to be reached, however busy the machine is.
				if n := done.Load(); n != before || int(n) < tc.most/2 {
					before, same = n, 0
				}
				time.Sleep(10 * time.Millisecond)
			}
			if int(before) > tc.most {
				t.Errorf("%d tasks were done before the first was committed, want at most %d", before, tc.most)
			}
			close(fsys.gate)
		}()
		out, err := e.Execute(t.Context(), []Stage{st}, makeTasks(tc.tasks))
		if err != nil || len(out) != tc.tasks {
			t.Fatalf("%d results, %v", len(out), err)
		}
		w.Close()
	}
}

type removeStage struct{ t *testing.T }

func (removeStage) Name() string         { return "remove" }
func (removeStage) Resources() Resources { return Resources{} }
func (s removeStage) NewActor(context.Context, *Env) (Actor, error) {
	return removeActor(s), nil
}

type removeActor struct{ t *testing.T }

func (removeActor) Close() error { return nil }

func (a removeActor) Process(_ context.Context, task Task, out *Attempt) ([]Task, error) {
	first, err := out.Create("file")
	if err != nil {
		return nil, err
	}
	if _, err := first.Write([]byte("not this")); err != nil {
		return nil, err
	}
	if err := out.Remove(first); err != nil {
		return nil, err
	}
	if err := out.Remove(first); err == nil {
		a.t.Error("a file was removed twice")
	}
	again, err := out.Create("file")
	if err != nil {
		return nil, err
	}
	_, err = again.Write([]byte("this"))
	return []Task{{Data: []byte(again.Name())}}, errors.Join(err, again.Close())
}

// A file that was removed is not committed, and its name is free.
func TestRemove(t *testing.T) {
	dir := t.TempDir()
	w, err := OpenWork(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e, err := New(Config{Work: w})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	out, err := e.Execute(t.Context(), []Stage{removeStage{t}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(string(out[0].Data))))
	if err != nil || string(data) != "this" {
		t.Errorf("%q %v", data, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "remove", "*")); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

type manyFilesStage struct{}

func (manyFilesStage) Name() string         { return "many" }
func (manyFilesStage) Resources() Resources { return Resources{} }
func (s manyFilesStage) NewActor(context.Context, *Env) (Actor, error) {
	return manyFilesActor{}, nil
}

type manyFilesActor struct{}

func (manyFilesActor) Close() error { return nil }

func (manyFilesActor) Process(_ context.Context, task Task, out *Attempt) ([]Task, error) {
	for i := range 300 {
		f, err := out.Create(fmt.Sprintf("file-%d", i))
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		fds, err := os.ReadDir("/proc/self/fd")
		if err == nil && len(fds) > 250 {
			return nil, fmt.Errorf("%d descriptors are open after %d files", len(fds), i)
		}
	}
	return nil, nil
}

// An attempt that makes many files does not hold as many descriptors.
func TestManyFilesFewDescriptors(t *testing.T) {
	w, err := OpenWork(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e, err := New(Config{Work: w, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Execute(t.Context(), []Stage{manyFilesStage{}}, nil); err != nil {
		t.Error(err)
	}
}
