package dedup

import (
	"context"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// The sign stage reads every document once and writes what the later stages need of it but its text: a
// sign file per split, one row per document in the order of the ordinals.
//
//	ord          the ordinal
//	row_hi/lo    128-bit content hash of the text as it stands in the file
//	class_hi/lo  the same of the normalized text; left out where nothing is normalized
//	keep         the keep key; left out where Keep is "first"
//	chars        length of the normalized text in code points, 0 for a null
//	bytes        length of the normalized text in bytes
//	id           the user's id: "id" (uint64 bits of an int64) or "sid" (bytes); left out without --id-field
//	band_<b>     the key of band b, for every band
type signStage struct{ *run }

// signResult describes the sign file of one split.
type signResult struct {
	Split     int          `json:"split"`
	File      string       `json:"file"`
	Docs      int64        `json:"docs"`
	Empty     int64        `json:"empty"` // null or without text
	Null      int64        `json:"null"`
	TextBytes int64        `json:"text_bytes"`
	MaxDoc    int64        `json:"max_doc"` // bytes of the longest text
	Need      int64        `json:"need"`    // memory that reading the largest document took
	First     uint64       `json:"first"`   // smallest ordinal, if there are documents
	Rows      shuffle.Hash `json:"rows"`    // multiset hash of (ordinal, content hash)
}

func (signStage) Name() string { return "sign" }

func (s signStage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	kernels, err := s.kernels()
	if err != nil {
		return nil, err
	}
	return &signActor{run: s.run, env: env, kernels: kernels, norm: lsh.NewNormalizer(s.norm)}, nil
}

type signActor struct {
	*run
	env     *executor.Env
	kernels lsh.Kernels
	norm    *lsh.Normalizer
	cols    []colfile.Data
}

func (a *signActor) Close() error { return a.kernels.Close() }

// signColumns are the columns of a sign file under this run's options, in their order.
func (r *run) signColumns() []colfile.Column {
	cols := []colfile.Column{{Name: "ord", Kind: colfile.Uint64}, {Name: "row_hi", Kind: colfile.Uint64}, {Name: "row_lo", Kind: colfile.Uint64}}
	add := func(kind colfile.Kind, names ...string) {
		for _, n := range names {
			cols = append(cols, colfile.Column{Name: n, Kind: kind})
		}
	}
	if r.normalizes {
		add(colfile.Uint64, "class_hi", "class_lo")
	}
	if r.refs.withKeep {
		add(colfile.Uint64, "keep")
	}
	add(colfile.Uint64, "chars", "bytes")
	switch r.set.IDKind {
	case corpus.IntIDs:
		add(colfile.Uint64, "id")
	case corpus.StringIDs:
		add(colfile.Bytes, "sid")
	}
	for b := range r.spec.NumBands {
		add(colfile.Uint64, bandColumn(b))
	}
	return cols
}

func bandColumn(b int) string { return "band_" + strconv.Itoa(b) }

func (a *signActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	split, err := decodeTask[int](task)
	if err != nil {
		return nil, err
	}
	var res signResult
	var file *executor.File
	err = a.reading(ctx, out.Meter, func(maxBytes int64) (err error) {
		if file != nil {
			if err := out.Remove(file); err != nil {
				return err
			}
		}
		if file, err = out.Create("sign"); err != nil {
			return err
		}
		res = signResult{Split: split, File: file.Name()}
		return a.split(ctx, out, maxBytes, file, &res)
	})
	if err != nil {
		return nil, err
	}
	out.Count("documents", res.Docs)
	out.Count("text_bytes", res.TextBytes)
	return oneResult(task, res)
}

// split signs the documents of one split.
func (a *signActor) split(ctx context.Context, out *executor.Attempt, maxBytes int64, file *executor.File, res *signResult) (err error) {
	reader, err := a.set.Open(a.splits[res.Split], corpus.ReadOptions{
		Alloc: a.env.Alloc, BatchBytes: a.plan.batchBytes, BatchRows: a.plan.batchRows, MaxBytes: maxBytes,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	w := colfile.NewWriter(file, a.signColumns())
	for {
		b, err := reader.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		n := b.Text.Data.Len()
		err = a.batch(ctx, b, w, res)
		b.Release()
		if err != nil {
			return err
		}
		out.Progress(int64(n))
	}
	res.Need = reader.Largest()
	return errors.Join(w.Finish(), file.Close())
}

// batch signs one batch of documents and appends it to the sign file.
func (a *signActor) batch(ctx context.Context, b *corpus.Batch, w *colfile.Writer, res *signResult) error {
	rows := b.Text.Rows
	text := &b.Text
	if a.normalizes {
		var err error
		if text, err = normalizeColumn(a.env.Alloc, a.norm, &b.Text); err != nil {
			return err
		}
		defer text.Release()
	}
	keys, err := a.bandKeys(ctx, text)
	if err != nil {
		return err
	}
	defer keys.Release()

	a.cols = a.cols[:0]
	column := func(v []uint64) { a.cols = append(a.cols, colfile.Data{Uint64: v}) }
	rowHi, rowLo := make([]uint64, rows), make([]uint64, rows)
	chars, bytes := make([]uint64, rows), make([]uint64, rows)
	for i := range rows {
		raw, t := b.Text.At(i), text.At(i)
		h := textHash(raw, b.Text.IsNull(i))
		rowHi[i], rowLo[i] = h.Hi, h.Lo
		chars[i], bytes[i] = uint64(utf8.RuneCount(t)), uint64(len(t))
		res.Rows = res.Rows.Add(recordHash([]uint64{b.Ord[i], h.Hi, h.Lo}, nil, false))
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
	if a.normalizes {
		hi, lo := make([]uint64, rows), make([]uint64, rows)
		for i := range rows {
			h := textHash(text.At(i), false)
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
		column(keep)
	case a.refs.withKeep:
		keep := make([]uint64, rows)
		for i, k := range b.Keep {
			keep[i] = ^k // larger comes first in pi
		}
		column(keep)
	}
	column(chars)
	column(bytes)
	switch a.set.IDKind {
	case corpus.IntIDs:
		ids := make([]uint64, rows)
		for i, id := range b.IDs.Int {
			ids[i] = uint64(id)
		}
		column(ids)
	case corpus.StringIDs:
		ids := make([][]byte, rows)
		for i := range ids {
			ids[i] = b.IDs.String.At(i)
		}
		a.cols = append(a.cols, colfile.Data{Bytes: ids})
	}
	all := mem.Uint64s(keys)
	for band := range a.spec.NumBands {
		column(all[band*rows : (band+1)*rows])
	}
	return w.Block(a.cols)
}

// bandKeys computes the band keys of a column, band after band.
func (a *signActor) bandKeys(ctx context.Context, text *mem.Strings) (*mem.Buffer, error) {
	sigs, err := a.env.Alloc.Alloc(a.params.SignatureBytes(text.Rows))
	if err != nil {
		return nil, err
	}
	defer sigs.Release()
	keys, err := a.env.Alloc.Alloc(a.params.BandKeyBytes(text.Rows))
	if err != nil {
		return nil, err
	}
	if _, err = a.kernels.Sign(ctx, text, sigs); err == nil {
		var done mem.Fence
		if done, err = a.kernels.BandKeys(ctx, sigs, text.Rows, keys); err == nil {
			err = done.Wait(ctx)
		}
	}
	if err != nil {
		keys.Release()
		return nil, err
	}
	return keys, nil
}

// textHash is the content hash of a text. A null is not an empty text: it has a hash of its own.
func textHash(text []byte, null bool) lsh.Hash128 {
	if null {
		return lsh.Hash128{Hi: 0x6e756c6c, Lo: 1} // an arbitrary constant
	}
	return lsh.ContentHash(text)
}

// normalizeColumn returns the normalized texts in buffers of their own. Nulls become empty texts.
func normalizeColumn(alloc mem.Allocator, norm *lsh.Normalizer, in *mem.Strings) (*mem.Strings, error) {
	off, err := alloc.Alloc(8 * (in.Rows + 1))
	if err != nil {
		return nil, err
	}
	// Normalizing can lengthen a text, so the bytes are gathered first.
	var all []byte
	offsets := mem.Int64s(off)
	offsets[0] = 0
	for i := range in.Rows {
		all = append(all, norm.Apply(in.At(i))...)
		offsets[i+1] = int64(len(all))
	}
	data, err := alloc.Alloc(len(all))
	if err != nil {
		off.Release()
		return nil, err
	}
	copy(data.Bytes(), all)
	return &mem.Strings{Rows: in.Rows, Offsets: off, Data: data}, nil
}
