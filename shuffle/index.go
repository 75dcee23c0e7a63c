package shuffle

import (
	"bufio"
	"fmt"
	"io"
	"slices"

	"github.com/dovetail-dedup/dovetail/mem"
)

// What the shuffle itself keeps for a chunk or a ledger line, in bytes, measured and rounded up. It is charged to the
// budget like data, but without waiting: chunks that arrive have to be written down whether there is room or not. So
// it is also bounded, see heavy and Shuffler.insert; what bounds it are runs.
const (
	entryBytes = 288 // an item, its places in lists, and the slack of growing ones
	lineBytes  = 112 // an entry of a map of Totals

	// indexFree is not charged: it is of the size of what every shuffler takes anyway.
	indexFree = 64 << 10

	// tinyChunk is the size below which an entry matters beside the data. Such chunks are put into runs when they
	// are spilled.
	tinyChunk = 16 << 10
	// runLeast is the least number of chunks that make a run.
	runLeast = 4
)

// run is a stretch of a spill file that holds chunks of one local partition, one after another as spillStore.write
// puts them. Nothing is kept in memory for the single chunk until the partition is taken.
type run struct {
	ref    diskRef
	length int64 // on disk, in bytes
	chunks int64
}

// enter counts an item's entry, until leave.
func (s *Shuffler) enter(it *item) {
	if !it.entered {
		it.entered = true
		s.entries++
	}
}

func (s *Shuffler) leave(it *item) {
	if it.entered {
		it.entered = false
		s.entries--
	}
}

// recharge makes the budget count what the index takes, in steps, and stops the operation if that is too much. The
// lock is held.
func (s *Shuffler) recharge() {
	b := s.opts.Budget
	if b == nil {
		return
	}
	need := max(0, s.entries*entryBytes+s.metas+s.runBytes+int64(s.m.details)*lineBytes-indexFree)
	if s.closed {
		need = 0
	}
	step := min(max(b.Limit()>>8, 4<<10), 256<<10)
	if need <= s.charged && need > s.charged-2*step && need != 0 || need == s.charged {
		return
	}
	next := (need + step - 1) / step * step
	all := b.Charge(s.opts.Purpose, next-s.charged)
	grown := next > s.charged
	s.charged = next
	if grown && all > max(b.Limit()/2, 1<<20) && s.err == nil && !s.closed {
		_ = s.step(event{kind: evAbort, err: fmt.Errorf("the list of %d chunks on rank %d, with those of other ranks and "+
			"operations, takes %d bytes: insert larger chunks, or raise the limit: %w", s.entries, s.comm.rank, all,
			&mem.NoMemoryError{Purpose: s.opts.Purpose, Need: 2 * all, Limit: b.Limit()})})
	}
}

// heavy reports whether the entries of tiny chunks in memory take more than their share; those chunks are then spilled,
// for the sake of their entries rather than their data. The lock is held.
func (s *Shuffler) heavy() bool {
	b := s.opts.Budget
	return b != nil && s.tiny*entryBytes > b.Limit()/4/int64(s.comm.size)
}

// tinyNeed is what to spill when heavy: everything, since the more chunks of a partition are written together, the fewer
// runs there are. The lock is held.
func (s *Shuffler) tinyNeed() int64 { return s.held + s.tiny*entryBytes }

// gatherRuns makes runs of tiny chunks that have just been written, and returns the bytes that this freed. The lock is
// held.
func (s *Shuffler) gatherRuns(vs []victim) (freed int64) {
	fits := func(v *victim) bool {
		it := v.item
		return it.place == onDisk && it.ref == v.ref && it.size < tinyChunk && it.entered && !it.pooled && !it.owed
	}
	touched := make(map[int]bool)
	for at := 0; at < len(vs); {
		part := vs[at].item.part
		end := at
		r := run{ref: vs[at].ref}
		for end < len(vs) && vs[end].item.part == part && fits(&vs[end]) {
			it := vs[end].item
			r.chunks++
			r.length += int64(ChunkHeaderSize+it.metaLen) + it.size
			end++
		}
		i, here := s.m.local[part]
		if !here || end-at < runLeast || s.parts[i].taken || s.parts[i].whole {
			at = max(end, at+1)
			continue
		}
		for k := range vs[at:end] {
			vs[at+k].item.inRun = true
			s.leave(vs[at+k].item)
		}
		s.parts[i].runs = append(s.parts[i].runs, r)
		s.runBytes += runBytes
		freed += int64(end-at)*entryBytes - runBytes
		touched[i] = true
		at = end
	}
	for i := range touched {
		p := &s.m.parts[i]
		p.items = slices.DeleteFunc(p.items, func(it *item) bool { return it.inRun })
	}
	return freed
}

const runBytes = 48 // what a run takes in memory

// expandRuns makes items of a partition's runs again, before the partition is taken; no more are made after that. The
// partition is complete, so it is known which attempts count. The lock is not held.
func (s *Shuffler) expandRuns(i int) error {
	s.expanding.Lock() // so that a second call waits until the items are there
	defer s.expanding.Unlock()
	s.mu.Lock()
	runs := s.parts[i].runs
	s.parts[i].runs, s.parts[i].whole = nil, true
	s.mu.Unlock()
	var all []*item
	var err error
	for _, r := range runs {
		var items []*item
		if items, err = s.readRun(s.m.parts[i].id, r); err != nil {
			break
		}
		all = append(all, items...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runBytes -= int64(len(runs)) * runBytes
	if err == nil {
		err = s.failed()
	}
	p := &s.m.parts[i]
	for _, it := range all {
		switch {
		case err == nil && s.m.counts(it):
			s.enter(it)
			p.items = append(p.items, it)
		default:
			s.stats.Dropped.add(it.size)
			s.store.free(it.ref)
		}
	}
	s.recharge()
	if err == nil {
		err = s.failed() // the list may be too long
	}
	return err
}

// readRun reads the headers of a run.
func (s *Shuffler) readRun(part int, r run) ([]*item, error) {
	fail := func(at int64, err error) ([]*item, error) {
		return nil, fmt.Errorf("%w: %s at %d, partition %d: %w", ErrSpill, r.ref.file.f.Name(), at, part, err)
	}
	in := bufio.NewReaderSize(io.NewSectionReader(r.ref.file.f, r.ref.off, r.length), 64<<10)
	items := make([]*item, 0, r.chunks)
	var b [ChunkHeaderSize]byte
	for at := int64(0); at < r.length; {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return fail(r.ref.off+at, corrupt("file ends early: %v", err))
		}
		it := &item{place: onDisk, summed: true, ref: diskRef{r.ref.file, r.ref.off + at}}
		if err := decodeChunkHeader(b[:], &it.chunkHeader); err != nil {
			return fail(it.ref.off, err)
		}
		n := int64(it.metaLen) + it.size
		if it.part != part || it.opKey != s.key || n > r.length-at-ChunkHeaderSize {
			return fail(it.ref.off, corrupt("another chunk is in its place"))
		}
		if _, err := in.Discard(int(n)); err != nil {
			return fail(it.ref.off, corrupt("file ends early: %v", err))
		}
		at += ChunkHeaderSize + n
		items = append(items, it)
	}
	if int64(len(items)) != r.chunks {
		return fail(r.ref.off, corrupt("%d chunks, should be %d", len(items), r.chunks))
	}
	return items, nil
}

// counts reports whether a chunk of a complete partition is of an attempt that was committed.
func (m *machine) counts(it *item) bool {
	t := m.tasks[it.task]
	return t != nil && t.committed && t.key == attemptKey{it.attempt, it.source}
}

// outgoing is what the queues to peers hold in memory, entries included.
func (m *machine) outgoing() (n int64) {
	for p := range m.peers {
		n += int64(m.peers[p].queue.len())
	}
	return m.queued + n*entryBytes
}
