package shuffle

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Extract waits until a local partition is complete and takes all of it, in the order of task, attempt and
// sequence. What was spilled is read back, so the partition as a whole must fit into the budget;
// [Shuffler.Open] has no such need. The caller owns the chunks and their data. A partition can be taken once:
// after that the error is [ErrExtracted].
func (s *Shuffler) Extract(ctx context.Context, part int) ([]Chunk, error) {
	if err := s.WaitOn(ctx, part); err != nil {
		return nil, err
	}
	i, _ := s.localIndex(part)
	items, res, err := s.takeAll(ctx, i)
	if err != nil {
		return nil, fmt.Errorf("shuffle: extract partition %d: %w", part, err)
	}
	chunks := make([]Chunk, 0, len(items))
	for _, it := range items {
		if it.place == onDisk && err == nil {
			it.data, it.meta, err = s.readBack(it, res)
		}
		chunks = append(chunks, it.chunk())
	}
	res.Release()
	s.mu.Lock()
	for _, it := range items {
		if it.place == onDisk {
			s.store.free(it.ref)
		}
		it.place = taken
	}
	s.mu.Unlock()
	if err != nil {
		ReleaseAll(chunks)
		return nil, fmt.Errorf("shuffle: extract partition %d: %w", part, err)
	}
	return chunks, nil
}

// takeAll takes a complete partition out of the machine, with a reservation for what is not in charged
// memory.
func (s *Shuffler) takeAll(ctx context.Context, i int) (items []*item, res *mem.Reservation, err error) {
	p := &s.m.parts[i]
	if err := s.expandRuns(i); err != nil {
		return nil, nil, err
	}
	for {
		s.mu.Lock()
		if err = s.failed(); err == nil && s.parts[i].taken {
			err = ErrExtracted
		}
		if err != nil {
			break
		}
		// The reservation is made while the chunks can still be spilled, for else two programs that each
		// held half of two partitions could wait for each other. If more was spilled meanwhile, the second
		// try asks for the whole partition, which is enough in any case.
		missing, total := int64(0), int64(0)
		for _, it := range p.items {
			total += it.size
			if it.place == onDisk || it.pooled {
				missing += it.size
			}
		}
		if s.opts.Budget == nil || missing <= res.Size() {
			break
		}
		if res != nil {
			missing = total
		}
		s.mu.Unlock()
		res.Release()
		if res, err = s.reserve(ctx, missing); err != nil {
			return nil, nil, err
		}
	}
	defer s.mu.Unlock()
	if err != nil {
		res.Release()
		return nil, nil, err
	}
	s.parts[i].taken, s.parts[i].read = true, true
	items = s.m.take(i)
	left := res.Size()
	for _, it := range items {
		s.unhold(it)
		s.leave(it)
		switch {
		case it.place == onDisk:
			left -= it.size
		case it.pooled:
			left -= it.size
			_ = s.pool.charge(it, res) // cannot fail: res is large enough for all
			fallthrough
		default:
			it.place = taken
			s.leavePool(it)
		}
	}
	if left > 0 && res != nil {
		res.Shrink(left)
	}
	s.recharge()
	s.settleOwed(false)
	s.returnCredit()
	return items, res, nil
}

// chunk returns the item as its consumer sees it.
func (it *item) chunk() Chunk {
	return Chunk{
		Partition: it.part, Rows: it.rows, Hash: it.hash, Meta: it.meta, Data: it.data,
		Task: it.task, Attempt: it.attempt, Sequence: it.seq, Source: it.source,
	}
}

// Partition is a complete partition that is read chunk by chunk. Its methods are safe for concurrent use.
type Partition struct {
	s     *Shuffler
	i     int
	items []*item
	total Totals
	bytes int64
}

// Open takes a local partition that is complete ([Shuffler.WaitOn], [Shuffler.WaitAny]) for reading it as a
// stream. Chunks stay where they are, in memory or on disk, and may still be spilled; only one at a time is
// brought back. The error is [ErrExtracted] if the partition was taken before. The caller must close it.
func (s *Shuffler) Open(part int) (*Partition, error) {
	i, err := s.localIndex(part)
	if err != nil {
		return nil, err
	}
	mp, lp := &s.m.parts[i], &s.parts[i]
	free := func() error {
		switch err := s.failed(); {
		case err != nil:
			return err
		case !mp.complete:
			return fmt.Errorf("shuffle: open partition %d: it is not complete yet", part)
		case lp.taken:
			return fmt.Errorf("shuffle: open partition %d: %w", part, ErrExtracted)
		}
		return nil
	}
	s.mu.Lock()
	err = free()
	s.mu.Unlock()
	if err == nil {
		err = s.expandRuns(i)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := free(); err != nil { // somebody else was faster
		return nil, err
	}
	lp.taken, lp.open = true, true
	p := &Partition{s: s, i: i, total: mp.totals}
	p.items = slices.SortedFunc(slices.Values(mp.items), compareItems)
	for _, it := range p.items {
		p.bytes += it.size
	}
	return p, nil
}

// Index returns the number of the partition.
func (p *Partition) Index() int { return p.s.m.parts[p.i].id }

// Rows returns the number of rows.
func (p *Partition) Rows() int64 { return p.total.Rows }

// Hash returns the multiset hash of the rows, as the ledger has it.
func (p *Partition) Hash() Hash { return p.total.Hash }

// Len returns the number of chunks.
func (p *Partition) Len() int { return len(p.items) }

// Bytes returns the length of all data, in bytes.
func (p *Partition) Bytes() int64 { return p.bytes }

// Chunks yields the chunks in the order of task, attempt and sequence. It may be ranged over several times.
// The data of a chunk is borrowed until the next step unless the loop retains it. An error, which ends the
// loop, says which file or rank is at fault; ctx ends the wait for memory to read a chunk back.
func (p *Partition) Chunks(ctx context.Context) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		for _, it := range p.items {
			c, err := p.s.borrow(ctx, p.i, it)
			if err != nil {
				yield(Chunk{}, fmt.Errorf("shuffle: read partition %d: %w", it.part, err))
				return
			}
			more := yield(c, nil)
			c.Release()
			if !more {
				return
			}
		}
	}
}

// borrow returns an item's chunk with a reference to its data, which is read back if it is on disk.
func (s *Shuffler) borrow(ctx context.Context, i int, it *item) (Chunk, error) {
	s.mu.Lock()
	if err := s.failed(); err != nil {
		s.mu.Unlock()
		return Chunk{}, err
	}
	if !s.parts[i].open {
		s.mu.Unlock()
		return Chunk{}, fmt.Errorf("partition: %w", ErrClosed)
	}
	c := it.chunk()
	if it.place != onDisk {
		if c.Data != nil {
			c.Data.Retain()
		}
		s.mu.Unlock()
		return c, nil
	}
	s.mu.Unlock()
	res, err := s.reserve(ctx, it.size)
	if err != nil {
		return Chunk{}, err
	}
	defer res.Release()
	c.Data, c.Meta, err = s.readBack(it, res)
	return c, err
}

// Close releases the chunks. It may be called again, and after [Shuffler.Close].
func (p *Partition) Close() error {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	lp := &s.parts[p.i]
	if !lp.open {
		return nil
	}
	lp.open, lp.read = false, true
	for _, it := range s.m.parts[p.i].items {
		s.free(it)
	}
	s.m.parts[p.i].items = nil
	s.recharge()
	s.settleOwed(false)
	s.returnCredit()
	return nil
}
