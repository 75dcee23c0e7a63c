package table

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// shuffleStage inserts the rows of splits and writes partitions.
type shuffleStage struct {
	*run
	splitters [][]byte // with Range
}

func (s shuffleStage) Name() string    { return "shuffle" }
func (s shuffleStage) TotalParts() int { return s.Spec.TotalParts }

func (s shuffleStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	a := &shuffleActor{shuffleStage: s, env: env}
	var err error
	if s.Spec.Partition == Range || s.Spec.Sort {
		a.sorter, err = columns.NewSorter(s.layout.schema, s.layout.keys)
	}
	return a, err
}

type shuffleActor struct {
	shuffleStage
	env    *executor.Env
	sorter *columns.Sorter
	by     columns.Partitioning // of the batch in hand
}

func (a *shuffleActor) Close() error { return nil }

// Insert reads a split and inserts its rows.
func (a *shuffleActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := decodeTask[splitInput](task)
	if err != nil {
		return err
	}
	var read shuffle.Totals
	err = a.readSplit(ctx, a.splits[in.Split], nil, a.plan.batch, func(at place, b arrow.RecordBatch) error {
		t, err := a.insert(ctx, b, out)
		read = read.Add(t)
		if errors.Is(err, shuffle.ErrChunkTooLarge) {
			return a.tooLarge(at, b)
		}
		return err
	})
	out.Count(countRows, read.Rows)
	out.Count(countHashA, int64(read.Hash.A))
	out.Count(countHashB, int64(read.Hash.B))
	return err
}

// The counters in which inserts say what they read. The hashes are sums modulo 2^64, as counters are.
const (
	countRows  = "rows"
	countHashA = "hash_a"
	countHashB = "hash_b"
)

func (a *shuffleActor) insert(ctx context.Context, b arrow.RecordBatch, out *executor.PartWriter) (read shuffle.Totals, err error) {
	var p *columns.Partitioning
	if a.Spec.Partition == Range {
		a.sorter.Reset(b)
		p = a.sorter.Partition(a.splitters)
	} else {
		p = &a.by
		if err := p.Hash(b, a.layout.keys, a.Spec.TotalParts, 0); err != nil {
			return read, err
		}
	}
	alloc := func(n int) (*mem.Buffer, error) { return out.Alloc(ctx, n) }
	for _, most := range []int64{a.plan.chunk, a.plan.large} {
		for ch, e := range a.layout.codec.Pack(b, p, alloc, most) {
			if err = e; err != nil {
				break
			}
			read = read.Add(shuffle.Totals{Chunks: 1, Rows: ch.Rows, Hash: ch.Hash})
			size := int64(ch.Data.Len())
			if err = out.Insert(ctx, ch); err != nil {
				return read, err
			}
			out.Progress(size)
		}
		// Chunks are planned before the first is made, so nothing was inserted if a row does not fit.
		if !errors.Is(err, shuffle.ErrChunkTooLarge) {
			return read, err
		}
	}
	return read, err
}

// tooLarge names the largest row of a batch.
func (a *shuffleActor) tooLarge(at place, b arrow.RecordBatch) error {
	sizes, err := a.layout.codec.RowBytes(b)
	if err != nil {
		return err
	}
	row := 0
	for i, n := range sizes {
		if n > sizes[row] {
			row = i
		}
	}
	// A row may take a quarter of the shuffle's budget, which is half of what the limit leaves.
	return fmt.Errorf("%s: row %d (counted from 0) takes about %d MiB, more than fits under this --memory-limit; at least %d MiB are needed: %w",
		a.set.Files[at.file].Name, at.row+int64(row), sizes[row]>>20+1, (8*sizes[row]+baseMemory)>>20+2, mem.ErrNoMemory)
}

// partResult says what became of a partition.
type partResult struct {
	Part  int          `json:"part"`
	Rows  int64        `json:"rows"`
	Bytes int64        `json:"bytes"` // of the file
	Hash  shuffle.Hash `json:"hash"`  // of the rows, in whatever order
	Order string       `json:"order"` // XXH3-128 over the hashes of the rows in their order
}

// Extract writes the file of a partition.
func (a *shuffleActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	f, err := out.Place(filepath.Join(a.staging, partName(part.Index())))
	if err != nil {
		return nil, err
	}
	w, err := newPartWriter(a.layout, &a.Spec, f)
	if err != nil {
		return nil, err
	}
	defer w.abandon()
	if err := a.copyRows(ctx, part, w, out); err != nil {
		return nil, err
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if w.total.Rows != part.Rows() || w.total.Hash != part.Hash() {
		return nil, fmt.Errorf("partition %d: %d rows were received and %d written, or they are not the same ones: "+
			"nothing was put in place; a disk, memory or a link is faulty", part.Index(), part.Rows(), w.total.Rows)
	}
	order := w.order.Sum128()
	return oneResult(out.Task(), partResult{part.Index(), w.total.Rows, f.Size(), w.total.Hash, fmt.Sprintf("%016x%016x", order.Hi, order.Lo)})
}

func partName(n int) string { return fmt.Sprintf("part.%d.parquet", n) }

// copyRows gives the rows of a partition to the writer, sorted if they are to be.
func (a *shuffleActor) copyRows(ctx context.Context, part *shuffle.Partition, w *partWriter, out *executor.Attempt) error {
	take := w.add
	var s *partSorter
	if a.Spec.Sort {
		s = &partSorter{codec: a.layout.codec, keys: a.sorter, limit: a.plan.sort, dir: a.env.SpillDir}
		defer s.close()
		take = s.add
	}
	var held []arrow.RecordBatch
	size := int64(0)
	release := func() {
		for _, b := range held {
			b.Release()
		}
		held, size = nil, 0
	}
	defer release()
	// Chunks belong to the budget, for which others wait, so only a few are held; the rows are copied.
	move := func() error {
		if len(held) == 0 {
			return nil
		}
		b, err := a.layout.codec.Concat(held, arrays)
		out.Progress(size)
		release()
		if err != nil {
			return err
		}
		return take(b)
	}
	for ch, err := range executor.Chunks(ctx, part) {
		if err != nil {
			return err
		}
		b, err := a.layout.codec.Unpack(ch)
		if err != nil {
			return err
		}
		if a.plan.budget == 0 { // nobody waits
			out.Progress(int64(ch.Data.Len()))
			if err := take(b); err != nil {
				return err
			}
			continue
		}
		held, size = append(held, b), size+int64(ch.Data.Len())
		if size >= a.plan.hold {
			if err := move(); err != nil {
				return err
			}
		}
	}
	if err := move(); err != nil {
		return err
	}
	if s != nil {
		return s.finish(w.add)
	}
	return nil
}
