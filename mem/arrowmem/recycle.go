package arrowmem

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dovetail-dedup/dovetail/internal/invariants"
)

// Recycling returns an Arrow allocator over the Go heap that keeps what is freed for whoever allocates next. Arrow's own leaves it
// to the garbage collector; a program that reads batch after batch then spends a fifth of its time on clearing new memory, on the
// system's making it available, and on collecting it. What is never freed is collected as ever, and what is kept goes at the
// second collection after it was last used. It may be used by several goroutines.
func Recycling() memory.Allocator { return recycler{} }

type recycler struct{}

// heap is where memory comes from that nobody had before: aligned and clear, its capacity what was asked for.
var heap memory.GoAllocator

const (
	// leastKept and mostKept bound the sizes that are kept: less is cheap to allocate, more is rare.
	leastKept = 4 << 10
	mostKept  = 64 << 20
)

// kept holds freed memory by class, two for each doubling of the size.
var kept [64]sync.Pool

// class returns the number of the class with room for n bytes, and the bytes of each of its members.
func class(n int) (k, size int) {
	top := bits.Len(uint(n-1)) - 1 // n-1 is in [2^top, 2^(top+1))
	if half := 3 << (top - 1); n <= half {
		return 2 * top, half
	}
	return 2*top + 1, 2 << top
}

// Allocate returns size bytes, 64-byte aligned and cleared, as Arrow's builders expect.
func (recycler) Allocate(size int) []byte {
	if size < leastKept || size > mostKept {
		return heap.Allocate(size)
	}
	k, n := class(size)
	if p, _ := kept[k].Get().(*byte); p != nil {
		b := unsafe.Slice(p, n)[:size:n]
		clear(b)
		return b
	}
	return heap.Allocate(n)[:size:n]
}

// Reallocate returns size bytes that start with the contents of old, and frees old.
func (r recycler) Reallocate(size int, old []byte) []byte { return Reallocate(r, size, old) }

// Free takes memory back, which nobody may use any more.
func (recycler) Free(data []byte) {
	n := cap(data)
	if n < leastKept || n > mostKept {
		return
	}
	k, size := class(n)
	if size != n {
		return // it was not allocated here
	}
	data = data[:n]
	if invariants.Enabled {
		invariants.Mangle(data)
	}
	kept[k].Put(unsafe.SliceData(data))
}
