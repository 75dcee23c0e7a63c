//go:build cuda

package cuda

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/dovetail-dedup/dovetail/mem"
)

// DeviceAllocator returns the allocator of the GPU's memory: every buffer is a call of the driver, which may take long and waits
// for the GPU when it is released. See [mem.Pool] for many. A buffer must not be released while the GPU uses it.
func (c *Context) DeviceAllocator() mem.Allocator { return deviceAllocator{c} }

type deviceAllocator struct{ c *Context }

func (a deviceAllocator) Tier() mem.Tier { return mem.TierDevice }

func (a deviceAllocator) Alloc(n int) (*mem.Buffer, error) {
	if n < 0 {
		return nil, fmt.Errorf("cuda: allocation of %d bytes", n)
	}
	var p uintptr
	err := a.c.call("cuMemAlloc", func() error {
		d, err := cu.MemAlloc(int64(max(n, 1)))
		p = d.Uintptr()
		return err
	})
	if err != nil {
		return nil, noMemory(err, n)
	}
	a.c.made("device buffers")
	return mem.NewDeviceBuffer(p, n, func(*mem.Buffer) {
		// What fails here has failed before, and the GPU says so to whoever waits for anything.
		_ = a.c.call("cuMemFree", func() error { return cu.MemFree(cu.DevicePtr(p)) })
		a.c.gone("device buffers")
	}), nil
}

// PinnedAllocator returns the allocator of host memory that GPUs copy from and to by themselves. Every buffer is a call of the
// driver, which is slow.
func (c *Context) PinnedAllocator() mem.Allocator { return pinnedAllocator{c} }

type pinnedAllocator struct{ c *Context }

func (a pinnedAllocator) Tier() mem.Tier { return mem.TierPinned }

func (a pinnedAllocator) Alloc(n int) (*mem.Buffer, error) {
	if n < 0 {
		return nil, fmt.Errorf("cuda: allocation of %d pinned bytes", n)
	}
	var p uintptr
	err := a.c.call("cuMemHostAlloc", func() (err error) {
		p, err = hostAlloc(max(n, 1))
		return err
	})
	if err != nil {
		return nil, noMemory(err, n)
	}
	a.c.made("pinned buffers")
	return mem.NewHostBuffer(mem.TierPinned, bytesAt(p, n), func(*mem.Buffer) {
		_ = a.c.call("cuMemFreeHost", func() error { return hostFree(p) })
		a.c.gone("pinned buffers")
	}), nil
}

// noMemory says how much was asked for, if that is what is wrong.
func noMemory(err error, n int) error {
	if hasCode(err, codeOutOfMemory) {
		return &mem.NoMemoryError{Need: int64(n), Cause: err}
	}
	return err
}

// bytesAt views memory that is not Go's.
func bytesAt(p uintptr, n int) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), n)
}

// address is where an addressable buffer begins.
func address(b *mem.Buffer) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b.Bytes()))) }
