package main

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup"
)

// TestSuspended stops all processes of a job at once, for longer than any of them may be silent, and lets them go on, as a scheduler
// does with a job that has to make room for another, and whoever moves a machine: nobody is lost by that.
func TestSuspended(t *testing.T) {
	suspend(t, map[string]func(t *testing.T, args []string) []*rank{
		"ranks": func(t *testing.T, args []string) []*rank { return startJob(t, 3, args...) },
		"processes of workers": func(t *testing.T, args []string) []*rank {
			return []*rank{startIsolated(t, t.TempDir(), append(args, "--workers", "3", "--progress", "plain")...)}
		},
	})
}

// suspend does that to each job at some moments.
func suspend(t *testing.T, jobs map[string]func(t *testing.T, args []string) []*rank) {
	in, digest, took := jobInput(t)
	moments := 8
	if testing.Short() {
		moments = 2
	}
	for name, start := range jobs {
		for n := range moments {
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "out")
				ranks := start(t, []string{"--input", in, "--output", out, "--rank-timeout", "2s"})
				time.Sleep((took + 200*time.Millisecond) * time.Duration(n+1) / time.Duration(moments+1))
				pause(ranks, 3*time.Second)
				for r, k := range ranks {
					if err := k.wait(t, 3*time.Minute); err != nil {
						t.Errorf("rank %d: %v: %s", r, err, k.err.String())
					}
				}
				res, err := dedup.ReadResult(out)
				if err != nil {
					t.Fatal(err)
				}
				if res.Digest != digest || len(res.Stages.Lost) > 0 {
					t.Errorf("digest %s, want %s; lost %v", res.Digest, digest, res.Stages.Lost)
				}
			})
		}
	}
}

// pause stops processes, and those that they have started, for so long.
func pause(ranks []*rank, d time.Duration) {
	var pids []int
	for _, k := range ranks {
		pids = append(append(pids, k.Process.Pid), children(k.Process.Pid)...)
	}
	for _, p := range pids {
		_ = syscall.Kill(p, syscall.SIGSTOP)
	}
	time.Sleep(d)
	for _, p := range pids {
		_ = syscall.Kill(p, syscall.SIGCONT)
	}
}
