//go:build cuda

package cuda

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// pairs is an [lsh.PairBackend] on a GPU: texts, and tables of where their windows are, stay in its memory while pairs of them are
// compared. Several share a GPU, one for each actor.
type pairs struct {
	g     *GPU
	width int
	s     *Stream
	sets  *Kernel
	// shared is the shared memory of sets. No count depends on key; see kernels.h.
	shared int
	key    uint64

	staged    *mem.Buffer // pinned: what is copied to texts
	texts     *mem.Buffer // offsets, validity, bytes
	tables    *mem.Buffer // laid out as pairLayout says
	lay       pairLayout
	rows      int
	data      uint64 // address of the texts' first byte
	comparing *comparing
}

// pairLayout says where things are in the tables of a column, in bytes.
type pairLayout struct {
	pieces, starts, distinct, sets, all int // and sums of a scan behind all
	slots                               int
}

// comparing is a comparison that is under way.
type comparing struct {
	p        *pairs
	n        int
	in, back *mem.Buffer // pinned
	device   *mem.Buffer
	out      *mem.Buffer // of the caller
	fence    mem.Fence
	settled  bool
	err      error
}

// NewPairs returns a backend that compares windows of charNgrams code points on the GPU. The caller closes it before the GPU.
func (g *GPU) NewPairs(charNgrams int) (_ lsh.PairBackend, err error) {
	if _, err := lsh.NewComparer(charNgrams); err != nil {
		return nil, err
	}
	p := &pairs{g: g, width: charNgrams, shared: sharedPairs(charNgrams), key: rand.Uint64()}
	if p.s, err = g.c.NewStream(); err != nil {
		return nil, err
	}
	if p.sets, err = g.signKernel("dv_window_sets", p.shared); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// CharNgrams implements [lsh.PairBackend].
func (p *pairs) CharNgrams() int { return p.width }

// TextAlloc implements [lsh.PairBackend].
func (p *pairs) TextAlloc() mem.Allocator { return p.g.texts }

// Load implements [lsh.PairBackend].
func (p *pairs) Load(ctx context.Context, texts *mem.Strings) error {
	if err := p.unload(); err != nil {
		return err
	}
	if err := lsh.CheckLoad(texts); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if texts.Rows == 0 {
		return nil
	}
	if err := p.load(texts); err != nil {
		return errors.Join(err, p.unload())
	}
	p.rows = texts.Rows
	p.g.count(func(c *GPUStats) { c.Compared.Texts += int64(texts.Rows) })
	return nil
}

// load queues everything that makes texts ready.
func (p *pairs) load(texts *mem.Strings) (err error) {
	in := layOutColumn(texts, 0, texts.Rows)
	p.lay = layOutPairs(texts)
	l := p.lay
	if p.texts, err = p.g.alloc(in.end); err != nil {
		return err
	}
	if p.tables, err = p.g.alloc(l.all + 8*(scanTiles(texts.Rows)+1)); err != nil {
		return err
	}
	if p.staged, err = p.g.pinned.Alloc(in.staged(texts)); err != nil {
		return err
	}
	if err := p.s.sendColumn(p.texts, p.staged, texts, 0, in); err != nil {
		return err
	}
	rows, n := texts.Rows, uint64(texts.Rows)
	offsets, valid := uint64(p.texts.DeviceAddr()), uint64(0)
	if texts.Valid != nil {
		valid = offsets + uint64(in.valid)
	}
	p.data = offsets + uint64(in.data)
	table := uint64(p.tables.DeviceAddr())
	pieces, starts, distinct, sets, sums := table+uint64(l.pieces), table+uint64(l.starts), table+uint64(l.distinct), table+uint64(l.sets), table+uint64(l.all)
	var part parts
	defer part.release()
	zeros := part.of(p.tables, l.distinct, l.all)
	if part.err != nil {
		return part.err
	}
	g, s, tiles := p.g, p.s, scanTiles(rows)
	scan := func(counts uint64) error {
		return errors.Join(s.Launch(g.scanReduce, tiles, 0, counts, n, sums), s.Launch(g.scanSums, 1, 0, sums, uint64(tiles)),
			s.Launch(g.scanApply, tiles, 0, counts, n, sums, counts))
	}
	for _, step := range []func() error{
		func() error { return s.Fill(zeros, 0) },
		func() error {
			return s.Launch(g.pieces, gridThreads(rows), 0, offsets, 8, valid, n, pieceBytes, pieces)
		},
		func() error { return scan(pieces) },
		func() error { return s.Launch(g.windowSlots, gridThreads(rows), 0, offsets, 8, valid, n, starts) },
		func() error { return scan(starts) },
		func() error {
			return s.Launch(p.sets, min(rows+(in.end-in.data)/pieceBytes, maxGrid), p.shared, offsets, 8, p.data, n, pieces, pieceBytes,
				uint64(p.width), p.key, starts, sets, distinct)
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// layOutPairs lays out the tables of a column. What has to be zero lies at the end.
func layOutPairs(texts *mem.Strings) (l pairLayout) {
	off := texts.OffsetValues()
	for i := range texts.Rows {
		if !texts.IsNull(i) {
			l.slots += 2 * int(off[i+1]-off[i])
		}
	}
	l.starts = aligned(8 * (texts.Rows + 1))
	l.distinct = l.starts + aligned(8*(texts.Rows+1))
	l.sets = l.distinct + aligned(8*texts.Rows)
	l.all = l.sets + aligned(8*l.slots)
	return l
}

// Compare implements [lsh.PairBackend].
func (p *pairs) Compare(ctx context.Context, pairs *mem.Buffer, n int, out *mem.Buffer) (mem.Fence, error) {
	if err := lsh.CheckCompare(p.rows, pairs, n, out); err != nil {
		return nil, err
	}
	if p.comparing != nil {
		return nil, errors.New("cuda: pairs are compared before those before were waited for")
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if n == 0 {
		return mem.Ready, nil
	}
	c := &comparing{p: p, n: n, out: out}
	if err := c.begin(pairs); err != nil {
		_ = p.s.Synchronize() // what was queued must not use memory of others
		c.release()
		return nil, err
	}
	p.comparing = c
	p.g.count(func(s *GPUStats) { s.Compared.Launches++; s.Compared.Pairs += int64(n) })
	return c, nil
}

func (c *comparing) begin(rows *mem.Buffer) (err error) {
	p, n := c.p, c.n
	counts := aligned(8 * n) // where they begin on the device
	for _, x := range []struct {
		b    **mem.Buffer
		from func(int) (*mem.Buffer, error)
		n    int
	}{{&c.device, p.g.alloc, counts + 16*n}, {&c.in, p.g.pinned.Alloc, 8 * n}, {&c.back, p.g.pinned.Alloc, 16 * n}} {
		if *x.b, err = x.from(x.n); err != nil {
			return err
		}
	}
	copy(c.in.Bytes(), rows.Bytes()[:8*n])
	var part parts
	defer part.release()
	in, results := part.of(c.device, 0, 8*n), part.of(c.device, counts, counts+16*n)
	if part.err != nil {
		return part.err
	}
	if err := p.s.Copy(in, c.in); err != nil {
		return err
	}
	table, a, inter := uint64(p.tables.DeviceAddr()), uint64(in.DeviceAddr()), uint64(results.DeviceAddr())
	if err := p.s.Launch(p.g.jaccard, min(n, maxGrid), 0, uint64(p.texts.DeviceAddr()), 8, p.data, uint64(p.width), a, a+4*uint64(n), uint64(n),
		table+uint64(p.lay.starts), table+uint64(p.lay.sets), table+uint64(p.lay.distinct), inter, inter+8*uint64(n)); err != nil {
		return err
	}
	if err := p.s.Copy(c.back, results); err != nil {
		return err
	}
	c.fence, err = p.s.Fence()
	return err
}

// Done implements [mem.Fence].
func (c *comparing) Done() bool { return c.settled }

// Wait implements [mem.Fence].
func (c *comparing) Wait(ctx context.Context) error {
	if c.settled {
		return c.err
	}
	if c.err = c.fence.Wait(ctx); c.err == nil {
		copy(c.out.Bytes(), c.back.Bytes())
	}
	c.end()
	return c.err
}

// end waits until the GPU has let go of the comparison's memory, and gives it back.
func (c *comparing) end() {
	c.settled = true
	_ = c.p.s.Synchronize()
	_ = c.fence.Wait(context.Background())
	c.release()
	c.p.comparing = nil
}

func (c *comparing) release() {
	for _, b := range []**mem.Buffer{&c.in, &c.back, &c.device} {
		(*b).Release()
		*b = nil
	}
}

// unload forgets the texts, once nothing uses them.
func (p *pairs) unload() error {
	if c := p.comparing; c != nil {
		c.err = fmt.Errorf("cuda: a comparison was given up")
		c.end()
	}
	var err error
	if p.texts != nil {
		err = p.s.Synchronize()
	}
	for _, b := range []**mem.Buffer{&p.texts, &p.tables, &p.staged} {
		(*b).Release()
		*b = nil
	}
	p.rows = 0
	return err
}

// Close implements [lsh.PairBackend].
func (p *pairs) Close() error {
	err := errors.Join(p.unload(), p.s.Close())
	if p.g.Broken() != nil {
		return nil
	}
	return err
}
