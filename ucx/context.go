//go:build ucx && cgo

package ucx

/*
#include <stdlib.h>
#include "engine.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Context is UCX in this process: the transports that one configuration of it finds here. Ports are opened on it. Its methods are
// safe for concurrent use.
type Context struct {
	c        unsafe.Pointer
	cuda     bool // buffers of CUDA devices can be sent and received
	timeout  time.Duration
	registry *registry // nil if memory is not registered
	keeps    bool      // workers are kept
	listens  portRange

	mu     sync.Mutex
	ports  int // that are open, or of transports that are
	closed bool
	idle   []*worker // of rounds that are over, for those to come
}

// idleMost is how many workers are kept: a rank has one round at a time. With TCP none is: it would leave a port open when there is no round, and UCX
// takes tenths of a second to close a link of a worker that goes on.
var idleMost = 1

// defaults are options that package ucx needs, or that its promises need.
func defaults(linkTimeout time.Duration) map[string]string {
	s := func(d time.Duration) string { return fmt.Sprintf("%dms", max(d, time.Second).Milliseconds()) }
	return map[string]string{
		// Without them UCX refuses to tell of dead peers over shared memory.
		"POSIX_ERROR_HANDLING": "y",
		"SYSV_ERROR_HANDLING":  "y",
		// Without it UCX copies large payloads twice, through shared memory. With it the receiver copies them, from the memory of the
		// sender; what it says of itself, that a peer can be kept from doing so, is not so: a peer that was given up for dead may
		// read what is no payload any more. It can only harm its own result, and checksums find that.
		"CMA_MEMORY_INVALIDATE": "y",
		// How soon a peer on this machine that died is noticed: nothing else tells of it.
		"KEEPALIVE_INTERVAL": "1s",
		// How soon the system notices that a connection is cut; its default is minutes.
		"TCP_USER_TIMEOUT": s(linkTimeout),
		"TCP_KEEPIDLE":     s(linkTimeout / 2),
		"TCP_KEEPINTVL":    "1s",
		"TCP_KEEPCNT":      "3",
	}
}

// Load finds UCX and loads it, which [Open] does too. The error wraps [ErrNoLibrary] if there is none, or only one that is
// too old. library is as in [Config].
func Load(library string) error { return load(library) }

// Open loads UCX if it is not loaded yet, and opens a context. The error wraps [ErrNoLibrary] if there is no UCX, or only one
// that is too old.
func Open(c Config) (*Context, error) {
	if err := load(c.Library); err != nil {
		return nil, err
	}
	if c.LinkTimeout == 0 {
		c.LinkTimeout = 10 * time.Second
	}
	var config unsafe.Pointer
	if err := check("reading the configuration", C.dvt_config(&config)); err != nil {
		return nil, err
	}
	defer C.dvt_config_free(config)
	set := defaults(c.LinkTimeout)
	// Older libraries lack some of these: below 1.22 it is our own frames that tell of a cut link over TCP.
	maps.Copy(set, c.Set)
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if _, said := os.LookupEnv("UCX_" + name); said {
			continue
		}
		err := configure(config, name, set[name])
		if _, own := c.Set[name]; err != nil && (own || !errors.Is(err, errUnknown)) {
			return nil, err
		}
	}
	ctx := &Context{timeout: c.LinkTimeout}
	var memories C.uint64_t
	if err := check("opening a context", C.dvt_context(config, &ctx.c, &memories)); err != nil {
		return nil, err
	}
	ctx.cuda = memories&(1<<memoryCUDA) != 0
	found := ctx.Transports()
	ctx.listens = portsOf(set, found)
	ctx.keeps = !overTCP(found)
	on, err := registers(c, found)
	if err != nil {
		_ = ctx.Close()
		return nil, err
	}
	if on {
		ctx.registry = newRegistry(ctx.c, c.RegisterLimit)
	}
	return ctx, nil
}

func configure(config unsafe.Pointer, name, value string) error {
	n, v := C.CString(name), C.CString(value)
	defer C.free(unsafe.Pointer(n))
	defer C.free(unsafe.Pointer(v))
	return check(fmt.Sprintf("setting %s to %q", name, value), C.dvt_set(config, n, v))
}

// Version returns the version of the library, as 1.22.0.
func (c *Context) Version() string {
	v := C.dvt_loaded()
	return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)
}

// Library returns where the library was found.
func (c *Context) Library() string {
	library.Lock()
	defer library.Unlock()
	return library.path
}

// CUDA reports whether buffers of CUDA devices can be sent and received.
func (c *Context) CUDA() bool { return c.cuda }

// Transports lists what UCX found to move bytes with, as transport/device, such as tcp/eth0.
func (c *Context) Transports() (list []string) {
	text := C.dvt_describe(c.c)
	if text == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(text))
	return transportsIn(C.GoString(text))
}

// transportsIn reads what UCX prints of a context.
func transportsIn(text string) (list []string) {
	for line := range strings.Lines(text) {
		if i := strings.Index(line, "resource "); i >= 0 && strings.Contains(line, " md ") {
			fields := strings.Fields(line)
			if name := fields[len(fields)-1]; strings.Contains(name, "/") {
				list = append(list, name)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Close ends the context. Everything that was opened on it must be closed; otherwise it fails.
func (c *Context) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ports > 0 {
		return fmt.Errorf("ucx: a context is closed that %d ports use", c.ports)
	}
	if !c.closed {
		c.closed = true
		for _, w := range c.idle {
			w.close()
		}
		c.idle = nil
		if c.registry != nil {
			c.registry.close()
		}
		C.dvt_context_free(c.c)
	}
	return nil
}

func (c *Context) use(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed && n > 0 {
		return fmt.Errorf("ucx: a port is opened on a closed context")
	}
	c.ports += n
	return nil
}

// spare returns a worker that is kept, or nil.
func (c *Context) spare() *worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.idle) > 0 {
		w := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		if w.reset() {
			return w
		}
		w.close()
	}
	return nil
}

// keep keeps a worker whose links are all closed in good order, or that never had any, for another round; if there is no need for it, it ends.
func (c *Context) keep(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keeps && len(c.idle) < idleMost {
		c.idle = append(c.idle, w)
		return
	}
	w.close()
}
