package collective

import (
	"iter"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Received is what the ranks sent to this one. It is charged to the budget until it is released.
type Received struct{ from []part }

type part struct {
	pieces []*mem.Buffer
	size   int
}

// Len returns the number of bytes from a rank.
func (r *Received) Len(rank int) int { return r.from[rank].size }

// Pieces yields the bytes from a rank, in order, in pieces as they travelled. They are valid until Release.
func (r *Received) Pieces(rank int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, b := range r.from[rank].pieces {
			if !yield(b.Bytes()) {
				return
			}
		}
	}
}

// Bytes returns the bytes from a rank in one slice, valid until Release. It is a copy, which the budget does not count,
// if they travelled in several pieces.
func (r *Received) Bytes(rank int) []byte {
	p := &r.from[rank]
	switch len(p.pieces) {
	case 0:
		return nil
	case 1:
		return p.pieces[0].Bytes()
	}
	return r.Append(make([]byte, 0, p.size), rank)
}

// Append appends the bytes from a rank to dst.
func (r *Received) Append(dst []byte, rank int) []byte {
	for piece := range r.Pieces(rank) {
		dst = append(dst, piece...)
	}
	return dst
}

// Release gives the memory back. It may be called again, and on nil.
func (r *Received) Release() {
	if r == nil {
		return
	}
	for i := range r.from {
		for _, b := range r.from[i].pieces {
			b.Release()
		}
		r.from[i] = part{}
	}
}
