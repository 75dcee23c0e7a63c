package flow

import (
	"context"
	"fmt"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Scatter inserts what a [RecordWriter] inserts, for records without bytes that come as columns and belong where their
// first word, a key, says: many at a time, so that there is neither a call nor a hash for the single one. A record is
// written once to the part of a buffer that is its partition's; a part that is full is hashed and copied to a chunk as a
// whole. It is used by one goroutine. The chunks have the layout, and each partition the order, of a RecordWriter's.
type Scatter struct {
	out    ChunkSink
	layout Layout
	buf    []uint64 // parts one after another, each room words
	room   int      // words of a part, a multiple of those of a record
	next   []int    // by partition: where in buf its next record goes
}

// NewScatter returns a scatter of records of layout l over a number of partitions, with a buffer of total bytes at most but of a
// record for each partition at least.
func NewScatter(l Layout, parts, total int) *Scatter {
	width := l.Words
	room := max(1, min(ChunkBytes, total/parts)/(8*width)) * width
	s := &Scatter{layout: l, room: room, buf: make([]uint64, parts*room), next: make([]int, parts)}
	s.Reset(nil)
	return s
}

// Reset forgets what was not flushed and goes on with another sink.
func (s *Scatter) Reset(out ChunkSink) {
	s.out = out
	for p := range s.next {
		s.next[p] = p * s.room
	}
}

// Add adds a record for each key: the key, then the entry of each of the columns, which are as many as the layout has words
// beside the key. It belongs to partition base + PartOf(key, parts).
func (s *Scatter) Add(ctx context.Context, base, parts int, keys []uint64, columns ...[]uint64) error {
	if len(columns) != s.layout.Words-1 {
		return fmt.Errorf("dedup: records of %d columns for a layout of %d words", 1+len(columns), s.layout.Words)
	}
	for at := 0; at < len(keys); {
		n, full := 0, 0
		switch len(columns) {
		case 1:
			n, full = s.pairs(base, parts, keys[at:], columns[0][at:])
		default:
			n, full = s.rows(base, parts, at, keys, columns)
		}
		at += n
		if full < 0 {
			break
		}
		if err := s.flush(ctx, full); err != nil {
			return err
		}
	}
	return nil
}

// pairs adds records of two words until a partition is full or there are no more. It returns how many, and the partition or -1.
func (s *Scatter) pairs(base, parts int, keys, values []uint64) (n, full int) {
	next := s.next[base : base+parts]
	buf, room := s.buf[base*s.room:(base+parts)*s.room], s.room
	shift := base * room
	values = values[:len(keys)]
	for i, k := range keys {
		p := PartOf(k, len(next))
		at := next[p]
		next[p] = at + 2
		to := buf[at-shift:][:2]
		to[0], to[1] = k, values[i]
		if at+2 == (base+p+1)*room {
			return i + 1, base + p
		}
	}
	return len(keys), -1
}

// rows is pairs for any number of columns, from record at on.
func (s *Scatter) rows(base, parts, at int, keys []uint64, columns [][]uint64) (n, full int) {
	for i, k := range keys[at:] {
		p := base + PartOf(k, parts)
		to := s.buf[s.next[p]:]
		to[0] = k
		for c, column := range columns {
			to[1+c] = column[at+i]
		}
		s.next[p] += s.layout.Words
		if s.next[p] == (p+1)*s.room {
			return i + 1, p
		}
	}
	return len(keys) - at, -1
}

// Flush inserts everything that is held.
func (s *Scatter) Flush(ctx context.Context) error {
	for p := range s.next {
		if err := s.flush(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scatter) flush(ctx context.Context, part int) error {
	words := s.buf[part*s.room : s.next[part]]
	s.next[part] = part * s.room
	if len(words) == 0 || !s.out.Wanted(part) {
		return nil
	}
	data, err := s.out.Alloc(ctx, 8*len(words))
	if err != nil {
		return err
	}
	copy(data.Bytes(), BytesOf(words))
	return s.out.Insert(ctx, shuffle.Chunk{
		Partition: part, Rows: int64(len(words) / s.layout.Words), Hash: RecordSum(words, s.layout.Words), Meta: s.layout.meta(), Data: data,
	})
}
