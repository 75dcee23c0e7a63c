package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/vfs"
	"github.com/dovetail-dedup/dovetail/executor/internal/vfs/crashfs"
)

func readFile(fsys vfs.FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, st.Size())
	if _, err := f.ReadAt(data, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return data, nil
}

// checkCommits fails unless every committed file is what was committed, and no other file of an attempt is
// there. It returns the number of commits.
func checkCommits(t *testing.T, w *Work) (n int) {
	t.Helper()
	for _, tasks := range w.commits {
		for _, c := range tasks {
			n++
			for _, f := range c.files {
				data, err := readFile(w.fs, w.path(f.name))
				if err != nil || int64(len(data)) != f.size || crc32.Checksum(data, castagnoli) != f.crc {
					t.Errorf("stage %s, task %s, epoch %d: %s has %d bytes, want %d: %v",
						c.stage, c.task, c.epoch, f.name, len(data), f.size, err)
				}
			}
		}
	}
	for _, stage := range []string{"write", "read", "count"} {
		entries, err := w.fs.ReadDir(filepath.Join(w.dir, stage))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		for _, e := range entries {
			if _, ok := w.files[stage+"/"+e.Name()]; !ok {
				t.Errorf("%s/%s belongs to no commit", stage, e.Name())
			}
		}
	}
	return n
}

// crashJob runs three stages: one makes files, one puts them together and places them in out, one counts them,
// without files but for one task that makes many.
func crashJob(fsys vfs.FS, dir, out string, tasks []Task) ([]string, RunStats, error) {
	w, err := openWork(fsys, dir, nil)
	if err != nil {
		return nil, RunStats{}, err
	}
	defer w.Close()
	e, err := New(Config{Workers: 2, Work: w})
	if err != nil {
		return nil, RunStats{}, err
	}
	defer e.Close()
	p := newPipeline(out)
	p.read.process = func(_ context.Context, task Task, a *Attempt) ([]Task, error) {
		f, err := a.Place(filepath.Join(out, task.ID+".txt"))
		if err != nil {
			return nil, err
		}
		for name := range strings.SplitSeq(string(task.Data), "\n") {
			data, err := readFile(fsys, w.path(name))
			if err != nil {
				return nil, err
			}
			if _, err := f.Write(data); err != nil {
				return nil, err
			}
		}
		return []Task{{Data: fmt.Append(nil, f.Size())}}, f.Close()
	}
	count := &stage{name: "count", process: func(_ context.Context, task Task, a *Attempt) ([]Task, error) {
		for i := range maxSingly + 10 {
			if task.ID != "t00003" {
				break
			}
			f, err := a.Create(fmt.Sprint("file", i))
			if err != nil {
				return nil, err
			}
			if _, err := fmt.Fprintln(f, i); err != nil {
				return nil, err
			}
			if err := f.Close(); err != nil {
				return nil, err
			}
		}
		return []Task{{Data: append([]byte(task.ID+" "), task.Data...)}}, nil
	}}
	results, err := e.Execute(context.Background(), []Stage{p.write, p.read, count}, tasks)
	var lines []string
	for _, r := range results {
		lines = append(lines, string(r.Data))
	}
	return lines, e.Stats(), err
}

// However often the power fails, whatever the disk then holds: the log is not damaged, what is committed is
// intact, and the run ends with the results of an undisturbed one.
func TestPowerLoss(t *testing.T) {
	const dir, out = "/jobs/one", "/out"
	tasks := makeTasks(15)
	start := func() *crashfs.FS {
		fsys := crashfs.New()
		for _, err := range []error{fsys.MkdirAll(out, 0), fsys.SyncDir("/")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return fsys
	}
	fsys := start()
	want, _, err := crashJob(fsys, dir, out, tasks)
	if err != nil {
		t.Fatal(err)
	}
	ops := fsys.Ops()
	base, seeds := rand.Uint64(), 100
	if testing.Short() {
		seeds = 30
	}
	crashes := 0
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(base, seed))
		fsys := start()
		for round := 0; ; round++ {
			stop := rng.IntN(ops)
			if rng.IntN(3) == 0 {
				stop = rng.IntN(40) // while the folder is being made or opened
			}
			fsys.StopAfter(stop)
			got, _, err := crashJob(fsys, dir, out, tasks)
			fsys = fsys.Crash(rng)
			if err == nil {
				if !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				if _, stats, err := crashJob(fsys, dir, out, tasks); err != nil || stats.TasksReused != 45 {
					t.Errorf("after the end: %d reused, %v", stats.TasksReused, err)
				}
			} else if !errors.Is(err, crashfs.ErrPowerOff) {
				t.Errorf("round %d: %v", round, err)
			}
			w, oerr := openWork(fsys, dir, nil)
			if oerr != nil {
				t.Fatalf("round %d, seeds %d %d: %v", round, base, seed, oerr)
			}
			checkCommits(t, w)
			w.Close()
			if t.Failed() {
				t.Fatalf("round %d, seeds %d %d", round, base, seed)
			}
			if err == nil {
				break
			}
			crashes++
		}
	}
	t.Logf("seed %d: %d crashes", base, crashes)
}

// killWhenGrown kills p when the file at path has grown by n bytes, unless it has ended.
func killWhenGrown(p *os.Process, path string, n int64, ended chan struct{}) {
	size := func() int64 {
		st, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	start := size()
	for {
		select {
		case <-ended:
			return
		case <-time.After(100 * time.Microsecond):
			if size() >= start+n {
				p.Kill()
				return
			}
		}
	}
}

// crashEnv holds the work folder and the output folder of a child process.
const crashEnv = "EXECUTOR_TEST_CRASH"

func crashTasks() []Task { return makeTasks(400) }

// crashChild is the process that gets killed.
func crashChild() {
	dir, out, _ := strings.Cut(os.Getenv(crashEnv), "\n")
	_, stats, err := crashJob(vfs.OS, dir, out, crashTasks())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	data, err := json.Marshal(stats)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(data)
}

// A process killed at random moments and started again loses nothing that was committed, repeats nothing of
// it, and leaves nothing else behind.
func TestKill(t *testing.T) {
	kills := 8
	if testing.Short() {
		kills = 4
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, out := t.TempDir(), t.TempDir()
	before, killed := 0, 0
	for round := 0; ; round++ {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), crashEnv+"="+dir+"\n"+out)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		var killer sync.WaitGroup
		if round < kills {
			// Not after a random time, which on a busy machine would often be before anything was done.
			grown := rng.Int64N(25000)
			killer.Go(func() { killWhenGrown(cmd.Process, filepath.Join(dir, "log"), grown, ended) })
		}
		err := cmd.Wait()
		close(ended)
		killer.Wait()
		if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && !exit.Exited()) {
			t.Fatalf("round %d: %v: %s", round, err, &stderr)
		}
		if err != nil {
			killed++
		} else {
			var stats RunStats
			if jerr := json.Unmarshal([]byte(stdout.String()), &stats); jerr != nil || stats.TasksReused < int64(before) {
				t.Errorf("round %d: %d of %d tasks reused, %v", round, stats.TasksReused, before, jerr)
			}
		}
		w, oerr := OpenWork(dir, nil)
		if oerr != nil {
			t.Fatalf("round %d: %v", round, oerr)
		}
		n := checkCommits(t, w)
		if n < before {
			t.Errorf("round %d: %d commits, %d before", round, n, before)
		}
		before = n
		if cerr := w.Close(); cerr != nil {
			t.Error(cerr)
		}
		if t.Failed() {
			t.FailNow()
		}
		if err == nil {
			break
		}
	}
	checkOut(t, out, crashTasks())
	if before != 3*len(crashTasks()) {
		t.Errorf("%d commits at the end", before)
	}
	t.Logf("killed %d times", killed)
}
