package collective

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Number is what vectors are made of.
type Number interface{ int64 | uint64 | float64 }

// Op combines vectors, element by element.
type Op[T Number] struct {
	// Name is compared between the ranks and shown in errors; at most 200 bytes.
	Name string
	// Into makes acc[i] the combination of acc[i] and x[i], in this order, for all i; both have the same length. It gets
	// pieces of a vector, so an element may depend on nothing but the two. It need not commute, nor be associative: the
	// result is ((rank 0 op rank 1) op rank 2) and so on.
	Into func(acc, x []T)
}

// Sum adds. Integers wrap around.
func Sum[T Number]() Op[T] {
	return Op[T]{"sum", func(acc, x []T) {
		for i, v := range x {
			acc[i] += v
		}
	}}
}

// Min takes the smaller, NaN if either is NaN, and -0 before 0.
func Min[T Number]() Op[T] {
	return Op[T]{"min", func(acc, x []T) {
		for i, v := range x {
			acc[i] = min(acc[i], v)
		}
	}}
}

// Max takes the larger, NaN if either is NaN, and 0 before -0.
func Max[T Number]() Op[T] {
	return Op[T]{"max", func(acc, x []T) {
		for i, v := range x {
			acc[i] = max(acc[i], v)
		}
	}}
}

const (
	// longVector is the length in bytes from which pieces of a vector are reduced by one rank each. Below, one exchange
	// is faster than two (measured with 4 and 8 ranks in a process: equal at 8 to 16 KiB).
	longVector = 16 << 10
	// segment is how much of a vector is reduced at a time, in chunks: enough to make what an exchange costs by itself
	// not matter, and few enough that the list of chunks does not, which has to be in memory.
	segment = 64
)

// AllReduce replaces vec on every rank by the combination of the vectors of all ranks, which must be of one length. The
// result is the same on all ranks, bit for bit, and from run to run. After an error the content of vec is undefined.
func AllReduce[T Number](ctx context.Context, g *Group, vec []T, op Op[T]) error {
	r := &reduction[T]{
		g: g, op: op, all: descriptor{kind: allReduce, elem: fmt.Sprintf("%T", *new(T)), op: op.Name, count: len(vec)},
	}
	do := r.long
	if g.size <= 2 || len(vec)*8 <= longVector {
		do = r.short
	}
	for most := int(max(longVector, segment*g.opts.MaxChunk)) / 8; ; {
		n := min(most, len(vec))
		if err := do(ctx, vec[:n]); err != nil {
			return err
		}
		if vec = vec[n:]; len(vec) == 0 {
			return nil
		}
	}
}

// reduction is one call of AllReduce.
type reduction[T Number] struct {
	g   *Group
	op  Op[T]
	all descriptor
}

func (r *reduction[T]) check() error {
	if r.op.Into == nil || len(r.op.Name) > 200 {
		return errors.New("Op.Into is missing, or Op.Name has more than 200 bytes")
	}
	return nil
}

// short sends everything to everybody, and every rank reduces it.
func (r *reduction[T]) short(ctx context.Context, vec []T) error {
	return r.g.exchange(ctx, &r.all, func(out *sender) error {
		if err := r.check(); err != nil {
			return err
		}
		return putNumbers(out, 0, r.g.size, vec)
	}, func(ctx context.Context, s *shuffle.Shuffler, agree *agreement) error {
		return reduce(ctx, r.g, s, agree, vec, r.op)
	})
}

// long has every rank reduce a piece, and then send it to everybody.
func (r *reduction[T]) long(ctx context.Context, vec []T) error {
	g := r.g
	cut := func(rank int) int { return int(int64(len(vec)) * int64(rank) / int64(g.size)) }
	own := vec[cut(g.rank):cut(g.rank+1)]
	err := g.exchange(ctx, &r.all, func(out *sender) error {
		if err := r.check(); err != nil {
			return err
		}
		for i := range g.size {
			to := (g.rank + i) % g.size // not all ranks to the same one at once
			if err := putNumbers(out, to, to+1, vec[cut(to):cut(to+1)]); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context, s *shuffle.Shuffler, agree *agreement) error {
		return reduce(ctx, g, s, agree, own, r.op)
	})
	if err != nil {
		return err
	}
	half := r.all
	half.kind = spread
	return g.exchange(ctx, &half, func(out *sender) error { return putNumbers(out, 0, g.size, own) },
		func(ctx context.Context, s *shuffle.Shuffler, agree *agreement) error {
			return eachPiece(ctx, g, s, agree, func(rank int) int { return cut(rank+1) - cut(rank) },
				func(rank, at int, x []T) { copy(vec[cut(rank)+at:], x) })
		})
}

// reduce combines what arrived into acc, in the order of the ranks.
func reduce[T Number](ctx context.Context, g *Group, s *shuffle.Shuffler, agree *agreement, acc []T, op Op[T]) error {
	return eachPiece(ctx, g, s, agree, func(int) int { return len(acc) }, func(r, at int, x []T) {
		if r == 0 {
			copy(acc[at:], x)
			return
		}
		op.Into(acc[at:at+len(x)], x)
	})
}

// eachPiece calls f for short pieces of the vectors that arrived, those of rank 0 first, with their place in the vector,
// which has want elements. It holds memory for one chunk.
func eachPiece[T Number](ctx context.Context, g *Group, s *shuffle.Shuffler, agree *agreement, want func(rank int) int,
	f func(rank, at int, x []T)) error {
	p, err := s.Open(g.rank)
	if err != nil {
		return err
	}
	defer p.Close()
	patience, end := g.patience(ctx)
	defer end()
	got := make([]int, g.size)
	var piece [512]T
	usable := true
	patience.start()
	for c, err := range p.Chunks(patience.ctx) {
		patience.stop()
		if err != nil {
			return patience.explain(err)
		}
		usable = agree.see(c.Source, c.Meta) && usable
		var b []byte
		if usable && c.Data != nil { // once ranks differ, chunks are only looked at for the sake of the error
			b = c.Data.Bytes()
		}
		if len(b)%8 != 0 || got[c.Source]+len(b)/8 > want(c.Source) {
			return fmt.Errorf("%w: rank %d sent %d bytes too many", shuffle.ErrProtocol, c.Source, len(b))
		}
		for len(b) > 0 {
			x := piece[:min(len(piece), len(b)/8)]
			getNumbers(x, b)
			b = b[8*len(x):]
			f(c.Source, got[c.Source], x)
			got[c.Source] += len(x)
		}
		patience.start()
	}
	for r := range got {
		if usable && got[r] != want(r) {
			return fmt.Errorf("%w: rank %d sent %d of %d numbers", shuffle.ErrProtocol, r, got[r], want(r))
		}
	}
	return nil
}

// putNumbers sends a vector to ranks [lo, hi), little-endian.
func putNumbers[T Number](out *sender, lo, hi int, vec []T) error {
	return out.put(lo, hi, 8*len(vec), func(dst []byte, at int) {
		x := vec[at/8:]
		x = x[:len(dst)/8]
		switch x := any(x).(type) {
		case []int64:
			for i, v := range x {
				binary.LittleEndian.PutUint64(dst[8*i:], uint64(v))
			}
		case []uint64:
			for i, v := range x {
				binary.LittleEndian.PutUint64(dst[8*i:], v)
			}
		case []float64:
			for i, v := range x {
				binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(v))
			}
		}
	})
}

// getNumbers reads len(x) numbers.
func getNumbers[T Number](x []T, b []byte) {
	switch x := any(x).(type) {
	case []int64:
		for i := range x {
			x[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
		}
	case []uint64:
		for i := range x {
			x[i] = binary.LittleEndian.Uint64(b[8*i:])
		}
	case []float64:
		for i := range x {
			x[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
		}
	}
}
