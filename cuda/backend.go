//go:build cuda

package cuda

import (
	"context"
	"errors"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// slots is the number of pieces of a column that are under way at a time: while one is computed the next is copied there, and
// the last one back.
const slots = 2

// backend is an [lsh.Backend] on a GPU. Several backends share a GPU, one for each actor.
type backend struct {
	g    *GPU
	p    lsh.Params
	cpu  *lsh.CPU // for documents that the GPU's memory is too small for
	free []*slot
	busy []*slot // the oldest first; at most `slots` with those that are free, fewer while there is no memory for more

	texts            *mem.Strings
	signatures, keys *mem.Buffer
	next             int // row
	most             int // bytes that a piece may take on the device, 0 before memory was ever short
}

// slot is what one piece needs: a stream with kernels, and memory while it is under way.
type slot struct {
	k           *Kernels
	in, out     *mem.Buffer // pinned
	devIn       *mem.Buffer // offsets, validity, bytes
	devOut      *mem.Buffer // signatures, keys
	first, rows int
	lay         layout
	fence       mem.Fence
}

// layout says where things are in the buffers of a piece, in bytes.
type layout struct {
	valid, data, in int // offsets are at 0
	keys, out       int // signatures are at 0
	back            int // from where on the output is wanted
}

// aligned rounds up to what every buffer begins at.
func aligned(n int) int { return (n + 255) &^ 255 }

// NewBackend returns a backend for p. The caller closes it before the GPU. The error may be that of [lsh.Params.Validate].
func (g *GPU) NewBackend(p lsh.Params) (lsh.Backend, error) {
	cpu, err := lsh.NewCPU(p)
	if err != nil {
		return nil, err
	}
	b := &backend{g: g, p: p, cpu: cpu}
	for range slots {
		if err := b.add(); err != nil && !errors.Is(err, mem.ErrNoMemory) {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// add makes a slot.
func (b *backend) add() error {
	k, err := b.g.NewKernels(b.p)
	if err == nil {
		b.free = append(b.free, &slot{k: k})
	}
	return err
}

// Params implements [lsh.Backend].
func (b *backend) Params() lsh.Params { return b.p }

// Start implements [lsh.Backend].
func (b *backend) Start(ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer) (mem.Fence, error) {
	if err := lsh.CheckStart(b.p, texts, signatures, keys); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if texts.Rows == 0 || signatures == nil && keys == nil {
		return mem.Ready, nil
	}
	b.texts, b.signatures, b.keys, b.next = texts, signatures, keys, 0
	if err := b.fill(ctx); err != nil {
		b.abandon()
		return nil, err
	}
	return &columnFence{b: b}, nil
}

// columnFence is the fence of a column. What is left of the column is done by Wait.
type columnFence struct {
	b       *backend
	settled bool
	err     error
}

func (f *columnFence) Done() bool { return f.settled }

func (f *columnFence) Wait(ctx context.Context) error {
	if !f.settled {
		f.err = f.b.finish(ctx)
		f.settled = true
	}
	return f.err
}

// finish does the rest of a column.
func (b *backend) finish(ctx context.Context) error {
	for len(b.busy) > 0 || b.next < b.texts.Rows {
		if err := b.step(ctx); err != nil {
			b.abandon()
			return err
		}
	}
	b.texts, b.signatures, b.keys = nil, nil, nil
	return nil
}

// step takes back the oldest piece, and starts others.
func (b *backend) step(ctx context.Context) error {
	if len(b.busy) > 0 {
		s := b.busy[0]
		if err := s.fence.Wait(ctx); err != nil {
			return err
		}
		s.fence = nil
		b.take(s)
		b.busy = b.busy[1:]
		b.free = append(b.free, s)
	}
	return b.fill(ctx)
}

// fill starts pieces while there are rows and slots, and memory.
func (b *backend) fill(ctx context.Context) error {
	for b.next < b.texts.Rows && len(b.busy) < slots {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		rows, need := b.piece()
		var err error
		if len(b.free) == 0 {
			err = b.add()
		}
		var s *slot
		if err == nil {
			s = b.free[0]
			err = b.begin(s, b.next, rows)
		}
		if err == nil {
			b.next += rows
			b.free, b.busy = b.free[1:], append(b.busy, s)
			continue
		}
		if !errors.Is(err, mem.ErrNoMemory) {
			return err
		}
		switch {
		case len(b.busy) > 0:
			return nil // there is more when it is done
		case rows > 1:
			b.most = need / 2
			b.g.count(func(c *GPUStats) { c.Shrunk++ })
		default:
			if err := b.onProcessor(ctx, b.next); err != nil {
				return err
			}
			b.next++
		}
	}
	return nil
}

// piece returns how many of the next rows a piece takes, and the memory that it needs on the device.
func (b *backend) piece() (rows, need int) {
	left := b.texts.Rows - b.next
	if b.most == 0 {
		return left, b.size(b.next, left)
	}
	// The least that is too many is found by halving: what a piece needs grows with its rows.
	few, many := 1, left+1
	for many-few > 1 {
		if mid := (few + many) / 2; b.size(b.next, mid) <= b.most {
			few = mid
		} else {
			many = mid
		}
	}
	return few, b.size(b.next, few)
}

func (b *backend) size(first, rows int) int {
	l := b.layout(first, rows)
	return l.in + l.out
}

// layout lays out a piece. Signatures are always made, and downloaded only if they are wanted.
func (b *backend) layout(first, rows int) layout {
	off := b.texts.OffsetValues()
	var l layout
	l.valid = aligned(8 * (rows + 1))
	l.data = l.valid
	if b.texts.Valid != nil {
		l.data += aligned((rows + 7) / 8)
	}
	l.in = l.data + int(off[first+rows]-off[first])
	l.keys = aligned(b.p.SignatureBytes(rows))
	l.out = l.keys
	if b.keys != nil {
		l.out += b.p.BandKeyBytes(rows)
	}
	if b.signatures == nil {
		l.back = l.keys
	}
	return l
}

// begin queues a piece: there, the kernels, and back. If it fails nothing of it is left.
func (b *backend) begin(s *slot, first, rows int) (err error) {
	s.first, s.rows, s.lay = first, rows, b.layout(first, rows)
	l := s.lay
	defer func() {
		if err != nil {
			_ = s.k.s.Synchronize() // what was queued must not use memory of others
			s.release()
		}
	}()
	for _, x := range []struct {
		b    **mem.Buffer
		from mem.Allocator
		n    int
	}{{&s.devIn, b.g.device, l.in}, {&s.devOut, b.g.device, l.out}, {&s.in, b.g.pinned, l.in}, {&s.out, b.g.pinned, l.out - l.back}} {
		if *x.b, err = x.from.Alloc(x.n); err != nil {
			return err
		}
	}
	b.pack(s)
	var parts parts
	column := &mem.Strings{Rows: rows, Offsets: parts.of(s.devIn, 0, l.valid), Data: parts.of(s.devIn, l.data, l.in)}
	if b.texts.Valid != nil {
		column.Valid = parts.of(s.devIn, l.valid, l.data)
	}
	signatures := parts.of(s.devOut, 0, b.p.SignatureBytes(rows))
	back := parts.of(s.devOut, l.back, l.out)
	defer parts.release()
	if parts.err != nil {
		return parts.err
	}
	if err := s.k.s.Copy(s.devIn, s.in); err != nil {
		return err
	}
	if err := s.k.queueSign(column, signatures); err != nil {
		return err
	}
	if b.keys != nil {
		keys := parts.of(s.devOut, l.keys, l.out)
		if parts.err != nil {
			return parts.err
		}
		if err := s.k.queueBandKeys(signatures, rows, keys); err != nil {
			return err
		}
	}
	if err := s.k.s.Copy(s.out, back); err != nil {
		return err
	}
	if s.fence, err = s.k.s.Fence(); err != nil {
		return err
	}
	b.g.count(func(c *GPUStats) {
		c.Batches++
		c.Documents += int64(rows)
		c.Uploaded += int64(l.in)
		c.Returned += int64(l.out - l.back)
	})
	return nil
}

// pack writes a piece to pinned memory, with offsets from 0.
func (b *backend) pack(s *slot) {
	off, to := b.texts.OffsetValues(), mem.Int64s(s.in)
	base := off[s.first]
	for i := range s.rows + 1 {
		to[i] = off[s.first+i] - base
	}
	raw := s.in.Bytes()
	if v := b.texts.Valid; v != nil {
		bits := raw[s.lay.valid : s.lay.valid+(s.rows+7)/8]
		clear(bits)
		for i := range s.rows {
			if !b.texts.IsNull(s.first + i) {
				bits[i/8] |= 1 << (i % 8)
			}
		}
	}
	copy(raw[s.lay.data:], b.texts.Data.Bytes()[base:off[s.first+s.rows]])
}

// take copies what a piece came to to where it belongs, and releases its memory.
func (b *backend) take(s *slot) {
	raw := s.out.Bytes()
	if b.signatures != nil {
		copy(b.signatures.Bytes()[b.p.SignatureBytes(s.first):], raw[:b.p.SignatureBytes(s.rows)])
	}
	if b.keys != nil {
		raw = raw[s.lay.keys-s.lay.back:]
		all := b.keys.Bytes()
		for band := range b.p.NumBands {
			copy(all[8*(band*b.texts.Rows+s.first):], raw[8*band*s.rows:8*(band+1)*s.rows])
		}
	}
	s.release()
}

// onProcessor computes one document.
func (b *backend) onProcessor(ctx context.Context, row int) error {
	b.g.count(func(c *GPUStats) { c.Processor++; c.Documents++ })
	off, err := b.texts.Offsets.Slice(8*row, 8*(row+2))
	if err != nil {
		return err
	}
	one := &mem.Strings{Rows: 1, Offsets: off, Data: b.texts.Data}
	defer off.Release()
	if b.texts.IsNull(row) {
		one.Valid = mem.NewHostBuffer(mem.TierHost, []byte{0}, nil)
	}
	sig, err := mem.Host().Alloc(b.p.SignatureBytes(1))
	if err != nil {
		return err
	}
	defer sig.Release()
	if _, err := b.cpu.Sign(ctx, one, sig); err != nil {
		return err
	}
	if b.signatures != nil {
		copy(b.signatures.Bytes()[b.p.SignatureBytes(row):], sig.Bytes())
	}
	if b.keys == nil {
		return nil
	}
	keys, err := mem.Host().Alloc(b.p.BandKeyBytes(1))
	if err != nil {
		return err
	}
	defer keys.Release()
	if _, err := b.cpu.BandKeys(ctx, sig, 1, keys); err != nil {
		return err
	}
	for band, key := range mem.Uint64s(keys) {
		mem.Uint64s(b.keys)[band*b.texts.Rows+row] = key
	}
	return nil
}

// abandon waits for what is under way and forgets it.
func (b *backend) abandon() {
	for _, s := range b.busy {
		_ = s.k.s.Synchronize()
		if s.fence != nil {
			_ = s.fence.Wait(context.Background())
			s.fence = nil
		}
		s.release()
		b.free = append(b.free, s)
	}
	b.busy = nil
	b.texts, b.signatures, b.keys = nil, nil, nil
}

// Close implements [lsh.Backend].
func (b *backend) Close() error {
	b.abandon()
	var errs []error
	for _, s := range b.free {
		errs = append(errs, s.k.Close())
	}
	b.free = nil
	return errors.Join(errs...)
}

// release gives the memory of a slot back, of which the GPU must have let go.
func (s *slot) release() {
	for _, b := range []**mem.Buffer{&s.in, &s.out, &s.devIn, &s.devOut} {
		(*b).Release()
		*b = nil
	}
}

// parts are slices of buffers that are released together; the device uses their addresses, which stay.
type parts struct {
	all []*mem.Buffer
	err error
}

func (p *parts) of(b *mem.Buffer, from, to int) *mem.Buffer {
	s, err := b.Slice(from, to)
	if err != nil {
		p.err = errors.Join(p.err, err)
		return nil
	}
	p.all = append(p.all, s)
	return s
}

func (p *parts) release() {
	for _, s := range p.all {
		s.Release()
	}
}
