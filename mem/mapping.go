package mem

import (
	"slices"
	"sync"
)

// Mapping is a range of memory that buffers are cut from, one after another or side by side: a large buffer's own pages, a slab,
// the whole of a [Pool]. It stays at its place while any buffer of it is held, and mostly longer; who has something made for memory
// that is not cheap to make, such as its registration with a network adapter, makes it for a mapping and keeps it until a
// [Watcher] is told.
//
// Memory of the Go heap is in no mapping: the collector gives it back without a word.
type Mapping struct {
	tier Tier
	addr uintptr
	data []byte // if the tier is addressable
	n    int

	mu       sync.Mutex
	watchers []Watcher
}

// Watcher is told when a mapping goes back to where it is from.
type Watcher interface {
	// Returning is called before the memory of a mapping goes back to the system, or to the device; the mapping's addresses may come
	// back later with other memory. No buffer of it is held any more. It is called at most once for each time that
	// Watch was called, may be called from any goroutine, with locks of this package held, and must not allocate or release
	// buffers.
	Returning(m *Mapping)
}

func newMapping(tier Tier, data []byte) *Mapping {
	return &Mapping{tier: tier, addr: addressOf(data), data: data, n: len(data)}
}

// Tier returns where the memory is.
func (m *Mapping) Tier() Tier { return m.tier }

// Addr returns the address of the first byte, which is one on the device for TierDevice.
func (m *Mapping) Addr() uintptr { return m.addr }

// Len returns the length in bytes.
func (m *Mapping) Len() int { return m.n }

// Watch has w be told when the mapping goes back; once, however often it is asked for. Only who holds a buffer of the mapping may
// call it.
func (m *Mapping) Watch(w Watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.watchers, w) {
		m.watchers = append(m.watchers, w)
	}
}

// Unwatch has w not be told any more. A call that is under way may still come.
func (m *Mapping) Unwatch(w Watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.watchers, w); i >= 0 {
		m.watchers = slices.Delete(m.watchers, i, i+1)
	}
}

// returning tells the watchers.
func (m *Mapping) returning() {
	m.mu.Lock()
	told := m.watchers
	m.watchers = nil
	m.mu.Unlock()
	for _, w := range told {
		w.Returning(m)
	}
}
