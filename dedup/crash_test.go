package dedup

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestMain runs one pipeline instead of the tests when a test started this binary for that.
func TestMain(m *testing.M) {
	if job := os.Getenv("DOVETAIL_TEST_RUN"); job != "" {
		os.Exit(child(job))
	}
	os.Exit(m.Run())
}

// childJob is what a child process runs.
type childJob struct {
	Spec   Spec
	Exec   Exec
	Inputs []string
	Output string
}

func child(job string) int {
	var j childJob
	if err := json.Unmarshal([]byte(job), &j); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if _, err := Run(context.Background(), Options{Spec: j.Spec, Exec: j.Exec, Inputs: j.Inputs, Output: j.Output}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKilledAndResumed kills runs with SIGKILL at random moments, starts them again, with other numbers of ranks and
// workers, until they finish, and expects the digest of a run that was never disturbed.
func TestKilledAndResumed(t *testing.T) {
	kills := 100
	if testing.Short() {
		kills = 20
	}
	rng := rand.New(rand.NewPCG(seedOf(t, 11), 0))
	c := makeCorpus(rng, 12, 900).spoil(rng)
	dir := t.TempDir()
	c.write(t, dir)
	s := smallSpec()
	s.OnBadFile, s.OnBadRecord = OnBadSkip, OnBadSkip
	want, _ := c.expected(t, s)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	killed, finished, reused := 0, 0, int64(0)
	var usual time.Duration // of a run that is not killed
	for n := 0; killed < kills; n++ {
		out := filepath.Join(t.TempDir(), "out")
		for try := 0; ; try++ {
			j := childJob{
				Spec: s, Inputs: []string{dir}, Output: out,
				Exec: Exec{Ranks: 1 + rng.IntN(3), Workers: 1 + rng.IntN(4), SplitBytes: 4000, BandsPerIteration: 1 + rng.IntN(s.NumBands)},
			}
			data, err := json.Marshal(j)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cmd := exec.CommandContext(ctx, self)
			cmd.Env = append(os.Environ(), "DOVETAIL_TEST_RUN="+string(data))
			started := time.Now()
			if usual > 0 && killed < kills && try < 8 {
				time.AfterFunc(time.Duration(rng.Int64N(int64(usual))), cancel)
			}
			msg, err := cmd.CombinedOutput()
			if ctx.Err() == nil && err != nil {
				t.Fatalf("run %d, try %d: %v: %s", n, try, err, msg)
			}
			cancel()
			if err == nil {
				if usual == 0 {
					usual = time.Since(started)
				}
				break
			}
			killed++
		}
		res, err := ReadResult(out)
		if err != nil {
			t.Fatal(err)
		}
		if res.Digest != want {
			t.Fatalf("run %d: digest %s, want %s", n, res.Digest, want)
		}
		if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 1 {
			t.Errorf("run %d left %v, %v", n, left, err)
		}
		finished++
		reused += res.TasksReused
	}
	t.Logf("%d runs killed, %d finished, %d tasks reused", killed, finished, reused)
	if reused == 0 {
		t.Error("no task was reused: nothing was resumed")
	}
}
