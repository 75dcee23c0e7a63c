package dedup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/texts"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
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

// sendKept sends the texts of candidates that are in memory.
func (a *decideActor) sendKept(out *executor.PartWriter, want *candidateReader, kept *texts.Reader, send func(wantedDoc, []byte, bool) error) error {
	for {
		d, more, err := want.pull()
		if err != nil || !more {
			return err
		}
		text, null, ok := kept.Text(d.ref.Ord)
		if !ok {
			return a.changed(d.ref.Ord)
		}
		if err := send(d, text, null); err != nil {
			return err
		}
		out.Progress(int64(len(text)))
	}
}

// sendRead reads the texts of candidates again.
func (a *decideActor) sendRead(
	ctx context.Context, out *executor.PartWriter, in routeResult, want *candidateReader, send func(wantedDoc, []byte, bool) error,
) (err error) {
	// The reader of texts is ahead by a batch, so it has a list of its own.
	ords, err := flow.OpenOrdinals(ctx, a.work, in.File, "ord")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ords.Close()) }()
	reader, err := a.set.Open(a.splits[in.Split], corpus.ReadOptions{
		Alloc: a.env.Alloc, BatchBytes: a.plan.BatchBytes, BatchRows: a.plan.BatchRows, Columns: corpus.ColumnText, Select: ords.Pull,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for {
		b, err := reader.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		n := b.Text.Data.Len()
		for i, ord := range b.Ord {
			d, ok, pullErr := want.pull()
			switch {
			case pullErr != nil:
				err = pullErr
			case !ok || d.ref.Ord != ord:
				err = a.changed(ord)
			default:
				err = send(d, b.Text.At(i), b.Text.IsNull(i))
			}
			if err != nil {
				break
			}
		}
		b.Release()
		if err != nil {
			return err
		}
		out.Progress(int64(n))
	}
	d, more, err := want.pull()
	if err == nil && more {
		err = a.changed(d.ref.Ord)
	}
	return err
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
		if reader = r.texts.Open(split); reader == nil {
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
