package tcp

import (
	"math/bits"

	"github.com/dovetail-dedup/dovetail/mem"
)

const (
	smallestHeader = 64
	headerClasses  = 11 // 64 B to shuffle.MaxHeader
)

// headerClass returns which of the sizes smallestHeader<<class a header of n bytes is kept in.
func headerClass(n int) int { return max(0, bits.Len(uint(max(n-1, 0)))-6) }

// cost is what a message counts against the receiver's window: the memory that its header is kept in.
func cost(n int) int { return smallestHeader << headerClass(n) }

// headerPool is the memory of the headers that came from one peer. It hands out no more than limit bytes,
// as long as its user does not ask for more, and holds no more, used and unused together.
type headerPool struct {
	free  [headerClasses][][]byte
	held  int
	limit int
}

func (p *headerPool) take(n int) []byte {
	class := headerClass(n)
	if f := p.free[class]; len(f) > 0 {
		b := f[len(f)-1]
		p.free[class] = f[:len(f)-1]
		return b[:n]
	}
	size := smallestHeader << class
	for c := headerClasses - 1; c >= 0 && p.held+size > p.limit; {
		f := p.free[c]
		if len(f) == 0 {
			c--
			continue
		}
		p.free[c][len(f)-1] = nil
		p.free[c] = f[:len(f)-1]
		p.held -= smallestHeader << c
	}
	p.held += size
	return make([]byte, n, size)
}

func (p *headerPool) give(b []byte) {
	class := headerClass(cap(b))
	p.free[class] = append(p.free[class], b)
}

func releaseAll(bufs []*mem.Buffer) {
	for i, b := range bufs {
		b.Release()
		bufs[i] = nil
	}
}

// places walks through the bytes of a list of buffers.
type places struct {
	piece int // index of the buffer
	at    int // bytes of it that are done
}

// next returns the following bytes, at most n, and steps over them. It returns none at the end.
func (p *places) next(bufs []*mem.Buffer, n int) []byte {
	for p.piece < len(bufs) {
		b := bufs[p.piece].Bytes()[p.at:]
		if len(b) > 0 {
			b = b[:min(n, len(b))]
			p.at += len(b)
			return b
		}
		p.piece, p.at = p.piece+1, 0
	}
	return nil
}
