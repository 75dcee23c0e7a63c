package executor

import (
	"sync"
	"time"
)

// every calls f each interval in a goroutine of its own, until it is stopped: then once more, before stop returns.
func every(interval time.Duration, f func()) (stop func()) {
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f()
			case <-end:
				f()
				return
			}
		}
	})
	return func() { close(end); done.Wait() }
}
