package corpus

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// inParallel calls f for 0 to n-1, up to workers at a time (GOMAXPROCS if that is 0), and returns the error of
// the smallest index that failed, so that what the user reads does not depend on timing.
func inParallel(ctx context.Context, workers, n int, f func(ctx context.Context, i int) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var (
		next   atomic.Int64
		failed atomic.Bool
		wg     sync.WaitGroup
		mu     sync.Mutex
		at     = n
		first  error
	)
	for range min(workers, n) {
		wg.Go(func() {
			for !failed.Load() && ctx.Err() == nil {
				// Indexes are handed out in order, so all smaller than one that failed are done or being done.
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, i); err != nil {
					failed.Store(true)
					mu.Lock()
					if i < at {
						at, first = i, err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if first == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return first
}
