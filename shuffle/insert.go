package shuffle

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Inserter is one attempt of one task that inserts on this rank. Its methods are safe for concurrent use,
// but the order of extraction is the order of the calls, so only one caller gives a deterministic one.
type Inserter struct {
	s       *Shuffler
	task    uint64
	attempt uint32
	err     error                  // Begin failed
	meta    atomic.Pointer[[]byte] // of the last chunk: most have the same
}

// Begin starts an attempt of a task. Task ids are the program's, below 2^63, unique over all ranks;
// attempts of one task, on whatever rank, have different numbers. Of all attempts of a task exactly one may
// be committed, and only its chunks count. A misuse is reported by the first Insert or Commit.
func (s *Shuffler) Begin(task uint64, attempt uint32) *Inserter {
	in := &Inserter{s: s, task: task, attempt: attempt}
	if task >= 1<<63 {
		in.err = fmt.Errorf("shuffle: task %d: ids must be below 2^63", task)
		return in
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in.err = s.begin(in)
	return in
}

func (s *Shuffler) begin(in *Inserter) error {
	if err := s.failed(); err != nil {
		return err
	}
	return s.step(event{kind: evBegin, task: in.task, attempt: in.attempt})
}

// Insert hands over one chunk, for any partition. It takes ownership of c.Data on every path. It blocks
// while too much waits to be sent (Options.OutgoingLimit), until ctx or the operation ends. A chunk without
// rows, meta and data is skipped; one with meta only is delivered.
func (in *Inserter) Insert(ctx context.Context, c Chunk) error {
	s := in.s
	it, err := s.newItem(&c)
	if it == nil {
		return err
	}
	it.task, it.attempt = in.task, in.attempt
	it.meta, it.fresh = in.copyMeta(c.Meta)
	if int(s.m.cfg.owners[it.part]) != s.comm.rank {
		it.sum()
	}
	s.mu.Lock()
	if err = in.err; err == nil {
		err = s.insert(ctx, it)
	}
	over := int64(0)
	if limit := s.opts.SpillMemoryLimit; limit > 0 {
		over = s.held - limit
	}
	if s.heavy() {
		over = max(over, s.tinyNeed())
	}
	if err == nil {
		s.spillable()
	}
	s.mu.Unlock()
	if err != nil {
		it.data.Release()
		return err
	}
	if over > 0 {
		s.spill(over)
	}
	return nil
}

// newItem checks a chunk and makes an item of it. It returns nil if there is nothing to insert, and has
// then released the data.
func (s *Shuffler) newItem(c *Chunk) (*item, error) {
	var err error
	size := 0
	if c.Data != nil {
		size = c.Data.Len()
	}
	switch {
	case c.Partition < 0 || c.Partition >= s.opts.TotalParts:
		err = fmt.Errorf("shuffle: insert: partition %d is not in [0, %d)", c.Partition, s.opts.TotalParts)
	case c.Rows < 0:
		err = fmt.Errorf("shuffle: insert: partition %d: %d rows", c.Partition, c.Rows)
	case len(c.Meta) > MaxMeta:
		err = fmt.Errorf("shuffle: insert: partition %d: meta of %d bytes, at most %d are possible",
			c.Partition, len(c.Meta), MaxMeta)
	case int64(size) > s.opts.MaxChunk:
		err = fmt.Errorf("shuffle: insert: partition %d: %d bytes, the limit is MaxChunk = %d (raise it, "+
			"with the budget if need be, or cut the rows into several chunks): %w",
			c.Partition, size, s.opts.MaxChunk, ErrChunkTooLarge)
	case c.Data != nil && !c.Data.Tier().Addressable():
		err = fmt.Errorf("shuffle: insert: partition %d: data is in %s memory, which this transport cannot read",
			c.Partition, c.Data.Tier())
	}
	if err != nil || size == 0 {
		c.Data.Release()
		c.Data = nil
	}
	if err != nil || size == 0 && len(c.Meta) == 0 && c.Rows == 0 {
		return nil, err
	}
	// The caller fills in the task, the meta and the checksum.
	it := &item{
		chunkHeader: chunkHeader{
			opKey: s.key, source: s.comm.rank, part: c.Partition, rows: c.Rows, hash: c.Hash,
			size: int64(size), metaLen: len(c.Meta),
		},
		data: c.Data,
	}
	return it, nil
}

// copyMeta returns a copy of a chunk's meta, or an earlier one with the same bytes, and which of them it is.
func (in *Inserter) copyMeta(meta []byte) (kept []byte, fresh bool) {
	if last := in.meta.Load(); last != nil && bytes.Equal(*last, meta) {
		return *last, false
	}
	kept = slices.Clone(meta)
	in.meta.Store(&kept)
	return kept, true
}

// sum computes the checksum of an item in memory.
func (it *item) sum() {
	var data []byte
	if it.data != nil {
		data = it.data.Bytes()
	}
	it.checksum, it.summed = chunkSum(data, it.meta), true
}

// insert waits for room and inserts. The lock is held on entry and exit.
func (s *Shuffler) insert(ctx context.Context, it *item) error {
	remote := int(s.m.cfg.owners[it.part]) != s.comm.rank
	for {
		if err := s.failed(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("shuffle: op %d: insert into partition %d: %w", s.opts.Op, it.part, context.Cause(ctx))
		}
		if q := s.m.outgoing(); !remote || q == 0 || q+it.size <= s.opts.OutgoingLimit {
			break
		}
		c := s.room.wait()
		start := time.Now()
		s.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
		}
		s.mu.Lock()
		s.stats.InsertWait += time.Since(start)
	}
	size := it.size
	if remote {
		s.hold(it) // before the step, which may send it
		s.enter(it)
	}
	if err := s.step(event{kind: evInsert, item: it}); err != nil {
		s.unhold(it)
		s.leave(it)
		return err
	}
	if !remote {
		s.stats.Self.add(size)
	}
	return nil
}

// Commit makes this attempt the one of its task that counts and sends the ledger lines. It fails with
// [ErrTaskState] if another attempt was committed on this rank; if two ranks commit attempts of one task,
// the operation is poisoned.
func (in *Inserter) Commit(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("shuffle: commit of task %d: %w", in.task, context.Cause(ctx))
	}
	return in.end(evCommit)
}

// Abort makes this attempt count for nothing; what it inserted is dropped, here and where it was sent.
func (in *Inserter) Abort() error { return in.end(evRetract) }

func (in *Inserter) end(kind eventKind) error {
	s := in.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.err != nil {
		return in.err
	}
	if err := s.failed(); err != nil {
		return err
	}
	return s.step(event{kind: kind, task: in.task, attempt: in.attempt})
}

// Insert hands over chunks under a task of the rank's own, which InsertFinished commits. It takes ownership
// of the data of all of them, on errors too; see [Inserter.Insert].
func (s *Shuffler) Insert(ctx context.Context, chunks ...Chunk) error {
	s.mu.Lock()
	in := s.implicit
	if in == nil {
		in = &Inserter{s: s, task: implicitTask(s.comm.rank)}
		if in.err = s.begin(in); in.err == nil {
			s.implicit = in
		}
	}
	s.mu.Unlock()
	for i := range chunks {
		if err := in.Insert(ctx, chunks[i]); err != nil {
			ReleaseAll(chunks[i+1:])
			return err
		}
	}
	return nil
}
