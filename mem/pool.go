package mem

import (
	"fmt"
	"sort"
	"sync"
)

// poolAlignment is that of every buffer of a pool: what GPUs read in one piece, twice over.
const poolAlignment = 256

// Pool is an allocator that cuts buffers from one large buffer, because the allocator of a device, or of pinned memory, takes
// longer than most work does. Free parts next to each other are one part; the smallest part that is large enough is cut. A
// pool never grows: what does not fit is a [NoMemoryError], so that its size bounds what is held.
//
// Whoever releases a buffer says that nothing uses it any more: the next Alloc may give its bytes to another.
type Pool struct {
	whole  *Buffer
	mapped *Mapping

	mu    sync.Mutex
	parts []part // free, by address
	stats PoolStats
}

// part is a range of a pool, in bytes from its beginning.
type part struct{ at, n int }

// PoolStats says what a [Pool] was used for. Sizes are in bytes and rounded up as the pool does.
type PoolStats struct {
	Size     int64 `json:"size"`
	Used     int64 `json:"used"`
	Peak     int64 `json:"peak"`    // the most used at one time
	Largest  int64 `json:"largest"` // the largest free part
	Buffers  int64 `json:"buffers"` // not released
	Allocs   int64 `json:"allocs"`
	Failures int64 `json:"failures"` // requests that did not fit
}

// NewPool takes size bytes from an allocator. The caller closes the pool.
func NewPool(from Allocator, size int64) (*Pool, error) {
	size &^= poolAlignment - 1
	if size <= 0 || int64(int(size)) != size {
		return nil, fmt.Errorf("mem: a pool of %d bytes", size)
	}
	whole, err := from.Alloc(int(size))
	if err != nil {
		return nil, fmt.Errorf("mem: a pool of %d bytes of tier %s: %w", size, from.Tier(), err)
	}
	m := &Mapping{tier: whole.tier, addr: whole.addr, data: whole.data, n: whole.n}
	if whole.data != nil {
		m.addr = addressOf(whole.data)
	}
	return &Pool{whole: whole, mapped: m, parts: []part{{0, int(size)}}, stats: PoolStats{Size: size}}, nil
}

// Tier implements [Allocator].
func (p *Pool) Tier() Tier { return p.whole.Tier() }

// Alloc implements [Allocator].
func (p *Pool) Alloc(n int) (*Buffer, error) {
	if n < 0 {
		return nil, fmt.Errorf("mem: allocation of %d bytes", n)
	}
	room := (max(n, 1) + poolAlignment - 1) &^ (poolAlignment - 1)
	at, free := p.take(room)
	if at < 0 {
		return nil, &NoMemoryError{Need: int64(n), Limit: p.stats.Size, Cause: fmt.Errorf("the largest free part of the pool has %d bytes", free)}
	}
	give := func(*Buffer) { p.give(part{at, room}) }
	var b *Buffer
	if p.whole.tier == TierDevice {
		b = NewDeviceBuffer(p.whole.addr+uintptr(at), n, give)
	} else {
		b = NewHostBuffer(p.whole.tier, p.whole.data[at:at+n:at+n], give)
	}
	b.mapped = p.mapped
	return b, nil
}

// take cuts n bytes, or returns -1 and the size of the largest part.
func (p *Pool) take(n int) (at, largest int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for i, f := range p.parts {
		largest = max(largest, f.n)
		if f.n >= n && (best < 0 || f.n < p.parts[best].n) {
			best = i
		}
	}
	if best < 0 {
		p.stats.Failures++
		return -1, largest
	}
	at = p.parts[best].at
	if p.parts[best].n == n {
		p.parts = append(p.parts[:best], p.parts[best+1:]...)
	} else {
		p.parts[best] = part{at + n, p.parts[best].n - n}
	}
	p.stats.Used += int64(n)
	p.stats.Peak = max(p.stats.Peak, p.stats.Used)
	p.stats.Buffers++
	p.stats.Allocs++
	return at, largest
}

// give takes a part back and joins it to its neighbours.
func (p *Pool) give(f part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Used -= int64(f.n)
	p.stats.Buffers--
	i := sort.Search(len(p.parts), func(i int) bool { return p.parts[i].at > f.at })
	if i < len(p.parts) && f.at+f.n == p.parts[i].at {
		f.n += p.parts[i].n
		p.parts = append(p.parts[:i], p.parts[i+1:]...)
	}
	if i > 0 && p.parts[i-1].at+p.parts[i-1].n == f.at {
		p.parts[i-1].n += f.n
		return
	}
	p.parts = append(p.parts, part{})
	copy(p.parts[i+1:], p.parts[i:])
	p.parts[i] = f
}

// Stats returns a snapshot.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	for _, f := range p.parts {
		s.Largest = max(s.Largest, int64(f.n))
	}
	return s
}

// Close gives the memory back. It fails, and gives nothing back, while buffers of the pool are in use.
func (p *Pool) Close() error {
	if s := p.Stats(); s.Buffers > 0 {
		return fmt.Errorf("mem: a pool of tier %s is closed while %d buffers, %d bytes, are in use", p.Tier(), s.Buffers, s.Used)
	}
	p.mapped.returning()
	p.whole.Release()
	return nil
}
