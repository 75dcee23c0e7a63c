package executor

import (
	"context"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// ShuffleStage is a stage whose tasks insert rows on one side and whose partitions are made into results
// on the other. It may also implement [WorkerCounter], [InputValidator] and [NodeSetup].
type ShuffleStage interface {
	// Name and Resources are as in [Stage].
	Name() string
	Resources() Resources
	// TotalParts is the number of partitions (total_nparts), at least 1 and the same on every call.
	TotalParts() int
	// NewShuffleActor sets up one actor, as [Stage].NewActor does. Every rank has at least one.
	NewShuffleActor(ctx context.Context, env *Env) (ShuffleActor, error)
}

// ShuffleActor inserts and extracts, one call at a time; first tasks, then partitions of its rank.
type ShuffleActor interface {
	// Insert reads what task describes and inserts it through out. An insert that returns an error counts
	// for nothing. Inserts are not kept between runs: a stage some of whose partitions are not committed yet
	// inserts all its tasks again, and out drops rows of partitions that are.
	Insert(ctx context.Context, task Task, out *PartWriter) error
	// Extract makes one complete partition into results. part is closed after Extract returns. Results may
	// depend only on the rows of part, not on the order of its chunks across tasks nor on the rank.
	Extract(ctx context.Context, part *shuffle.Partition, out *Attempt) ([]Task, error)
	// Close tears the actor down, as [Actor].Close does.
	Close() error
}

// PartWriter is where one attempt of a task inserts its rows. Its methods are safe for concurrent use, but
// the chunks of a task come out in the order of the calls of Insert.
type PartWriter struct {
	Meter
	in       *shuffle.Inserter
	shuffler *shuffle.Shuffler
	parts    *partSet
}

// TotalParts is the number of partitions of the stage.
func (w *PartWriter) TotalParts() int { return w.parts.total }

// Wanted reports whether rows of a partition are needed. It is false for partitions that an earlier run
// committed; rows inserted for them are dropped, and not making them saves the work.
func (w *PartWriter) Wanted(part int) bool { return w.parts.wanted(part) }

// Alloc makes a buffer for the data of a chunk, charged to the budget. It waits for room; a goroutine that
// holds a [mem.Reservation] meanwhile can deadlock with another like it. See [shuffle.Shuffler.Alloc].
func (w *PartWriter) Alloc(ctx context.Context, n int) (*mem.Buffer, error) {
	defer w.m.life.wait()()
	defer w.m.wait(time.Now())
	return w.shuffler.Alloc(ctx, n)
}

// Insert hands over one chunk, whose data must be charged to the budget. It takes ownership of c.Data on
// every path and blocks while the shuffle has no room for it.
func (w *PartWriter) Insert(ctx context.Context, c shuffle.Chunk) error {
	if !w.parts.has(c.Partition) {
		c.Data.Release()
		return w.errorf("chunk for partition %d of %d: the partition must lie in [0, %d)",
			c.Partition, w.parts.total, w.parts.total)
	}
	if !w.parts.wanted(c.Partition) {
		c.Data.Release()
		return nil
	}
	defer w.m.life.wait()()
	defer w.m.wait(time.Now())
	return w.in.Insert(ctx, c)
}

// partSet says which partitions exist and which of them are still needed.
type partSet struct {
	total int
	done  []bool
}

func (p *partSet) has(part int) bool    { return part >= 0 && part < p.total }
func (p *partSet) wanted(part int) bool { return p.has(part) && !p.done[part] }
