//go:build cuda

package cuda

import (
	"context"
	"errors"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// slots is the number of pieces of columns that are under way at a time: while one is computed the next is copied there, and
// the last one back. Each has a stream of its own.
const slots = 2

// backend is an [lsh.Holder] on a GPU. Several backends share a GPU, one for each actor.
type backend struct {
	g       *GPU
	p       lsh.Params
	cpu     *lsh.CPU // for documents that the GPU's memory is too small for
	free    []*slot
	busy    []*slot   // the oldest first; at most `slots` with those that are free, fewer while there is no memory for more
	columns []*column // that are not done, the oldest first
	most    int       // bytes that a piece may take on the device, 0 before memory was ever short
}

// column is a column that is under way, and its fence.
type column struct {
	b                *backend
	texts            *mem.Strings
	signatures, keys *mem.Buffer
	next             int // row
	pieces           int // that are under way

	held    func(first, rows int, item *mem.Item, at int) // nil if the texts are not to be held
	needed  int64
	settled bool
	err     error
}

// slot is what one piece needs: a stream with kernels, and memory while it is under way.
type slot struct {
	k           *Kernels
	c           *column
	in, out     *mem.Buffer // pinned
	devIn       *mem.Buffer // offsets, validity, bytes
	devOut      *mem.Buffer // signatures, keys
	first, rows int
	lay         layout
	fence       mem.Fence
}

// layout says where things are in the buffers of a piece, in bytes.
type layout struct {
	in        columnLayout
	keys, out int // signatures are at 0
	back      int // from where on the output is wanted
}

// aligned rounds up to what every buffer begins at.
func aligned(n int) int { return (n + 255) &^ 255 }

// NewBackend returns a backend for p, an [lsh.Holder] if the GPU has a store. The caller closes it before the GPU. The error may be
// that of [lsh.Params.Validate].
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

// Depth implements [lsh.Backend].
func (b *backend) Depth() int { return slots }

// TextAlloc implements [lsh.Backend].
func (b *backend) TextAlloc() mem.Allocator { return b.g.texts }

// Start implements [lsh.Backend].
func (b *backend) Start(ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer) (mem.Fence, error) {
	return b.StartHeld(ctx, texts, signatures, keys, 0, nil)
}

// StartHeld implements [lsh.Holder].
func (b *backend) StartHeld(
	ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer, next int64, held func(first, rows int, item *mem.Item, at int),
) (mem.Fence, error) {
	if err := lsh.CheckStart(b.p, texts, signatures, keys); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if texts.Rows == 0 || signatures == nil && keys == nil {
		return mem.Ready, nil
	}
	c := &column{b: b, texts: texts, signatures: signatures, keys: keys, needed: next}
	if b.g.store != nil {
		c.held = held
	}
	b.columns = append(b.columns, c)
	if err := b.fill(ctx); err != nil {
		b.abandon(err)
		return nil, err
	}
	return c, nil
}

// Done implements [mem.Fence].
func (c *column) Done() bool { return c.settled }

// Wait implements [mem.Fence]. What is left of the column, and of those before it, is done by it.
func (c *column) Wait(ctx context.Context) error {
	for !c.settled {
		if err := c.b.step(ctx); err != nil {
			c.b.abandon(err)
		}
	}
	return c.err
}

// step takes back the oldest piece, and starts others.
func (b *backend) step(ctx context.Context) error {
	if len(b.busy) > 0 {
		s := b.busy[0]
		if err := s.fence.Wait(ctx); err != nil {
			return err
		}
		s.fence = nil
		if err := b.take(s); err != nil {
			return err
		}
		b.busy = b.busy[1:]
		b.free = append(b.free, s)
		s.c.pieces--
	}
	err := b.fill(ctx)
	for err == nil && len(b.columns) > 0 && b.columns[0].done() {
		b.columns[0].settled = true
		b.columns = b.columns[1:]
	}
	return err
}

func (c *column) done() bool { return c.pieces == 0 && c.next == c.texts.Rows }

// filling returns the oldest column of which there are rows to start, or nil.
func (b *backend) filling() *column {
	for _, c := range b.columns {
		if c.next < c.texts.Rows {
			return c
		}
	}
	return nil
}

// fill starts pieces while there are rows and slots, and memory.
func (b *backend) fill(ctx context.Context) error {
	for c := b.filling(); c != nil && len(b.busy) < slots; c = b.filling() {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		rows, need := b.piece(c)
		var err error
		if len(b.free) == 0 {
			err = b.add()
		}
		var s *slot
		if err == nil {
			s = b.free[0]
			err = b.begin(s, c, rows)
		}
		if err == nil {
			c.next += rows
			c.pieces++
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
			if err := b.onProcessor(ctx, c); err != nil {
				return err
			}
			c.next++
		}
	}
	return nil
}

// piece returns how many of the next rows a piece takes, and the memory that it needs on the device.
func (b *backend) piece(c *column) (rows, need int) {
	left := c.texts.Rows - c.next
	if b.most == 0 {
		return left, b.size(c, left)
	}
	// The least that is too many is found by halving: what a piece needs grows with its rows.
	few, many := 1, left+1
	for many-few > 1 {
		if mid := (few + many) / 2; b.size(c, mid) <= b.most {
			few = mid
		} else {
			many = mid
		}
	}
	return few, b.size(c, few)
}

func (b *backend) size(c *column, rows int) int {
	l := b.layout(c, rows)
	return l.in.end + l.out
}

// layout lays out a piece of the next rows. Signatures are always made, and downloaded only if they are wanted.
func (b *backend) layout(c *column, rows int) layout {
	l := layout{in: layOutColumn(c.texts, c.next, rows), keys: aligned(b.p.SignatureBytes(rows))}
	l.out = l.keys
	if c.keys != nil {
		l.out += b.p.BandKeyBytes(rows)
	}
	if c.signatures == nil {
		l.back = l.keys
	}
	return l
}

// begin queues a piece of a column: there, the kernels, and back. If it fails nothing of it is left.
func (b *backend) begin(s *slot, c *column, rows int) (err error) {
	s.c, s.first, s.rows, s.lay = c, c.next, rows, b.layout(c, rows)
	l := s.lay
	defer func() {
		if err != nil {
			_ = s.k.s.Synchronize() // what was queued must not use memory of others
			s.release()
		}
	}()
	for _, x := range []struct {
		b    **mem.Buffer
		from func(int) (*mem.Buffer, error)
		n    int
	}{
		{&s.devIn, b.g.alloc, l.in.end}, {&s.devOut, b.g.alloc, l.out},
		{&s.in, b.g.pinned.Alloc, l.in.staged(c.texts)}, {&s.out, b.g.pinned.Alloc, l.out - l.back},
	} {
		if *x.b, err = x.from(x.n); err != nil {
			return err
		}
	}
	var parts parts
	texts := &mem.Strings{Rows: rows, Offsets: parts.of(s.devIn, 0, l.in.valid), Data: parts.of(s.devIn, l.in.data, l.in.end)}
	if c.texts.Valid != nil {
		texts.Valid = parts.of(s.devIn, l.in.valid, l.in.data)
	}
	signatures := parts.of(s.devOut, 0, b.p.SignatureBytes(rows))
	back := parts.of(s.devOut, l.back, l.out)
	defer parts.release()
	if parts.err != nil {
		return parts.err
	}
	if err := s.k.s.sendColumn(s.devIn, s.in, c.texts, s.first, l.in); err != nil {
		return err
	}
	if err := s.k.queueSign(texts, signatures); err != nil {
		return err
	}
	if c.keys != nil {
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
	b.g.count(func(n *GPUStats) {
		n.Batches++
		n.Documents += int64(rows)
		n.Uploaded += int64(l.in.end)
		n.Returned += int64(l.out - l.back)
		if c.texts.Data.Tier() == mem.TierPinned {
			n.Pinned += int64(l.in.end - l.in.data)
		}
	})
	return nil
}

// take copies what a piece came to to where it belongs, and releases its memory, or has the texts held.
func (b *backend) take(s *slot) error {
	c, raw := s.c, s.out.Bytes()
	if c.signatures != nil {
		copy(c.signatures.Bytes()[b.p.SignatureBytes(s.first):], raw[:b.p.SignatureBytes(s.rows)])
	}
	if c.keys != nil {
		raw = raw[s.lay.keys-s.lay.back:]
		all := c.keys.Bytes()
		for band := range b.p.NumBands {
			copy(all[8*(band*c.texts.Rows+s.first):], raw[8*band*s.rows:8*(band+1)*s.rows])
		}
	}
	texts := s.devIn
	if c.held != nil {
		s.devIn = nil
	}
	s.release()
	if c.held == nil {
		return nil
	}
	item, err := b.g.store.Put(texts, nil, c.needed)
	if err != nil {
		if errors.Is(err, ErrBroken) {
			return err
		}
		b.g.count(func(n *GPUStats) { n.NotHeld++ }) // the disk is full, or the like: nothing depends on it
		return nil
	}
	c.held(s.first, s.rows, item, s.lay.in.data)
	return nil
}

// onProcessor computes one document.
func (b *backend) onProcessor(ctx context.Context, c *column) error {
	row := c.next
	b.g.count(func(n *GPUStats) { n.Processor++; n.Documents++ })
	off, err := c.texts.Offsets.Slice(8*row, 8*(row+2))
	if err != nil {
		return err
	}
	one := &mem.Strings{Rows: 1, Offsets: off, Data: c.texts.Data}
	defer off.Release()
	if c.texts.IsNull(row) {
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
	if c.signatures != nil {
		copy(c.signatures.Bytes()[b.p.SignatureBytes(row):], sig.Bytes())
	}
	if c.keys == nil {
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
		mem.Uint64s(c.keys)[band*c.texts.Rows+row] = key
	}
	return nil
}

// abandon waits for what is under way and forgets it: no column is done any more.
func (b *backend) abandon(err error) {
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
	for _, c := range b.columns {
		c.settled, c.err = true, err
	}
	b.columns = nil
}

// Close implements [lsh.Backend].
func (b *backend) Close() error {
	b.abandon(ErrClosed)
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
