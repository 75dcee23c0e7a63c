package shuffle

import (
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
)

// loader is the goroutine that reads spilled chunks back that can be sent now. It runs only while there are
// any, and handles one message's worth at a time. Guarded by Shuffler.mu.
type loader struct {
	running bool
	peers   []int // whose queue's head is on disk, oldest request first
}

// startLoad asks for the head of a peer's queue. The lock is held.
func (s *Shuffler) startLoad(p int) {
	l := &s.load
	if slices.Contains(l.peers, p) || s.err != nil || s.closed {
		return
	}
	l.peers = append(l.peers, p)
	if !l.running {
		l.running = true
		s.jobs.Add(1)
		go s.loadLoop()
	}
}

func (s *Shuffler) loadLoop() {
	defer s.jobs.Done()
	for {
		s.mu.Lock()
		if len(s.load.peers) == 0 || s.err != nil || s.closed {
			s.load = loader{}
			s.mu.Unlock()
			return
		}
		p := s.load.peers[0] // stays in the list, so that no second request is made meanwhile
		items := slices.Clone(s.m.loadable(p))
		for _, it := range items {
			it.loading = true
		}
		s.mu.Unlock()
		err := s.loadItems(items)
		s.mu.Lock()
		s.load.peers = s.load.peers[1:]
		if err != nil {
			_ = s.step(event{kind: evAbort, err: fmt.Errorf("reading back chunks for rank %d: %w", p, err)})
		} else {
			_ = s.step(event{kind: evReady, peer: p})
			s.spillable() // what could not be sent after all
		}
		s.mu.Unlock()
	}
}

// loadItems brings items that are marked as loading back into memory, as far as they are still wanted.
func (s *Shuffler) loadItems(items []*item) error {
	total := int64(0)
	for _, it := range items {
		total += it.size
	}
	res, err := s.reserve(s.ctx, total)
	bufs := make([]*mem.Buffer, len(items))
	metas := make([][]byte, len(items))
	for i, it := range items {
		if err != nil {
			break
		}
		bufs[i], metas[i], err = s.readBack(it, res)
	}
	res.Release()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, it := range items {
		it.loading = false
		if it.place == onDisk && err != nil {
			continue // the abort frees it
		}
		s.store.free(it.ref)
		if it.place != onDisk {
			bufs[i].Release()
			bufs[i] = nil
			continue
		}
		it.place, it.data, it.meta = inMemory, bufs[i], metas[i]
		s.m.queued += it.size
		s.hold(it)
	}
	if err != nil {
		for i := range bufs {
			if items[i].data != bufs[i] {
				bufs[i].Release()
			}
		}
	}
	return err
}

// readBack reads an item from disk into memory paid for by res (nil: without charge).
func (s *Shuffler) readBack(it *item, res *mem.Reservation) (*mem.Buffer, []byte, error) {
	start := time.Now()
	var buf *mem.Buffer
	var data []byte
	if it.size > 0 {
		var err error
		if res != nil {
			buf, err = res.Alloc(s.opts.Alloc, int(it.size))
		} else {
			buf, err = s.opts.Alloc.Alloc(int(it.size))
		}
		if err != nil {
			return nil, nil, err
		}
		data = buf.Bytes()
	}
	meta, err := s.store.read(it, it.ref, data)
	if err != nil {
		buf.Release()
		return nil, nil, err
	}
	s.mu.Lock()
	s.stats.Unspilled.add(it.size)
	s.stats.UnspillTime += time.Since(start)
	s.mu.Unlock()
	return buf, meta, nil
}
