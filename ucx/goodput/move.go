// Package goodput measures shuffles over UCX: how many bytes of payload a second go from one rank to another, beside a loop in C over UCX that
// does the same, and what ranks cost that do nothing. `make bench-ucx` and `dovetail bench` both run it. Without the build tag ucx, or on other
// processors than amd64, [Open] says why there is nothing to measure.
package goodput

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Move moves chunks of size bytes from rank 0 to rank 1, which extracts them, and returns how long that took. The ranks stay open.
func Move(ctx context.Context, comms [2]*shuffle.Communicator, chunks, size int) (took time.Duration, err error) {
	buf, err := mem.AllocZeroed(mem.Host(), size)
	if err != nil {
		return 0, err
	}
	defer buf.Release()
	var failed [2]error
	var wg sync.WaitGroup
	start := time.Now()
	for r, c := range comms {
		wg.Go(func() {
			s, err := shuffle.New(shuffle.Options{Comm: c, TotalParts: 2})
			if err != nil {
				failed[r] = err
				return
			}
			defer s.Close()
			if r == 0 {
				for range chunks {
					// The data is only read, so that all chunks can share it.
					if err = s.Insert(ctx, shuffle.Chunk{Partition: 1, Rows: 1, Data: buf.Retain()}); err != nil {
						break
					}
				}
			}
			failed[r] = errors.Join(err, finish(ctx, s, r, chunks*r))
			if r == 1 {
				took = time.Since(start)
			}
		})
	}
	wg.Wait()
	return took, errors.Join(failed[:]...)
}

// finish ends a rank's part: it extracts the chunks of its partition.
func finish(ctx context.Context, s *shuffle.Shuffler, rank, want int) error {
	if err := s.InsertFinished(ctx); err != nil {
		return err
	}
	if err := s.Wait(ctx); err != nil {
		return err
	}
	got, err := s.Extract(ctx, rank)
	if err != nil {
		return err
	}
	defer shuffle.ReleaseAll(got)
	if len(got) != want {
		return fmt.Errorf("rank %d has %d chunks, not %d", rank, len(got), want)
	}
	return nil
}
