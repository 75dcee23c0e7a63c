package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startIsolated starts the program with workers in processes of their own, in a process group of its own. temp is where it makes temporary
// files.
func startIsolated(t *testing.T, temp string, args ...string) *rank {
	t.Helper()
	k := &rank{done: make(chan error, 1)}
	k.Cmd = child(t, append([]string{"dedup", "--isolation", "process"}, args...)...)
	k.Env = append(k.Env, "TMPDIR="+temp)
	k.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	k.Stdout, k.Stderr = &k.out, &k.err
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { k.done <- k.Wait() }()
	return k
}

// children are the processes that a process has started.
func children(pid int) (list []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(s); err == nil {
				list = append(list, n)
			}
		}
	}
	return list
}

// noProcess fails the test if a process is left that has to do with the folder dir.
func noProcess(t *testing.T, dir string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := ""
		files, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, f := range files {
			if b, _ := os.ReadFile(f); bytes.Contains(b, []byte(dir)) {
				left = f
			}
		}
		switch {
		case left == "":
			return
		case time.Now().After(deadline):
			t.Errorf("a process is left: %s", left)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// onlyFiles fails the test if dir holds anything but the output, or the output other files than expected.
func onlyFiles(t *testing.T, dir, out, temp string, inputs int) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
	kept, err := os.ReadDir(filepath.Join(out, "kept"))
	if err != nil || len(kept) != inputs {
		t.Errorf("in the output: %v, %v", kept, err)
	}
}

// TestActorProcesses: workers in processes of their own give the result of goroutines.
func TestActorProcesses(t *testing.T) {
	in, digest, _ := jobInput(t)
	for _, args := range [][]string{
		{"--workers", "1"}, {"--workers", "2", "--memory-limit", "320MiB"}, {"--workers", "4"},
	} {
		dir, temp := t.TempDir(), t.TempDir()
		out := filepath.Join(dir, "out")
		args = append(args, "--progress", "none", "--input", in, "--output", out)
		for range 2 { // the second finds that it is done
			k := startIsolated(t, temp, args...)
			if err := k.wait(t, 3*time.Minute); err != nil || k.err.Len() > 0 {
				t.Fatalf("%q: %v %q", args, err, k.err.String())
			}
		}
		if got := readDigest(t, out); got != digest {
			t.Errorf("%q: digest %s, want %s", args, got, digest)
		}
		onlyFiles(t, dir, out, temp, 8)
		noProcess(t, dir)
		if code, stdout, stderr := dovetail("verify", out, "--progress", "none"); code != 0 {
			t.Errorf("verify: %d %q %q", code, stdout, stderr)
		}
	}
}

// TestActorKilled kills, stops and breaks processes of workers at random moments, and every fourth time their parent: the digest is that
// of an undisturbed run, at once or when the same command is given again, and nothing is left.
func TestActorKilled(t *testing.T) {
	in, digest, took := jobInput(t)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 3))
	runs := 100
	if testing.Short() {
		runs = 4
	}
	lost := 0
	for n := range runs {
		dir, temp := t.TempDir(), t.TempDir()
		out := filepath.Join(dir, "out")
		args := []string{"--progress", "plain", "--workers", "3", "--input", in, "--output", out, "--rank-timeout", "5s"}
		k := startIsolated(t, temp, args...)
		parent := n%4 == 3
		for range 1 + rng.IntN(3) {
			time.Sleep(time.Duration(rng.Int64N(int64(took) + int64(100*time.Millisecond))))
			sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGKILL, syscall.SIGSEGV}[n%4]
			if parent {
				_ = k.Process.Kill()
			} else if c := children(k.Process.Pid); len(c) > 0 {
				_ = syscall.Kill(c[rng.IntN(len(c))], sig)
			}
		}
		err := k.wait(t, 3*time.Minute)
		noProcess(t, dir)
		said := k.err.String()
		lost += strings.Count(said, "another takes its place")
		if err != nil || parent {
			// Two may have died of one task, by chance; the parent cannot be done without.
			if !parent && !strings.Contains(said, "actors died of it") {
				t.Errorf("seed %d run %d: %v: %s", seed, n, err, said)
			}
			if k = startIsolated(t, temp, args...); k.wait(t, 3*time.Minute) != nil {
				t.Fatalf("seed %d run %d: going on: %s", seed, n, k.err.String())
			}
		}
		if got := readDigest(t, out); got != digest {
			t.Errorf("seed %d run %d: digest %s, want %s: %s", seed, n, got, digest, said)
		}
		onlyFiles(t, dir, out, temp, 8)
	}
	t.Logf("%d processes were replaced in %d runs", lost, runs)
	if lost == 0 && runs > 10 {
		t.Error("no process was replaced")
	}
}

// TestActorsInterrupted: a terminal interrupts all processes of a run; one line says so, and the same command goes on.
func TestActorsInterrupted(t *testing.T) {
	in, digest, took := jobInput(t)
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		dir, temp := t.TempDir(), t.TempDir()
		out := filepath.Join(dir, "out")
		args := []string{"--progress", "none", "--workers", "3", "--input", in, "--output", out}
		k := startIsolated(t, temp, args...)
		for deadline := time.Now().Add(10 * time.Second); len(children(k.Process.Pid)) < 3 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(took / 4)
		if err := syscall.Kill(-k.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
		err := k.wait(t, 3*time.Minute)
		var exit *exec.ExitError
		if err == nil {
			t.Logf("%v: it was too late", sig)
		} else if said := k.err.String(); !errors.As(err, &exit) || exit.ExitCode() != code || strings.Count(said, "\n") != 1 ||
			!strings.Contains(said, "stopped by "+sig.String()) {
			t.Errorf("%v: %v %q", sig, err, said)
		}
		noProcess(t, dir)
		if k := startIsolated(t, temp, args...); k.wait(t, 3*time.Minute) != nil {
			t.Errorf("the same again: %q", k.err.String())
		}
		if got := readDigest(t, out); got != digest {
			t.Errorf("digest %s, want %s", got, digest)
		}
		onlyFiles(t, dir, out, temp, 8)
	}
}

// TestActorMistakes: what goes with processes of workers and what does not.
func TestActorMistakes(t *testing.T) {
	in := filepath.Join(t.TempDir(), "in")
	writeDocs(t, filepath.Join(in, "a.jsonl"), 20)
	writeFile(t, filepath.Join(in, "b.jsonl"), "{\"text\":\"fine\"}\n{\"text\":\n")
	out := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--isolation", "thread"}, 2, `--isolation "thread": must be goroutine or process`},
		{[]string{"--isolation", "process", "--size", "2", "--root", "127.0.0.1:1"}, 2, "--isolation process and --size"},
		{[]string{"--isolation", "process", "--ranks", "2"}, 2, "--ranks 2 has no meaning with --isolation process"},
		{[]string{"--isolation", "process", "--on-rank-loss", "stop"}, 2, "--on-rank-loss has no meaning"},
		{[]string{"--isolation", "process", "--root", "127.0.0.1:1"}, 2, "need --size"},
		{[]string{"--isolation", "process", "--workers", "2", "--memory-limit", "256MiB"}, 2, "the smallest that works is 320MiB with 2 workers in processes"},
		{[]string{"--isolation", "process", "--compat", "curator"}, 2, "--isolation has no meaning with --compat curator"},
	} {
		code, _, stderr := dovetail(append([]string{"dedup", "--progress", "none", "--input", in, "--output", out}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: %d %q, want %d and %q", c.args, code, stderr, c.code, c.want)
		}
	}
	// A line that is none is what it is without processes.
	_, _, want := dovetail("dedup", "--progress", "none", "--input", in, "--output", out)
	k := startIsolated(t, t.TempDir(), "--progress", "none", "--input", in, "--output", out, "--workers", "2")
	if err := k.wait(t, 3*time.Minute); err == nil || k.err.String() != want {
		t.Errorf("%v: %q, want %q", err, k.err.String(), want)
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name() == "out" }) {
		t.Errorf("left %v, %v", left, err)
	}
}
