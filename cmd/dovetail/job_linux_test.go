package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup"
)

// freeAddr is an address of this machine at which nobody listens. Its port is below those that a system gives to whoever asks for any:
// one of these may be a connection's of another test before it is listened at.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// rank is one process of a job.
type rank struct {
	*exec.Cmd
	out, err bytes.Buffer
	done     chan error
}

// startJob starts the ranks of a job, each a process of its own.
func startJob(t *testing.T, size int, args ...string) []*rank {
	t.Helper()
	addr := freeAddr(t)
	ranks := make([]*rank, size)
	for r := range ranks {
		ranks[r] = startRank(t, r, size, addr, args...)
	}
	return ranks
}

// startRank starts one of them; addr is that of rank 0.
func startRank(t *testing.T, r, size int, addr string, args ...string) *rank {
	t.Helper()
	k := &rank{done: make(chan error, 1)}
	list := []string{"dedup", "--progress", "none", "--workers", "2", "--size", fmt.Sprint(size), "--rank", fmt.Sprint(r), "--root", addr}
	k.Cmd = child(t, append(list, args...)...)
	k.Stdout, k.Stderr = &k.out, &k.err
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { k.done <- k.Wait() }()
	return k
}

// wait returns how a rank ended, and fails the test if it does not.
func (k *rank) wait(t *testing.T, limit time.Duration) error {
	t.Helper()
	select {
	case err := <-k.done:
		k.done <- err
		return err
	case <-time.After(limit):
		t.Fatalf("a rank does not end; it says %q", k.err.String())
		return nil
	}
}

// jobInput writes what ranks deduplicate, and returns the digest and the time of one process.
func jobInput(t *testing.T) (in, digest string, took time.Duration) {
	t.Helper()
	in = filepath.Join(t.TempDir(), "in")
	for i := range 8 {
		writeDocs(t, filepath.Join(in, fmt.Sprintf("%d.jsonl", i)), 1500+i)
	}
	out := filepath.Join(t.TempDir(), "out")
	start := time.Now()
	if code, _, stderr := dovetail("dedup", "--progress", "none", "--input", in, "--output", out); code != 0 {
		t.Fatalf("%d %q", code, stderr)
	}
	return in, readDigest(t, out), time.Since(start)
}

func readDigest(t *testing.T, out string) string {
	t.Helper()
	res, err := dedup.ReadResult(out)
	if err != nil {
		t.Fatal(err)
	}
	return res.Digest
}

// TestJobOfProcesses: several processes give the result of one, with and without a secret.
func TestJobOfProcesses(t *testing.T) {
	in, digest, _ := jobInput(t)
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, "0123456789abcdef0123456789abcdef\n")
	for _, c := range []struct {
		size int
		args []string
	}{{1, nil}, {2, []string{"--secret-file", secret}}, {4, nil}} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			ranks := startJob(t, c.size, append([]string{"--input", in, "--output", out}, c.args...)...)
			for r, k := range ranks {
				if err := k.wait(t, 3*time.Minute); err != nil {
					t.Errorf("rank %d: %v: %s", r, err, k.err.String())
				}
				if r > 0 && k.out.Len()+k.err.Len() > 0 {
					t.Errorf("rank %d speaks too: %q %q", r, k.out.String(), k.err.String())
				}
			}
			if got := readDigest(t, out); got != digest {
				t.Errorf("digest %s, want %s", got, digest)
			}
			if code, stdout, stderr := dovetail("verify", out, "--progress", "none"); code != 0 {
				t.Errorf("verify: %d %q %q", code, stdout, stderr)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("left %v, %v", left, err)
			}
			// Again: it is done already, for all.
			for r, k := range startJob(t, c.size, append([]string{"--input", in, "--output", out}, c.args...)...) {
				if err := k.wait(t, 3*time.Minute); err != nil {
					t.Errorf("again, rank %d: %v: %s", r, err, k.err.String())
				}
			}
		})
	}
}

// TestRankKilled kills ranks at random moments: the others finish with the digest of an undisturbed run, or, if it was rank 0,
// all stop, say why, and the same command goes on.
func TestRankKilled(t *testing.T) {
	in, digest, took := jobInput(t)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 3))
	runs := 100
	if testing.Short() {
		runs = 3
	}
	for n := range runs {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		victim := []int{1 + rng.IntN(3), 0, 1 + rng.IntN(3)}[n%3]
		signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGSTOP}[n%3]
		args := []string{"--input", in, "--output", out, "--rank-timeout", "5s", "--join-timeout", "10s"}
		ranks := startJob(t, 4, args...)
		time.Sleep(time.Duration(rng.Int64N(int64(took) + int64(200*time.Millisecond))))
		_ = ranks[victim].Process.Signal(signal)
		failed := 0
		for r, k := range ranks {
			if r == victim {
				continue
			}
			err := k.wait(t, 3*time.Minute)
			if victim != 0 && err != nil && !joinFailed(k) {
				t.Errorf("seed %d run %d: rank %d after %v of rank %d: %v: %s", seed, n, r, signal, victim, err, k.err.String())
			}
			if err != nil {
				failed++
				if s := k.err.String(); strings.Count(s, "\n") != 1 || strings.Contains(s, "goroutine") {
					t.Errorf("seed %d run %d: rank %d says %q", seed, n, r, s)
				}
			}
		}
		if signal == syscall.SIGSTOP {
			_ = ranks[victim].Process.Signal(syscall.SIGCONT)
		}
		_ = ranks[victim].wait(t, 3*time.Minute)
		if _, err := os.Stat(out); err != nil || victim == 0 {
			// It was rank 0, or the ranks had not met yet. One process goes on with what they did, or cleans up after it.
			if err != nil && failed == 0 {
				t.Fatalf("seed %d run %d: there is no result, and nobody says so", seed, n)
			}
			if code, _, stderr := dovetail("dedup", "--progress", "none", "--input", in, "--output", out); code != 0 {
				t.Fatalf("seed %d run %d: going on: %d %q", seed, n, code, stderr)
			}
		}
		if got := readDigest(t, out); got != digest {
			t.Errorf("seed %d run %d: digest %s, want %s, after %v of rank %d", seed, n, got, digest, signal, victim)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("seed %d run %d: left %v, %v, after %v of rank %d", seed, n, left, err, signal, victim)
		}
	}
}

// joinFailed reports whether a rank could not begin because another was gone before all had met.
func joinFailed(k *rank) bool {
	s := k.err.String()
	return strings.Contains(s, "misses rank") || strings.Contains(s, "does not reach rank 0")
}

// TestRankMistakes: what is wrong about a rank is said in one line, on every rank.
func TestRankMistakes(t *testing.T) {
	in := filepath.Join(t.TempDir(), "in")
	writeDocs(t, filepath.Join(in, "a.jsonl"), 20)
	out := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--rank", "1"}, 2, "need --size"},
		{[]string{"--task-timeout", "-1s"}, 2, "--task-timeout -1s"},
		{[]string{"--size", "2", "--rank", "2", "--root", "127.0.0.1:1"}, 2, "--rank 2: must be from 0 to 1"},
		{[]string{"--size", "2"}, 2, "--root: give host:port"},
		{[]string{"--size", "2", "--root", "127.0.0.1:1", "--on-rank-loss", "panic"}, 2, "must be continue or stop"},
		{[]string{"--size", "2", "--root", "203.0.113.9:7000"}, 1, "is not a loopback address, so the ranks need a Secret"},
		{[]string{"--size", "2", "--root", freeAddr(t), "--join-timeout", "100ms"}, 1, "rank 0 of 2 misses rank 1"},
		{[]string{"--size", "2", "--rank", "1", "--root", freeAddr(t), "--join-timeout", "100ms"}, 1, "does not reach rank 0"},
		{[]string{"--size", "2", "--root", "127.0.0.1:7", "--ranks", "2"}, 2, "--ranks"},
		{[]string{"--size", "2", "--root", "127.0.0.1:7", "--data-ports", "7700-7600"}, 2, `--data-ports "7700-7600": give ports`},
		{[]string{"--size", "2", "--root", "127.0.0.1:7", "--data-ports", "some"}, 2, `--data-ports "some": give ports`},
		{[]string{"--size", "2", "--root", "127.0.0.1:7", "--secret-file", writeFile(t, filepath.Join(t.TempDir(), "short"), "a1b2c3d4e5f60718\n")}, 2, "8 bytes in hexadecimal digits"},
		{[]string{"--size", "2", "--root", "127.0.0.1:7", "--secret-file", writeFile(t, filepath.Join(t.TempDir(), "long"), strings.Repeat("text ", 1000))}, 2, "is it another file?"},
		{[]string{"--size", "2", "--root", "0.0.0.0:0", "--secret-file", writeFile(t, filepath.Join(t.TempDir(), "s"), "q83vEjRWeJCrze8S")}, 1, "all addresses of this machine"},
	} {
		code, _, stderr := dovetail(append([]string{"dedup", "--progress", "none", "--input", in, "--output", out}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) || c.code == 1 && strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: %d %q, want %d and %q", c.args, code, stderr, c.code, c.want)
		}
	}
	// A rank that sees another input.
	ranks := startJob(t, 1, "--input", in, "--output", out+"1")
	if err := ranks[0].wait(t, 3*time.Minute); err != nil {
		t.Errorf("%v: %s", err, ranks[0].err.String())
	}
	addr := freeAddr(t)
	var jobs []*rank
	for r := range 2 {
		other := in
		if r == 1 {
			other = filepath.Join(t.TempDir(), "other")
			writeDocs(t, filepath.Join(other, "a.jsonl"), 21)
		}
		jobs = append(jobs, startRank(t, r, 2, addr, "--input", other, "--output", out+"2", "--on-rank-loss", "stop"))
	}
	for r, k := range jobs {
		err := k.wait(t, 3*time.Minute)
		if s := k.err.String(); err == nil || strings.Count(s, "\n") != 1 || r == 1 && !strings.Contains(s, "does not see the input that rank 0 sees") {
			t.Errorf("rank %d: %v %q", r, err, s)
		}
	}
}
