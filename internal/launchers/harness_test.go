// Package launchers tries the program under real launchers: mpirun of Open MPI, mpiexec of MPICH, and srun of a Slurm of two nodes that
// it starts on this machine, in network namespaces too. `make test-launchers` installs them. Elsewhere the tests are left out.
package launchers

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	// program is bin/dovetail, built with the tags pmix and ucx, and plain the same without any tag and without C.
	program, plain = os.Getenv("DOVETAIL_BIN"), os.Getenv("DOVETAIL_BIN_PLAIN")
	// withUCX has a rank find the UCX that it was built for.
	withUCX = "DOVETAIL_UCX_LIB=" + os.Getenv("DOVETAIL_UCX_LIB")
	scratch string
)

// testLimit is how long a command may take: all of them are far quicker.
const testLimit = 3 * time.Minute

func TestMain(m *testing.M) {
	code := func() int {
		var err error
		// Not below TMPDIR, whose path may be too long for the sockets of launchers.
		if scratch, err = os.MkdirTemp("/tmp", "dvl"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		return m.Run()
	}()
	os.Exit(code)
}

// need leaves a test out, loudly, where a program is missing; but not in `make test-launchers`, which installs them.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if program == "" || plain == "" {
		t.Skip("NOT TESTED: no launcher was tried; make test-launchers does")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("DOVETAIL_LAUNCHERS") == "installed" {
			t.Fatalf("%s is not here", p)
		}
		t.Skipf("NOT TESTED: %s is not here; make test-launchers installs it", p)
	}
}

// texts are documents, and what one process makes of them.
type texts struct {
	dir, digest string
	took        time.Duration
	err         error
}

var input = sync.OnceValue(func() (in texts) {
	in.dir = filepath.Join(scratch, "in")
	rng := rand.New(rand.NewPCG(1, 2))
	for f := range 8 {
		var b bytes.Buffer
		for i := range 1500 {
			fmt.Fprintf(&b, `{"id":%d,"text":"`, i)
			n := uint64(rng.Uint32())
			if i%7 == 0 {
				n = uint64(i % 11) // some are alike
			}
			words := rand.New(rand.NewPCG(n, 3))
			for range 150 {
				fmt.Fprintf(&b, "w%04x ", words.IntN(1<<16))
			}
			if i%5 == 0 {
				fmt.Fprintf(&b, "w%04x ", i) // and some nearly
			}
			b.WriteString("\"}\n")
		}
		if in.err = os.MkdirAll(in.dir, 0o777); in.err == nil {
			in.err = os.WriteFile(filepath.Join(in.dir, fmt.Sprintf("%d.jsonl", f)), b.Bytes(), 0o666)
		}
		if in.err != nil {
			return in
		}
	}
	out := filepath.Join(scratch, "one")
	start := time.Now()
	cmd := exec.Command(plain, "dedup", "--launcher", "none", "--progress", "none", "--input", in.dir, "--output", out)
	if said, err := cmd.CombinedOutput(); err != nil {
		in.err = fmt.Errorf("one process: %w: %s", err, said)
		return in
	}
	in.took = time.Since(start)
	r, err := readRun(out)
	in.digest, in.err = r.Digest, err
	return in
})

// record is what these tests read of run.json.
type record struct {
	Digest string
	Ranks  int
	Stages struct {
		Launcher  string
		Transport string
		Hosts     []string
		Workers   int
		Lost      []struct{ Rank int }
	}
}

func readRun(out string) (r record, err error) {
	data, err := os.ReadFile(filepath.Join(out, "run.json"))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

// environ is that of this process without what launchers have set, and with more.
func environ(more ...string) (list []string) {
	for _, v := range os.Environ() {
		if !slices.ContainsFunc([]string{"SLURM", "PMI", "OMPI_", "DOVETAIL_", "RANK=", "WORLD_SIZE=", "MASTER_"}, func(p string) bool { return strings.HasPrefix(v, p) }) {
			list = append(list, v)
		}
	}
	return append(list, more...)
}

// running is a command of a launcher.
type running struct {
	cmd  *exec.Cmd
	said bytes.Buffer // on both streams; only when it has ended
	done chan error
}

// start starts a command.
func start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	r := &running{cmd: exec.Command(args[0], args[1:]...), done: make(chan error, 1)}
	r.cmd.Env = env
	r.cmd.Stdout, r.cmd.Stderr = &r.said, &r.said
	r.cmd.WaitDelay = 5 * time.Second
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	return r
}

// wait returns how it ended, and fails the test if it does not.
func (r *running) wait(t *testing.T, limit time.Duration) error {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(limit):
		_ = r.cmd.Process.Signal(syscall.SIGTERM) // launchers pass it on
		select {
		case <-r.done:
		case <-time.After(10 * time.Second):
			_ = r.cmd.Process.Kill()
			<-r.done
		}
		t.Fatalf("%q does not end; it says %q", r.cmd.Args, r.said.String())
		return nil
	}
}

// runs runs a command that must succeed and returns what it says.
func runs(t *testing.T, env []string, args ...string) string {
	t.Helper()
	r := start(t, env, args...)
	if err := r.wait(t, testLimit); err != nil {
		t.Fatalf("%q: %v: %s", args, err, r.said.String())
	}
	return r.said.String()
}

// fails runs a command that must fail, and each of whose ranks must say the same line.
func fails(t *testing.T, env []string, want string, args ...string) {
	t.Helper()
	r := start(t, env, args...)
	if err := r.wait(t, testLimit); err == nil || !strings.Contains(r.said.String(), want) {
		t.Errorf("%q: %v: %s, want %q", args, err, r.said.String(), want)
	}
}

// dedup is a command line of the program over the input.
func dedup(t *testing.T, bin, out string, more ...string) []string {
	t.Helper()
	in := input()
	if in.err != nil {
		t.Fatal(in.err)
	}
	return append([]string{bin, "dedup", "--progress", "none", "--rank-timeout", "5s", "--join-timeout", "30s", "--input", in.dir, "--output", out}, more...)
}

// check compares a result with that of one process and returns its record.
func check(t *testing.T, what, out string) record {
	t.Helper()
	r, err := readRun(out)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if want := input().digest; r.Digest != want {
		t.Errorf("%s: digest %s, want %s", what, r.Digest, want)
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 1 {
		t.Errorf("%s: left %v, %v", what, left, err)
	}
	return r
}

// process waits for the process of a rank, by a variable that its launcher has set.
func process(t *testing.T, variable string, rank int, out string) int {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		list, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range list {
			exe, err := os.Readlink(filepath.Join(dir, "exe"))
			if err != nil || exe != program && exe != plain {
				continue
			}
			args, err1 := os.ReadFile(filepath.Join(dir, "cmdline"))
			env, err2 := os.ReadFile(filepath.Join(dir, "environ"))
			if err1 == nil && err2 == nil && bytes.Contains(args, []byte(out)) && bytes.Contains(env, fmt.Appendf(nil, "\x00%s=%d\x00", variable, rank)) {
				pid, err := strconv.Atoi(filepath.Base(dir))
				if err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
	}
	t.Fatalf("rank %d does not come", rank)
	return 0
}

// begun waits until the ranks of a command have met and begin, or are done.
func begun(t *testing.T, r *running, out string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		_, begun := os.Stat(out + ".work")
		_, done := os.Stat(out)
		if begun == nil || done == nil {
			return
		}
		if time.Now().After(deadline) {
			_ = r.cmd.Process.Signal(syscall.SIGTERM)
			t.Fatalf("the ranks do not begin: %q", r.cmd.Args)
		}
	}
}

// kills is how often each of the tests that kill a rank does so.
var kills = flag.Int("kills", 1, "kill each rank this often")

// killOne kills a rank at a random moment after the ranks have met: before that, launchers end the whole job. If it was not rank 0, the others
// finish with the digest of one process; if it was, all stop, and the same command goes on.
func killOne(t *testing.T, variable string, victim int, command func(out string) (env, args []string)) {
	t.Helper()
	for range *kills {
		killOnce(t, variable, victim, command)
	}
}

func killOnce(t *testing.T, variable string, victim int, command func(out string) (env, args []string)) {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	env, args := command(out)
	r := start(t, env, args...)
	pid := process(t, variable, victim, out)
	begun(t, r, out)
	after := time.Duration(rand.Int64N(int64(input().took)))
	time.Sleep(after)
	killed := syscall.Kill(pid, syscall.SIGKILL)
	ended := r.wait(t, testLimit)
	what := fmt.Sprintf("rank %d killed after %v (%v), ends with %v", victim, after.Round(time.Millisecond), killed, ended)
	_, unfinished := os.Stat(out)
	if said := r.said.String(); unfinished != nil && (victim != 0 || !strings.Contains(said, "dovetail: ")) {
		t.Errorf("%s: the others do not finish, or do not say why: %s", what, said)
	}
	if unfinished != nil || victim == 0 && killed == nil { // what is complete may need to be tidied up
		runs(t, env, args...)
		what += ", and the same command went on"
	}
	lost := check(t, what, out).Stages.Lost
	t.Logf("%s; lost: %v", what, lost)
}
