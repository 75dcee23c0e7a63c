package collective

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

type kind uint8

const (
	barrier kind = iota + 1
	allGather
	allToAll
	broadcast
	gather
	allReduce // the whole of it, or the first half: pieces to those that reduce them
	spread    // the second half: reduced pieces to everybody
)

// descriptor is what all ranks must agree on in a call. It travels with every chunk, as its meta.
type descriptor struct {
	kind  kind
	root  int    // broadcast, gather
	elem  string // allReduce: type of the elements, here and below
	op    string // name of the function
	count int    // number of elements
}

func (d *descriptor) encode() []byte {
	b := []byte{byte(d.kind)}
	b = binary.LittleEndian.AppendUint32(b, uint32(d.root))
	b = binary.LittleEndian.AppendUint64(b, uint64(d.count))
	b = append(b, byte(len(d.elem)))
	return append(append(b, d.elem...), d.op...)
}

// decode reads what encode wrote. It comes from a rank that may run anything, but has passed a checksum.
func decode(b []byte) (d descriptor, err error) {
	if len(b) < 14 || len(b) < 14+int(b[13]) {
		return d, fmt.Errorf("a call that cannot be read (% x)", b)
	}
	d.kind = kind(b[0])
	d.root = int(binary.LittleEndian.Uint32(b[1:]))
	d.count = int(binary.LittleEndian.Uint64(b[5:]))
	n := 14 + int(b[13])
	d.elem, d.op = string(b[14:n]), string(b[n:])
	return d, nil
}

// String names the call for people.
func (d *descriptor) String() string {
	switch d.kind {
	case barrier:
		return "Barrier"
	case allGather:
		return "AllGather"
	case allToAll:
		return "AllToAll"
	case broadcast:
		return fmt.Sprintf("Broadcast from rank %d", d.root)
	case gather:
		return fmt.Sprintf("Gather to rank %d", d.root)
	case allReduce, spread:
		return fmt.Sprintf("AllReduce (%s of %d %s)", d.op, d.count, d.elem)
	}
	return fmt.Sprintf("call of unknown kind %d", d.kind)
}

// agreement compares what the ranks say, in the order of the ranks. All compare with rank 0, so all find the same.
type agreement struct {
	own, first []byte
	other      int    // the first rank that differs from rank 0
	said       []byte // what it said; nil if none does
}

// see looks at what a rank says and reports whether its data can be used.
func (a *agreement) see(source int, meta []byte) bool {
	if source == 0 && a.first == nil {
		a.first = meta
	}
	if a.said == nil && !bytes.Equal(meta, a.first) {
		a.other, a.said = source, meta
	}
	return a.said == nil && bytes.Equal(a.own, a.first)
}

func (a *agreement) err() error {
	if a.said == nil {
		return nil
	}
	text := func(b []byte) string {
		d, err := decode(b)
		if err != nil {
			return err.Error()
		}
		return d.String()
	}
	return fmt.Errorf("%w: rank 0 makes %s and rank %d makes %s; all must make the same calls in the same order",
		ErrDisagree, text(a.first), a.other, text(a.said))
}

// exchange is one call, or half of one: send inserts what this rank has for others, take gets what they have for it.
func (g *Group) exchange(ctx context.Context, d *descriptor, send func(*sender) error,
	take func(context.Context, *shuffle.Shuffler, *agreement) error) error {
	s, err := g.begin(d)
	if err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned { // a function of the caller's panics, or ends the goroutine
			_ = g.finish(s, d, errors.New("the caller's function did not return"))
		}
	}()
	err = g.run(ctx, s, d, send, take)
	if cause := s.Err(); err != nil && cause != nil {
		err = cause // what went wrong first; the rest follows from it
	}
	returned = true
	return g.finish(s, d, err)
}

func (g *Group) run(ctx context.Context, s *shuffle.Shuffler, d *descriptor, send func(*sender) error,
	take func(context.Context, *shuffle.Shuffler, *agreement) error) error {
	p, end := g.patience(ctx)
	defer end()
	out := &sender{ctx: ctx, patience: p, s: s, in: s.Begin(uint64(g.rank), 0), meta: d.encode(), size: g.size}
	if err := send(out); err != nil {
		return err
	}
	if err := out.in.Commit(ctx); err != nil {
		return err
	}
	if err := s.InsertFinished(ctx); err != nil {
		return err
	}
	if err := s.Wait(ctx); err != nil {
		return err
	}
	agree := &agreement{own: out.meta}
	if err := take(ctx, s, agree); err != nil {
		return err
	}
	return agree.err()
}

// sender inserts what one rank sends in one call.
type sender struct {
	ctx      context.Context
	patience *patience
	s        *shuffle.Shuffler
	in       *shuffle.Inserter
	meta     []byte
	size     int
}

// put sends n bytes to ranks [lo, hi), in pieces that fill writes, which gets their place among the n. Every rank gets
// at least an empty piece. Pieces are not shared between ranks, although the bytes are the same: a buffer that several
// queues hold is freed only when all of them have spilled it, and then whoever needs memory could wait for ever.
func (o *sender) put(lo, hi, n int, fill func(dst []byte, at int)) error {
	for at := 0; ; {
		m := min(n-at, int(o.s.MaxChunk()))
		for i := range hi - lo {
			to := lo + (i+o.s.Rank())%(hi-lo) // not all ranks to the same one at once
			if err := o.piece(to, m, func(dst []byte) { fill(dst, at) }); err != nil {
				return err
			}
		}
		if at += m; at >= n {
			return nil
		}
	}
}

func (o *sender) piece(to, n int, fill func(dst []byte)) error {
	c := shuffle.Chunk{Partition: to, Rows: 1, Meta: o.meta}
	if n > 0 {
		o.patience.start()
		b, err := o.s.Alloc(o.patience.ctx, n)
		o.patience.stop()
		if err != nil {
			return o.patience.explain(err)
		}
		fill(b.Bytes())
		c.Data = b
	}
	return o.in.Insert(o.ctx, c)
}

// bytes sends data to ranks [lo, hi).
func (o *sender) bytes(lo, hi int, data []byte) error {
	return o.put(lo, hi, len(data), func(dst []byte, at int) { copy(dst, data[at:]) })
}

// patience bounds how long a rank waits for memory. Other ranks of the process may hold it and wait for this one in their
// next call, which nothing but an error can end.
type patience struct {
	ctx   context.Context
	wait  time.Duration
	timer *time.Timer
}

var errPatience = errors.New("no memory became free")

// patience returns one that is used up when nothing has been got for as long as Options.MemoryWait between start and
// stop. end must be called.
func (g *Group) patience(ctx context.Context) (p *patience, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	p = &patience{ctx: ctx, wait: g.opts.MemoryWait}
	p.timer = time.AfterFunc(p.wait, func() { cancel(errPatience) })
	p.timer.Stop()
	return p, func() { p.timer.Stop(); cancel(nil) }
}

func (p *patience) start() { p.timer.Reset(p.wait) }
func (p *patience) stop()  { p.timer.Stop() }

// explain makes an error of patience one that says what to do.
func (p *patience) explain(err error) error {
	if errors.Is(err, errPatience) {
		return fmt.Errorf("%w in %v; release earlier results, or raise the memory limit: %w", errPatience, p.wait, mem.ErrNoMemory)
	}
	return err
}

// receive takes all that arrived into memory.
func (g *Group) receive(ctx context.Context, s *shuffle.Shuffler, agree *agreement) (*Received, error) {
	p, end := g.patience(ctx)
	defer end()
	p.start()
	chunks, err := s.Extract(p.ctx, g.rank)
	if err != nil {
		return nil, p.explain(err)
	}
	r := &Received{from: make([]part, g.size)}
	ok := true
	for _, c := range chunks {
		ok = agree.see(c.Source, c.Meta) && ok
		if c.Data != nil {
			from := &r.from[c.Source]
			from.pieces = append(from.pieces, c.Data)
			from.size += c.Data.Len()
		}
	}
	if !ok {
		r.Release()
		return nil, agree.err()
	}
	return r, nil
}
