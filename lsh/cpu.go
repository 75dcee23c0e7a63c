package lsh

import (
	"context"
	"sync"

	"github.com/dovetail-dedup/dovetail/mem"
)

// CPU computes signatures and band keys on the processor. Every call runs on the calling goroutine and is
// done when it returns. A CPU is safe for concurrent use: goroutines that call at the same time take scratch
// memory of their own, about 100 KiB at the default parameters however large the documents are, from a
// pool that they share.
type CPU struct {
	params  Params
	path    string
	signers sync.Pool
}

// NewCPU returns kernels for p that take the path of [Path]. The error is that of [Params.Validate], or about the path.
func NewCPU(p Params) (*CPU, error) {
	l, err := currentLoops()
	if err != nil {
		return nil, err
	}
	return newCPU(p, l)
}

// NewCPUPath returns kernels for p that take the path named, whatever [Path] is. The error is that of [Params.Validate],
// or says which paths there are.
func NewCPUPath(p Params, path string) (*CPU, error) {
	l, err := findLoops(path)
	if err != nil {
		return nil, err
	}
	return newCPU(p, l)
}

func newCPU(p Params, l *loops) (*CPU, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	c := &CPU{params: p, path: l.name}
	switch p.Sketch {
	case Curator32:
		c.signers.New = func() any { return newCurator32Signer(p, l) }
	case Curator64:
		c.signers.New = func() any { return newCurator64Signer(p, l) }
	default:
		constants := p.FastConstants()
		c.signers.New = func() any { return newFastSigner(p, &constants, l) }
	}
	return c, nil
}

// Params implements [Kernels].
func (c *CPU) Params() Params { return c.params }

// Path returns the name of the path that c takes.
func (c *CPU) Path() string { return c.path }

// Tier implements [Kernels]; it is always the host's.
func (c *CPU) Tier() mem.Tier { return mem.TierHost }

// Close implements [Kernels]; it does nothing.
func (c *CPU) Close() error { return nil }

// Sign implements [Kernels].
func (c *CPU) Sign(ctx context.Context, texts *mem.Strings, out *mem.Buffer) (mem.Fence, error) {
	if err := CheckSign(c.params, mem.TierHost, texts, out); err != nil {
		return nil, err
	}
	s := c.signers.Get().(signer)
	defer c.signers.Put(s)
	size := c.params.SignatureBytes(1)
	signatures := out.Bytes()
	for i := range texts.Rows {
		row := signatures[i*size : (i+1)*size]
		if texts.IsNull(i) {
			clear(row)
			continue
		}
		if err := s.sign(ctx, row, texts.At(i)); err != nil {
			return nil, context.Cause(ctx)
		}
	}
	return mem.Ready, nil
}

// BandKeys implements [Kernels].
func (c *CPU) BandKeys(ctx context.Context, signatures *mem.Buffer, rows int, out *mem.Buffer) (mem.Fence, error) {
	if err := CheckBandKeys(c.params, mem.TierHost, signatures, rows, out); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if c.params.Sketch == Curator64 {
		bandKeys(mem.Uint64s(out), mem.Uint64s(signatures), rows, c.params)
	} else {
		bandKeys(mem.Uint64s(out), mem.Uint32s(signatures), rows, c.params)
	}
	return mem.Ready, nil
}

// bandKeys goes through the signatures once; the keys it writes form NumBands sequential streams.
func bandKeys[T Slot](keys []uint64, signatures []T, rows int, p Params) {
	n, r := p.NumHashes(), p.MinhashesPerBand
	for i := range rows {
		row := signatures[i*n : (i+1)*n]
		for band := range p.NumBands {
			keys[band*rows+i] = BandKey(band, row[band*r:(band+1)*r])
		}
	}
}
