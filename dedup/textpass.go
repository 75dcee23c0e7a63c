package dedup

import (
	"context"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/texts"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// candidateReader walks over the candidates of a split that the text pass looks for, in the order of their ordinals.
type candidateReader struct {
	*flow.ColumnReader
	codec   flow.RefCodec
	refs    flow.RefColumn // of the block in hand
	labels  []uint64
	hi, lo  []uint64
	leaders [][]byte
	at      int // the next of the block
}

// wantedDoc is a candidate; leaders is valid until the next call of pull.
type wantedDoc struct {
	ref     flow.Ref
	label   uint64
	hash    lsh.Hash128
	leaders []byte
}

// pull returns the next candidate; ok is false at the end.
func (c *candidateReader) pull() (w wantedDoc, ok bool, err error) {
	for c.refs.Ord == nil || c.at == c.Rows {
		if !c.Next() {
			return w, false, c.Err
		}
		c.refs, c.at = c.Refs(c.codec, "keep", "ord"), 0
		c.labels, c.hi, c.lo, c.leaders = c.Uint64("label"), c.Uint64("row_hi"), c.Uint64("row_lo"), c.Blobs("leaders")
		if c.Err != nil {
			return w, false, c.Err
		}
	}
	i := c.at
	c.at++
	return wantedDoc{c.refs.At(i), c.labels[i], lsh.Hash128{Hi: c.hi[i], Lo: c.lo[i]}, c.leaders[i]}, true, nil
}

// eachText calls f for the documents of a split whose ordinals pull yields, which ascend: with the texts that stay in memory,
// or if kept is nil with those of the files, which are read again.
func (r *run) eachText(
	ctx context.Context, alloc mem.Allocator, split int, kept *texts.Reader, pull func() (uint64, bool, error),
	f func(ord uint64, text []byte, null bool) error,
) error {
	if kept == nil {
		_, err := r.eachBatch(ctx, r.splits[split], corpus.ReadOptions{
			Alloc: alloc, BatchBytes: r.plan.BatchBytes, BatchRows: r.plan.BatchRows, Columns: corpus.ColumnText, Select: pull,
		}, func(b *corpus.Batch) error {
			for i, ord := range b.Ord {
				if err := f(ord, b.Text.At(i), b.Text.IsNull(i)); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	}
	for {
		ord, more, err := pull()
		if err != nil || !more {
			return err
		}
		text, null, ok := kept.Text(ord)
		if err := kept.Err(); err != nil {
			// A device that is lost takes along what it holds. The rest is read from the files.
			r.note(fmt.Sprintf("texts that a device held are read again: %v", err))
			return r.eachText(ctx, alloc, split, nil, startingWith(ord, pull), f)
		}
		if !ok {
			return r.changed(ord)
		}
		if err := f(ord, text, null); err != nil {
			return err
		}
	}
}

// startingWith yields ord, and then what pull does.
func startingWith(ord uint64, pull func() (uint64, bool, error)) func() (uint64, bool, error) {
	first := true
	return func() (uint64, bool, error) {
		if first {
			first = false
			return ord, true, nil
		}
		return pull()
	}
}

// shared reports whether texts that stay in memory can be looked up by whoever decides: there is one process, and they are
// compared as they are.
func (r *run) shared() bool {
	return r.Job.Size() == 1 && r.Exec.Isolation != IsolationProcess && !r.normalizes
}

// keptTexts looks up texts that stay in memory.
type keptTexts map[int]*texts.Reader

// find returns a text, which is valid until close.
func (k *keptTexts) find(r *run, ord uint64) ([]byte, error) {
	if *k == nil {
		*k = make(keptTexts)
	}
	split := r.splitOf(ord)
	reader := (*k)[split]
	if reader == nil {
		if reader = r.texts.OpenResident(split); reader == nil {
			return nil, fmt.Errorf("dedup: the texts of split %d are in memory no more", split)
		}
		(*k)[split] = reader
	}
	text, _, ok := reader.Find(ord)
	if !ok {
		return nil, r.changed(ord)
	}
	return text, nil
}

func (k *keptTexts) close() {
	for split, reader := range *k {
		reader.Close()
		delete(*k, split)
	}
}
