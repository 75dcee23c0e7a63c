// Package arrowmem lets Arrow arrays live in the project's buffers: it presents a [mem.Allocator] as an
// Arrow allocator. It is apart from mem so that mem itself depends on no library.
package arrowmem

import (
	"sync"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Allocator is an Arrow allocator over a mem.Allocator of an addressable tier.
//
// Arrow's allocator interface has no way to return an error. When the inner allocator refuses, memory
// comes from the Go heap instead and the refusal is kept for [Allocator.Err]: the batch in hand is
// finished, and its maker must look at Err before it starts the next.
type Allocator struct {
	inner mem.Allocator

	mu   sync.Mutex
	live map[*byte]*mem.Buffer // first byte of the memory -> its buffer
	err  error
}

// New returns an Arrow allocator over inner, which must make buffers that the processor can address.
func New(inner mem.Allocator) *Allocator {
	return &Allocator{inner: inner, live: make(map[*byte]*mem.Buffer)}
}

var _ memory.Allocator = (*Allocator)(nil)

// Err returns the first refusal of the inner allocator, if any, and forgets it.
func (a *Allocator) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.err
	a.err = nil
	return err
}

// Live returns the number of Arrow buffers that were not freed.
func (a *Allocator) Live() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.live)
}

// Allocate returns size bytes, 64-byte aligned and cleared, as Arrow's builders expect.
func (a *Allocator) Allocate(size int) []byte {
	if size == 0 {
		return []byte{}
	}
	b, err := mem.AllocZeroed(a.inner, size)
	if err != nil {
		a.mu.Lock()
		if a.err == nil {
			a.err = err
		}
		a.mu.Unlock()
		if b, err = mem.AllocZeroed(mem.Host(), size); err != nil {
			return make([]byte, size)
		}
	}
	data := b.Bytes()
	a.mu.Lock()
	a.live[unsafe.SliceData(data)] = b
	a.mu.Unlock()
	return data
}

// Reallocate returns size bytes that start with the contents of old, and frees old.
func (a *Allocator) Reallocate(size int, old []byte) []byte { return Reallocate(a, size, old) }

// Reallocate is the method of that name for any Arrow allocator that clears what it allocates: it returns size
// bytes that start with the contents of old, the rest cleared, in place where the capacity allows.
func Reallocate(a memory.Allocator, size int, old []byte) []byte {
	if size <= cap(old) && size > 0 {
		next := old[:size]
		if size > len(old) {
			clear(next[len(old):])
		}
		return next
	}
	next := a.Allocate(size)
	copy(next, old)
	a.Free(old)
	return next
}

// Free releases memory that Allocate or Reallocate returned.
func (a *Allocator) Free(data []byte) {
	if cap(data) == 0 {
		return
	}
	a.mu.Lock()
	p := unsafe.SliceData(data)
	b := a.live[p]
	delete(a.live, p)
	a.mu.Unlock()
	b.Release() // nil for memory of the Go heap
}
