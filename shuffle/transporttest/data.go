package transporttest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// table is the data of one operation: rows that are the numbers base to base+rows-1. Row i belongs to
// partition (i / ranks) mod parts and is inserted by rank i mod ranks in one of its tasks. Different bases
// tell concurrent operations apart. With more partitions times ranks than rows, some pieces are empty.
type table struct {
	base  uint64
	rows  int
	parts int
	ranks int
	tasks int // per rank
	chunk int // rows per chunk at most
}

// piece returns the rows of one rank for one partition.
func (d *table) piece(rank, part int) (rows []uint64) {
	for i := rank + part*d.ranks; i < d.rows; i += d.ranks * d.parts {
		rows = append(rows, d.base+uint64(i))
	}
	return rows
}

// rowHash mixes a row (the finalizer of SplitMix64, with two constants).
func rowHash(v uint64) shuffle.Hash {
	mix := func(x uint64) uint64 {
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return x ^ x>>31
	}
	return shuffle.Hash{A: mix(v + 0x9e3779b97f4a7c15), B: mix(v ^ 0xd1b54a32d192ed03)}
}

// insert inserts everything of one rank, task after task.
func (d *table) insert(c *cluster, r int, s *shuffle.Shuffler) {
	for k := range max(1, d.tasks) {
		in := s.Begin(uint64(r*max(1, d.tasks)+k), 0)
		d.insertTask(c, r, s, in, k)
		if !c.ok(r, in.Commit(c.ctx)) {
			return
		}
	}
}

// insertTask inserts the k-th of d.tasks shares of one rank's rows.
func (d *table) insertTask(c *cluster, r int, s *shuffle.Shuffler, in *shuffle.Inserter, k int) {
	for part := range d.parts {
		rows := d.piece(r, part)
		n := max(1, d.tasks)
		rows = rows[len(rows)*k/n : len(rows)*(k+1)/n]
		for chunk := range slices.Chunk(rows, d.chunk) {
			ch, err := d.pack(c, s, part, chunk)
			if err == nil {
				err = in.Insert(c.ctx, ch)
			}
			if !c.ok(r, err) {
				return
			}
		}
	}
}

func (d *table) pack(c *cluster, s *shuffle.Shuffler, part int, rows []uint64) (shuffle.Chunk, error) {
	ch := shuffle.Chunk{Partition: part, Rows: int64(len(rows)), Meta: fmt.Appendf(nil, "base %d", d.base)}
	b, err := s.Alloc(c.ctx, 8*len(rows))
	if err != nil {
		return ch, err
	}
	for i, v := range rows {
		binary.LittleEndian.PutUint64(b.Bytes()[8*i:], v)
		ch.Hash = ch.Hash.Add(rowHash(v))
	}
	ch.Data = b
	return ch, nil
}

// reader collects what a partition holds, chunk by chunk.
type reader struct {
	d    *table
	rows []uint64
	last shuffle.Chunk
	n    int
}

// add checks one chunk and the order of chunks.
func (rd *reader) add(part int, ch shuffle.Chunk) error {
	if ch.Partition != part || string(ch.Meta) != fmt.Sprintf("base %d", rd.d.base) {
		return fmt.Errorf("partition %d has a chunk of partition %d with meta %q", part, ch.Partition, ch.Meta)
	}
	if p := rd.last; rd.n > 0 && (ch.Task < p.Task || ch.Task == p.Task && ch.Sequence <= p.Sequence) {
		return fmt.Errorf("partition %d: task %d chunk %d comes after task %d chunk %d",
			part, ch.Task, ch.Sequence, p.Task, p.Sequence)
	}
	rd.last, rd.n = ch, rd.n+1
	var h shuffle.Hash
	data := ch.Data.Bytes()
	if int64(len(data)) != 8*ch.Rows {
		return fmt.Errorf("partition %d: %d bytes for %d rows", part, len(data), ch.Rows)
	}
	for ; len(data) > 0; data = data[8:] {
		v := binary.LittleEndian.Uint64(data)
		h = h.Add(rowHash(v))
		rd.rows = append(rd.rows, v)
	}
	if !h.Equal(ch.Hash) {
		return fmt.Errorf("partition %d: the rows of task %d chunk %d are not those inserted", part, ch.Task, ch.Sequence)
	}
	return nil
}

// done checks that the rows are all of the partition's and no others. Their order is that of ranks, because
// task numbers are.
func (rd *reader) done(part int) error {
	var want []uint64
	for r := range rd.d.ranks {
		want = append(want, rd.d.piece(r, part)...)
	}
	if !slices.Equal(rd.rows, want) {
		return fmt.Errorf("partition %d has %d rows, want %d, or others or in another order", part, len(rd.rows), len(want))
	}
	return nil
}

// check takes every partition of one rank and compares it with the table; odd ones as a stream, twice.
func (d *table) check(c *cluster, r int, s *shuffle.Shuffler) {
	for _, part := range s.LocalPartitions() {
		var err error
		if part%2 == 0 {
			err = d.checkExtract(c, s, part)
		} else {
			err = d.checkStream(c, s, part)
		}
		c.ok(r, err)
	}
	if !s.Finished() {
		c.Errorf("rank %d has extracted everything and is not finished", r)
	}
}

func (d *table) checkExtract(c *cluster, s *shuffle.Shuffler, part int) error {
	chunks, err := s.Extract(c.ctx, part)
	defer shuffle.ReleaseAll(chunks)
	rd := reader{d: d}
	for _, ch := range chunks {
		if err == nil {
			err = rd.add(part, ch)
		}
	}
	if err != nil {
		return err
	}
	return rd.done(part)
}

func (d *table) checkStream(c *cluster, s *shuffle.Shuffler, part int) error {
	p, err := s.Open(part)
	if err != nil {
		return err
	}
	defer p.Close()
	for range 2 {
		rd := reader{d: d}
		for ch, err := range p.Chunks(c.ctx) {
			if err == nil {
				err = rd.add(part, ch)
			}
			if err != nil {
				return err
			}
		}
		if err := rd.done(part); err != nil {
			return err
		}
		if int64(len(rd.rows)) != p.Rows() || p.Bytes() != 8*p.Rows() || p.Len() != rd.n {
			return fmt.Errorf("partition %d says it has %d rows, %d bytes, %d chunks", part, p.Rows(), p.Bytes(), p.Len())
		}
	}
	return nil
}
