package lsh

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/mem"
)

// PairBackend counts the distinct windows that texts have in common, exactly as a [Comparer] does, for many pairs at a time,
// wherever it does so. One goroutine calls it at a time.
type PairBackend interface {
	// CharNgrams returns the width of the windows.
	CharNgrams() int
	// TextAlloc is that of [Backend].
	TextAlloc() mem.Allocator
	// Load begins to make the windows of texts ready, in place of those that were loaded before, and may return before that is
	// done. The texts are used until the next Load, or Close. The error wraps [mem.ErrNoMemory] if there is no room for so many;
	// after an error none are loaded.
	Load(ctx context.Context, texts *mem.Strings) error
	// Compare begins to compare n pairs of rows of the texts that were loaded, which need not be done. pairs has the first row of
	// each pair as a uint32, and behind all of them the second rows: 8*n bytes. out gets the intersections as uint64, and behind
	// them the unions: 16*n bytes. Both are in addressable tiers, and used until the fence is done, which is waited for before the
	// next call. When Wait returns an error the buffers are not used any more.
	Compare(ctx context.Context, pairs *mem.Buffer, n int, out *mem.Buffer) (mem.Fence, error)
	// Close releases what the backend holds. No fence may be left to be waited for.
	Close() error
}

// MaxPairText is the most bytes of a text that a [PairBackend] takes.
const MaxPairText = 1<<32 - 2

// CheckLoad returns an error if texts are not what Load of a [PairBackend] takes.
func CheckLoad(texts *mem.Strings) error {
	if err := checkTexts(texts, mem.TierHost); err != nil {
		return err
	}
	off := texts.OffsetValues()
	for i := range texts.Rows {
		if off[i+1]-off[i] > MaxPairText {
			return fmt.Errorf("lsh: compare: %w: text %d has %d bytes", ErrColumn, i, off[i+1]-off[i])
		}
	}
	return nil
}

// CheckCompare returns an error if the buffers are not what Compare of a [PairBackend] takes that has loaded a number of texts.
func CheckCompare(loaded int, pairs *mem.Buffer, n int, out *mem.Buffer) error {
	if n < 0 {
		return fmt.Errorf("lsh: compare: %w: %d pairs", ErrColumn, n)
	}
	if err := checkColumn("compare", "pairs", pairs, mem.TierHost, 8*n); err != nil {
		return err
	}
	if err := checkColumn("compare", "counts", out, mem.TierHost, 16*n); err != nil {
		return err
	}
	for _, row := range mem.Uint32s(pairs)[:2*n] {
		if int(row) >= loaded {
			return fmt.Errorf("lsh: compare: %w: a pair has text %d, and %d are loaded", ErrColumn, row, loaded)
		}
	}
	return nil
}

// cpuPairs is the backend of a [Comparer]: Load keeps a reference, Compare does the work.
type cpuPairs struct {
	comparer *Comparer
	width    int
	index    Index
	texts    *mem.Strings
}

// NewCPUPairs returns a [PairBackend] that works on the processor. The error is that of [NewComparer].
func NewCPUPairs(charNgrams int) (PairBackend, error) {
	c, err := NewComparer(charNgrams)
	if err != nil {
		return nil, err
	}
	return &cpuPairs{comparer: c, width: charNgrams}, nil
}

func (p *cpuPairs) CharNgrams() int          { return p.width }
func (p *cpuPairs) TextAlloc() mem.Allocator { return mem.Host() }

func (p *cpuPairs) Load(ctx context.Context, texts *mem.Strings) error {
	if err := errors.Join(p.Close(), CheckLoad(texts)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.texts = &mem.Strings{Rows: texts.Rows, Offsets: texts.Offsets.Retain(), Data: texts.Data.Retain()}
	if texts.Valid != nil {
		p.texts.Valid = texts.Valid.Retain()
	}
	return nil
}

func (p *cpuPairs) Compare(ctx context.Context, pairs *mem.Buffer, n int, out *mem.Buffer) (mem.Fence, error) {
	loaded := 0
	if p.texts != nil {
		loaded = p.texts.Rows
	}
	if err := CheckCompare(loaded, pairs, n, out); err != nil {
		return nil, err
	}
	rows, counts := mem.Uint32s(pairs), mem.Uint64s(out)
	for i := range n {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p.comparer.Index(&p.index, p.text(rows[i]))
		o := p.comparer.Overlap(&p.index, p.text(rows[n+i]))
		counts[i], counts[n+i] = o.Intersection, o.Union
	}
	return mem.Ready, nil
}

func (p *cpuPairs) text(row uint32) []byte {
	if p.texts.IsNull(int(row)) {
		return nil
	}
	return p.texts.At(int(row))
}

func (p *cpuPairs) Close() error {
	p.texts.Release()
	p.texts = nil
	return nil
}
