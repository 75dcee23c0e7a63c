package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// isolatedEnv holds the name of a program of isolatedPrograms and its folder, in the process of an actor.
const isolatedEnv = "EXECUTOR_TEST_ISOLATED"

// isolatedPrograms are what parents and the processes of their actors run. Rank 0 returns what the test looks at.
var isolatedPrograms = map[string]func(ctx context.Context, e *Executor, dir string) ([]Task, error){
	// A stage, a shuffle and a stage. What is in a file that the folder has is done once or more.
	"three": func(ctx context.Context, e *Executor, dir string) ([]Task, error) {
		here := func(where, id string) error { return mishap(dir, where+"-"+id) }
		first := &stage{name: "first", setup: func(*Env) error { return here("setup", "x") },
			process: func(_ context.Context, t Task, out *Attempt) ([]Task, error) {
				f, err := out.Create("f")
				if err != nil {
					return nil, err
				}
				fmt.Fprint(f, "content of ", t.ID)
				if _, err := out.Place(filepath.Join(dir, "out", t.ID)); err != nil {
					return nil, err
				}
				if err := here("first", t.ID); err != nil {
					return nil, err
				}
				out.m.files[1].Close()
				out.Count("done", 1)
				time.Sleep(time.Millisecond) // or one does all
				return []Task{t}, f.Close()
			}}
		out, err := e.Execute(ctx, []Stage{&named{first}}, shuffleTasks(40))
		if err != nil {
			return nil, err
		}
		st := &sums{name: "sums", total: 11,
			insert: func(_ context.Context, t Task, _ *PartWriter) error {
				time.Sleep(time.Millisecond)
				return here("insert", t.ID)
			},
			extract: func(_ context.Context, part int, _ *Attempt) error { return here("extract", fmt.Sprint(part)) },
		}
		if out, err = e.Shuffle(ctx, st, out); err != nil {
			return nil, err
		}
		sums := slices.Clone(out)
		if _, err := e.Execute(ctx, []Stage{&stage{name: "last", process: func(_ context.Context, t Task, _ *Attempt) ([]Task, error) {
			return []Task{t}, here("last", t.ID)
		}}}, out); err != nil {
			return nil, err
		}
		return sums, nil
	},
	// What every actor sees of devices.
	"environ": func(ctx context.Context, e *Executor, dir string) ([]Task, error) {
		st := &stage{name: "see", res: Resources{GPUs: 1}, process: func(_ context.Context, t Task, _ *Attempt) ([]Task, error) {
			t.Data = fmt.Appendf(nil, "%d %v %s %s %s %s", e.cfg.Job.Rank(), os.Getenv(actorVariable) == "" && Isolated(), os.Getenv("CUDA_VISIBLE_DEVICES"),
				os.Getenv("UCX_RNDV_FRAG_MEM_TYPES"), os.Getenv("WANTED"), os.Getenv("KEPT"))
			// All actors are waited for, or one comes too late.
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(e.cfg.Job.Rank(), ".here")), nil, 0o666); err != nil {
				return nil, err
			}
			for {
				if here, err := filepath.Glob(filepath.Join(dir, "*.here")); err != nil || len(here) == 3 {
					return []Task{t}, err
				}
				time.Sleep(time.Millisecond)
			}
		}}
		return e.Execute(ctx, []Stage{st}, makeTasks(12))
	},
}

// named describes its tasks.
type named struct{ *stage }

func (*named) DescribeTask(t Task) string { return "file " + t.ID + ".jsonl" }

// mishap does what a file in the folder says, once for each line that it has.
func mishap(dir, name string) error {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return nil
	}
	what, rest, _ := strings.Cut(string(b), "\n")
	temp := fmt.Sprintf("%s.%d", path, os.Getpid()) // another may read meanwhile
	if err := errors.Join(os.WriteFile(temp, []byte(rest), 0o666), os.Rename(temp, path)); err != nil {
		return err
	}
	switch what {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "exit":
		fmt.Println("about to leave")
		os.Exit(7)
	case "fatal":
		go func() { panic("in a goroutine of its own") }()
		select {}
	case "panic":
		panic("in an actor")
	case "error":
		return errors.New("as it was told")
	}
	return nil
}

// isolatedChild is the process of an actor.
func isolatedChild() int {
	name, dir, _ := strings.Cut(os.Getenv(isolatedEnv), "\n")
	if _, err := runIsolated(context.Background(), name, dir, Isolation{}, nil); err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		return 1
	}
	return 0
}

// runIsolated runs a program, in the parent and in each child. at, if not nil, is given the job and the executor at the end.
func runIsolated(ctx context.Context, name, dir string, cfg Isolation, at func(*Job, *Executor)) (out []Task, err error) {
	cfg.Name, cfg.Spec = "isolated", name
	j, err := Isolate(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { j.Close(err) }()
	w, err := j.ShareWork(ctx, func() (*Work, error) { return OpenWork(filepath.Join(dir, "work"), nil) })
	if err != nil {
		return nil, err
	}
	defer w.Close()
	e, err := New(Config{Job: j, Work: w, ProgressInterval: time.Millisecond})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	out, err = isolatedPrograms[name](ctx, e, dir)
	if err == nil {
		err = j.Meet(ctx, "end")
	}
	if at != nil {
		at(j, e)
	}
	return out, err
}

// isolation is a configuration for tests, and what was noted.
type isolation struct {
	Isolation
	mu    sync.Mutex
	notes []string
}

func isolate(name, dir string, actors int) *isolation {
	c := &isolation{}
	c.Isolation = Isolation{
		Name: "isolated", Spec: name, Actors: actors, Silence: 2 * time.Second, JoinTimeout: 20 * time.Second,
		Note: func(line string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.notes = append(c.notes, line)
		},
		Command: func(int) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), isolatedEnv+"="+name+"\n"+dir)
			return cmd
		},
	}
	return c
}

// leftovers fails the test if a process or a temporary file is left.
func leftovers(t *testing.T, dir string) {
	t.Helper()
	out, err := os.ReadDir(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range out {
		if _, err := fmt.Sscanf(f.Name(), "t%d", new(int)); err != nil {
			t.Errorf("left: %s", f.Name())
		}
	}
	procs, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if b, _ := os.ReadFile(p); len(b) > 0 {
			t.Errorf("a process is left: %s", b)
		}
	}
}

// TestIsolated: processes of actors give the results of goroutines, whatever happens to some of them.
func TestIsolated(t *testing.T) {
	for _, tc := range []struct {
		name   string
		actors int
		what   map[string]string // mishaps
		lost   []string          // what is said of who was lost, in any order
	}{
		{"undisturbed", 3, nil, nil},
		{"alone", 1, nil, nil},
		{"killed in a stage", 2, map[string]string{"first-t00007": "kill\n"}, []string{"killed by SIGKILL"}},
		{"the only one killed", 1, map[string]string{"first-t00007": "kill\n", "insert-t00003": "kill\n", "extract-4": "kill\n", "last-part-00009": "kill\n"},
			[]string{"killed by SIGKILL", "killed by SIGKILL", "killed by SIGKILL", "killed by SIGKILL"}},
		{"two of three killed", 3, map[string]string{"insert-t00003": "kill\n", "extract-4": "kill\n"}, []string{"killed by SIGKILL", "killed by SIGKILL"}},
		{"leaves", 2, map[string]string{"first-t00000": "exit\n"}, []string{"it ended with exit code 7: about to leave"}},
		{"a panic that nothing can catch", 2, map[string]string{"last-part-00003": "fatal\n"},
			[]string{"it ended with exit code 2: panic: in a goroutine of its own"}},
		{"a panic that is caught", 2, map[string]string{"first-t00001": "panic\n"}, nil},
		{"goes silent", 2, map[string]string{"first-t00001": "stop\n"}, []string{"it was silent for 2s, and was killed"}},
		{"goes silent in a shuffle", 3, map[string]string{"extract-1": "stop\n"}, []string{"it was silent for 2s, and was killed"}},
		{"fails to begin", 1, map[string]string{"setup-x": "exit\nkill\n"}, []string{"exit code 7", "SIGKILL"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			os.Mkdir(filepath.Join(dir, "out"), 0o777)
			for name, what := range tc.what {
				os.WriteFile(filepath.Join(dir, name), []byte(what), 0o666)
			}
			c := isolate("three", dir, tc.actors)
			var stats RunStats
			var peak int64
			out, err := runIsolated(t.Context(), "three", dir, c.Isolation, func(j *Job, e *Executor) { stats, peak = e.Stats(), j.PeakMemory() })
			if err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(c.notes, "\n"))
			}
			checkSums(t, out, 40, 11)
			if n := stats.Stages[0].Counters["done"]; n != 40 {
				t.Errorf("%d tasks done", n)
			}
			if stats.Ranks != tc.actors || stats.Workers != tc.actors || len(stats.Hosts) > 0 {
				t.Errorf("%+v", stats)
			}
			if peak == 0 {
				t.Error("no peak of memory")
			}
			var lost []string
			for _, l := range stats.Lost {
				lost = append(lost, l.Why)
			}
			for _, want := range tc.lost {
				if i := slices.IndexFunc(lost, func(s string) bool { return strings.Contains(s, want) }); i < 0 {
					t.Errorf("lost: %q, want %q", lost, want)
				} else {
					lost = slices.Delete(lost, i, i+1)
				}
			}
			if len(lost) > 0 {
				t.Errorf("lost for other reasons: %q", lost)
			}
		})
	}
	t.Cleanup(func() { leftovers(t, oneOut(t)) })
}

// oneOut is a folder without leftovers.
func oneOut(t *testing.T) string {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "out"), 0o777)
	return dir
}

// TestIsolatedStops: what processes die of again and again ends the job, and is named.
func TestIsolatedStops(t *testing.T) {
	for _, tc := range []struct {
		name string
		what map[string]string
		want []string
	}{
		{"a task", map[string]string{"first-t00007": "kill\nkill\n"},
			[]string{`stage "first", task "t00007" (file t00007.jsonl)`, "killed by SIGKILL", "2 actors died of it"}},
		{"a task of a shuffle", map[string]string{"insert-t00003": "exit\nexit\n"},
			[]string{`stage "sums", task "t00003"`, "exit code 7", "2 actors died of it"}},
		{"a partition", map[string]string{"extract-5": "kill\nkill\n"},
			[]string{`stage "sums", task "part-00005"`, "killed by SIGKILL", "2 actors died of it"}},
		{"an error", map[string]string{"first-t00007": "error\n"},
			[]string{`stage "first", task "t00007": as it was told`}},
		{"all that begins", map[string]string{"setup-x": strings.Repeat("exit\n", 100)},
			[]string{"ended 5 times in a row without finishing a task", "exit code 7: about to leave"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := oneOut(t)
			for name, what := range tc.what {
				os.WriteFile(filepath.Join(dir, name), []byte(what), 0o666)
			}
			c := isolate("three", dir, 2)
			_, err := runIsolated(t.Context(), "three", dir, c.Isolation, nil)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") || tc.name == "an error" && strings.Contains(err.Error(), "rank") {
				t.Errorf("%v", err)
			}
			leftovers(t, oneOut(t))
			// What was finished is not lost: the next run goes on.
			for name := range tc.what {
				os.Remove(filepath.Join(dir, name))
			}
			out, err := runIsolated(t.Context(), "three", dir, isolate("three", dir, 2).Isolation, nil)
			if err != nil {
				t.Fatal(err)
			}
			checkSums(t, out, 40, 11)
			leftovers(t, dir)
		})
	}
}

// TestIsolatedEnviron: every actor sees its device and no other, and what the user has set.
func TestIsolatedEnviron(t *testing.T) {
	t.Setenv("KEPT", "yes")
	t.Setenv("CUDA_VISIBLE_DEVICES", "0,1")
	dir := t.TempDir()
	c := isolate("environ", dir, 3)
	for i := range 3 {
		c.Devices = append(c.Devices, Device{Kind: DeviceCUDA, Index: i, UUID: fmt.Sprintf("GPU-%d", i)})
	}
	c.Environ = map[string]string{"WANTED": "too", "CUDA_VISIBLE_DEVICES": "all"}
	out, err := runIsolated(t.Context(), "environ", dir, c.Isolation, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, o := range out {
		seen[string(o.Data)] = true
	}
	for i := range 3 {
		if want := fmt.Sprintf("%d true GPU-%d host too yes", i+1, i); !seen[want] {
			t.Errorf("no actor has seen %q: %v", want, seen)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%v", seen)
	}
	if !slices.ContainsFunc(c.notes, func(s string) bool { return strings.Contains(s, "CUDA_VISIBLE_DEVICES=all is not followed") }) || len(c.notes) != 1 {
		t.Errorf("%q", c.notes)
	}
}

// TestIsolatedMistakes: what cannot be is said.
func TestIsolatedMistakes(t *testing.T) {
	for name, c := range map[string]Isolation{
		"Actors is 0":            {},
		"MaxDeaths is -1":        {Actors: 1, MaxDeaths: -1},
		"it cannot be started":   {Actors: 1, Command: func(int) *exec.Cmd { return exec.Command("/nowhere") }},
		"it ended with exit cod": {Actors: 1, Command: func(int) *exec.Cmd { return exec.Command("/bin/false") }},
		"it took longer than":    {Actors: 1, JoinTimeout: 100 * time.Millisecond, Command: func(int) *exec.Cmd { return exec.Command("/bin/sleep", "60") }},
	} {
		if _, err := Isolate(t.Context(), c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
	leftovers(t, oneOut(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := isolate("three", t.TempDir(), 2)
	if _, err := Isolate(ctx, c.Isolation); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	leftovers(t, oneOut(t))
}

// TestResidentOfActors: the memory of the processes of actors counts.
func TestResidentOfActors(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), wedgeEnv+"=127.0.0.1:1,1,") // a rank that looks for rank 0, for half a minute
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	const least = 4 << 20
	for deadline := time.Now().Add(20 * time.Second); residentOf(cmd.Process.Pid) < least; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it has %d bytes", residentOf(cmd.Process.Pid))
		}
	}
	c := newChildren(nil, Isolation{})
	own := c.resident()
	c.live[1] = &child{cmd: cmd}
	if got := c.resident(); own < least || got < own+least/2 {
		t.Errorf("%d bytes, %d of them of this process", got, own)
	}
}

// TestIsolatedLate: a process that does not join in time is replaced.
func TestIsolatedLate(t *testing.T) {
	dir := oneOut(t)
	c := isolate("three", dir, 1)
	c.Silence = 2 * time.Second // in which the second has to join, on a busy machine
	begin, calls := c.Command, 0
	c.Command = func(actor int) *exec.Cmd {
		if calls++; calls == 1 {
			return exec.Command("/bin/sleep", "60")
		}
		return begin(actor)
	}
	out, err := runIsolated(t.Context(), "three", dir, c.Isolation, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, out, 40, 11)
	if len(c.notes) != 1 || !strings.Contains(c.notes[0], "it had not joined after 4s, and was killed; another takes its place") {
		t.Errorf("%q", c.notes)
	}
}

// TestIsolatedStopped: a job that is stopped ends its processes, and whoever does not listen is killed.
func TestIsolatedStopped(t *testing.T) {
	dir := oneOut(t)
	os.WriteFile(filepath.Join(dir, "first-t00007"), []byte("stop\n"), 0o666)
	c := isolate("three", dir, 2)
	c.Silence = time.Minute
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
	defer cancel()
	start := time.Now()
	if _, err := runIsolated(ctx, "three", dir, c.Isolation, nil); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	leftovers(t, oneOut(t))
}

// TestIsolatedIgnoreHeadNode: all actors are on the head node, so without it nothing is left to run on.
func TestIsolatedIgnoreHeadNode(t *testing.T) {
	j, err := Isolate(t.Context(), isolate("three", t.TempDir(), 1).Isolation)
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(Config{Job: j, IgnoreHeadNode: true})
	j.Close(err)
	if !errors.Is(err, ErrNoResources) {
		t.Errorf("got %v", err)
	}
}
