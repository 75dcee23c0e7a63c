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
	// Start begins to compute. signatures and keys are laid out as those of [Kernels.Sign] and [Kernels.BandKeys]; either may be
	// nil if it is not wanted. All buffers are in addressable tiers. They are used until the fence is done, which the caller waits
	// for before it starts anything else, or closes the backend. The fence's Wait does what is left to do on the processor, so
	// Done may never be true before it. When Wait returns because ctx ended, the backend has stopped using the buffers.
	Start(ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer) (mem.Fence, error)
	// Close releases what the backend holds.
	Close() error
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
