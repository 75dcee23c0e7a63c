package executor

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestJoinFind: ranks that find each other first, and what they say about themselves in the statistics.
func TestJoinFind(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	jobs := make([]*Job, 2)
	var all sync.WaitGroup
	for rank := range jobs {
		all.Go(func() {
			var err error
			jobs[rank], err = Join(t.Context(), JobConfig{
				Rank: rank, Size: 2, Host: []string{"n1", "n2"}[rank], Launcher: "a launcher",
				Find: func(ctx context.Context, c *JobConfig) error {
					if _, bounded := ctx.Deadline(); !bounded || c.Rank != rank {
						t.Errorf("rank %d: %+v, and a deadline: %v", rank, c, bounded)
					}
					c.Secret = doorSecret
					if rank == 0 {
						c.Listener = l
					} else {
						c.Root = l.Addr().String()
					}
					return nil
				},
			})
			if err != nil {
				t.Errorf("rank %d: %v", rank, err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	e, err := New(Config{Job: jobs[0], Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.Launcher != "a launcher" || strings.Join(s.Hosts, " ") != "n1 n2" {
		t.Errorf("%+v", s)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for _, j := range jobs {
		all.Go(func() { j.Close(nil) })
	}
	all.Wait()

	broken := errors.New("broken")
	if _, err := Join(t.Context(), JobConfig{Size: 2, Find: func(context.Context, *JobConfig) error { return broken }}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	_, err = Join(t.Context(), JobConfig{Size: 2, JoinTimeout: 10 * time.Millisecond, Find: func(ctx context.Context, _ *JobConfig) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	if err == nil || !strings.Contains(err.Error(), "it took longer than 10ms") {
		t.Errorf("%v", err)
	}
	// What Find leaves out is missed.
	if _, err := Join(t.Context(), JobConfig{Size: 2, Find: func(context.Context, *JobConfig) error { return nil }}); err == nil || !strings.Contains(err.Error(), "Root is empty") {
		t.Errorf("%v", err)
	}
}

// TestJobOfOneHasNoRoot: a job of one rank needs no root, for a shuffle neither.
func TestJobOfOneHasNoRoot(t *testing.T) {
	j, err := Join(t.Context(), JobConfig{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(nil)
	m, _, err := j.openMesh(1)
	if err != nil {
		t.Fatal(err)
	}
	if at := m.port.Listens(); at != "" {
		t.Errorf("it listens at %s", at)
	}
	if err := m.connect(t.Context(), j, "stage", 1, 0, []string{"alone"}); err != nil {
		t.Fatal(err)
	}
	if c := m.comm.Load(); c.Rank() != 0 || c.Size() != 1 {
		t.Errorf("rank %d of %d", c.Rank(), c.Size())
	}
	if err := m.close(); err != nil {
		t.Error(err)
	}
}
