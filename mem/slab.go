package mem

import (
	"slices"
	"sync"
)

// While no limit asks for memory back ([Plentiful]), the host allocator cuts buffers of some KiB to a MiB from slabs:
// pieces of 2 MiB, which the system makes available at once and with one entry of the processor's address tables. The
// first touch of a page of 4 KiB costs 3 microseconds on some machines, more than filling it with rows takes ten times
// over. Slabs that are free are kept.

const (
	// slabBytes is the size of a slab.
	slabBytes = hugePage
	// slabTo is the size up to which buffers, from keepFrom on, are cut from slabs.
	slabTo = 1 << 20
	// keepSlabs bounds the free slabs that are kept, in bytes.
	keepSlabs = 512 << 20
)

// Plentiful says that memory may be kept rather than given back to the system, up to half a GiB of it, until all who said so
// have called release. It is for programs without a limit on their memory. release may be called again. On systems
// that have no huge pages nothing is different.
func Plentiful() (release func()) {
	s := &hostSlabs
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holders++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.holders--; s.holders == 0 {
			s.trim()
		}
	})
}

var hostSlabs slabs

type slabs struct {
	mu       sync.Mutex
	holders  int               // of Plentiful
	of       map[uintptr]*slab // by address / slabBytes
	partial  map[int][]*slab   // by size class: those that have free blocks and used ones
	empty    []*slab           // without a class
	returned []*slab           // of those, the ones whose memory the system has back
}

type slab struct {
	data   []byte
	free   [][]byte // blocks
	all    int      // number of blocks
	mapped *Mapping
}

// take returns a block of a size class, or nothing if there are no slabs.
func (s *slabs) take(class int) span {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.partial[class]
	if len(list) == 0 {
		if s.holders == 0 {
			return span{}
		}
		b := s.vacant()
		if b == nil {
			return span{}
		}
		b.free = b.free[:0]
		for at := 0; at+class <= slabBytes; at += class {
			b.free = append(b.free, b.data[at:at+class:at+class])
		}
		b.all = len(b.free)
		list = append(list, b)
	}
	b := list[len(list)-1]
	block := b.free[len(b.free)-1]
	if b.free = b.free[:len(b.free)-1]; len(b.free) == 0 {
		list = list[:len(list)-1]
	}
	if s.partial == nil {
		s.partial = make(map[int][]*slab)
	}
	s.partial[class] = list
	return span{block, b.mapped}
}

// vacant returns an empty slab, a new one if need be, or nil.
func (s *slabs) vacant() *slab {
	for _, list := range []*[]*slab{&s.empty, &s.returned} {
		if n := len(*list); n > 0 {
			b := (*list)[n-1]
			*list = (*list)[:n-1]
			return b
		}
	}
	if s.of == nil {
		s.of = make(map[uintptr]*slab)
	}
	for _, data := range mapSlabs() {
		b := &slab{data: data, mapped: newMapping(TierHost, data)}
		s.of[addressOf(data)/slabBytes] = b
		s.returned = append(s.returned, b)
	}
	if len(s.returned) == 0 {
		return nil
	}
	return s.vacant()
}

// give takes a block back, and reports whether it is of a slab.
func (s *slabs) give(block []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.of[addressOf(block)/slabBytes]
	if b == nil {
		return false
	}
	class := cap(block)
	b.free = append(b.free, block[:class])
	list := s.partial[class]
	if len(b.free) == 1 {
		list = append(list, b)
	}
	if len(b.free) == b.all {
		i := slices.Index(list, b)
		list = slices.Delete(list, i, i+1)
		s.empty = append(s.empty, b)
		s.trim()
	}
	s.partial[class] = list
	return true
}

// trim gives the memory of free slabs that are not kept back to the system.
func (s *slabs) trim() {
	keep := 0
	if s.holders > 0 {
		keep = keepSlabs / slabBytes
	}
	for n := len(s.empty); n > keep; n-- {
		b := s.empty[n-1]
		s.empty = s.empty[:n-1]
		b.mapped.returning()
		returnSlab(b.data)
		s.returned = append(s.returned, b)
	}
}
