package flow

import (
	"context"
	"fmt"
	"math/bits"

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

// Repeats says of keys whether they may occur more than once in a partition: it finds every one that does, and of the others
// a few in a hundred. It takes a few bits for each key, so that it fits a processor's cache where a table of the keys does
// not, and has no branch that depends on a key. It is a Bloom filter that counts to two with one hash (Bloom 1970).
type Repeats struct {
	cells []byte // four cells of two bits each: 1 once a key was seen, 3 from the second on
	shift uint   // of a product, to leave the number of a cell
}

// Reset makes room for a number of keys, in at most limit bytes.
func (r *Repeats) Reset(keys, limit int64) {
	const least = 64
	// 16 to 32 cells for a key, of which a few in a hundred are met by chance.
	size := int64(1) << bits.Len64(uint64(max(least, min(4*keys, limit))-1))
	if size > max(least, limit) {
		size /= 2
	}
	if int64(cap(r.cells)) < size {
		r.cells = make([]byte, size)
	} else {
		r.cells = r.cells[:size]
		clear(r.cells)
	}
	r.shift = uint(64 - 2 - bits.TrailingZeros64(uint64(size)))
}

// Bytes is the memory that it takes.
func (r *Repeats) Bytes() int64 { return int64(cap(r.cells)) }

// Free gives the memory back.
func (r *Repeats) Free() { r.cells = nil }

// spread is odd; its products have all bits of a key in their upper ones, whichever those of a partition share.
const spread = 0x9e3779b97f4a7c15

// See shows the first words of records of width words.
func (r *Repeats) See(records []uint64, width int) {
	cells, shift := r.cells, r.shift
	for i := 0; i < len(records); i += width {
		cell := records[i] * spread >> (shift & 63)
		b, at := cells[cell>>2], cell&3*2
		cells[cell>>2] = b | (1|b>>at&1<<1)<<at
	}
}

// Pick appends to dst the records whose first words may repeat, which all have been shown.
func (r *Repeats) Pick(dst, records []uint64, width int) []uint64 {
	n := len(dst)
	dst = append(dst, records...)
	to, cells, shift := dst[n:], r.cells, r.shift
	k := 0
	if width == 2 {
		for i := 0; i+1 < len(records); i += 2 {
			cell := records[i] * spread >> (shift & 63)
			to[k], to[k+1] = records[i], records[i+1]
			k += int(cells[cell>>2] >> (cell & 3 * 2) & 2)
		}
		return dst[:n+k]
	}
	for i := 0; i < len(records); i += width {
		cell := records[i] * spread >> (shift & 63)
		copy(to[k:k+width], records[i:i+width])
		k += int(cells[cell>>2]>>(cell&3*2+1)&1) * width
	}
	return dst[:n+k]
}
