//go:build cuda

package cuda

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// Kernels computes signatures and band keys of columns in the memory of a GPU. All it does is in one stream: see
// [Kernels.Stream].
type Kernels struct {
	g         *GPU
	params    lsh.Params
	s         *Stream
	constants *mem.Buffer // of the slots: a, and behind them b
	quad      uint64
	final     uint64
	round     uint64
	shared    int
	sign      []*Kernel // one after the other
	scratch   *mem.Buffer
}

// NewKernels returns kernels for p on the GPU, with a stream of their own. The caller closes them. The error may be that of
// [lsh.Params.Validate].
func (g *GPU) NewKernels(p lsh.Params) (_ *Kernels, err error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	k := &Kernels{g: g, params: p}
	if k.s, err = g.c.NewStream(); err != nil {
		return nil, err
	}
	if err := k.prepare(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// prepare finds the kernels of the sketch and puts its constants on the device.
func (k *Kernels) prepare() error {
	p := k.params
	var names []string
	var raw []byte
	switch p.Sketch {
	case lsh.Curator32, lsh.Curator64:
		a, b := p.Permutations()
		for _, v := range append(a, b...) {
			if p.Sketch == lsh.Curator64 {
				raw = binary.NativeEndian.AppendUint64(raw, v)
			} else {
				raw = binary.NativeEndian.AppendUint32(raw, uint32(v))
			}
		}
		if p.Sketch == lsh.Curator64 {
			names, k.shared = []string{"dv_sign_curator64"}, sharedCurator64(p.CharNgrams)
		} else {
			names, k.shared = []string{"dv_sign_curator32"}, sharedCurator32(p.CharNgrams)
		}
	default:
		c := p.FastConstants()
		k.quad, k.final, k.round = uint64(c.Quad), uint64(c.Final), uint64(c.Round)
		for _, v := range append(c.A, c.B...) {
			raw = binary.NativeEndian.AppendUint32(raw, v)
		}
		names, k.shared = []string{"dv_sign_fast_map", "dv_sign_fast_fill"}, sharedFast(p.CharNgrams)
	}
	for _, name := range names {
		kernel, err := k.g.signKernel(name, k.shared)
		if err != nil {
			return err
		}
		k.sign = append(k.sign, kernel)
	}
	pinned, err := k.g.pinned.Alloc(len(raw))
	if err != nil {
		return err
	}
	defer pinned.Release()
	copy(pinned.Bytes(), raw)
	if k.constants, err = k.g.alloc(len(raw)); err != nil {
		return err
	}
	return errors.Join(k.s.Copy(k.constants, pinned), k.s.Synchronize())
}

// Params implements [lsh.Kernels].
func (k *Kernels) Params() lsh.Params { return k.params }

// Tier implements [lsh.Kernels].
func (k *Kernels) Tier() mem.Tier { return mem.TierDevice }

// Stream returns the stream in which everything is queued.
func (k *Kernels) Stream() *Stream { return k.s }

// Sign implements [lsh.Kernels].
func (k *Kernels) Sign(ctx context.Context, texts *mem.Strings, out *mem.Buffer) (mem.Fence, error) {
	if err := lsh.CheckSign(k.params, mem.TierDevice, texts, out); err != nil {
		return nil, err
	}
	return k.fenced(ctx, texts.Rows, func() error { return k.queueSign(texts, out) })
}

// BandKeys implements [lsh.Kernels].
func (k *Kernels) BandKeys(ctx context.Context, signatures *mem.Buffer, rows int, out *mem.Buffer) (mem.Fence, error) {
	if err := lsh.CheckBandKeys(k.params, mem.TierDevice, signatures, rows, out); err != nil {
		return nil, err
	}
	return k.fenced(ctx, rows, func() error { return k.queueBandKeys(signatures, rows, out) })
}

// fenced queues work and returns its fence. If some of it cannot be queued it waits for the rest, so that nothing was started.
func (k *Kernels) fenced(ctx context.Context, rows int, queue func() error) (mem.Fence, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if rows == 0 {
		return mem.Ready, nil
	}
	err := queue()
	var fence mem.Fence
	if err == nil {
		fence, err = k.s.Fence()
	}
	if err != nil {
		_ = k.s.Synchronize() // what it could say is said by err, or by the next call
		return nil, err
	}
	return fence, nil
}

func (k *Kernels) queueSign(texts *mem.Strings, out *mem.Buffer) error {
	rows, tiles, p := texts.Rows, scanTiles(texts.Rows), k.params
	// First pieces of the rows, and sums of the scan behind them.
	if err := k.grow(8 * (rows + 1 + tiles + 1)); err != nil {
		return err
	}
	pieces := uint64(k.scratch.DeviceAddr())
	sums := pieces + 8*uint64(rows+1)
	offsets, data := uint64(texts.Offsets.DeviceAddr()), uint64(texts.Data.DeviceAddr())
	var valid uint64
	if texts.Valid != nil {
		valid = uint64(texts.Valid.DeviceAddr())
	}
	n, slots := uint64(rows), uint64(p.NumHashes())
	blocks := min(rows+texts.Data.Len()/pieceBytes, maxGrid)
	a := uint64(k.constants.DeviceAddr())
	b := a + slots*uint64(p.SlotBytes())
	width, signatures := uint64(p.CharNgrams), uint64(out.DeviceAddr())
	steps := []func() error{
		func() error {
			return k.s.Launch(k.g.pieces, gridThreads(rows), 0, offsets, 8, valid, n, pieceBytes, pieces)
		},
		func() error { return k.s.Launch(k.g.scanReduce, tiles, 0, pieces, n, sums) },
		func() error { return k.s.Launch(k.g.scanSums, 1, 0, sums, uint64(tiles)) },
		func() error { return k.s.Launch(k.g.scanApply, tiles, 0, pieces, n, sums, pieces) },
		func() error {
			return k.s.Launch(k.g.init, gridThreads(rows*p.NumHashes()/16), 0, pieces, n, slots, uint64(p.SlotBytes()), signatures)
		},
	}
	if p.Sketch == lsh.Fast {
		steps = append(steps, func() error {
			return k.s.Launch(k.sign[0], blocks, k.shared, offsets, 8, data, n, pieces, pieceBytes, width, k.quad, k.final, k.round, slots, signatures)
		}, func() error {
			return k.s.Launch(k.sign[1], blocks, k.shared, offsets, 8, data, n, pieces, pieceBytes, width, k.quad, k.final, a, b, slots, signatures)
		})
	} else {
		steps = append(steps, func() error {
			return k.s.Launch(k.sign[0], blocks, k.shared, offsets, 8, data, n, pieces, pieceBytes, width, a, b, slots, signatures)
		})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernels) queueBandKeys(signatures *mem.Buffer, rows int, out *mem.Buffer) error {
	p := k.params
	return k.s.Launch(k.g.bandKeys, gridBands(rows, p.NumBands), 0, uint64(signatures.DeviceAddr()), uint64(p.SlotBytes()), uint64(rows),
		uint64(p.NumBands), uint64(p.MinhashesPerBand), uint64(out.DeviceAddr()))
}

// grow makes room in scratch, which only this stream uses. What was queued may use the old one until it is done.
func (k *Kernels) grow(n int) error {
	if k.scratch != nil && k.scratch.Len() >= n {
		return nil
	}
	if k.scratch != nil {
		if err := k.s.Synchronize(); err != nil {
			return err
		}
		k.scratch.Release()
		k.scratch = nil
	}
	var err error
	k.scratch, err = k.g.alloc(n)
	return err
}

// Close waits for what is queued and releases what the kernels hold.
func (k *Kernels) Close() error {
	err := k.s.Close()
	k.constants.Release()
	k.scratch.Release()
	k.constants, k.scratch = nil, nil
	if k.g.Broken() != nil {
		return nil
	}
	return err
}
