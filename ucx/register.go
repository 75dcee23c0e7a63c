//go:build ucx && cgo

package ucx

/*
#include "engine.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"unsafe"

	"github.com/dovetail-dedup/dovetail/mem"
)

// defaultRegisterLimit is that of Config.RegisterLimit.
const defaultRegisterLimit = 4 << 30

// registry knows the memory that is registered on a context: whole mappings, each once, from the first operation in it until it goes back to the
// system, the context is closed, or another needs the room. Its methods are safe for concurrent use.
type registry struct {
	c     unsafe.Pointer // of UCX
	limit int64

	mu    sync.Mutex
	of    map[*mem.Mapping]*registration
	idle  registration // of a ring: those that no operation uses, the one that was used last at the end
	stats Registrations
}

// registration is one of a mapping.
type registration struct {
	m          *mem.Mapping
	handle     uint64
	users      int
	gone       bool // the mapping has gone
	prev, next *registration
}

func newRegistry(c unsafe.Pointer, limit int64) *registry {
	if limit <= 0 {
		limit = defaultRegisterLimit
	}
	r := &registry{c: c, limit: limit, of: make(map[*mem.Mapping]*registration), stats: Registrations{On: true}}
	r.idle.prev, r.idle.next = &r.idle, &r.idle
	return r
}

// registers decides whether a context registers memory.
func registers(c Config, transports []string) (bool, error) {
	how := c.Register
	if said := os.Getenv(RegisterVariable); how == RegisterAuto && said != "" {
		switch said {
		case "auto":
		case "always":
			how = RegisterAlways
		case "never":
			how = RegisterNever
		default:
			return false, fmt.Errorf("ucx: $%s is %q: give auto, always or never", RegisterVariable, said)
		}
	}
	if how == RegisterAuto && !needRegistration(transports) || how == RegisterNever {
		return false, nil
	}
	if C.dvt_can_forget() != 0 {
		return true, nil
	}
	if how == RegisterAlways {
		return false, errors.New("ucx: memory cannot be registered: this UCX has no ucm_vm_munmap, by which it is told that memory has gone")
	}
	return false, nil
}

// needRegistration reports whether one of UCX's transports moves bytes by what must know memory ahead. UCX does not say of which that is so.
func needRegistration(transports []string) bool {
	for _, t := range transports {
		switch name, _, _ := strings.Cut(t, "/"); name {
		case "tcp", "self", "sysv", "posix", "cma", "cuda_copy":
		default:
			return true
		}
	}
	return false
}

// use returns the registration of a mapping for one more operation, or nil if there is none: m may be nil. The caller holds a buffer of it until
// it has called done.
func (r *registry) use(m *mem.Mapping) *registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.of[m]
	if g == nil && m != nil {
		g = r.make(m)
	}
	if g == nil {
		r.stats.Bare++
		return nil
	}
	if g.users == 0 {
		g.unlink()
		r.stats.InUse++
	}
	g.users++
	r.stats.Used++
	return g
}

// make registers a mapping if there is room. The lock is held.
func (r *registry) make(m *mem.Mapping) *registration {
	n := int64(m.Len())
	if n > r.limit {
		return nil
	}
	for r.stats.Bytes+n > r.limit {
		g := r.idle.next
		if g == &r.idle {
			return nil // all are in use
		}
		g.unlink()
		g.m.Unwatch(r)
		r.end(g)
		r.stats.Evicted++
	}
	memory := C.uint64_t(C.DVT_HOST)
	if m.Tier() == mem.TierDevice {
		memory = C.DVT_CUDA
	}
	var h C.uint64_t
	if C.dvt_map(r.c, C.uint64_t(m.Addr()), C.uint64_t(n), memory, &h) != 0 {
		// As much as this is what the system lets the process have, so that others take turns.
		r.stats.Failed++
		r.limit = r.stats.Bytes
		return nil
	}
	g := &registration{m: m, handle: uint64(h)}
	r.of[m] = g
	g.link(&r.idle)
	r.stats.Made++
	r.stats.Kept++
	r.stats.Bytes += n
	m.Watch(r)
	return g
}

// done ends an operation's use of a registration.
func (r *registry) done(g *registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.users--; g.users > 0 {
		return
	}
	r.stats.InUse--
	if g.gone {
		r.end(g)
		return
	}
	g.link(&r.idle)
}

// Returning implements [mem.Watcher]: the registration ends before the memory goes.
func (r *registry) Returning(m *mem.Mapping) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.of[m]
	if g == nil {
		return // it was evicted just now
	}
	r.stats.Unmapped++
	if g.users > 0 {
		// Nobody may give memory back that an operation uses. Should it happen all the same, UCX keeps what it holds.
		r.stats.Late++
		g.gone = true
		delete(r.of, m)
		return
	}
	g.unlink()
	r.end(g)
}

// end ends a registration that is not used. The lock is held.
func (r *registry) end(g *registration) {
	if r.of[g.m] == g {
		delete(r.of, g.m)
	}
	_ = C.dvt_unmap(r.c, C.uint64_t(g.handle)) // it says only what is wrong with the handle, which UCX made
	C.dvt_forget(r.c, C.uint64_t(g.m.Addr()), C.uint64_t(g.m.Len()))
	r.stats.Kept--
	r.stats.Bytes -= int64(g.m.Len())
}

// forget has UCX know nothing of memory that was used without registration: nobody will say when it goes.
func (r *registry) forget(addr, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	C.dvt_forget(r.c, C.uint64_t(addr), C.uint64_t(n))
}

// close ends all registrations, none of which is used any more.
func (r *registry) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for m, g := range r.of {
		m.Unwatch(r)
		r.end(g)
	}
	r.idle.prev, r.idle.next = &r.idle, &r.idle
}

// link puts g at the end of a ring.
func (g *registration) link(ring *registration) {
	g.prev, g.next = ring.prev, ring
	g.prev.next, g.next.prev = g, g
}

// unlink takes g out of its ring.
func (g *registration) unlink() { g.prev.next, g.next.prev = g.next, g.prev }

// Registrations returns what was registered until now.
func (c *Context) Registrations() Registrations {
	if c.registry == nil {
		return Registrations{}
	}
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	return c.registry.stats
}

// register gives an operation the registration of its memory, if memory is registered, and notes in s what it is given.
func (t *Transport) register(o *op, s *slot, m *mem.Mapping) {
	r := t.port.c.registry
	if r == nil {
		return
	}
	if s.using = r.use(m); s.using != nil {
		o.memory = s.using.handle
	} else {
		s.bare = o.addr
	}
}

// unregister ends what register began, when UCX is done with the operation and before the memory is anybody else's.
func (t *Transport) unregister(s *slot) {
	switch {
	case s.using != nil:
		t.port.c.registry.done(s.using)
	case s.bare != 0:
		t.port.c.registry.forget(s.bare, s.want)
	}
	s.using, s.bare = nil, 0
}
