package corpus

import (
	"math"

	"github.com/dovetail-dedup/dovetail/mem"
)

// stringBuilder is a column of strings whose buffers grow. The zero value with an allocator is empty.
type stringBuilder struct {
	alloc   mem.Allocator
	first   int // bytes of data to begin with
	most    int // bytes of data beyond which it grows only as far as it must
	rows    int
	n       int // bytes used of data
	data    *mem.Buffer
	offsets *mem.Buffer
	valid   *mem.Buffer // nil while there is no null
}

// reserve makes room for one more string of n bytes.
func (b *stringBuilder) reserve(n int) error {
	if err := grow(b.alloc, &b.data, b.n, b.n+n, b.first, b.most); err != nil {
		return err
	}
	fresh := b.offsets == nil
	if err := grow(b.alloc, &b.offsets, (b.rows+1)*8, (b.rows+2)*8, 64*8, math.MaxInt); err != nil {
		return err
	}
	if fresh {
		mem.Int64s(b.offsets)[0] = 0
	}
	return nil
}

// tail returns the n reserved bytes for the next string, to be filled before end.
func (b *stringBuilder) tail(n int) []byte { return b.data.Bytes()[b.n : b.n+n] }

// end completes a string of n bytes that were written to tail.
func (b *stringBuilder) end(n int) {
	b.n += n
	b.rows++
	mem.Int64s(b.offsets)[b.rows] = int64(b.n)
}

// add appends a copy of v.
func (b *stringBuilder) add(v []byte) error {
	if err := b.reserve(len(v)); err != nil {
		return err
	}
	copy(b.tail(len(v)), v)
	b.end(len(v))
	return b.mark(false)
}

// addNull appends a null.
func (b *stringBuilder) addNull() error {
	if err := b.reserve(0); err != nil {
		return err
	}
	b.end(0)
	return b.mark(true)
}

// mark notes whether the last string is null.
func (b *stringBuilder) mark(null bool) error {
	if b.valid == nil && !null {
		return nil
	}
	had := 0
	if b.valid != nil {
		had = b.valid.Len()
	}
	if err := grow(b.alloc, &b.valid, had, (b.rows+7)/8, 64, math.MaxInt); err != nil {
		return err
	}
	bits := b.valid.Bytes()
	for i := had; i < len(bits); i++ {
		bits[i] = 0xff
	}
	if i := b.rows - 1; null {
		bits[i>>3] &^= 1 << (i & 7)
	}
	return nil
}

// finish returns the column and leaves the builder empty.
func (b *stringBuilder) finish() (mem.Strings, error) {
	if err := b.reserve(0); err != nil { // a column of no rows has its one offset, too
		return mem.Strings{}, err
	}
	s := mem.Strings{Rows: b.rows, Offsets: b.offsets, Data: b.data, Valid: b.valid}
	b.data, b.offsets, b.valid = nil, nil, nil
	n, rows := b.n, b.rows
	b.n, b.rows = 0, 0
	for _, t := range []struct {
		b *mem.Buffer
		n int
	}{{s.Data, n}, {s.Offsets, (rows + 1) * 8}, {s.Valid, (rows + 7) / 8}} {
		if t.b == nil {
			continue
		}
		if err := t.b.Truncate(t.n); err != nil {
			s.Release()
			return mem.Strings{}, err
		}
	}
	return s, nil
}

func (b *stringBuilder) release() {
	b.data.Release()
	b.offsets.Release()
	b.valid.Release()
	b.data, b.offsets, b.valid = nil, nil, nil
	b.n, b.rows = 0, 0
}

// grow makes *buf at least need bytes long and keeps the first used. It begins with first bytes and then
// doubles, up to most, so that a column is copied a bounded number of times.
func grow(a mem.Allocator, buf **mem.Buffer, used, need, first, most int) error {
	old := *buf
	if old != nil && old.Len() >= need {
		return nil
	}
	size := max(need, first)
	if old != nil {
		size = max(need, min(2*old.Len(), most))
	}
	next, err := a.Alloc(size)
	if err != nil {
		return err
	}
	if old != nil {
		copy(next.Bytes(), old.Bytes()[:used])
		old.Release()
	}
	*buf = next
	return nil
}
