package mem

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/dovetail-dedup/dovetail/internal/invariants"
)

// Buffer is a reference-counted run of bytes in one tier.
//
// A Buffer is born with one reference, owned by whoever made it. Retain and Release may be called from
// any goroutine; the bytes may be read by all holders at once and written only by a sole holder. A
// function that "takes ownership" of a buffer takes over one reference and releases it on every path,
// errors included.
type Buffer struct {
	data   []byte  // the bytes, if the tier is addressable
	addr   uintptr // the address on a device, otherwise 0
	n      int
	tier   Tier
	refs   atomic.Int32
	parent *Buffer
	free   func(*Buffer)
	mapped *Mapping // what it was cut from, if that is known
}

// NewHostBuffer wraps data, which the caller stops using, as a buffer of TierHost or TierPinned. free, if
// not nil, is called once when the last reference is released, from the goroutine that releases it.
func NewHostBuffer(tier Tier, data []byte, free func(*Buffer)) *Buffer {
	b := &Buffer{data: data, n: len(data), tier: tier, free: free}
	b.refs.Store(1)
	return b
}

// NewDeviceBuffer wraps n bytes at a device address. The package never follows the address; it is
// for the package that owns the device. free is as in [NewHostBuffer].
func NewDeviceBuffer(addr uintptr, n int, free func(*Buffer)) *Buffer {
	b := &Buffer{addr: addr, n: n, tier: TierDevice, free: free}
	b.refs.Store(1)
	return b
}

// Around returns a buffer over the bytes of inner, which the caller stops using; free, as in [NewHostBuffer], has to release inner. It is
// for those who count what is held.
func Around(inner *Buffer, free func(*Buffer)) *Buffer {
	b := &Buffer{data: inner.data, addr: inner.addr, n: inner.n, tier: inner.tier, free: free, mapped: inner.mapped}
	b.refs.Store(1)
	return b
}

// Mapping returns what the buffer was cut from, or nil: memory of the Go heap, and memory of unknown origin.
func (b *Buffer) Mapping() *Mapping { return b.mapped }

// Len returns the length in bytes.
func (b *Buffer) Len() int { return b.n }

// Tier returns where the bytes are.
func (b *Buffer) Tier() Tier { return b.tier }

// Bytes returns the bytes themselves if the tier is addressable, and nil otherwise. The slice must not
// be used after the reference it was obtained through is released.
func (b *Buffer) Bytes() []byte {
	if invariants.Enabled && b.refs.Load() <= 0 {
		panic("mem: Bytes of a released buffer")
	}
	return b.data
}

// DeviceAddr returns the address on the device for TierDevice, and 0 otherwise.
func (b *Buffer) DeviceAddr() uintptr { return b.addr }

// Refs returns the number of references held at this moment. It is meant for tests and for the
// decision whether a buffer may be written in place.
func (b *Buffer) Refs() int { return int(b.refs.Load()) }

// Retain adds a reference and returns b.
func (b *Buffer) Retain() *Buffer {
	if b.refs.Add(1) <= 1 && invariants.Enabled {
		panic("mem: Retain of a released buffer")
	}
	return b
}

// Release gives one reference back; the last one frees the bytes. A nil buffer is ignored. Releasing
// more often than retaining is a bug that builds with the invariants tag report by panicking.
func (b *Buffer) Release() {
	if b == nil {
		return
	}
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		if invariants.Enabled {
			panic("mem: buffer released too often")
		}
		return
	}
	if b.parent != nil {
		b.parent.Release()
		b.parent = nil
	} else {
		if invariants.Enabled {
			invariants.Mangle(b.data)
		}
		if b.free != nil {
			b.free(b)
		}
	}
	b.data = nil
}

// Slice returns a buffer over bytes [i, j) of b that holds a reference to b. Freeing the slice gives
// that reference back. It returns an error if the range does not lie in b.
func (b *Buffer) Slice(i, j int) (*Buffer, error) {
	if i < 0 || j < i || j > b.n {
		return nil, fmt.Errorf("mem: slice [%d, %d) of a buffer of %d bytes", i, j, b.n)
	}
	s := &Buffer{n: j - i, tier: b.tier, parent: b.Retain(), mapped: b.mapped}
	if b.data != nil {
		s.data = b.data[i:j:j]
	}
	if b.addr != 0 {
		s.addr = b.addr + uintptr(i)
	}
	s.refs.Store(1)
	return s, nil
}

// Truncate shortens b to its first n bytes without moving them. Only a sole holder may call it.
func (b *Buffer) Truncate(n int) error {
	if n < 0 || n > b.n {
		return fmt.Errorf("mem: truncate a buffer of %d bytes to %d", b.n, n)
	}
	b.n = n
	if b.data != nil {
		b.data = b.data[:n]
	}
	return nil
}

// Fence says when asynchronous work that writes buffers is done. Results may be chained to further
// work on the same device before the fence is reached, and read by the processor only after it.
type Fence interface {
	// Wait blocks until the work is done or ctx ends, and returns the error of either.
	Wait(ctx context.Context) error
	// Done reports without blocking whether the work is done, failed or not.
	Done() bool
}

// Ready is the fence of work that was finished before the call that started it returned.
var Ready Fence = ready{}

type ready struct{}

func (ready) Wait(context.Context) error { return nil }
func (ready) Done() bool                 { return true }
