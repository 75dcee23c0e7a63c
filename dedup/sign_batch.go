package dedup

import (
	"context"
	"errors"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/texts"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// signBatch is a batch of documents on its way to the sign file.
type signBatch struct {
	corpus.Batch
	text   *mem.Strings // what is signed: of Batch, or normalized
	keys   *mem.Buffer
	signed mem.Fence
	cols   []colfile.Data // all but the band keys
	kept   bool           // there is room for its texts in memory
	held   []texts.Held   // pieces of its texts that the device holds
}

// begin starts to sign a batch, which it takes, and computes what else is known of its documents meanwhile.
func (w *signWriter) begin(ctx context.Context, b *corpus.Batch, res *signResult) error {
	p := &signBatch{Batch: *b}
	*b = corpus.Batch{}
	w.batches = append(w.batches, p)
	p.text = &p.Text
	rows := p.Text.Rows
	if w.normalizes {
		var err error
		if p.text, err = normalizeColumn(w.env.Alloc, w.backend.TextAlloc(), w.norm, &p.Text); err != nil {
			return err
		}
	}
	var err error
	if p.keys, err = w.env.Alloc.Alloc(w.params.BandKeyBytes(rows)); err != nil {
		return err
	}
	holder, _ := w.backend.(lsh.Holder)
	p.kept = w.texts.Room(p.Ord, &p.Text, holder != nil && !w.normalizes)
	if holder == nil || w.normalizes || p.kept || !w.texts.Wanted() {
		p.signed, err = w.backend.Start(ctx, p.text, nil, p.keys)
	} else {
		// Later passes want the texts in the order of the splits, more or less.
		p.signed, err = holder.StartHeld(ctx, p.text, nil, p.keys, int64(res.Split), func(first, rows int, item *mem.Item, at int) {
			p.held = append(p.held, texts.Held{First: first, Rows: rows, Item: item, At: at})
		})
	}
	if err != nil {
		return err
	}
	w.describe(p, res)
	return nil
}

// describe counts the documents of a batch, and computes the columns of a sign file beside the band keys.
func (a *signActor) describe(b *signBatch, res *signResult) {
	rows := b.Text.Rows
	column := func(v []uint64) { b.cols = append(b.cols, colfile.Data{Uint64: v}) }
	rowHi, rowLo := make([]uint64, rows), make([]uint64, rows)
	chars, bytes := make([]uint64, rows), make([]uint64, rows)
	for i := range rows {
		raw, t := b.Text.At(i), b.text.At(i)
		h := textHash(raw, b.Text.IsNull(i))
		rowHi[i], rowLo[i] = h.Hi, h.Lo
		chars[i], bytes[i] = uint64(a.counter.Count(t)), uint64(len(t))
		res.Rows = res.Rows.Add(flow.RecordHash([]uint64{b.Ord[i], h.Hi, h.Lo}, nil, false))
		res.TextBytes += int64(len(raw))
		res.MaxDoc = max(res.MaxDoc, int64(len(raw)), int64(len(t)))
		if len(t) == 0 {
			res.Empty++
		}
		if b.Text.IsNull(i) {
			res.Null++
		}
	}
	if res.Docs == 0 && rows > 0 {
		res.First = b.Ord[0]
	}
	res.Docs += int64(rows)

	column(b.Ord)
	column(rowHi)
	column(rowLo)
	if a.writesLines() {
		column(b.Hash)
	}
	if a.normalizes {
		hi, lo := make([]uint64, rows), make([]uint64, rows)
		for i := range rows {
			h := textHash(b.text.At(i), false)
			hi[i], lo[i] = h.Hi, h.Lo
		}
		column(hi)
		column(lo)
	}
	switch {
	case a.spec.Keep == KeepLongest:
		keep := make([]uint64, rows)
		for i, c := range chars {
			keep[i] = ^c // longer comes first in pi
		}
		a.preferReferences(b.Ord, keep)
		column(keep)
	case a.refs.WithKeep:
		keep := make([]uint64, rows)
		for i, k := range b.Keep {
			keep[i] = ^k // larger comes first in pi
		}
		a.preferReferences(b.Ord, keep)
		column(keep)
	}
	column(chars)
	column(bytes)
	switch kind := a.set.IDKind; {
	case kind.Ints():
		ids := make([]uint64, rows)
		for i, id := range b.IDs.Int {
			ids[i] = uint64(id)
		}
		column(ids)
	case kind.Bytes():
		ids := make([][]byte, rows)
		for i := range ids {
			ids[i] = b.IDs.String.At(i)
		}
		b.cols = append(b.cols, colfile.Data{Bytes: ids})
	}
}

// complete waits until the oldest batch is signed and appends it to the sign file.
func (w *signWriter) complete(ctx context.Context) error {
	p := w.batches[0]
	if err := p.signed.Wait(ctx); err != nil {
		return err
	}
	rows, all := p.Text.Rows, mem.Uint64s(p.keys)
	for band := range w.spec.NumBands {
		p.cols = append(p.cols, colfile.Data{Uint64: all[band*rows : (band+1)*rows]})
	}
	if err := w.block(p.cols); err != nil {
		return err
	}
	switch {
	case p.kept:
		w.texts.Add(p.Ord, &p.Text)
	default:
		w.texts.AddHeld(p.Ord, &p.Text, p.held)
	}
	p.held = nil
	w.batches = w.batches[1:]
	p.release()
	return nil
}

// forget gives up the batches that are not complete.
func (w *signWriter) forget() {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("the batch is not wanted any more"))
	for _, p := range w.batches {
		if p.signed != nil {
			_ = p.signed.Wait(ctx) // and then nothing uses its buffers
		}
		p.release()
	}
	w.batches = nil
}

func (p *signBatch) release() {
	for _, h := range p.held {
		h.Item.Drop()
	}
	if p.text != &p.Text {
		p.text.Release()
	}
	p.keys.Release()
	p.Release()
}
