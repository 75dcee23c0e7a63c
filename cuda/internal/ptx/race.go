package ptx

import "fmt"

// access says who accessed something and when. Within a launch, accesses of two threads are ordered only
//   - in one block, by a barrier of the block between them;
//   - in one warp, by bar.warp.sync, of which each lane has a vector clock over the lanes of its warp.
//
// Blocks are not ordered at all. This is the happens-before relation of FastTrack (Flanagan and Freund 2009), as far as kernels
// can make one.
type access struct {
	thread uint64 // 1 + block << 16 | thread of the block; 0 for none
	epoch  uint32 // barriers that its block had passed
	clock  uint32 // the lane's own clock
	line   int32
	atomic bool
}

// cell is what is known about one or four bytes: the last two threads that wrote and that read them. Two, because one of them may be
// the thread that accesses it now.
type cell struct {
	launch      uint32
	write, read [2]access
}

// before reports whether an access by another thread was before what t does now.
func (x *access) before(t *thread) bool {
	if x.thread == t.id {
		return true
	}
	if x.thread>>16 != t.id>>16 {
		return false
	}
	if x.epoch < t.block.epoch {
		return true
	}
	lane := int(x.thread&0xffff) - 1
	return lane/32 == t.tid/32 && t.clocks[lane%32] > x.clock
}

// note adds an access of t to the last ones.
func note(last *[2]access, t *thread, line int32, atomic bool) {
	now := access{t.id, t.block.epoch, t.clocks[t.tid%32], line, atomic}
	for i := range last {
		if last[i].thread == t.id {
			if last[i].epoch == now.epoch && last[i].clock == now.clock && !last[i].atomic {
				return // what it did before can clash with more
			}
			last[i] = now
			return
		}
	}
	for i := range last {
		if last[i].thread == 0 || last[i].before(t) {
			last[i] = now
			return
		}
	}
	// All three are unordered. Keep two of different blocks, or of different warps, since those clash with most.
	if last[0].thread>>21 == now.thread>>21 && last[0].atomic {
		last[0] = now
	} else {
		last[1] = now
	}
}

// check looks for a race of what t does now with earlier accesses.
func (c *cell) check(t *thread, line int32, writes, atomic bool) error {
	if c.launch != t.block.run.launch {
		*c = cell{launch: t.block.run.launch}
	}
	for i := range c.write {
		if w := &c.write[i]; w.thread != 0 && !(w.atomic && atomic) && !w.before(t) {
			return raceError(w, "written", writes)
		}
	}
	if !writes {
		note(&c.read, t, line, atomic)
		return nil
	}
	for i := range c.read {
		if r := &c.read[i]; r.thread != 0 && !(r.atomic && atomic) && !r.before(t) {
			return raceError(r, "read", writes)
		}
	}
	note(&c.write, t, line, atomic)
	return nil
}

func raceError(x *access, did string, writes bool) error {
	now := "reads"
	if writes {
		now = "writes"
	}
	return fmt.Errorf("data race: it %s what thread %d of block %d has %s in line %d", now, x.thread&0xffff-1, x.thread>>16, did, x.line)
}

// check looks for races of an access to size bytes at `at`.
func (p *page) check(t *thread, at int64, size uint8, line int32, writes, atomic bool) error {
	if p.cells == nil {
		p.cells = make([]cell, pageBytes/4)
	}
	if size < 4 && !p.bytes {
		p.bytes = true
		words := p.cells
		p.cells = make([]cell, pageBytes)
		for i := range p.cells {
			p.cells[i] = words[i/4]
		}
	}
	from, n := at, int64(size)
	if !p.bytes {
		from, n = at/4, n/4
	}
	for i := from; i < from+n; i++ {
		if err := p.cells[i].check(t, line, writes, atomic); err != nil {
			return err
		}
	}
	return nil
}
