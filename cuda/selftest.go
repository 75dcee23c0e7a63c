//go:build cuda

package cuda

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// ErrUnsound is wrapped when a GPU, or a link, gave a wrong answer to a question whose answer is known.
var ErrUnsound = errors.New("it gives wrong results")

// testBytes is how much is copied over a link to try it: more than one packet, and not a multiple of anything.
const testBytes = 1<<20 + 12345

// pattern fills b with bytes that depend on their place and on seed, every bit of which changes often.
func pattern(b []byte, seed uint64) {
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
}

// SelfTest copies a pattern to the GPU and back, and has it sign texts whose signatures are known, with every sketch. An error that
// wraps [ErrUnsound] says that it must not be used.
func (g *GPU) SelfTest() error {
	if err := g.link(g, "to GPU %[1]d and back"); err != nil {
		return err
	}
	texts := [][]byte{[]byte("A text that every GPU signs before it is trusted."), nil, []byte("Ещё один, 第三个, and \xff bytes")}
	for _, sketch := range lsh.Sketches() {
		p := lsh.DefaultParams()
		p.Sketch = sketch
		if err := g.sample(p, texts); err != nil {
			return err
		}
	}
	long := bytes.Repeat([]byte("longer than a piece that one block signs, "), pieceBytes/40)
	if err := g.sample(lsh.DefaultParams(), [][]byte{long}); err != nil {
		return err
	}
	g.count(func(s *GPUStats) { *s = GPUStats{} }) // what follows counts
	return nil
}

// sample signs texts and compares.
func (g *GPU) sample(p lsh.Params, texts [][]byte) (err error) {
	off, err := mem.Host().Alloc(8 * (len(texts) + 1))
	if err != nil {
		return err
	}
	all := bytes.Join(texts, nil)
	column := &mem.Strings{Rows: len(texts), Offsets: off, Data: mem.NewHostBuffer(mem.TierHost, all, nil)}
	defer column.Release()
	mem.Int64s(off)[0] = 0
	for i, t := range texts {
		mem.Int64s(off)[i+1] = mem.Int64s(off)[i] + int64(len(t))
	}
	b, err := g.NewBackend(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	keys, err := mem.Host().Alloc(p.BandKeyBytes(len(texts)))
	if err != nil {
		return err
	}
	defer keys.Release()
	ctx := context.Background()
	fence, err := b.Start(ctx, column, nil, keys)
	if err == nil {
		err = fence.Wait(ctx)
	}
	if err != nil {
		return err
	}
	r, err := lsh.NewReference(p)
	if err != nil {
		return err
	}
	for i, t := range texts {
		for band, want := range r.BandKeys(r.Sign(t)) {
			if got := mem.Uint64s(keys)[band*len(texts)+i]; got != want {
				return fmt.Errorf("cuda: GPU %d, %s: %w: band key %d of a test text is %#x with sketch %s and should be %#x; "+
					"leave it out with CUDA_VISIBLE_DEVICES", g.c.device.Index, g.c.device.UUID, ErrUnsound, band, got, p.Sketch, want)
			}
		}
	}
	return nil
}

// TestLinks copies patterns from every GPU to every other. An error that wraps [ErrUnsound] names the link that bends bytes.
func TestLinks(gpus []*GPU) error {
	for _, from := range gpus {
		for _, to := range gpus {
			if from == to {
				continue
			}
			if err := from.link(to, "from GPU %[1]d to GPU %[2]d"); err != nil {
				return err
			}
		}
	}
	return nil
}

// link sends a pattern from the host over g and, if it is another, over to, and back to the host.
func (g *GPU) link(to *GPU, what string) (err error) {
	n := testBytes
	if s := g.Stats().Pool.Size; s > 0 {
		n = min(n, int(s/4))
	}
	var bufs []*mem.Buffer
	alloc := func(a mem.Allocator) *mem.Buffer {
		if err != nil {
			return nil
		}
		var b *mem.Buffer
		if b, err = a.Alloc(n); err == nil {
			bufs = append(bufs, b)
		}
		return b
	}
	in, there, over, out := alloc(g.pinned), alloc(g.device), alloc(to.device), alloc(to.pinned)
	defer func() {
		for _, b := range bufs {
			b.Release()
		}
	}()
	if errors.Is(err, mem.ErrNoMemory) {
		return nil // too little memory to try it with is no fault of the link
	}
	if err != nil {
		return err
	}
	a, err := g.c.NewStream()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := to.c.NewStream()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	pattern(in.Bytes(), uint64(g.c.device.Index*1000+to.c.device.Index))
	clear(out.Bytes())
	steps := []func() error{func() error { return a.Copy(there, in) }, a.Synchronize}
	if to == g {
		steps = append(steps, func() error { return b.Copy(over, there) })
	} else {
		steps = append(steps, func() error { return b.CopyPeer(over, there, g.c) })
	}
	steps = append(steps, func() error { return b.Copy(out, over) }, b.Synchronize)
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if at := firstDifference(in.Bytes(), out.Bytes()); at >= 0 {
		return fmt.Errorf("cuda: the link "+what+" bends bytes: %[3]w: byte %[4]d of %[5]d is %#[6]x and was %#[7]x; leave a GPU out with "+
			"CUDA_VISIBLE_DEVICES", g.c.device.Index, to.c.device.Index, ErrUnsound, at, n, out.Bytes()[at], in.Bytes()[at])
	}
	return nil
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
