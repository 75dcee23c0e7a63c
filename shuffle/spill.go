package shuffle

import (
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
)

// spiller is the goroutine that spills what nobody else has the time to: chunks in the receive pool, what
// exceeds SpillMemoryLimit because of receiving, and what becomes spillable while the budget is short. It
// runs only while there is any. All fields are guarded by Shuffler.mu.
type spiller struct {
	running bool
	pooled  []*item // chunks in the receive pool
}

const (
	// spillBatch bounds what one write takes out of memory. Larger would delay those who wait for the first
	// bytes; smaller would write less sequentially.
	spillBatch = 16 << 20
	// spillLeast is the least that is spilled at a time: a write costs the same for less.
	spillLeast = 256 << 10
)

// Spill moves chunks to disk until at least n bytes of memory are free or no more can be, and returns how
// many bytes it freed. Errors abort the operation.
func (s *Shuffler) Spill(n int64) int64 { return s.spill(n) }

// pressed is called by the budget when a reservation does not fit. What can be spilled now need not be enough;
// what becomes spillable later is found by spillable, because the reservation waits already.
func (s *Shuffler) pressed(need int64) { s.spill(need) }

// spillable is called when chunks have become spillable. Requests that wait for the budget have been told before
// that there was nothing. The lock is held.
func (s *Shuffler) spillable() {
	if s.memoryWanted() {
		s.startSpiller()
	}
}

// spill moves chunks to disk until need bytes are freed or nothing is left. The lock is not held.
func (s *Shuffler) spill(need int64) (freed int64) {
	for freed < need {
		s.mu.Lock()
		vs := s.victims(max(need-freed, spillLeast))
		s.mu.Unlock()
		if len(vs) == 0 {
			break
		}
		n, err := s.writeOut(vs)
		freed += n
		if err != nil {
			break
		}
	}
	return freed
}

// victim is an item that is being spilled, with what is needed to do so without the lock.
type victim struct {
	item   *item
	header chunkHeader
	meta   []byte
	data   *mem.Buffer // a reference of the spiller's own
	ref    diskRef
}

// mark makes a victim of an item in memory. The lock is held.
func mark(it *item) victim {
	it.place = spilling
	return victim{item: it, header: it.chunkHeader, meta: it.meta, data: it.data.Retain()}
}

// victims chooses what to spill, at least need bytes if there are so many and at most about spillBatch, and
// marks it. Whoever gets them must call writeOut. The lock is held.
//
// The order is from what is needed last to what is needed next: received chunks of the highest partitions
// first, because programs extract in ascending order; then queued chunks from the tails of the queues; then
// complete partitions that are next in turn or open. Within a partition large chunks go first: small ones
// cost more per byte to write and to read back.
func (s *Shuffler) victims(need int64) (vs []victim) {
	if s.err != nil || s.closed {
		return nil
	}
	need = min(need, spillBatch)
	shared := false
	add := func(it *item) bool {
		if it.place == inMemory && it.held && (shared || it.data.Refs() == 1) {
			vs = append(vs, mark(it))
			need -= it.size + entryBytes
		}
		return need <= 0
	}
	fromPart := func(i int) bool {
		if s.parts[i].held == 0 {
			return false
		}
		for _, it := range s.m.parts[i].items {
			if it.size >= spillGather && add(it) {
				return true
			}
		}
		for _, it := range s.m.parts[i].items {
			if add(it) {
				return true
			}
		}
		return false
	}
	next := s.nextParts()
	// A buffer that a program holds too is not freed by being spilled, but when the program lets go of it, of
	// which the shuffle does not hear. So such chunks go last, and go.
	for _, shared = range []bool{false, true} {
		for i := len(s.parts) - 1; i >= 0; i-- {
			if !next[i] && fromPart(i) {
				return vs
			}
		}
		for p := range s.m.peers {
			q := s.m.peers[p].queue.waiting()
			for i := len(q) - 1; i >= 0 && s.m.queued > 0; i-- {
				if add(q[i]) {
					return vs
				}
			}
		}
		for i := len(s.parts) - 1; i >= 0; i-- {
			if next[i] && fromPart(i) {
				return vs
			}
		}
		if len(vs) > 0 {
			return vs
		}
	}
	return nil
}

// nextParts returns the local partitions that are being read or are next to be: the open ones and the
// lowest complete one that nobody has taken.
func (s *Shuffler) nextParts() map[int]bool {
	next := make(map[int]bool)
	found := false
	for i := range s.parts {
		if s.parts[i].open {
			next[i] = true
		} else if !found && s.m.parts[i].complete && !s.parts[i].taken {
			next[i], found = true, true
		}
	}
	return next
}

// writeOut writes marked items to disk and releases their memory. It returns the bytes freed to the budget.
// An error aborts the operation. The lock is not held.
func (s *Shuffler) writeOut(vs []victim) (freed int64, err error) {
	start := time.Now()
	for i := range vs {
		if v := &vs[i]; !v.item.summed {
			v.header.checksum = chunkSum(v.data.Bytes(), v.meta)
		}
	}
	err = s.store.write(vs)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.SpillTime += time.Since(start)
	for i := range vs {
		v := &vs[i]
		switch it := v.item; {
		case it.place == spilling && err != nil:
			it.place = inMemory
		case it.place == spilling:
			pooled := it.pooled
			s.spilled(v)
			if !pooled && v.data.Refs() == 1 {
				freed += it.size
			}
		case err == nil: // it was taken while it was being written
			s.store.free(v.ref)
		}
		v.data.Release()
	}
	if err != nil {
		// After Close, which does not wait for those who press for memory, the file is gone. The operation has ended
		// then, and peers that are still in it must not hear of it.
		if !s.closed {
			_ = s.step(event{kind: evAbort, err: err})
		}
		return freed, err
	}
	freed += s.gatherRuns(vs)
	s.recharge()
	s.settleOwed(false)
	s.returnCredit()
	return freed, nil
}

// spilled moves an item to its place on disk. The lock is held.
func (s *Shuffler) spilled(v *victim) {
	it := v.item
	s.unhold(it)
	it.place, it.ref = onDisk, v.ref
	it.checksum, it.summed = v.header.checksum, true
	it.data.Release()
	it.data, it.meta = nil, nil
	s.stats.Spilled.add(it.size)
	if int(s.m.cfg.owners[it.part]) != s.comm.rank {
		s.m.queued -= it.size
		s.room.fire()
	}
	s.leavePool(it)
}

// startSpiller lets the spiller look for work, which it does at least once after this. The lock is held.
func (s *Shuffler) startSpiller() {
	if s.spiller.running || s.err != nil || s.closed {
		return
	}
	s.spiller.running = true
	s.jobs.Add(1)
	go s.spillLoop()
}

// spillLoop is the spiller.
func (s *Shuffler) spillLoop() {
	defer s.jobs.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	for vs := s.overdue(); len(vs) > 0; vs = s.overdue() {
		s.mu.Unlock()
		_, _ = s.writeOut(vs) // an error has aborted the operation
		s.mu.Lock()
	}
	// The lock has been held since nothing was found, so whatever comes later starts the spiller again.
	s.spiller.running = false
	s.settleOwed(true)
	s.returnCredit()
}

// overdue chooses what should be on disk by now, and marks it. The lock is held.
func (s *Shuffler) overdue() (vs []victim) {
	if s.err != nil || s.closed {
		return nil
	}
	for _, it := range s.spiller.pooled {
		switch {
		case it.place != inMemory || !it.pooled:
		case s.pool.adopt(it):
			s.leavePool(it)
			s.hold(it)
		default:
			vs = append(vs, mark(it))
		}
	}
	s.spiller.pooled = s.spiller.pooled[:0]
	if len(vs) > 0 {
		return vs
	}
	if limit := s.opts.SpillMemoryLimit; limit > 0 && s.held > limit {
		return s.victims(s.held - limit)
	}
	if s.heavy() {
		return s.victims(s.tinyNeed())
	}
	if s.memoryWanted() {
		return s.victims(spillLeast)
	}
	return nil
}

// memoryWanted reports whether the budget is short.
func (s *Shuffler) memoryWanted() bool { return s.opts.Budget != nil && s.opts.Budget.Short() }
