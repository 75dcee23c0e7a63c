package mem

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// Allocator makes buffers of one tier. Implementations are safe for concurrent use.
type Allocator interface {
	// Alloc returns a buffer of n bytes, n >= 0, whose address is a multiple of 64 and whose contents are
	// undefined. The error wraps [ErrNoMemory] if there is no room.
	Alloc(n int) (*Buffer, error)
	// Tier returns the tier of every buffer made.
	Tier() Tier
}

// AllocZeroed allocates n bytes of an addressable tier and clears them.
func AllocZeroed(a Allocator, n int) (*Buffer, error) {
	b, err := a.Alloc(n)
	if err != nil {
		return nil, err
	}
	clear(b.data)
	return b, nil
}

const (
	alignment = 64
	// mapFrom is the size from which a buffer gets a mapping of its own. Below it the Go heap is cheaper
	// than a system call; above it a mapping returns to the system the moment it is freed, whereas heap
	// memory waits for a collection and then for the scavenger.
	mapFrom = 256 << 10
	// keepFrom is the size from which memory is kept for reuse. Clearing that of the Go heap takes longer than filling it
	// with rows.
	keepFrom = 16 << 10
	// keepFree bounds the memory kept for reuse, if nobody says less ([KeepAtMost]). Reusing a mapping saves the system call and a page fault per
	// 4 KiB; keeping more than a few batches' worth would hold memory that the budget counts as free.
	keepFree = 32 << 20
	// hugePage is the size of a huge page on most machines.
	hugePage = 2 << 20
)

// Host returns the allocator of ordinary process memory. It is shared by the whole process; what it keeps
// for reuse is at most 32 MiB, or what [KeepAtMost] says.
func Host() Allocator { return &hostAllocator }

var hostAllocator host

type host struct {
	mu    sync.Mutex
	free  map[int][]span // size class -> memory kept for reuse, mapped from mapFrom on
	kept  int            // bytes in free
	most  []*int         // what KeepAtMost said
	inUse atomic.Int64
}

// span is memory of a size class.
type span struct {
	data   []byte
	mapped *Mapping // nil for memory of the Go heap
}

// buffer makes a buffer of the first n bytes.
func (s span) buffer(n int, free func(*Buffer)) *Buffer {
	b := NewHostBuffer(TierHost, s.data[:n:n], free)
	b.mapped = s.mapped
	return b
}

func (h *host) Tier() Tier { return TierHost }

func (h *host) Alloc(n int) (*Buffer, error) {
	if n < 0 {
		return nil, fmt.Errorf("mem: allocation of %d bytes", n)
	}
	if n < keepFrom {
		return NewHostBuffer(TierHost, alignedMake(n), nil), nil
	}
	class := sizeClass(n)
	if class <= slabTo {
		if s := hostSlabs.take(class); s.data != nil {
			h.inUse.Add(int64(class))
			return s.buffer(n, func(*Buffer) {
				h.inUse.Add(-int64(class))
				hostSlabs.give(s.data)
			}), nil
		}
	}
	s := h.take(class)
	if class < mapFrom {
		if s.data == nil {
			s.data = alignedMake(class)
		}
		return h.small(s, n), nil
	}
	if s.data == nil {
		data, err := mapPages(class)
		if err != nil {
			return nil, &NoMemoryError{Need: int64(n), Cause: err}
		}
		s = span{data, newMapping(TierHost, data)}
	}
	h.inUse.Add(int64(class))
	return h.large(s, n), nil
}

func (h *host) small(s span, n int) *Buffer { return s.buffer(n, func(*Buffer) { h.keep(s) }) }
func (h *host) large(s span, n int) *Buffer { return s.buffer(n, func(*Buffer) { h.give(s) }) }

func (h *host) take(class int) span {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.free[class]
	if len(l) == 0 {
		return span{}
	}
	s := l[len(l)-1]
	h.free[class] = l[:len(l)-1]
	h.kept -= class
	return s
}

// give takes a mapping back.
func (h *host) give(s span) {
	h.inUse.Add(-int64(cap(s.data)))
	if !h.keep(s) {
		s.drop()
	}
}

// drop gives a mapping back to the system; memory of the Go heap is the collector's.
func (s span) drop() {
	if s.mapped != nil {
		s.mapped.returning()
		unmapPages(s.data)
	}
}

// keep keeps memory for reuse if there is room for it.
func (h *host) keep(s span) bool {
	class := cap(s.data)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kept+class > h.keepMost() {
		return false
	}
	if h.free == nil {
		h.free = make(map[int][]span)
	}
	h.free[class] = append(h.free[class], s)
	h.kept += class
	return true
}

// keepMost is how much may be kept. The lock is held.
func (h *host) keepMost() int {
	most := keepFree
	for _, n := range h.most {
		most = min(most, *n)
	}
	return most
}

// trim gives back what is kept above that. The lock is held.
func (h *host) trim() {
	most := h.keepMost()
	for class, l := range h.free {
		for len(l) > 0 && h.kept > most {
			s := l[len(l)-1]
			l = l[:len(l)-1]
			h.kept -= class
			s.drop()
		}
		h.free[class] = l
	}
}

// KeepAtMost bounds the memory that [Host] keeps for reuse at n bytes, 32 MiB or less, until release is called: for programs with a limit on their
// memory, which does not count what is kept. The least of what several say holds. release may be called again.
func KeepAtMost(n int64) (release func()) {
	h := &hostAllocator
	own := new(int)
	*own = int(max(0, min(n, keepFree)))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.most = append(h.most, own)
	h.trim()
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		i := slices.Index(h.most, own)
		h.most = slices.Delete(h.most, i, i+1)
	})
}

// sizeClass rounds n up to one of four sizes per power of two, each a multiple of the page size, so
// that a freed mapping fits later requests and at most a fifth is wasted.
func sizeClass(n int) int {
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + step - 1) &^ (step - 1)
}

// alignedMake returns n bytes of the Go heap that start at a multiple of 64.
func alignedMake(n int) []byte {
	buf := make([]byte, n+alignment-1)
	off := int(-addressOf(buf) & (alignment - 1))
	return buf[off : off+n : off+n]
}
