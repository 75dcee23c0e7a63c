//go:build cuda

package cuda

import (
	"errors"
	"sync"

	"github.com/dovetail-dedup/dovetail/mem"
)

// StoreOptions bound what a [Store] holds. Sizes are in bytes.
type StoreOptions struct {
	// SpillMemoryLimit bounds what is held on the GPU: 0 is 80 % of its pool, or of what is free where there is no pool, and less than 0
	// the whole of it. It is RapidsMPF's spill_memory_limit. PinnedLimit and HostLimit bound the tiers below; 0 means what their
	// allocators have.
	SpillMemoryLimit, PinnedLimit, HostLimit int64
	// Dir is the folder of what is spilled to disk; empty if nothing may be.
	Dir string
	// Host allocates ordinary memory; nil means [mem.Host].
	Host mem.Allocator
}

// spillShare is the part of the pool that is held before items are moved down.
const spillShare = 0.8

// Store is a [mem.Store] whose first tier is the memory of a GPU: what is held and not needed soon goes to pinned memory, to ordinary
// memory, and to disk. Its copies are in a stream of their own, beside whatever the GPU computes.
type Store struct {
	*mem.Store
	g      *GPU
	mu     sync.Mutex // of the stream and bounce
	s      *Stream
	bounce *mem.Buffer // pinned memory between the GPU and ordinary memory, so that spilling does not depend on what is left of it
}

// NewStore returns an empty store. The caller closes it before the GPU.
func (g *GPU) NewStore(o StoreOptions) (*Store, error) {
	limit, err := g.spillLimit(o.SpillMemoryLimit)
	if err != nil {
		return nil, err
	}
	if o.Host == nil {
		o.Host = mem.Host()
	}
	s := &Store{g: g}
	if s.s, err = g.c.NewStream(); err != nil {
		return nil, err
	}
	most := int64(movePiece)
	if g.pinnedPool != nil {
		most = min(most, g.pinnedPool.Stats().Size/8)
	}
	if s.bounce, err = g.pinned.Alloc(int(most)); err != nil {
		return nil, errors.Join(err, s.s.Close())
	}
	s.Store, err = mem.NewStore(mem.StoreOptions{
		Levels: []mem.Level{
			{Alloc: g.device, Limit: limit}, {Alloc: g.pinned, Limit: o.PinnedLimit}, {Alloc: o.Host, Limit: o.HostLimit},
		},
		Dir: o.Dir, Copy: s.move,
	})
	if err != nil {
		s.bounce.Release()
		return nil, errors.Join(err, s.s.Close())
	}
	return s, nil
}

// spillLimit is what a store with a limit of n holds on the GPU; 0 means what there is.
func (g *GPU) spillLimit(n int64) (int64, error) {
	if n != 0 {
		return max(0, n), nil
	}
	all := g.Stats().Pool.Size
	if all == 0 {
		free, _, err := g.c.Memory()
		if err != nil {
			return 0, err
		}
		all = free
	}
	return int64(float64(all) * spillShare), nil
}

// movePiece is the most that travels between the GPU and ordinary memory at a time, through pinned memory.
const movePiece = 1 << 20

// move copies between the GPU and any memory of the host, and returns when it is done.
func (s *Store) move(dst, src *mem.Buffer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dst.Tier() != mem.TierHost && src.Tier() != mem.TierHost {
		return errors.Join(s.s.Copy(dst, src), s.s.Synchronize())
	}
	n, step := src.Len(), s.bounce.Len()
	for at := 0; at < n; at += step {
		if err := s.piece(dst, src, at, min(n, at+step)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) piece(dst, src *mem.Buffer, at, end int) error {
	var p parts
	defer p.release()
	to, from, through := p.of(dst, at, end), p.of(src, at, end), p.of(s.bounce, 0, end-at)
	if p.err != nil {
		return p.err
	}
	if src.Tier() == mem.TierHost {
		copy(through.Bytes(), from.Bytes())
		return errors.Join(s.s.Copy(to, through), s.s.Synchronize())
	}
	if err := errors.Join(s.s.Copy(through, from), s.s.Synchronize()); err != nil {
		return err
	}
	copy(to.Bytes(), through.Bytes())
	return nil
}

// Close drops what is held and gives the stream back.
func (s *Store) Close() error {
	s.Store.Close()
	err := s.s.Close()
	s.bounce.Release()
	return err
}
