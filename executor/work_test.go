package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs/crashfs"
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

func TestResume(t *testing.T) {
	dir, out, tasks := filepath.Join(t.TempDir(), "a", "work"), t.TempDir(), makeTasks(40)
	first := newPipeline(out)
	stats, w, err := first.run(t, dir, tasks)
	if err != nil {
		t.Fatal(err)
	}
	if w.Resumed() || w.Epoch() != 1 || stats.TasksReused != 0 || stats.Tasks != 80 {
		t.Errorf("first run: %+v", stats)
	}
	if st := stats.Stages[0]; st.Files != 80 || st.Counters["written"] != 40 || st.Units != 80 || st.Bytes == 0 {
		t.Errorf("first run: %+v", st)
	}
	checkOut(t, out, tasks)
	for _, name := range stageFiles(t, dir, "write") {
		if !strings.HasSuffix(name, "@1.0.one") && !strings.HasSuffix(name, "@1.0.two.bin") {
			t.Errorf("file %s", name)
		}
	}

	// A finished run does nothing again and counts the same.
	second := newPipeline(out)
	stats, w, err = second.run(t, dir, tasks)
	if err != nil {
		t.Fatal(err)
	}
	if !w.Resumed() || w.Epoch() != 2 || stats.TasksReused != 80 || second.writes.Load()+second.reads.Load() != 0 {
		t.Errorf("second run: %+v", stats)
	}
	if stats.Stages[0].Counters["written"] != 40 || stats.Stages[1].Counters["read"] != 40 || second.write.setups.Load() != 0 {
		t.Errorf("second run: %+v", stats)
	}
	if len(w.Notes()) != 0 || len(stats.Stages[0].Notes) != 0 {
		t.Errorf("notes of the second run: %q, %q", w.Notes(), stats.Stages[0].Notes)
	}
	checkOut(t, out, tasks)
	if got := w.Committed("write"); !slices.Equal(got, ids(tasks)) {
		t.Errorf("committed: %v", got)
	}
	if string(w.Meta()) != "meta" {
		t.Errorf("meta is %q", w.Meta())
	}
}

// What is not as it was committed is done again, and what depends on it too.
func TestResumeAfterDamage(t *testing.T) {
	find := func(t *testing.T, dir, task string) string {
		m, err := filepath.Glob(filepath.Join(dir, "write", task+"@*.one"))
		if err != nil || len(m) != 1 {
			t.Fatal(m, err)
		}
		return m[0]
	}
	for _, tc := range []struct {
		name          string
		damage        func(t *testing.T, dir, out string)
		change        func([]Task)
		writes, reads int32
		note          string
		fails         bool // the first run after the damage finds it
	}{
		{name: "missing", writes: 1, reads: 1, note: "no such file",
			damage: func(t *testing.T, dir, _ string) { os.Remove(find(t, dir, "t00003")) }},
		{name: "shorter", writes: 1, reads: 1, note: "bytes, not",
			damage: func(t *testing.T, dir, _ string) { os.Truncate(find(t, dir, "t00003"), 5) }},
		{name: "placed file missing", reads: 1, note: "no such file",
			damage: func(t *testing.T, _, out string) { os.Remove(filepath.Join(out, "t00003.txt")) }},
		{name: "other input", writes: 1, reads: 1, note: "given other work",
			change: func(tasks []Task) { tasks[3].Data = []byte("other") }},
		{name: "other size hint", change: func(tasks []Task) { tasks[3].Size = 77 }},
		{name: "one byte", writes: 1, reads: 2, note: "", fails: true,
			damage: func(t *testing.T, dir, out string) {
				os.Remove(filepath.Join(out, "t00003.txt")) // so that the file is read again
				path := find(t, dir, "t00003")
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				data[4] ^= 1
				if err := os.WriteFile(path, data, 0o666); err != nil {
					t.Fatal(err)
				}
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, out, tasks := t.TempDir(), t.TempDir(), makeTasks(10)
			if _, _, err := newPipeline(out).run(t, dir, tasks); err != nil {
				t.Fatal(err)
			}
			if tc.damage != nil {
				tc.damage(t, dir, out)
			}
			if tc.change != nil {
				tc.change(tasks)
			}
			p := newPipeline(out)
			stats, _, err := p.run(t, dir, tasks)
			if tc.fails {
				if !errors.Is(err, ErrFileDamaged) || !strings.Contains(err.Error(), "run again") {
					t.Fatalf("got %v", err)
				}
				p.write, p.read = newPipeline(out).write, newPipeline(out).read
				p2 := newPipeline(out)
				stats, _, err = p2.run(t, dir, tasks)
				p.writes.Add(p2.writes.Load())
				p.reads.Add(p2.reads.Load())
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.writes.Load() != tc.writes || p.reads.Load() != tc.reads {
				t.Errorf("%d writes and %d reads", p.writes.Load(), p.reads.Load())
			}
			notes := strings.Join(append(stats.Stages[0].Notes, stats.Stages[1].Notes...), "\n")
			if !strings.Contains(notes, tc.note) || tc.note != "" && !strings.Contains(notes, `task "t00003"`) {
				t.Errorf("notes %q", notes)
			}
			checkOut(t, out, tasks)
			if n := len(stageFiles(t, dir, "write")); n != 20 {
				t.Errorf("%d files", n)
			}
			// And now all is well again.
			p = newPipeline(out)
			if stats, _, err := p.run(t, dir, tasks); err != nil || stats.TasksReused != 20 {
				t.Errorf("%+v, %v", stats, err)
			}
		})
	}
}

// What attempts leave behind when they fail or are killed is removed, and nothing else.
func TestClean(t *testing.T) {
	dir, out, tasks := t.TempDir(), t.TempDir(), makeTasks(10)
	p := newPipeline(out)
	boom := errors.New("boom")
	inner := p.read.process
	p.read.process = func(ctx context.Context, task Task, a *Attempt) ([]Task, error) {
		if task.ID == "t00005" {
			if _, err := inner(ctx, task, a); err != nil {
				return nil, err
			}
			return nil, boom
		}
		return inner(ctx, task, a)
	}
	if _, _, err := p.run(t, dir, tasks); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if temps, _ := filepath.Glob(filepath.Join(out, ".dovetail-*")); len(temps) != 0 {
		t.Errorf("a failed attempt left %v", temps)
	}
	if _, err := os.Stat(filepath.Join(out, "t00005.txt")); err == nil {
		t.Error("a failed attempt placed its file")
	}

	// As if killed: an intent in the log and its file, files of an attempt, a spill file.
	w := newWork(t, dir)
	temp := placedTemp(filepath.Join(out, "x"), w.RunID(), w.Epoch(), 0)
	if err := w.intend(temp); err != nil {
		t.Fatal(err)
	}
	gone := []string{
		temp, filepath.Join(dir, "write", ".t00001@2.0.one"), filepath.Join(dir, "write", "t00001@2.0.one"),
		filepath.Join(dir, "spill", "chunk"),
	}
	kept := []string{
		filepath.Join(dir, "write", "notes.txt"), filepath.Join(dir, "read.me"), filepath.Join(out, ".dovetail-other.tmp"),
		filepath.Join(dir, ".hidden", "a@1.0.b"),
	}
	for _, path := range slices.Concat(gone, kept) {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = newWork(t, dir)
	for _, path := range gone {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	for _, path := range kept {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s was removed", path)
		}
		os.Remove(path)
	}
	if n := w.Notes(); len(n) != 1 || !strings.Contains(n[0], "3 files") {
		t.Errorf("notes: %q", n)
	}
	w.Close()
	if _, _, err := newPipeline(out).run(t, dir, tasks); err != nil {
		t.Fatal(err)
	}
	checkOut(t, out, tasks)
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	w := newWork(t, dir)
	_, err := OpenWork(dir, nil)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d on host", os.Getpid())) ||
		!strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w, err = OpenWork(dir, nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := w.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := w.OpenCommitted("x"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	e := newExecutor(t, Config{Work: w})
	if _, err := e.Execute(t.Context(), []Stage{&stage{}}, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestMeta(t *testing.T) {
	dir := t.TempDir()
	for i, meta := range [][]byte{[]byte("first"), []byte("second"), nil} {
		w, err := OpenWork(dir, meta)
		if err != nil {
			t.Fatal(err)
		}
		if string(w.Meta()) != "first" || w.Resumed() != (i > 0) || w.Epoch() != uint32(i+1) {
			t.Errorf("run %d: %q, %v, %d", i, w.Meta(), w.Resumed(), w.Epoch())
		}
		w.Close()
	}
	if _, err := OpenWork(t.TempDir(), make([]byte, maxMeta+1)); err == nil {
		t.Error("too much meta was taken")
	}
}

func TestLogDamage(t *testing.T) {
	dir, out, tasks := t.TempDir(), t.TempDir(), makeTasks(10)
	if _, _, err := newPipeline(out).run(t, dir, tasks); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	good, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(log, bad, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = OpenWork(dir, nil)
	if !errors.Is(err, ErrLogDamaged) || !strings.Contains(err.Error(), log) || !strings.Contains(err.Error(), "remove the folder "+dir) {
		t.Errorf("got %v", err)
	}
	if now, _ := os.ReadFile(log); !bytes.Equal(now, bad) {
		t.Error("the damaged log was changed")
	}
	// A torn tail is cut, with a note, and what it said is done again.
	if err := os.WriteFile(log, good[:len(good)-100], 0o666); err != nil {
		t.Fatal(err)
	}
	p := newPipeline(out)
	stats, w, err := p.run(t, dir, tasks)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.Notes(); len(n) == 0 || !strings.Contains(n[0], "were not written completely") {
		t.Errorf("notes: %q", n)
	}
	if stats.TasksReused >= 20 || stats.TasksReused < 10 {
		t.Errorf("%d reused", stats.TasksReused)
	}
	checkOut(t, out, tasks)
}

// A full disk ends the run with one line that names the file and says what to do; the run goes on when there
// is room.
func TestDiskFull(t *testing.T) {
	for _, room := range []int{0, 10, 500, 5000, 12000, 30000} {
		fsys := crashfs.New()
		tasks := makeTasks(60)
		run := func() error {
			w, err := openWork(fsys, "/work/job", nil)
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
			!strings.Contains(err.Error(), "/work/job/") {
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

// Records of a stream are reused too, and results come in order.
func TestStreamResume(t *testing.T) {
	dir := t.TempDir()
	for run, want := range []int64{0, 30, 60} {
		w := newWork(t, dir)
		e := newExecutor(t, Config{Work: w, Workers: 2})
		st := &stage{process: func(_ context.Context, task Task, _ *Attempt) ([]Task, error) {
			return []Task{{Data: []byte(task.ID)}}, nil
		}}
		n := 30
		if run > 0 {
			n = 60
		}
		tasks := makeTasks(60)[60-n:]
		out, err := collect(e.Stream(t.Context(), st, source(tasks, new(atomic.Int64))))
		if err != nil || !slices.Equal(ids(out), ids(tasks)) {
			t.Fatalf("run %d: %v, %v", run, ids(out), err)
		}
		if s := e.Stats(); s.TasksReused != want || s.Tasks != int64(n) {
			t.Errorf("run %d: %+v", run, s)
		}
		w.Close()
	}
}
