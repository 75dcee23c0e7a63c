package link

import (
	"math/bits"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

const (
	smallestHeader = 64
	headerClasses  = 11 // 64 B to shuffle.MaxHeader
)

// headerClass returns which of the sizes smallestHeader<<class a header of n bytes is kept in.
func headerClass(n int) int { return max(0, bits.Len(uint(max(n-1, 0)))-6) }

// cost is what a message counts against the receiver's window: the memory that its header is kept in.
func cost(n int) int { return smallestHeader << headerClass(n) }

// Cost is what a message with n bytes of header, and of payload that comes along, counts against the receiver's window.
func Cost(n int) int { return cost(n) }

// HeaderPool is the memory of the headers that came from one peer. It hands out no more than its limit,
// as long as its user does not ask for more, and holds no more, used and unused together.
type HeaderPool struct {
	free  [headerClasses][][]byte
	held  int
	limit int
}

// Held returns how many bytes the pool has, used and unused.
func (p *HeaderPool) Held() int { return p.held }

func (p *HeaderPool) take(n int) []byte {
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

func (p *HeaderPool) give(b []byte) {
	class := headerClass(cap(b))
	p.free[class] = append(p.free[class], b)
}

// ReleaseAll releases buffers and forgets them.
func ReleaseAll(bufs []*mem.Buffer) {
	for i, b := range bufs {
		b.Release()
		bufs[i] = nil
	}
}

// Total returns how many bytes buffers have together.
func Total(bufs []*mem.Buffer) (n int64) {
	for _, b := range bufs {
		n += int64(b.Len())
	}
	return n
}

// addressable reports whether the processor can read all buffers.
func addressable(bufs []*mem.Buffer) bool {
	for _, b := range bufs {
		if len(b.Bytes()) != b.Len() {
			return false
		}
	}
	return true
}

// Window is how many bytes of headers each peer may have under way to one of so many ranks, whose budget for receiving is given. The
// other half of a peer's share is for what the caller has polled and may still look at.
func Window(budget int64, ranks int) int {
	peers := max(1, int64(ranks-1))
	return int(min(budget/peers/2, shuffle.MaxInFlight*shuffle.MaxHeader))
}

// LeastBudget is the least budget for receiving: one largest header that waits and one that was polled, for each peer.
func LeastBudget(ranks int) int64 { return int64(ranks-1) * 2 * shuffle.MaxHeader }
