package curator

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// ExactOptions are the parameters of ExactDeduplicationWorkflow, with Curator's names. Start from [DefaultExactOptions].
type ExactOptions struct {
	Exec
	// InputOptions: with IDField, ids are the user's, integers or strings (Curator's assign_id=False).
	InputOptions
	// Output is the folder for ExactDuplicateIds and the state of the id generator.
	Output string
	// TotalNparts is the number of partitions; 0 means a third of the number of groups of files, at least 1.
	TotalNparts int
}

// DefaultExactOptions returns Curator's defaults: groups of 2 GiB.
func DefaultExactOptions() ExactOptions {
	return ExactOptions{InputOptions: InputOptions{InputBlocksize: "2GiB"}}
}

// ExactResult is what the workflow says of itself.
type ExactResult struct {
	Documents     int64 `json:"documents"`
	Groups        int64 `json:"num_groups"`     // of two documents and more
	NumDuplicates int64 `json:"num_duplicates"` // to remove
	Partitions    int   `json:"total_nparts"`
	// IDGenerator is the path of the state of the id generator; empty with ids of the user's.
	IDGenerator string `json:"id_generator_path"`
	// AlreadyDone is set when the output was there before the call, which then did nothing.
	AlreadyDone bool `json:"-"`

	Last []int64 `json:"last"` // largest id of each input file
}

// Exact finds documents with the same text, by the MD5 of its bytes; null and empty texts are the same. Of each group
// the smallest id stays, and the others are written, ascending in each partition.
func Exact(ctx context.Context, o ExactOptions) (*ExactResult, error) {
	o.Exec.ensureDefaults()
	o.InputOptions.ensureDefaults()
	var f faults
	o.Exec.validate(&f)
	o.InputOptions.validate(&f)
	f.check(o.Output != "", "--output: name the folder for %s", ExactIDsDir)
	f.check(o.TotalNparts >= 0 && o.TotalNparts <= maxNparts, "--total-nparts %d: must be from 1 to %d, or 0 to go by the input", o.TotalNparts, maxNparts)
	if err := f.err(); err != nil {
		return nil, err
	}
	if err := o.agree(ctx); err != nil {
		return nil, err
	}
	in, err := o.resolve(ctx, o.Workers)
	if err != nil {
		return nil, err
	}
	nparts := o.TotalNparts
	if nparts == 0 {
		nparts = min(maxNparts, max(1, len(in.groups)/3))
	}
	j, err := newJob("exact", o.Exec, 64, struct {
		Inputs      []inputFile `json:"inputs"`
		TextField   string      `json:"text_field"`
		IDField     string      `json:"id_field"`
		TotalNparts int         `json:"total_nparts"`
	}{in.fingerprints(), o.TextField, o.IDField, nparts}, filepath.Join(o.Output, ExactIDsDir))
	if err != nil {
		return nil, err
	}
	if err := j.apart(o.Inputs); err != nil {
		return nil, err
	}
	res := new(ExactResult)
	done, err := j.finished(ctx, res)
	if err != nil {
		return nil, err
	}
	if res.AlreadyDone = done; !done {
		e := &exact{job: j, input: in, nparts: nparts, id: field{o.IDField, kindInt64}}
		if o.IDField == "" {
			e.id.name = IDColumn
		}
		if e.strings = in.set.IDKind == corpus.StringIDs; e.strings {
			e.id.kind = kindString
		}
		err := j.run(ctx, func(ctx context.Context) (any, error) {
			*res = ExactResult{Partitions: nparts}
			return res, e.run(ctx, res)
		})
		if err != nil {
			return nil, o.explain(ctx, err)
		}
	}
	if o.IDField != "" {
		return res, nil
	}
	res.IDGenerator = filepath.Join(o.Output, ExactIDGenerator)
	return res, o.writeIDGenerator(res.IDGenerator, in.paths, res.Last)
}

// exact is one run.
type exact struct {
	*job
	*input
	nparts  int
	id      field
	strings bool // ids are strings
}

func (e *exact) run(ctx context.Context, res *ExactResult) error {
	if err := e.cut(ctx, e.splitTarget(e.set.Size())); err != nil {
		return err
	}
	tasks, err := e.input.tasks()
	if err != nil {
		return err
	}
	hashed, err := e.ex.Execute(ctx, []executor.Stage{hashStage{e}}, tasks)
	if err != nil {
		return err
	}
	units, err := flow.DecodeAll[hashResult](hashed)
	if err != nil {
		return err
	}
	for _, u := range units {
		res.Documents += u.Docs
	}
	res.Last = e.ends(func(yield func(fileEnd)) {
		for _, u := range units {
			for _, end := range u.Ends {
				yield(end)
			}
		}
	})
	out, err := e.ex.Shuffle(ctx, identicalStage{e}, hashed)
	if err != nil {
		return err
	}
	parts, err := flow.DecodeAll[idsPart](out)
	if err != nil {
		return err
	}
	for _, p := range parts {
		res.Groups += p.Groups
		res.NumDuplicates += p.IDs
	}
	return e.unchanged(ctx)
}

// The hash stage reads the texts: a work file for each unit with the MD5 of every document, and its id.
type hashStage struct{ *exact }

type hashResult struct {
	File string    `json:"file"`
	Docs int64     `json:"docs"`
	Ends []fileEnd `json:"ends"`
}

func (s hashStage) Name() string { return "hash" }

func (s hashStage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	return &hashActor{s, env}, nil
}

type hashActor struct {
	hashStage
	env *executor.Env
}

func (a *hashActor) Close() error { return nil }

func (e *exact) columns() []colfile.Column {
	cols := []colfile.Column{{Name: "hi", Kind: colfile.Uint64}, {Name: "lo", Kind: colfile.Uint64}}
	if e.strings {
		return append(cols, colfile.Column{Name: "sid", Kind: colfile.Bytes})
	}
	return append(cols, colfile.Column{Name: "id", Kind: colfile.Uint64})
}

func (a *hashActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	u, err := flow.DecodeTask[unit](task)
	if err != nil {
		return nil, err
	}
	var res hashResult
	err = a.unitFile(ctx, a.env, out, a.set, u, "hashes", a.columns(), func(name string) { res = hashResult{File: name} },
		func(b *corpus.Batch, w *colfile.Writer) error { return a.batch(b, w, &res) })
	if err != nil {
		return nil, err
	}
	out.Count("documents", res.Docs)
	return flow.OneResult(task, res)
}

// batch hashes a batch of documents.
func (a *hashActor) batch(b *corpus.Batch, w *colfile.Writer, res *hashResult) error {
	rows := b.Text.Rows
	hi, lo := make([]uint64, rows), make([]uint64, rows)
	var id colfile.Data
	for i := range rows {
		sum := md5.Sum(b.Text.At(i)) // nothing for a null
		hi[i], lo[i] = binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])
		switch {
		case a.strings:
			id.Bytes = append(id.Bytes, b.IDs.String.At(i))
		case b.IDs != nil:
			id.Uint64 = append(id.Uint64, uint64(b.IDs.Int[i])^signBit)
		default:
			id.Uint64 = append(id.Uint64, b.Ord[i]^signBit)
		}
	}
	res.Docs += int64(rows)
	res.Ends = lastOf(res.Ends, b.Ord)
	return w.Block([]colfile.Data{{Uint64: hi}, {Uint64: lo}, id})
}

// The identical stage gathers documents by the MD5 of their text, in the partition of the hash of its hexadecimal digits,
// which is Curator's key.
type identicalStage struct{ *exact }

func (s identicalStage) Name() string    { return "identical" }
func (s identicalStage) TotalParts() int { return s.nparts }

// layout is MD5 and id.
func (e *exact) layout() flow.Layout {
	if e.strings {
		return flow.Layout{Kind: 'x', Words: 2, Blob: true}
	}
	return flow.Layout{Kind: 'x', Words: 3}
}

func (s identicalStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &identicalActor{s, env}, nil
}

type identicalActor struct {
	identicalStage
	env *executor.Env
}

func (a *identicalActor) Close() error { return nil }

func (a *identicalActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) (err error) {
	in, err := flow.DecodeTask[hashResult](task)
	if err != nil {
		return err
	}
	f, err := flow.OpenColumns(ctx, a.work, in.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := a.records(out, a.layout(), a.nparts)
	keys := newKeyHasher(a.nparts)
	defer keys.release()
	var name [2 * md5.Size]byte
	var sum [md5.Size]byte
	for f.Next() {
		hi, lo := f.Uint64("hi"), f.Uint64("lo")
		var ids []uint64
		var strs [][]byte
		if a.strings {
			strs = f.Blobs("sid")
		} else {
			ids = f.Uint64("id")
		}
		if f.Err != nil {
			return f.Err
		}
		for i := range hi {
			binary.BigEndian.PutUint64(sum[:], hi[i])
			binary.BigEndian.PutUint64(sum[8:], lo[i])
			hex.Encode(name[:], sum[:])
			keys.string(name[:])
		}
		parts, err := keys.parts()
		if err != nil {
			return err
		}
		for i := range hi {
			if a.strings {
				err = w.AddBlob(ctx, int(parts[i]), strs[i], hi[i], lo[i])
			} else {
				err = w.Add(ctx, int(parts[i]), hi[i], lo[i], ids[i])
			}
			if err != nil {
				return err
			}
		}
	}
	if f.Err != nil {
		return f.Err
	}
	return w.Flush(ctx)
}

func (a *identicalActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) (_ []executor.Task, err error) {
	l := a.layout()
	groups := a.sorter(a.env, l.Words, l.Blob) // by text, then id
	removed := a.sorter(a.env, 1, l.Blob)      // by id; of a string the word is 0
	defer groups.Close()
	defer removed.Close()
	if err := flow.EachRecord(ctx, part, l, groups.Add); err != nil {
		return nil, err
	}
	var res idsPart
	var last [2]uint64
	members := 0
	err = groups.Each(ctx, func(w []uint64, id []byte) error {
		if key := [2]uint64(w); members == 0 || key != last {
			last, members = key, 1
			return nil
		}
		if members++; members == 2 {
			res.Groups++
		}
		res.IDs++
		if a.strings {
			return removed.Add([]uint64{0}, id)
		}
		return removed.Add(w[2:], nil)
	})
	if err != nil {
		return nil, err
	}
	groups.Close()
	err = a.writeIDs(out, 0, part.Index(), a.id, res.IDs, func(add func(int64, []byte) error) error {
		return removed.Each(ctx, func(w []uint64, str []byte) error {
			if a.strings {
				return add(0, str)
			}
			return add(int64(w[0]^signBit), nil)
		})
	})
	if err != nil {
		return nil, err
	}
	out.Count("removal_ids", res.IDs)
	return []executor.Task{flow.PartTask(part.Index(), res)}, nil
}

// String says what was found, in one line.
func (r *ExactResult) String() string {
	return fmt.Sprintf("%d documents, %d groups of identical texts, %d duplicates", r.Documents, r.Groups, r.NumDuplicates)
}
