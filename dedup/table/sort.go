package table

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// partSorter sorts the rows of a partition by key, stably. What exceeds the limit is sorted in pieces, which are written to a
// scratch file and merged.
type partSorter struct {
	codec *columns.Codec
	keys  *columns.Sorter
	limit int64
	dir   string

	pending []arrow.RecordBatch // owned
	bytes   int64
	file    *os.File
	end     int64
	runs    []sortedRun
}

// sortedRun is a stretch of the scratch file: blocks of rows, each a chunk with 16 bytes in front, its rows and its length.
type sortedRun struct{ at, end int64 }

const sortBlock = 256 << 10 // bytes of a block, about

func (s *partSorter) close() {
	s.drop()
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.file.Name())
	}
}

func (s *partSorter) drop() {
	for _, b := range s.pending {
		b.Release()
	}
	s.pending, s.bytes = nil, 0
}

// add adds rows, which become the sorter's own.
func (s *partSorter) add(b arrow.RecordBatch) error {
	sizes, err := s.codec.RowBytes(b)
	if err != nil {
		b.Release()
		return err
	}
	s.pending = append(s.pending, b)
	for _, n := range sizes {
		s.bytes += n
	}
	if s.bytes < s.limit {
		return nil
	}
	return s.spill()
}

// keyed is a batch with the keys of its rows.
type keyed struct {
	arrow.RecordBatch
	bytes []byte
	ends  []int
}

func (s *partSorter) keyed(b arrow.RecordBatch) keyed {
	k := keyed{RecordBatch: b, ends: make([]int, b.NumRows())}
	s.keys.Reset(b)
	for i := range k.ends {
		k.bytes = s.keys.Append(k.bytes, i)
		k.ends[i] = len(k.bytes)
	}
	return k
}

func (k *keyed) key(i int) []byte {
	if i == 0 {
		return k.bytes[:k.ends[0]]
	}
	return k.bytes[k.ends[i-1]:k.ends[i]]
}

// pieces sorts what is pending and calls do for piece after piece of at most most rows.
func (s *partSorter) pieces(most int, do func(b arrow.RecordBatch, rows []int32) error) error {
	all, err := s.codec.Concat(s.pending, arrays)
	s.drop()
	if err != nil {
		return err
	}
	defer all.Release()
	k := s.keyed(all)
	order := make([]int32, all.NumRows())
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(x, y int32) int { return bytes.Compare(k.key(int(x)), k.key(int(y))) })
	for rows := range slices.Chunk(order, max(1, most)) {
		if err := do(all, rows); err != nil {
			return err
		}
	}
	return nil
}

// spill writes what is pending as a run.
func (s *partSorter) spill() error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "sort-*")
		if err != nil {
			return fmt.Errorf("sorting a partition: %w", err)
		}
		s.file = f
	}
	run := sortedRun{at: s.end}
	rows := int64(0)
	for _, b := range s.pending {
		rows += b.NumRows()
	}
	most := int(max(1, min(rows, rows*sortBlock/max(1, s.bytes))))
	err := s.pieces(most, func(b arrow.RecordBatch, rows []int32) error {
		for ch, err := range s.codec.Pack(b, columns.InOrder(rows), mem.Host().Alloc, 1<<40) {
			if err != nil {
				return err
			}
			head := binary.LittleEndian.AppendUint64(nil, uint64(ch.Rows))
			head = binary.LittleEndian.AppendUint64(head, uint64(ch.Data.Len()))
			_, err = s.file.WriteAt(head, s.end)
			if err == nil {
				_, err = s.file.WriteAt(ch.Data.Bytes(), s.end+16)
			}
			s.end += 16 + int64(ch.Data.Len())
			ch.Release()
			if err != nil {
				return fmt.Errorf("sorting a partition: %w", err)
			}
		}
		return nil
	})
	run.end = s.end
	s.runs = append(s.runs, run)
	return err
}

// finish gives all rows to take, in order, in batches that become its own.
func (s *partSorter) finish(take func(arrow.RecordBatch) error) error {
	if s.runs == nil {
		if len(s.pending) == 0 {
			return nil
		}
		return s.pieces(64<<10, func(b arrow.RecordBatch, rows []int32) error {
			out, err := pick(s.codec, b, rows)
			if err != nil {
				return err
			}
			return take(out)
		})
	}
	if len(s.pending) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	return s.merge(take)
}

// cursor reads a run block by block.
type cursor struct {
	keyed
	run  int
	left sortedRun
	from int // first row of the block that was not taken yet
	at   int // the next row
}

func (c *cursor) release() {
	if c.RecordBatch != nil {
		c.RecordBatch.Release()
		c.RecordBatch = nil
	}
}

// next reads the next block, and reports whether there was one.
func (s *partSorter) next(c *cursor) (bool, error) {
	c.release()
	if c.left.at == c.left.end {
		return false, nil
	}
	var head [16]byte
	if _, err := s.file.ReadAt(head[:], c.left.at); err != nil {
		return false, fmt.Errorf("sorting a partition: %w", err)
	}
	rows, n := int64(binary.LittleEndian.Uint64(head[:])), int64(binary.LittleEndian.Uint64(head[8:]))
	if n < 0 || n > c.left.end-c.left.at-16 || rows < 1 {
		return false, fmt.Errorf("sorting a partition: %s changed on disk: %w", s.file.Name(), shuffle.ErrCorrupt)
	}
	buf, err := mem.Host().Alloc(int(n))
	if err != nil {
		return false, err
	}
	defer buf.Release()
	if _, err := s.file.ReadAt(buf.Bytes(), c.left.at+16); err != nil {
		return false, fmt.Errorf("sorting a partition: %w", err)
	}
	c.left.at += 16 + n
	b, err := s.codec.Unpack(shuffle.Chunk{Rows: rows, Meta: columns.Meta(), Data: buf})
	if err != nil {
		return false, err
	}
	c.keyed, c.from, c.at = s.keyed(b), 0, 0
	return true, nil
}

// cursors is a heap: the one with the least key first, and of equal keys the one of the earlier run.
type cursors []*cursor

func (h cursors) Len() int { return len(h) }
func (h cursors) Less(i, j int) bool {
	if c := bytes.Compare(h[i].key(h[i].at), h[j].key(h[j].at)); c != 0 {
		return c < 0
	}
	return h[i].run < h[j].run
}
func (h cursors) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *cursors) Push(x any) { *h = append(*h, x.(*cursor)) }

// Pop implements heap.Interface.
func (h *cursors) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// merge merges the runs. Whenever a block is used up, what was taken so far, a stretch of each block, is given away.
func (s *partSorter) merge(take func(arrow.RecordBatch) error) (err error) {
	var h cursors
	all := make([]*cursor, len(s.runs))
	defer func() {
		for _, c := range all {
			if c != nil {
				c.release()
			}
		}
	}()
	for i, r := range s.runs {
		all[i] = &cursor{run: i, left: r}
		some, err := s.next(all[i])
		if err != nil {
			return err
		}
		if some {
			h = append(h, all[i])
		}
	}
	heap.Init(&h)
	var order []*cursor // whose row comes next
	give := func() error {
		out, err := s.interleave(all, order)
		order = order[:0]
		if err != nil {
			return err
		}
		return take(out)
	}
	for h.Len() > 0 {
		c := h[0]
		order = append(order, c)
		if c.at++; c.at < int(c.NumRows()) {
			heap.Fix(&h, 0)
			continue
		}
		if err := give(); err != nil {
			return err
		}
		some, err := s.next(c)
		if err != nil {
			return err
		}
		if some {
			heap.Fix(&h, 0)
		} else {
			heap.Pop(&h)
		}
	}
	if len(order) > 0 {
		return errors.New("sorting a partition: rows are left")
	}
	return nil
}

// interleave makes a batch of the rows that were taken since the last time.
func (s *partSorter) interleave(all []*cursor, order []*cursor) (arrow.RecordBatch, error) {
	var parts []arrow.RecordBatch
	defer func() {
		for _, b := range parts {
			b.Release()
		}
	}()
	next := make([]int32, len(all))
	base := int32(0)
	for i, c := range all {
		next[i] = base
		if c.RecordBatch != nil && c.at > c.from {
			parts = append(parts, c.NewSlice(int64(c.from), int64(c.at)))
			base += int32(c.at - c.from)
			c.from = c.at
		}
	}
	rows := make([]int32, len(order))
	for i, c := range order {
		rows[i] = next[c.run]
		next[c.run]++
	}
	b, err := s.codec.Concat(parts, arrays)
	if err != nil {
		return nil, err
	}
	defer b.Release()
	return pick(s.codec, b, rows)
}
