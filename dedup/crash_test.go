package dedup

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/internal/crashtest"
)

// TestMain runs one pipeline instead of the tests when a test started this binary for that.
func TestMain(m *testing.M) {
	os.Exit(crashtest.Main(m, func(j childJob) error {
		_, err := Run(context.Background(), Options{Spec: j.Spec, Exec: j.Exec, Inputs: j.Inputs, Output: j.Output})
		return err
	}))
}

// childJob is what a child process runs.
type childJob struct {
	Spec   Spec
	Exec   Exec
	Inputs []string
	Output string
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
	want, verdicts := c.expected(t, s)

	k := crashtest.Killer{Rng: rng, Kills: kills, Tries: 8}
	finished, reused := 0, int64(0)
	for n := 0; k.More(); n++ {
		s.Write = []string{WriteAnnotate, WriteKept}[n%2]
		out := filepath.Join(t.TempDir(), "out")
		k.Finish(t, func() any {
			return childJob{
				Spec: s, Inputs: []string{dir}, Output: out,
				Exec: Exec{Ranks: 1 + rng.IntN(3), Workers: 1 + rng.IntN(4), SplitBytes: 4000, BandsPerIteration: 1 + rng.IntN(s.NumBands)},
			}
		})
		res, err := ReadResult(out)
		if err != nil {
			t.Fatal(err)
		}
		if res.Digest != want {
			t.Fatalf("run %d: digest %s, want %s", n, res.Digest, want)
		}
		if s.Write == WriteAnnotate {
			c.checkAnnotated(t, out, nil, s, verdicts)
		}
		if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 1 {
			t.Errorf("run %d left %v, %v", n, left, err)
		}
		finished++
		reused += res.TasksReused
	}
	t.Logf("%d runs killed, %d finished, %d tasks reused", k.Killed, finished, reused)
	if reused == 0 {
		t.Error("no task was reused: nothing was resumed")
	}
}
