//go:build cuda

package cuda

import (
	"errors"
	"sync/atomic"

	"github.com/dovetail-dedup/dovetail/mem"
)

// columnLayout says where rows of a column of texts are in one buffer on the device, in bytes: offsets from 0 on, and behind them
// validity and bytes.
type columnLayout struct{ rows, valid, data, end int }

// layOutColumn lays out rows of texts from first on.
func layOutColumn(texts *mem.Strings, first, rows int) columnLayout {
	off := texts.OffsetValues()
	l := columnLayout{rows: rows, valid: aligned(8 * (rows + 1))}
	l.data = l.valid
	if texts.Valid != nil {
		l.data += aligned((rows + 7) / 8)
	}
	l.end = l.data + int(off[first+rows]-off[first])
	return l
}

// staged is the pinned memory through which a column goes to the device: only its offsets and validity, if the texts lie in pinned
// memory already.
func (l columnLayout) staged(texts *mem.Strings) int {
	if texts.Data.Tier() == mem.TierPinned {
		return l.data
	}
	return l.end
}

// sendColumn queues the copies of rows from first on to the device. staged has the bytes that l.staged says, and both it and texts
// are used until the copies are done.
func (s *Stream) sendColumn(dst, staged *mem.Buffer, texts *mem.Strings, first int, l columnLayout) error {
	off, to := texts.OffsetValues(), mem.Int64s(staged)
	base := off[first]
	for i := range l.rows + 1 {
		to[i] = off[first+i] - base
	}
	raw := staged.Bytes()
	if texts.Valid != nil {
		bits := raw[l.valid : l.valid+(l.rows+7)/8]
		clear(bits)
		for i := range l.rows {
			if !texts.IsNull(first + i) {
				bits[i/8] |= 1 << (i % 8)
			}
		}
	}
	if texts.Data.Tier() != mem.TierPinned {
		copy(raw[l.data:], texts.Data.Bytes()[base:off[first+l.rows]])
		return s.Copy(dst, staged)
	}
	var p parts
	defer p.release()
	head, tail, bytes := p.of(dst, 0, l.data), p.of(dst, l.data, l.end), p.of(texts.Data, int(base), int(off[first+l.rows]))
	if p.err != nil {
		return p.err
	}
	return errors.Join(s.Copy(head, staged), s.Copy(tail, bytes))
}

// textAlloc makes buffers for texts: pinned ones, as far as a part of the pinned memory goes that leaves enough for everything
// else, and ordinary ones.
type textAlloc struct {
	pinned mem.Allocator
	most   int64
	used   atomic.Int64
}

// Tier implements [mem.Allocator]; pinned memory will do where the host's does.
func (a *textAlloc) Tier() mem.Tier { return mem.TierHost }

// Alloc implements [mem.Allocator].
func (a *textAlloc) Alloc(n int) (*mem.Buffer, error) {
	if a.used.Add(int64(n)) <= a.most {
		b, err := a.pinned.Alloc(n)
		if err == nil {
			return mem.Around(b, func(*mem.Buffer) {
				b.Release()
				a.used.Add(-int64(n))
			}), nil
		}
		if !errors.Is(err, mem.ErrNoMemory) {
			a.used.Add(-int64(n))
			return nil, err
		}
	}
	a.used.Add(-int64(n))
	return mem.Host().Alloc(n)
}
