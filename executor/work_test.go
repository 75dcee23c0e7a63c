package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

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
	if w.Committed("write") != 40 || w.Committed("other") != 0 {
		t.Errorf("committed: %d, %d", w.Committed("write"), w.Committed("other"))
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
	if err := w.intend("stage", temp); err != nil {
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

// TestLargeMeta keeps more than fits one record, and notices when a part of it is gone.
func TestLargeMeta(t *testing.T) {
	dir := t.TempDir()
	meta := bytes.Repeat([]byte("0123456789abcde\n"), 2*metaPiece/16+1000)
	for i := range 2 {
		w, err := OpenWork(dir, meta)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w.Meta(), meta) || w.Resumed() != (i > 0) {
			t.Errorf("run %d: %d bytes of meta, want %d", i, len(w.Meta()), len(meta))
		}
		w.Close()
	}
	log := filepath.Join(dir, "log")
	if err := os.Truncate(log, 2*metaPiece); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWork(dir, nil); !errors.Is(err, ErrLogDamaged) {
		t.Errorf("cut off in its header: %v", err)
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

// TestForeignFolder refuses a folder that is not a run's, because it would be removed when the run is complete.
func TestForeignFolder(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "thesis", "chapter-1.tex")
	if err := os.MkdirAll(filepath.Dir(precious), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWork(dir, nil); !errors.Is(err, ErrForeign) {
		t.Errorf("a folder that holds something: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("something was left in it: %v %v", entries, err)
	}
}

// Temporary files of placed ones are removed, and nothing else.
func TestRemoveTemporary(t *testing.T) {
	dir := t.TempDir()
	keep := []string{"part-1", ".dovetail-note", ".dovetail-0123456789abcdef-1.0.tmp.txt"}
	for _, name := range append([]string{filepath.Base(placedTemp("/out/x", 42, 3, 7)), "sub/" + filepath.Base(placedTemp("y", 1, 1, 0))}, keep...) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, nil, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTemporary(dir); err != nil {
		t.Fatal(err)
	}
	var left []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, d.Name())
		}
		return err
	})
	slices.Sort(left)
	slices.Sort(keep)
	if !slices.Equal(left, keep) {
		t.Errorf("left are %q, want %q", left, keep)
	}
}
