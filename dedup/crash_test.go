package dedup

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/internal/crashtest"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// TestMain runs one pipeline instead of the tests when a test started this binary for that.
func TestMain(m *testing.M) {
	os.Exit(crashtest.Main(m, func(j childJob) error {
		o := Options{Spec: j.Spec, Exec: j.Exec, Inputs: j.Inputs, Output: j.Output}
		if j.Poison != "" {
			o.Exec.Backend = func(p lsh.Params, env *executor.Env) (lsh.Backend, error) {
				b, err := lsh.NewCPUBackend(p, env.Alloc)
				return &poisoned{b, j.Poison}, err
			}
		}
		return runIsolated(context.Background(), o)
	}))
}

// childJob is what a child process runs.
type childJob struct {
	Spec   Spec
	Exec   Exec
	Inputs []string
	Output string
	Poison string // a text with it kills the process that signs it
}

// runIsolated runs with workers in processes of their own, if that is asked for.
func runIsolated(ctx context.Context, o Options) (err error) {
	if o.Exec.Isolation == IsolationProcess {
		o.Job, err = executor.Isolate(ctx, executor.Isolation{Actors: o.Exec.Workers, Name: "test", Errors: RankErrors{}})
		if err != nil {
			return err
		}
	}
	_, err = Run(ctx, o)
	o.Job.Close(err)
	return err
}

// poisoned is a backend that a text kills.
type poisoned struct {
	lsh.Backend
	text string
}

func (p *poisoned) Start(ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer) (mem.Fence, error) {
	if bytes.Contains(texts.Data.Bytes(), []byte(p.text)) {
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return nil, err
		}
		if err := self.Kill(); err != nil {
			return nil, err
		}
		select {}
	}
	return p.Backend.Start(ctx, texts, signatures, keys)
}

// TestPoisonedDocument: a document that kills whoever reads it stops the run, which names its file; without it the run goes on from there.
func TestPoisonedDocument(t *testing.T) {
	rng := rand.New(rand.NewPCG(seedOf(t, 12), 0))
	c := makeCorpus(rng, 8, 400)
	dir := t.TempDir()
	c.write(t, dir)
	const poison = "the text that kills whoever reads it"
	bad := filepath.Join(dir, "zz.jsonl")
	if err := os.WriteFile(bad, []byte(`{"text":"`+poison+`"}`+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := smallSpec()
	out := filepath.Join(t.TempDir(), "out")
	// All files together would be one task.
	job := childJob{Spec: s, Inputs: []string{dir}, Output: out, Poison: poison, Exec: Exec{Workers: 2, Isolation: IsolationProcess, SplitBytes: 8000}}
	run := func() (string, error) {
		cmd, err := crashtest.Command(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	said, err := run()
	if err == nil || !strings.Contains(said, "2 actors died of it") || !strings.Contains(said, "zz.jsonl") ||
		!strings.Contains(said, "SIGKILL") || strings.Count(strings.TrimSpace(said), "\n") > 0 {
		t.Fatalf("%v: %q", err, said)
	}
	job.Poison = ""
	if said, err := run(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	res, err := ReadResult(out)
	if err != nil {
		t.Fatal(err)
	}
	if res.TasksReused == 0 || len(res.Stages.Lost) > 0 {
		t.Errorf("%d tasks reused, lost %v", res.TasksReused, res.Stages.Lost)
	}
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

	execs := func() Exec {
		e := Exec{Ranks: 1 + rng.IntN(3), Workers: 1 + rng.IntN(4), SplitBytes: 4000, BandsPerIteration: 1 + rng.IntN(s.NumBands)}
		if rng.IntN(4) == 0 {
			e.Ranks, e.Isolation = 1, IsolationProcess
		}
		return e
	}
	k := crashtest.Killer{Rng: rng, Kills: kills, Tries: 8}
	finished, reused := 0, int64(0)
	for n := 0; k.More(); n++ {
		s.Write = []string{WriteAnnotate, WriteKept}[n%2]
		out := filepath.Join(t.TempDir(), "out")
		k.Finish(t, func() any {
			return childJob{
				Spec: s, Inputs: []string{dir}, Output: out,
				Exec: execs(),
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
