// Package crashtest kills runs of a pipeline, for tests: the test binary starts itself as a child that does one job, kills it
// with SIGKILL at random moments and starts it again until it finishes.
package crashtest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"
)

// variable holds the job of a child.
const variable = "DOVETAIL_TEST_RUN"

// Main returns the exit code for TestMain: of the tests, or of one job if [Killer.Finish] started this binary for that.
func Main[J any](m *testing.M, do func(job J) error) int {
	text := os.Getenv(variable)
	if text == "" {
		return m.Run()
	}
	var job J
	err := json.Unmarshal([]byte(text), &job)
	if err == nil {
		err = do(job)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Command returns a command that does one job in a process of its own.
func Command(ctx context.Context, job any) (*exec.Cmd, error) {
	data, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), variable+"="+string(data))
	return cmd, nil
}

// Killer kills children at random moments.
type Killer struct {
	Rng    *rand.Rand
	Kills  int // how many are wanted in all
	Tries  int // how many times one job may be killed
	Killed int // so far
	// After, if not nil, is called after each kill.
	After func()

	usual time.Duration // of a job that is not killed; 0 until one has finished
}

// More reports whether another job is to be done.
func (k *Killer) More() bool { return k.Killed < k.Kills }

// Finish starts jobs, which may differ in what does not change a result, until one of them is not killed. A job that fails
// by itself fails the test.
func (k *Killer) Finish(t *testing.T, job func() any) {
	t.Helper()
	for try := 0; ; try++ {
		ctx, cancel := context.WithCancel(t.Context())
		cmd, err := Command(ctx, job())
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		if k.usual > 0 && k.More() && try < k.Tries {
			time.AfterFunc(time.Duration(k.Rng.Int64N(int64(k.usual))), cancel)
		}
		msg, err := cmd.CombinedOutput()
		if ctx.Err() == nil && err != nil {
			t.Fatalf("try %d: %v: %s", try, err, msg)
		}
		cancel()
		if err == nil {
			if k.usual == 0 {
				k.usual = time.Since(started)
			}
			return
		}
		k.Killed++
		if k.After != nil {
			k.After()
		}
	}
}
