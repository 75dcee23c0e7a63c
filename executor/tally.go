package executor

import (
	"context"
	"sync"
)

// tally counts what is under way. Unlike a sync.WaitGroup it can be waited for in vain.
type tally struct {
	mu   sync.Mutex
	n    int
	zero chan struct{} // closed when n becomes 0; nil if no one waits
}

func (t *tally) add() {
	t.mu.Lock()
	t.n++
	t.mu.Unlock()
}

func (t *tally) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n == 0 && t.zero != nil {
		close(t.zero)
		t.zero = nil
	}
}

// wait waits until nothing is under way, and returns false if ctx ends first. One goroutine may wait at a time.
func (t *tally) wait(ctx context.Context) bool {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return true
	}
	zero := make(chan struct{})
	t.zero = zero
	t.mu.Unlock()
	select {
	case <-zero:
		return true
	case <-ctx.Done():
		return false
	}
}
