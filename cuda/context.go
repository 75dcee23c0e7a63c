//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"gorgonia.org/cu"
)

// Context is the use of a GPU by this process: its primary context, which all that use the GPU in a process share. It is safe
// for concurrent use by any goroutine: every call makes it the current context of the thread that it runs on, which costs
// next to nothing where it is already, as on the threads that an executor's actors have to themselves.
//
// Everything that is made with a context is closed or released before it.
type Context struct {
	device Device
	dev    cu.Device
	ctx    cu.CUContext
	id     uint64

	closed atomic.Bool
	mu     sync.Mutex
	live   map[string]int // things made and not closed, by what they are
	broken error
}

// NewContext begins to use the GPU with an index of [Driver.Devices]. The caller closes the context.
func (d *Driver) NewContext(index int) (*Context, error) {
	device, err := d.describe(index)
	if err != nil {
		return nil, err
	}
	dev, err := cu.GetDevice(index)
	if err != nil {
		return nil, wrap("cuDeviceGet", err)
	}
	// A thread that waits for the GPU sleeps. It fails if the context is active already; then it has the flags it has.
	_ = dev.SetPrimaryCtxFlags(cu.SchedBlockingSync)
	ctx, err := dev.RetainPrimaryCtx()
	if err != nil {
		return nil, wrap("cuDevicePrimaryCtxRetain", err)
	}
	driver.Lock()
	defer driver.Unlock()
	driver.users++
	driver.count++
	return &Context{device: device, dev: dev, ctx: ctx, id: driver.count, live: make(map[string]int)}, nil
}

// Device describes the GPU.
func (c *Context) Device() Device { return c.device }

// Broken returns the error after which nothing can be done with the GPU, nil if there was none.
func (c *Context) Broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// call calls f, which calls the driver's function of that name, on a thread that has this context.
func (c *Context) call(name string, f func() error) error {
	if c.closed.Load() {
		return fmt.Errorf("cuda: %s: %w", name, ErrClosed)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := bind(c.ctx, c.id); err != nil {
		return c.note(wrap("cuCtxSetCurrent", err))
	}
	return c.note(wrap(name, f()))
}

// note remembers the error that is the end of the GPU.
func (c *Context) note(err error) error {
	if err == nil || !errors.Is(err, ErrBroken) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
	}
	return err
}

// made counts something that was made, and gone something that was closed.
func (c *Context) made(what string) { c.count(what, 1) }
func (c *Context) gone(what string) { c.count(what, -1) }

func (c *Context) count(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live[what] += n
}

// leaks names what was not closed.
func (c *Context) leaks() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for what, n := range c.live {
		if n != 0 {
			out = append(out, fmt.Sprintf("%d %s", n, what))
		}
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

// Memory returns the bytes of the GPU that are free and that there are.
func (c *Context) Memory() (free, total int64, err error) {
	err = c.call("cuMemGetInfo", func() (err error) {
		free, total, err = cu.MemInfo()
		return err
	})
	return free, total, err
}

// Synchronize waits for everything that was queued on the GPU, and returns what went wrong with any of it.
func (c *Context) Synchronize() error { return c.call("cuCtxSynchronize", cu.Synchronize) }

// EnablePeer lets kernels of this context use memory of another GPU.
func (c *Context) EnablePeer(other *Context) error {
	err := c.call("cuCtxEnablePeerAccess", func() error { return enablePeer(other.ctx) })
	if hasCode(err, codePeerAlreadyEnabled) {
		return nil
	}
	return err
}

// CanAccessPeer reports whether kernels of this GPU can use memory of another.
func (c *Context) CanAccessPeer(other *Context) (bool, error) {
	n, err := c.dev.CanAccessPeer(other.dev)
	return n != 0, wrap("cuDeviceCanAccessPeer", err)
}

// Close waits for what is queued and ends the use of the GPU. It fails if something went wrong with what was queued, and if
// something that was made with the context was not closed. After a call that returned [ErrBroken] what is left is given back in
// silence: whoever made the call knows.
func (c *Context) Close() error {
	if c.closed.Load() {
		return nil
	}
	var errs []error
	if c.Broken() == nil {
		errs = append(errs, c.Synchronize())
		if leaks := c.leaks(); leaks != "" {
			errs = append(errs, fmt.Errorf("cuda: GPU %d is closed while %s are in use", c.device.Index, leaks))
		}
	}
	c.closed.Store(true)
	err := wrap("cuDevicePrimaryCtxRelease", c.dev.ReleasePrimaryCtx())
	if c.Broken() == nil {
		errs = append(errs, err)
	}
	driver.Lock()
	driver.users--
	driver.Unlock()
	return errors.Join(errs...)
}
