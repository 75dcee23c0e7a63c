package mem_test

import (
	"sync"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

// teller counts what it is told.
type teller struct {
	mu   sync.Mutex
	told map[*mem.Mapping]int
}

func newTeller() *teller { return &teller{told: make(map[*mem.Mapping]int)} }

func (w *teller) Returning(m *mem.Mapping) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told[m]++
}

func (w *teller) times(m *mem.Mapping) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told[m]
}

func mustAlloc(t *testing.T, a mem.Allocator, n int) *mem.Buffer {
	t.Helper()
	b, err := a.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every way to a buffer of a mapping keeps the mapping, whose range has the buffer's bytes.
func TestMappingOfBuffers(t *testing.T) {
	checked := mem.NewChecked(t, mem.Host())
	b := mustAlloc(t, checked, 3<<20)
	defer b.Release()
	s, err := b.Slice(1<<20, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	around := mem.Around(s, func(*mem.Buffer) { s.Release() })
	defer around.Release()
	m := b.Mapping()
	if m == nil || s.Mapping() != m || around.Mapping() != m {
		t.Fatalf("mappings %p, %p, %p", m, s.Mapping(), around.Mapping())
	}
	if m.Tier() != mem.TierHost || m.Len() < b.Len() {
		t.Errorf("tier %s, %d bytes for a buffer of %d", m.Tier(), m.Len(), b.Len())
	}
	if n := mustAlloc(t, mem.Host(), 100); n.Mapping() != nil {
		t.Error("a buffer of the heap has a mapping")
	}
}

// A watcher is told once, when the memory goes and not when the buffer does; and not at all if it does not want to any more.
func TestMappingGoes(t *testing.T) {
	w, other := newTeller(), newTeller()
	// More than is kept for reuse.
	var all []*mem.Buffer
	var maps []*mem.Mapping
	for range 20 {
		b := mustAlloc(t, mem.Host(), 5<<20)
		all, maps = append(all, b), append(maps, b.Mapping())
		b.Mapping().Watch(w)
		b.Mapping().Watch(w)
		b.Mapping().Watch(other)
		b.Mapping().Unwatch(other)
	}
	for _, b := range all {
		b.Release()
	}
	gone := 0
	for _, m := range maps {
		if w.times(m) > 1 || other.times(m) > 0 {
			t.Errorf("told %d and %d times", w.times(m), other.times(m))
		}
		gone += w.times(m)
	}
	if gone < len(all)-7 || gone == len(all) {
		t.Errorf("of %d mappings of 5 MiB %d are gone, and 32 MiB are kept", len(all), gone)
	}
	// What is kept is the same mapping when it is used again.
	again := mustAlloc(t, mem.Host(), 5<<20)
	defer again.Release()
	found := false
	for _, m := range maps {
		found = found || m == again.Mapping() && w.times(m) == 0
	}
	if !found {
		t.Error("memory that was kept has another mapping")
	}
}

// A slab tells when its memory goes, and can be watched again when it is used again.
func TestMappingOfSlabs(t *testing.T) {
	release := mem.Plentiful()
	defer release()
	first := mustAlloc(t, mem.Host(), 200<<10)
	m := first.Mapping()
	if m == nil {
		t.Skip("no slabs on this system")
	}
	if n := int(m.Addr() % (2 << 20)); n != 0 || m.Len() != 2<<20 {
		t.Errorf("a slab of %d bytes, %d behind a multiple", m.Len(), n)
	}
	w := newTeller()
	m.Watch(w)
	first.Release()
	if w.times(m) != 0 {
		t.Error("told while the slab is kept")
	}
	release() // nothing is kept any more
	if w.times(m) != 1 {
		t.Errorf("told %d times when it went", w.times(m))
	}
	release = mem.Plentiful()
	again := mustAlloc(t, mem.Host(), 200<<10)
	again.Mapping().Watch(w)
	m = again.Mapping()
	before := w.times(m)
	again.Release()
	release()
	if w.times(m) != before+1 {
		t.Errorf("told %d times, then %d", before, w.times(m))
	}
}

// The buffers of a pool have the pool's mapping, which goes when the pool is closed.
func TestMappingOfPool(t *testing.T) {
	p, err := mem.NewPool(mem.Host(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	a, b := mustAlloc(t, p, 1000), mustAlloc(t, p, 2000)
	m := a.Mapping()
	if m == nil || b.Mapping() != m || m.Len() != 1<<20 {
		t.Fatal("the buffers of a pool are of one mapping")
	}
	w := newTeller()
	m.Watch(w)
	a.Release()
	b.Release()
	if w.times(m) != 0 {
		t.Error("told too early")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if w.times(m) != 1 {
		t.Errorf("told %d times", w.times(m))
	}
}
