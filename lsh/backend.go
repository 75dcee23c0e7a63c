package lsh

import (
	"context"
	"fmt"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Backend computes signatures and band keys of columns in host memory, wherever it does so. It is what a job talks to: it moves
// columns to a device and back, cuts them into pieces that the device has room for, and goes on with less when it has not.
// [Kernels] are below it. One goroutine calls it at a time.
type Backend interface {
	// Params returns the parameters that the backend was made for.
	Params() Params
	// Depth is how many columns are worth having under way at a time, at least 1: while one is signed the next one is read.
	Depth() int
	// TextAlloc makes buffers for texts that the backend takes as they are; texts in others it copies once more. Where a device reads
	// the host's memory by itself that is memory that it can read, and if there is none left the host's.
	TextAlloc() mem.Allocator
	// Start begins to compute. signatures and keys are laid out as those of [Kernels.Sign] and [Kernels.BandKeys]; either may be
	// nil if it is not wanted. All buffers are in addressable tiers. They are used until the fence is done, which the caller waits
	// for before it closes the backend. More columns than Depth may be under way; fences are waited for in any order. The
	// fence's Wait does what is left to do on the processor, so Done may never be true before it. When Wait returns an error, because
	// ctx ended or of any other, the backend has stopped using the buffers of all columns, and the other fences fail, too.
	Start(ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer) (mem.Fence, error)
	// Close releases what the backend holds.
	Close() error
}

// Holder is a [Backend] that can hold texts where it has signed them, until they are needed again: in the memory of its device, and
// what that has no room for further down.
type Holder interface {
	Backend
	// StartHeld is Start. Wait of the fence calls held for pieces of the column, in the order of their rows: rows of them from first
	// on, whose bytes lie one after another in item from at on. The item is the caller's to drop, before the backend's device is
	// closed. What was not held, for want of memory, is left out. next is that of [mem.Store.Put].
	StartHeld(ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer, next int64, held func(first, rows int, item *mem.Item, at int)) (mem.Fence, error)
}

// CheckStart returns an error if the buffers are not what Start of a backend with these parameters takes.
func CheckStart(p Params, texts *mem.Strings, signatures, keys *mem.Buffer) error {
	if err := checkTexts(texts, mem.TierHost); err != nil {
		return err
	}
	if signatures != nil {
		if err := checkColumn("sign", "signatures", signatures, mem.TierHost, p.SignatureBytes(texts.Rows)); err != nil {
			return err
		}
	}
	if keys == nil {
		return nil
	}
	return checkColumn("band keys", "keys", keys, mem.TierHost, p.BandKeyBytes(texts.Rows))
}

// NewHostBackend returns the backend of kernels whose tier is the host's, and which do their work in the calls. It closes them.
// alloc makes signatures where only keys are wanted.
func NewHostBackend(k Kernels, alloc mem.Allocator) (Backend, error) {
	if k.Tier() != mem.TierHost {
		return nil, fmt.Errorf("lsh: kernels of tier %s for a backend of the host", k.Tier())
	}
	return &hostBackend{k, alloc}, nil
}

type hostBackend struct {
	Kernels
	alloc mem.Allocator
}

// NewCPUBackend returns the backend of [NewCPU].
func NewCPUBackend(p Params, alloc mem.Allocator) (Backend, error) {
	c, err := NewCPU(p)
	if err != nil {
		return nil, err
	}
	return NewHostBackend(c, alloc)
}

// Depth implements [Backend]: everything is done in Start.
func (b *hostBackend) Depth() int { return 1 }

// TextAlloc implements [Backend].
func (b *hostBackend) TextAlloc() mem.Allocator { return b.alloc }

// Start implements [Backend].
func (b *hostBackend) Start(ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer) (mem.Fence, error) {
	p := b.Params()
	if err := CheckStart(p, texts, signatures, keys); err != nil {
		return nil, err
	}
	if signatures == nil {
		if keys == nil {
			return mem.Ready, nil
		}
		var err error
		if signatures, err = b.alloc.Alloc(p.SignatureBytes(texts.Rows)); err != nil {
			return nil, err
		}
		defer signatures.Release()
	}
	done, err := b.Sign(ctx, texts, signatures)
	if err == nil && keys != nil {
		done, err = b.BandKeys(ctx, signatures, texts.Rows, keys)
	}
	if err != nil {
		return nil, err
	}
	return mem.Ready, done.Wait(ctx)
}
