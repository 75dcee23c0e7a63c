package curator

import (
	"context"
	"errors"
	"math"
	"path/filepath"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// MinHashOptions are the parameters of MinHashStage, with Curator's names. Start from [DefaultMinHashOptions].
type MinHashOptions struct {
	Exec
	InputOptions
	// Output is the cache folder; the result is MinHashStage in it.
	Output string
	// IDGenerator is the file for the state of the id generator; empty means none.
	IDGenerator string
	// CharNgrams is the width of a window in code points, at least 2.
	CharNgrams int
	// NumHashes is the number of hashes in a signature.
	NumHashes int
	// Seed selects the permutations; it is below 2^32.
	Seed uint64
	// Use64BitHash makes list<uint64> rather than list<uint32>.
	Use64BitHash bool
}

// DefaultMinHashOptions returns Curator's defaults: windows of 24 code points, 260 hashes, seed 42, 32 bits.
func DefaultMinHashOptions() MinHashOptions {
	return MinHashOptions{CharNgrams: 24, NumHashes: 260, Seed: 42}
}

func (o *MinHashOptions) params() lsh.Params {
	p := lsh.Params{Sketch: lsh.Curator32, NumBands: 1, MinhashesPerBand: o.NumHashes, CharNgrams: o.CharNgrams, Seed: o.Seed}
	if o.Use64BitHash {
		p.Sketch = lsh.Curator64
	}
	return p
}

// validate reports every fault at once.
func (o *MinHashOptions) validate() error {
	var f faults
	o.Exec.validate(&f)
	o.InputOptions.validate(&f)
	f.check(o.Output != "", "--output: name the cache folder")
	f.check(o.CharNgrams >= 2 && o.CharNgrams <= lsh.MaxCharNgrams, "--char-ngrams %d: must be from 2 to %d", o.CharNgrams, lsh.MaxCharNgrams)
	f.check(o.NumHashes >= 1 && o.NumHashes <= lsh.MaxHashes, "--num-hashes %d: must be from 1 to %d", o.NumHashes, lsh.MaxHashes)
	f.check(o.Seed <= math.MaxUint32, "--seed %d: Curator's generator takes seeds below 2^32", o.Seed)
	return f.err()
}

// MinHashResult is what the stage says of itself.
type MinHashResult struct {
	Documents int64 `json:"documents"`
	Null      int64 `json:"null"`
	Empty     int64 `json:"empty"` // not null, without text
	Files     int   `json:"files"` // written
	// AlreadyDone is set when the output was there before the call, which then did nothing.
	AlreadyDone bool `json:"-"`

	Last []int64 `json:"last"` // largest id of each input file
}

// MinHash computes the signature of every document: one file for each group of input files, named after Curator's task.
func MinHash(ctx context.Context, o MinHashOptions) (*MinHashResult, error) {
	o.Exec.ensureDefaults()
	o.InputOptions.ensureDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := o.agree(ctx); err != nil {
		return nil, err
	}
	if o.CharNgrams < 20 {
		o.note("windows of fewer than 20 characters make about 5 % false positives; nothing is verified here")
	}
	in, err := o.resolve(ctx, o.Workers)
	if err != nil {
		return nil, err
	}
	if in.set.IDKind == corpus.StringIDs {
		return nil, errors.New("curator: --id-field: fuzzy deduplication takes ids that are 64-bit integers")
	}
	params := o.params()
	j, err := newJob("minhash", o.Exec, params.SignatureBytes(1)+256, struct {
		Inputs         []inputFile `json:"inputs"`
		InputBlocksize int64       `json:"input_blocksize"`
		TextField      string      `json:"text_field"`
		IDField        string      `json:"id_field"`
		CharNgrams     int         `json:"char_ngrams"`
		NumHashes      int         `json:"num_hashes"`
		Seed           uint64      `json:"seed"`
		Use64BitHash   bool        `json:"use_64bit_hash"`
	}{in.fingerprints(), o.blocksize(), o.TextField, o.IDField, o.CharNgrams, o.NumHashes, o.Seed, o.Use64BitHash},
		filepath.Join(o.Output, MinHashDir))
	if err != nil {
		return nil, err
	}
	if err := j.apart(o.Inputs); err != nil {
		return nil, err
	}
	res := new(MinHashResult)
	done, err := j.finished(ctx, res)
	if err != nil {
		return nil, err
	}
	if res.AlreadyDone = done; !done {
		m := &minhash{job: j, input: in, params: params}
		err := j.run(ctx, func(ctx context.Context) (any, error) {
			if err := m.run(ctx, res); err != nil {
				return nil, err
			}
			return res, nil
		})
		if err != nil {
			return nil, o.explain(ctx, err)
		}
	}
	if o.IDGenerator == "" || o.IDField != "" {
		return res, nil
	}
	return res, o.writeIDGenerator(o.IDGenerator, in.paths, res.Last)
}

// minhash is one run of the stage.
type minhash struct {
	*job
	*input
	params lsh.Params
}

func (m *minhash) run(ctx context.Context, res *MinHashResult) error {
	if err := m.cut(ctx, m.splitTarget(m.set.Size())); err != nil {
		return err
	}
	tasks, err := m.input.tasks()
	if err != nil {
		return err
	}
	out, err := m.ex.Execute(ctx, []executor.Stage{signStage{m}}, tasks)
	if err != nil {
		return err
	}
	signed, err := flow.DecodeAll[signResult](out)
	if err != nil {
		return err
	}
	files := make([]assembleInput, len(m.groups))
	for g := range files {
		files[g].ID = m.groups[g].ID
	}
	for i, s := range signed {
		g := m.units[i].Group
		files[g].Files = append(files[g].Files, s.File)
		res.Documents += s.Docs
		res.Null += s.Null
		res.Empty += s.Empty
	}
	if tasks, err = flow.EncodeTasks("group", files); err != nil {
		return err
	}
	if _, err = m.ex.Execute(ctx, []executor.Stage{assembleStage{m}}, tasks); err != nil {
		return err
	}
	res.Files = len(files)
	res.Last = m.ends(func(yield func(fileEnd)) {
		for _, s := range signed {
			for _, e := range s.Ends {
				yield(e)
			}
		}
	})
	return m.unchanged(ctx)
}

// The sign stage computes signatures unit by unit, so that a group of many gigabytes keeps all processors busy. Its work
// files have a row per document: ord, and with user ids id, and sig, the little-endian slots or nothing for a null.
type signStage struct{ *minhash }

// signResult describes the work file of one unit.
type signResult struct {
	File  string    `json:"file"`
	Docs  int64     `json:"docs"`
	Null  int64     `json:"null"`
	Empty int64     `json:"empty"`
	Ends  []fileEnd `json:"ends"`
}

func (s signStage) Name() string { return "sign" }

func (s signStage) Resources() executor.Resources { return flow.Signing(s.Workers, len(s.Devices)) }

func (s signStage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	b, err := s.Backend(s.params, env)
	if err != nil {
		return nil, err
	}
	return &signActor{s, env, b}, nil
}

type signActor struct {
	signStage
	env     *executor.Env
	backend lsh.Backend
}

func (a *signActor) Close() error { return a.backend.Close() }

func (a *signActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	u, err := flow.DecodeTask[unit](task)
	if err != nil {
		return nil, err
	}
	var res signResult
	columns := []colfile.Column{{Name: "id", Kind: colfile.Uint64}, {Name: "sig", Kind: colfile.Bytes}}
	err = a.unitFile(ctx, a.env, out, a.set, u, "sign", columns, func(name string) { res = signResult{File: name} },
		func(b *corpus.Batch, w *colfile.Writer) error { return a.batch(ctx, b, w, &res) })
	if err != nil {
		return nil, err
	}
	out.Count("documents", res.Docs)
	return flow.OneResult(task, res)
}

// batch signs a batch of documents.
func (a *signActor) batch(ctx context.Context, b *corpus.Batch, w *colfile.Writer, res *signResult) error {
	rows := b.Text.Rows
	sigs, err := a.env.Alloc.Alloc(a.params.SignatureBytes(rows))
	if err != nil {
		return err
	}
	defer sigs.Release()
	done, err := a.backend.Start(ctx, &b.Text, sigs, nil)
	if err != nil {
		return err
	}
	if err := done.Wait(ctx); err != nil {
		return err
	}
	size := a.params.SignatureBytes(1)
	ids, raw := make([]uint64, rows), make([][]byte, rows)
	for i := range rows {
		ids[i] = b.Ord[i]
		if b.IDs != nil {
			ids[i] = uint64(b.IDs.Int[i])
		}
		switch {
		case b.Text.IsNull(i):
			res.Null++
			continue
		case len(b.Text.At(i)) == 0:
			res.Empty++
		}
		raw[i] = sigs.Bytes()[i*size : (i+1)*size]
	}
	res.Docs += int64(rows)
	res.Ends = lastOf(res.Ends, b.Ord)
	return w.Block([]colfile.Data{{Uint64: ids}, {Bytes: raw}})
}

// The assemble stage makes the file of each group of the work files of its units.
type assembleStage struct{ *minhash }

type assembleInput struct {
	ID    string   `json:"id"`
	Files []string `json:"files"`
}

func (s assembleStage) Name() string { return "assemble" }

func (s assembleStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return assembleActor(s), nil
}

type assembleActor struct{ *minhash }

func (a assembleActor) Close() error { return nil }

func (a assembleActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	in, err := flow.DecodeTask[assembleInput](task)
	if err != nil {
		return nil, err
	}
	dst, err := a.placeFile(out, 0, in.ID+".parquet")
	if err != nil {
		return nil, err
	}
	k := kindSig32
	if a.params.Sketch == lsh.Curator64 {
		k = kindSig64
	}
	t, err := newTable(dst, field{IDColumn, kindInt64}, field{MinhashColumn, k})
	if err != nil {
		return nil, err
	}
	for _, name := range in.Files {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := a.copy(ctx, t, name); err != nil {
			return nil, err
		}
	}
	return nil, errors.Join(t.close(), dst.Close())
}

// sigGroupBytes and sigGroupRows bound a row group of signatures.
const (
	sigGroupBytes = 2 << 20
	sigGroupRows  = 64 << 10
)

// copy appends a work file to the table.
func (a assembleActor) copy(ctx context.Context, t *table, name string) (err error) {
	f, err := flow.OpenColumns(ctx, a.work, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for f.Next() {
		ids, sigs := f.Uint64("id"), f.Blobs("sig")
		if f.Err != nil {
			return f.Err
		}
		for i, id := range ids {
			t.int(0, int64(id))
			if len(sigs[i]) == 0 {
				t.null(1)
			} else {
				t.signature(1, sigs[i])
			}
			if err := t.next(sigGroupRows, sigGroupBytes); err != nil {
				return err
			}
		}
	}
	return f.Err
}
