package mem

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
)

// TB is the part of testing.TB that [Checked] needs.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Cleanup(func())
}

// Checked wraps an allocator and remembers the call stack of every buffer until it is freed.
type Checked struct {
	inner Allocator

	mu   sync.Mutex
	live map[*Buffer][]uintptr
}

// NewChecked returns a checked allocator over inner. If tb is not nil, the test fails at its end with the
// stack of every buffer that was not freed.
func NewChecked(tb TB, inner Allocator) *Checked {
	c := &Checked{inner: inner, live: make(map[*Buffer][]uintptr)}
	if tb != nil {
		tb.Cleanup(func() {
			tb.Helper()
			if leaks := c.Leaks(); leaks != "" {
				tb.Errorf("%s", leaks)
			}
		})
	}
	return c
}

// Tier returns the inner allocator's tier.
func (c *Checked) Tier() Tier { return c.inner.Tier() }

// Alloc allocates from the inner allocator and remembers the caller.
func (c *Checked) Alloc(n int) (*Buffer, error) {
	inner, err := c.inner.Alloc(n)
	if err != nil {
		return nil, err
	}
	pcs := make([]uintptr, 16)
	pcs = pcs[:runtime.Callers(2, pcs)]
	b := Around(inner, func(b *Buffer) {
		c.mu.Lock()
		delete(c.live, b)
		c.mu.Unlock()
		inner.Release()
	})
	c.mu.Lock()
	c.live[b] = pcs
	c.mu.Unlock()
	return b, nil
}

// Live returns the number of buffers not freed yet and their bytes.
func (c *Checked) Live() (buffers int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := range c.live {
		bytes += int64(b.n)
	}
	return len(c.live), bytes
}

// Leaks describes the buffers not freed yet, with the stack that made each; it is empty if there are none.
func (c *Checked) Leaks() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.live) == 0 {
		return ""
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%d buffers were not released:", len(c.live))
	for b, pcs := range c.live {
		fmt.Fprintf(&s, "\n%d bytes (%s), %d references, made at", b.n, b.tier, b.Refs())
		frames := runtime.CallersFrames(pcs)
		for {
			f, more := frames.Next()
			fmt.Fprintf(&s, "\n\t%s\n\t\t%s:%d", f.Function, f.File, f.Line)
			if !more {
				break
			}
		}
	}
	return s.String()
}
