package corpus

import (
	"sync"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/mem/arrowmem"
)

// arena is the Arrow allocator of the column chunks of a row group that are being read, or of a file that
// is being written. What the library leaves behind (its delta decoders do) is freed with the arena. A
// request that exceeds the limit or that the inner allocator refuses ends the work by a panic with a
// refused, which guarded turns into its error: Arrow's interface has no way to return one.
type arena struct {
	inner mem.Allocator
	limit int64 // 0 = none
	name  string
	row   int64 // first row of the row group, for messages
	page  int64 // the most bytes of a page of texts; 0 if unknown
	ratio int64 // about how many bytes of texts come out of one that is compressed, at most
	pages bool  // large buffers are for pages alone, which fill them, so nobody has to clear them

	mu   sync.Mutex // the library's finalizers may free from another goroutine
	live map[*byte]*mem.Buffer
	held int64
	peak int64
	err  error // the first refusal, which the library may have turned into something else
}

// refused is the value of the panic.
type refused struct{ err error }

var _ memory.Allocator = (*arena)(nil)

// clearBelow is the size from which buffers are left as they are, if they are for pages.
const clearBelow = 64 << 10

// Allocate returns size bytes, which are zero unless they are for a page.
func (a *arena) Allocate(size int) []byte {
	if size == 0 {
		return []byte{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limit > 0 && a.held+int64(size) > a.limit {
		// A page is held compressed and decompressed at the same time, and the other half comes later.
		text := int64(size)
		if a.page > 0 {
			text = min(text*a.ratio, a.page)
		}
		a.refuse(&TooLargeError{Name: a.name, Row: a.row, Need: a.held + 2*int64(size), Text: text, Limit: a.limit})
	}
	alloc := mem.AllocZeroed
	if a.pages && size >= clearBelow {
		alloc = mem.Allocator.Alloc
	}
	b, err := alloc(a.inner, size)
	if err != nil {
		a.refuse(err)
	}
	if a.live == nil {
		a.live = make(map[*byte]*mem.Buffer)
	}
	data := b.Bytes()
	a.live[unsafe.SliceData(data)] = b
	a.held += int64(size)
	a.peak = max(a.peak, a.held)
	return data
}

func (a *arena) refuse(err error) {
	if a.err == nil {
		a.err = err
	}
	panic(refused{err})
}

// Reallocate returns size bytes that begin with the contents of old, which is freed.
func (a *arena) Reallocate(size int, old []byte) []byte { return arrowmem.Reallocate(a, size, old) }

// Free frees what Allocate or Reallocate returned.
func (a *arena) Free(data []byte) {
	if cap(data) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p := unsafe.SliceData(data)
	if b := a.live[p]; b != nil {
		delete(a.live, p)
		a.held -= int64(b.Len())
		b.Release()
	}
}

// close frees what is left.
func (a *arena) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range a.live {
		b.Release()
	}
	a.live, a.held = nil, 0
}
