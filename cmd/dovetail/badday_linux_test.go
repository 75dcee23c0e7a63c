package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain runs the program itself where a test needs it in a process of its own.
func TestMain(m *testing.M) {
	if args := os.Getenv("DOVETAIL_TEST_ARGS"); args != "" {
		var list []string
		if err := json.Unmarshal([]byte(args), &list); err != nil {
			panic(err)
		}
		os.Exit(run(list, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// child is the program with these arguments in a process of its own.
func child(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	data, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "DOVETAIL_TEST_ARGS="+string(data))
	return cmd
}

// writeDocs writes documents of about 1 KB, of which a few are alike.
func writeDocs(t *testing.T, path string, docs int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(docs)))
	var b bytes.Buffer
	for i := range docs {
		fmt.Fprintf(&b, "{\"id\":%d,\"text\":\"", i)
		for range 150 {
			fmt.Fprintf(&b, "w%04x ", rng.IntN(1<<16))
		}
		b.WriteString("\"}\n")
	}
	writeFile(t, path, b.String())
}

// mountSmall mounts a disk of a few bytes.
func mountSmall(t *testing.T, bytes int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("NOT TESTED: a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// TestDiskFull fills the disk of the output, or of the work folder: one line that says what to do, nothing half-written,
// and when there is room the same command goes on.
func TestDiskFull(t *testing.T) {
	in := filepath.Join(t.TempDir(), "in", "a.jsonl")
	writeDocs(t, in, 12_000)
	for _, c := range []struct {
		what string
		size int
		args func(disk, other string) (output, work string)
	}{
		{"output", 4 << 20, func(disk, other string) (string, string) {
			return filepath.Join(disk, "out"), filepath.Join(other, "work")
		}},
		{"work", 1 << 20, func(disk, other string) (string, string) {
			return filepath.Join(other, "out"), filepath.Join(disk, "work")
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			disk, other := mountSmall(t, c.size), t.TempDir()
			output, work := c.args(disk, other)
			args := []string{"dedup", "--progress", "none", "--input", in, "--output", output, "--work", work}
			code, _, stderr := dovetail(args...)
			if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "no space left") || !strings.Contains(stderr, "make room") ||
				!strings.Contains(stderr, disk) {
				t.Errorf("%d %q", code, stderr)
			}
			if _, err := os.Stat(output); err == nil {
				t.Error("an output was left")
			}
			if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=200000000"); err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := dovetail(args...)
			if code != 0 || !strings.Contains(stdout, "12,000 documents") {
				t.Errorf("with room: %d %q %q", code, stdout, stderr)
			}
			if code, stdout, stderr = dovetail("verify", output, "--progress", "none"); code != 0 {
				t.Errorf("verify: %d %q %q", code, stdout, stderr)
			}
		})
	}
}

// startChild starts the program and returns what it says on stderr.
func startChild(t *testing.T, args ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := child(t, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stderr
}

// interrupt starts the program, sends it a signal at the first line with the text at, and returns how it ended and its last line.
func interrupt(t *testing.T, sig syscall.Signal, at string, args ...string) (last string, err error) {
	t.Helper()
	cmd, stderr := startChild(t, args...)
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for signalled := false; lines.Scan(); last = lines.Text() {
		if !signalled && strings.Contains(lines.Text(), at) {
			signalled = true
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	return last, cmd.Wait()
}

// TestStopped interrupts a run as a terminal or a scheduler does; the same command goes on.
func TestStopped(t *testing.T) {
	dir := t.TempDir()
	for i := range 6 {
		writeDocs(t, filepath.Join(dir, "in", fmt.Sprintf("%d.jsonl", i)), 3000)
	}
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		out := filepath.Join(dir, sig.String())
		args := []string{"dedup", "--progress", "json", "--input", filepath.Join(dir, "in"), "--output", out, "--workers", "1"}
		// Something is finished, and something is left to do.
		last, err := interrupt(t, sig, `"Stage":"exact"`, args...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != want || !strings.Contains(last, "stopped by "+sig.String()) {
			t.Errorf("%v: %v, %q", sig, err, last)
		}
		if !strings.Contains(last, "goes on from here") {
			t.Errorf("%v: %q does not say that the run goes on", sig, last)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%v: an output was left", sig)
		}
		code, _, said := dovetail(args...)
		if code != 0 || !strings.Contains(said, "going on from") {
			t.Errorf("%v: the same again: %d %q", sig, code, said)
		}
	}
}

// TestStoppedAtOnce interrupts a run before anything is finished: nothing is promised, and nothing left.
func TestStoppedAtOnce(t *testing.T) {
	dir := t.TempDir()
	writeDocs(t, filepath.Join(dir, "in", "a.jsonl"), 20_000) // one task
	last, err := interrupt(t, syscall.SIGINT, "",             // at its first line
		"dedup", "--progress", "json", "--input", filepath.Join(dir, "in"), "--output", filepath.Join(dir, "out"), "--memory-limit", "1GiB")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Fatalf("%v, %q", err, last)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if saved := len(left) > 1; saved == strings.Contains(last, "before anything") || saved != strings.Contains(last, "goes on") {
		t.Errorf("%q, and there is %v", last, left)
	}
}

// TestTwoRuns starts a run in the folders of one that goes on: it is refused and disturbs nothing.
func TestTwoRuns(t *testing.T) {
	dir := t.TempDir()
	for i := range 6 {
		writeDocs(t, filepath.Join(dir, "in", fmt.Sprintf("%d.jsonl", i)), 3000)
	}
	out := filepath.Join(dir, "out")
	args := []string{"dedup", "--progress", "json", "--input", filepath.Join(dir, "in"), "--output", out, "--workers", "1"}
	first, stderr := startChild(t, args...)
	lines := bufio.NewReader(stderr)
	if _, err := lines.ReadString('\n'); err != nil { // it has begun
		t.Fatal(err)
	}
	// It goes on when the others have been refused, however long that takes.
	if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, work := range []string{out + ".work", filepath.Join(dir, "other")} {
		code, _, said := dovetail("dedup", "--progress", "none", "--input", filepath.Join(dir, "in"), "--output", out, "--work", work)
		if code != 1 || !strings.Contains(said, "in use") || !strings.Contains(said, fmt.Sprint(first.Process.Pid)) || strings.Count(said, "\n") != 1 {
			t.Errorf("the second, in %s: %d %q", work, code, said)
		}
	}
	// Another output, but one work folder.
	code, _, said := dovetail("dedup", "--progress", "none", "--input", filepath.Join(dir, "in"), "--output", out+"2", "--work", out+".work")
	if code != 1 || !strings.Contains(said, "in use") {
		t.Errorf("in one work folder: %d %q", code, said)
	}
	if err := first.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("the first: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("beside the input and the output: %v, %v", left, err)
	}
	if code, stdout, said := dovetail("verify", out, "--progress", "none"); code != 0 {
		t.Errorf("verify: %d %q %q", code, stdout, said)
	}
}
