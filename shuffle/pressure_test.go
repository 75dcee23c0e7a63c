package shuffle_test

import (
	"context"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// waitFor reserves n bytes in the background and returns once every holder was asked for them, in vain or not:
// the last one asked is this function's own.
func waitFor(t *testing.T, ctx context.Context, b *mem.Budget, n int64) (served <-chan error) {
	t.Helper()
	asked := make(chan struct{}, 64)
	remove := b.OnPressure(-1, func(int64) { asked <- struct{}{} })
	done := make(chan error, 1)
	go func() {
		r, err := b.Reserve(ctx, "program", n)
		r.Release()
		done <- err
	}()
	select {
	case <-asked:
	case <-ctx.Done():
		t.Fatal("no holder was asked")
	}
	remove()
	return done
}

// A chunk that can be spilled only after a request found nothing to spill is spilled for that request, and at
// once: nothing looks for waiting requests from time to time.
func TestLateChunkServesWaitingRequest(t *testing.T) {
	for name, ranksOf := range map[string]int{"own partition": 1, "partition of another rank": 2} {
		t.Run(name, func(t *testing.T) {
			budget := mem.NewBudget(1 << 20)
			ctx, ss := ranks(t, ranksOf, shuffle.Options{TotalParts: ranksOf, Budget: budget, MaxChunk: 1 << 20})
			s, part := ss[0], ranksOf-1
			buf, err := s.Alloc(ctx, 900<<10)
			if err != nil {
				t.Fatal(err)
			}
			served := waitFor(t, ctx, budget, 500<<10)
			if err = s.Insert(ctx, shuffle.Chunk{Partition: part, Rows: 1, Data: buf}); err == nil {
				err = <-served
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range ss {
				if err := s.InsertFinished(ctx); err != nil {
					t.Fatal(err)
				}
			}
			chunks, err := ss[ranksOf-1].Extract(ctx, part)
			if err != nil || len(chunks) != 1 {
				t.Fatal(len(chunks), err)
			}
			shuffle.ReleaseAll(chunks)
		})
	}
}

// A chunk that a program looks at is spilled when nothing else can be, so that its memory is free as soon as the
// program lets go of it.
func TestBorrowedChunkServesWaitingRequest(t *testing.T) {
	budget := mem.NewBudget(1 << 20)
	ctx, ss := ranks(t, 1, shuffle.Options{TotalParts: 1, Budget: budget, MaxChunk: 1 << 20})
	s := ss[0]
	fill(t, ctx, s, 0, 900<<10)
	if err := s.InsertFinished(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitOn(ctx, 0); err != nil {
		t.Fatal(err)
	}
	p, err := s.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var served <-chan error
	for c, err := range p.Chunks(ctx) {
		if err != nil || c.Data.Len() != 900<<10 {
			t.Fatal(err)
		}
		served = waitFor(t, ctx, budget, 500<<10)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if n := s.Statistics().Spilled.Chunks; n != 1 {
		t.Errorf("%d chunks were spilled", n)
	}
}
