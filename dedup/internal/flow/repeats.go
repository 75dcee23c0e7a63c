package flow

import (
	"context"
	"math/bits"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Repeats says of keys whether they may occur more than once in a partition: it finds every one that does, and of the others
// a few in a hundred. It takes a few bits for each key, so that it fits a processor's cache where a table of the keys does
// not, and has no branch that depends on a key. It is a Bloom filter that counts to two with one hash (Bloom 1970).
type Repeats struct {
	cells []byte // four cells of two bits each: 1 once a key was seen, 3 from the second on
	shift uint   // of a product, to leave the number of a cell
}

// Reset makes room for a number of keys, in at most limit bytes or a few if that is less.
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

// spread is odd; its products have all bits of a key in their upper ones, whichever those of a partition share.
const spread = 0x9e3779b97f4a7c15

// See shows word key of each of the records of width words.
func (r *Repeats) See(records []uint64, width, key int) {
	cells, shift := r.cells, r.shift
	for i := key; i < len(records); i += width {
		cell := records[i] * spread >> (shift & 63)
		b, at := cells[cell>>2], cell&3*2
		cells[cell>>2] = b | (1|b>>at&1<<1)<<at
	}
}

// Pick appends to dst the records whose word key may repeat; all have been shown.
func (r *Repeats) Pick(dst, records []uint64, width, key int) []uint64 {
	n := len(dst)
	dst = append(dst, records...)
	to, cells, shift := dst[n:], r.cells, r.shift
	k := 0
	if width == 2 && key == 0 {
		for i := 0; i+1 < len(records); i += 2 {
			cell := records[i] * spread >> (shift & 63)
			to[k], to[k+1] = records[i], records[i+1]
			k += int(cells[cell>>2] >> (cell & 3 * 2) & 2)
		}
		return dst[:n+k]
	}
	for i := 0; i < len(records); i += width {
		cell := records[i+key] * spread >> (shift & 63)
		copy(to[k:k+width], records[i:i+width])
		k += int(cells[cell>>2]>>(cell&3*2+1)&1) * width
	}
	return dst[:n+k]
}

// Repeated reads the records of a partition whose keys may occur more than once, as often as wanted: of most partitions they are
// few, so that they are kept and the partition is not read again. An actor has one for all its partitions. Records have no
// bytes, and a key that one word identifies well enough.
type Repeated struct {
	repeats Repeats
	part    *shuffle.Partition
	layout  Layout
	key     int
	limit   int64
	picked  []uint64
	all     bool // all records that are wanted are in picked
}

// Reset begins a partition. key is the word to tell records by; what is held takes limit bytes at most, as far as possible.
func (r *Repeated) Reset(ctx context.Context, part *shuffle.Partition, l Layout, key int, limit int64) error {
	r.part, r.layout, r.key, r.limit, r.all = part, l, key, limit, false
	r.repeats.Reset(part.Rows(), limit/2)
	return eachChunk(ctx, part, func(c shuffle.Chunk) error {
		// Nothing is taken from the records yet, so it is not asked whether they are those that were inserted.
		recs, err := viewRecords(c, l)
		if err == nil {
			r.repeats.See(recs.words, l.Words, key)
		}
		return err
	})
}

// repeatBlock is the number of records that are looked at together: few enough for a processor's first cache.
const repeatBlock = 1 << 10

// Each calls f with some of the records at a time, one after another and in the order of the chunks. They are those that were
// inserted, and valid during the call.
func (r *Repeated) Each(ctx context.Context, f func(records []uint64) error) error {
	if r.all {
		return f(r.picked)
	}
	width := r.layout.Words
	most := int(r.limit / 4 / 8) // words of picked, which may grow to twice as much
	block := max(1, min(repeatBlock, most/2/width)) * width
	r.picked = r.picked[:0]
	calls := 0
	err := eachChunk(ctx, r.part, func(c shuffle.Chunk) error {
		recs, err := OpenRecords(c, r.layout)
		if err != nil {
			return err
		}
		for records := recs.words; len(records) > 0; {
			some := records[:min(len(records), block)]
			records = records[len(some):]
			if len(r.picked) > 0 && len(r.picked)+len(some) > most {
				calls++
				if err := f(r.picked); err != nil {
					return err
				}
				r.picked = r.picked[:0]
			}
			r.picked = r.repeats.Pick(r.picked, some, width, r.key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.all = calls == 0 // before the last call, which may ask Once
	return f(r.picked)
}

// Once reports whether f is, or was, called once and will be called with the same records again.
func (r *Repeated) Once() bool { return r.all }

// Bytes is the memory that it takes.
func (r *Repeated) Bytes() int64 { return int64(cap(r.repeats.cells)) + 8*int64(cap(r.picked)) }
