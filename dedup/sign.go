package dedup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/texts"
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
//	line         64-bit hash of the line with the document; left out unless lines are written
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
	Files     []string     `json:"files"` // one after another, each with an index of bounded size
	Docs      int64        `json:"docs"`
	Empty     int64        `json:"empty"` // null or without text
	Null      int64        `json:"null"`
	TextBytes int64        `json:"text_bytes"`
	MaxDoc    int64        `json:"max_doc"` // bytes of the longest text
	Need      int64        `json:"need"`    // memory that reading the largest document took
	First     uint64       `json:"first"`   // smallest ordinal, if there are documents
	Rows      shuffle.Hash `json:"rows"`    // multiset hash of (ordinal, content hash)
	// Bytes are hashes of the files of JSON Lines, or parts of files, that are in the split, one for each, in their order.
	Bytes []corpus.ByteSum `json:"byte_sums,omitempty"`
	// Groups are hashes of the texts of the row groups of Parquet in the split, in their order.
	Groups []corpus.GroupSum `json:"group_sums,omitempty"`

	// Bad are files that are to be left out, BadFile the work file with the ordinals of the records that are, "" for
	// none; BadRecords counts them, and BadExamples are the first.
	Bad         []badFile   `json:"bad,omitempty"`
	BadFile     string      `json:"bad_file,omitempty"`
	BadRecords  int64       `json:"bad_records,omitempty"`
	BadExamples []badRecord `json:"bad_examples,omitempty"`
}

func (signStage) Name() string { return "sign" }

func (s signStage) Resources() executor.Resources { return s.Exec.signing() }

func (s signStage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	backend, err := s.Exec.Backend(s.params, env)
	if err != nil {
		return nil, err
	}
	counter, err := lsh.NewPointCounter()
	if err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	return &signActor{run: s.run, env: env, backend: backend, counter: counter, norm: lsh.NewNormalizer(s.norm)}, nil
}

type signActor struct {
	*run
	env     *executor.Env
	backend lsh.Backend
	counter *lsh.PointCounter
	norm    *lsh.Normalizer
}

func (a *signActor) Close() error { return a.backend.Close() }

// signColumns are the columns of a sign file under this run's options, in their order.
func (r *run) signColumns() []colfile.Column {
	cols := []colfile.Column{{Name: "ord", Kind: colfile.Uint64}, {Name: "row_hi", Kind: colfile.Uint64}, {Name: "row_lo", Kind: colfile.Uint64}}
	add := func(kind colfile.Kind, names ...string) {
		for _, n := range names {
			cols = append(cols, colfile.Column{Name: n, Kind: kind})
		}
	}
	if r.writesLines() {
		add(colfile.Uint64, "line")
	}
	if r.normalizes {
		add(colfile.Uint64, "class_hi", "class_lo")
	}
	if r.refs.WithKeep {
		add(colfile.Uint64, "keep")
	}
	add(colfile.Uint64, "chars", "bytes")
	switch kind := r.set.IDKind; {
	case kind.Ints():
		add(colfile.Uint64, "id")
	case kind.Bytes():
		add(colfile.Bytes, "sid")
	}
	for b := range r.spec.NumBands {
		add(colfile.Uint64, bandColumn(b))
	}
	return cols
}

// writesLines reports whether lines of the input become lines of the output. They are copied if they have the hash that they
// had when they were signed.
func (r *run) writesLines() bool { return r.set.Format == corpus.JSONL && r.spec.Write != WriteIDs }

func bandColumn(b int) string { return "band_" + strconv.Itoa(b) }

func (a *signActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	split, err := flow.DecodeTask[int](task)
	if err != nil {
		return nil, err
	}
	sp := a.splits[split]
	var res signResult
	var bad []badFile
	w := &signWriter{signActor: a, out: out, texts: a.texts.Writer(split)}
	defer w.texts.Drop() // unless they are kept
	for {
		err = a.reading(ctx, out.Meter, func(maxBytes int64) error {
			if err := w.restart(); err != nil {
				return err
			}
			res = signResult{Split: split, Bad: bad}
			err := a.split(ctx, out, maxBytes, w, &res)
			res.Files = w.names
			return err
		})
		found, ok := a.badFileOf(err)
		if !ok {
			break
		}
		// Look at the others, too, so that the split is signed no more than twice.
		more, err := a.badFiles(ctx, out.Meter, found.File+1, sp.Last)
		if err != nil {
			return nil, err
		}
		bad = append(append(bad, found), more...)
		slices.SortFunc(bad, func(a, b badFile) int { return cmp.Compare(a.File, b.File) })
	}
	if err != nil {
		return nil, err
	}
	w.texts.Keep()
	out.Count("documents", res.Docs)
	out.Count("text_bytes", res.TextBytes)
	return flow.OneResult(task, res)
}

// split signs the documents of one split, without the bad files that res names.
func (a *signActor) split(ctx context.Context, out *executor.Attempt, maxBytes int64, w *signWriter, res *signResult) error {
	bad := badRows{out: out}
	o := a.readOptions(maxBytes, res.Bad)
	o.TextAlloc = a.backend.TextAlloc()
	if a.writesLines() {
		o.Hash = func(file int) bool { return !a.set.Files[file].Reference }
		o.Bytes = func(s corpus.ByteSum) {
			if !a.set.Files[s.File].Reference {
				res.Bytes = append(res.Bytes, s)
			}
		}
	}
	defer w.forget()
	if a.spec.Write == WriteKept {
		o.Chunk = func(s corpus.GroupSum) {
			if !a.set.Files[s.File].Reference {
				res.Groups = append(res.Groups, s)
			}
		}
	}
	need, err := a.eachBatch(ctx, a.splits[res.Split], o, func(b *corpus.Batch) error {
		if err := bad.add(res, b.Bad); err != nil || len(b.Ord) == 0 {
			return err
		}
		n, docs := b.Text.Data.Len(), len(b.Ord)
		if err := w.begin(ctx, b, res); err != nil {
			return err
		}
		// While a device signs this batch the next one is read.
		for len(w.batches) >= a.backend.Depth() {
			if err := w.complete(ctx); err != nil {
				return err
			}
		}
		out.Progress(int64(n))
		out.ProgressRows(int64(docs))
		return nil
	})
	if bad.file != nil {
		w.bad = bad.file.File
	}
	for err == nil && len(w.batches) > 0 {
		err = w.complete(ctx)
	}
	if err != nil {
		return err
	}
	res.Need = need
	return errors.Join(w.finish(), bad.close())
}

// signWriter writes the sign files of a split. The index of a file is held in memory by whoever writes or reads it,
// so a new file is begun before it takes more than a small part of an actor's share.
type signWriter struct {
	*signActor
	out    *executor.Attempt
	files  []*executor.File
	bad    *executor.File // of the records that are left out, if there are any
	names  []string
	w      *colfile.Writer
	blocks int           // of the file in hand
	texts  *texts.Writer // of the split, for later passes

	batches []*signBatch // that are signed, the oldest first
}

// block writes a block of documents.
func (w *signWriter) block(cols []colfile.Data) error {
	if most := max(16, w.plan.Share/16/int64(len(cols)*colfile.ExtentBytes)); w.w != nil && int64(w.blocks) >= most {
		if err := w.finish(); err != nil {
			return err
		}
		w.w = nil
	}
	if w.w == nil {
		f, err := w.out.Create(fmt.Sprintf("sign-%d", len(w.files)))
		if err != nil {
			return err
		}
		w.files, w.names, w.blocks = append(w.files, f), append(w.names, f.Name()), 0
		w.w = colfile.NewWriter(f, w.signColumns())
	}
	w.blocks++
	return w.w.Block(cols)
}

// finish completes the file in hand.
func (w *signWriter) finish() error {
	if w.w == nil {
		return nil
	}
	return errors.Join(w.w.Finish(), w.files[len(w.files)-1].Close())
}

// restart removes what was written.
func (w *signWriter) restart() error {
	w.texts.Drop()
	if w.bad != nil {
		w.files = append(w.files, w.bad)
	}
	for _, f := range w.files {
		if err := w.out.Remove(f); err != nil {
			return err
		}
	}
	w.files, w.bad, w.names, w.w = nil, nil, nil, nil
	return nil
}

// preferReferences puts documents of a reference set before all others in pi. Where keep keys say nothing their
// ordinals do it, and of equal keep keys, too.
func (r *run) preferReferences(ords, keep []uint64) {
	for i, ord := range ords {
		if r.set.IsReference(ord) {
			keep[i] = 0
		}
	}
}

// textHash is the content hash of a text. A null is not an empty text: it has a hash of its own.
func textHash(text []byte, null bool) lsh.Hash128 {
	if null {
		return lsh.Hash128{Hi: 0x6e756c6c, Lo: 1} // an arbitrary constant
	}
	return lsh.ContentHash(text)
}

// normalizeColumn returns the normalized texts in buffers of their own, the texts themselves of textAlloc. Nulls become empty texts.
func normalizeColumn(alloc, textAlloc mem.Allocator, norm *lsh.Normalizer, in *mem.Strings) (*mem.Strings, error) {
	off, err := alloc.Alloc(8 * (in.Rows + 1))
	if err != nil {
		return nil, err
	}
	// Normalizing can lengthen a text, so the bytes are gathered first; those of one large text are there already.
	var all []byte
	offsets := mem.Int64s(off)
	offsets[0] = 0
	for i := range in.Rows {
		t := norm.Apply(in.At(i))
		if in.Rows == 1 {
			all = t
		} else {
			all = append(all, t...)
		}
		offsets[i+1] = int64(len(all))
	}
	data, err := textAlloc.Alloc(len(all))
	if err != nil {
		off.Release()
		return nil, err
	}
	copy(data.Bytes(), all)
	return &mem.Strings{Rows: in.Rows, Offsets: off, Data: data}, nil
}
