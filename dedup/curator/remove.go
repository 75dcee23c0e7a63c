package curator

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/apache/arrow-go/v18/parquet"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// RemoveOptions are the parameters of TextDuplicatesRemovalWorkflow, with Curator's names.
type RemoveOptions struct {
	Exec
	// InputOptions: without IDField ids are generated as they were when duplicates were identified, so the input must be
	// the same. TextField and InputBlocksize mean nothing.
	InputOptions
	// Output is the folder for the documents that stay: a file for each input file, with its name and format.
	Output string
	// IDsToRemove are files and folders of removal ids, FuzzyDuplicateIds or ExactDuplicateIds.
	IDsToRemove []string
	// DuplicateIDField is the column of the ids in them; empty means IDField, or _curator_dedup_id.
	DuplicateIDField string
}

// RemoveResult is what the workflow says of itself.
type RemoveResult struct {
	Documents  int64 `json:"documents"`
	Kept       int64 `json:"kept"`
	NumRemoved int64 `json:"num_removed"`
	// Unmatched is the number of removal ids that no document has. Generated ids all have one.
	Unmatched int64 `json:"unmatched"`
	Bytes     int64 `json:"bytes"` // written
	// AlreadyDone is set when the output was there before the call, which then did nothing.
	AlreadyDone bool `json:"-"`
}

// Remove copies the documents whose ids are not among those to remove. All columns stay as they are.
func Remove(ctx context.Context, o RemoveOptions) (*RemoveResult, error) {
	o.Exec.ensureDefaults()
	o.InputOptions.ensureDefaults()
	var f faults
	o.Exec.validate(&f)
	o.InputOptions.validate(&f)
	f.check(o.Output != "", "--output: name the folder for the documents that stay")
	f.check(len(o.IDsToRemove) > 0, "--ids-to-remove: name the folder with the ids, %s or %s", FuzzyIDsDir, ExactIDsDir)
	if err := f.err(); err != nil {
		return nil, err
	}
	if err := o.agree(ctx); err != nil {
		return nil, err
	}
	if o.DuplicateIDField == "" {
		if o.DuplicateIDField = o.IDField; o.IDField == "" {
			o.DuplicateIDField = IDColumn
		}
	}
	in, err := o.resolve(ctx, o.Workers)
	if err != nil {
		return nil, err
	}
	removals, err := findTables(o.IDsToRemove)
	if err != nil {
		return nil, err
	}
	j, err := newJob("remove", o.Exec, 64, struct {
		Inputs           []inputFile `json:"inputs"`
		IDField          string      `json:"id_field"`
		IDsToRemove      []inputFile `json:"ids_to_remove"`
		DuplicateIDField string      `json:"duplicate_id_field"`
	}{in.fingerprints(), o.IDField, removals, o.DuplicateIDField}, o.Output)
	if err != nil {
		return nil, err
	}
	if err := j.apart(append(o.Inputs, o.IDsToRemove...)); err != nil {
		return nil, err
	}
	res := new(RemoveResult)
	done, err := j.finished(ctx, res)
	if err != nil {
		return nil, err
	}
	if res.AlreadyDone = done; done {
		return res, nil
	}
	r := &remover{job: j, input: in, o: &o}
	err = j.run(ctx, func(ctx context.Context) (any, error) {
		*res = RemoveResult{}
		return res, r.run(ctx, removals, res)
	})
	return res, o.explain(ctx, err)
}

type remover struct {
	*job
	*input
	o     *RemoveOptions
	first []int // first file of each writing task, and the number of files
}

func (r *remover) run(ctx context.Context, removals []inputFile, res *RemoveResult) error {
	// Consecutive files make a writing task.
	held, target := int64(0), r.splitTarget(r.set.Size())
	for i := range r.set.Files {
		if size := r.set.Files[i].Size; i == 0 || held+size > target || i-r.first[len(r.first)-1] >= maxUnitFiles {
			r.first, held = append(r.first, i), 0
		}
		held += r.set.Files[i].Size
	}
	tasks, err := r.removalTasks(ctx, removals)
	if err != nil {
		return err
	}
	if r.o.IDField != "" {
		if tasks, err = r.join(ctx, tasks, res); err != nil {
			return err
		}
	}
	ords := make([]string, len(r.first))
	if len(tasks) > 0 {
		out, err := r.ex.Shuffle(ctx, ordsStage{r}, tasks)
		if err != nil {
			return err
		}
		files, err := flow.DecodeAll[flow.RowResult](out)
		if err != nil {
			return err
		}
		for _, f := range files {
			ords[f.Part] = f.File
		}
	}
	inputs := make([]removeInput, len(r.first))
	for i := range inputs {
		inputs[i] = removeInput{First: r.first[i], End: len(r.set.Files), Ords: ords[i]}
		if i+1 < len(r.first) {
			inputs[i].End = r.first[i+1]
		}
	}
	if tasks, err = flow.EncodeTasks("files", inputs); err != nil {
		return err
	}
	out, err := r.ex.Execute(ctx, []executor.Stage{removeStage{r}}, tasks)
	if err != nil {
		return err
	}
	parts, err := flow.DecodeAll[corpus.Rewritten](out)
	if err != nil {
		return err
	}
	for _, p := range parts {
		res.Documents += p.Rows
		res.Kept += p.Kept
		res.Bytes += p.Bytes
	}
	res.NumRemoved = res.Documents - res.Kept
	return nil
}

// removal is a task that yields removal ids: row groups of a table, or ordinals of a work file.
type removal struct {
	Table *tableRange `json:"table,omitempty"`
	File  string      `json:"file,omitempty"`
}

// removalTasks makes tasks of the tables of removal ids.
func (r *remover) removalTasks(ctx context.Context, in []inputFile) ([]executor.Task, error) {
	var list []removal
	for _, f := range in {
		t, err := openTable(ctx, f.Path)
		if err != nil {
			return nil, err
		}
		n := t.groups()
		if err := t.close(); err != nil {
			return nil, err
		}
		const perTask = 64 // row groups, of a million ids at most
		for g := 0; g < n; g += perTask {
			list = append(list, removal{Table: &tableRange{f.Path, g, min(n, g+perTask)}})
		}
	}
	return flow.EncodeTasks("ids", list)
}

// eachRemoval calls f for every id of some row groups: an integer, or a string where the input's ids are strings.
func (r *remover) eachRemoval(ctx context.Context, in *tableRange, f func(id int64, str []byte) error) (err error) {
	t, err := openTable(ctx, in.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	typ := parquet.Types.Int64
	if r.set.IDKind == corpus.StringIDs {
		typ = parquet.Types.ByteArray
	}
	return t.guarded(func() error {
		column, err := t.column("--duplicate-id-field", r.o.DuplicateIDField, typ)
		if err != nil {
			return err
		}
		for g := in.First; g < in.End; g++ {
			if ctx.Err() != nil {
				return callbackError{context.Cause(ctx)}
			}
			c, err := t.open(g, column)
			if err != nil {
				return err
			}
			for range t.groupRows(g) {
				var id int64
				var str []byte
				if typ == parquet.Types.Int64 {
					id, err = c.int()
				} else {
					str, err = c.bytes()
				}
				if err != nil {
					return err
				}
				if err := f(id, str); err != nil {
					return callbackError{err}
				}
			}
		}
		return nil
	})
}

// With ids of the user's, removal ids are joined with the ids of the documents in the partition of their hash, which gives
// ordinals.

// join returns tasks with the ordinals of the documents to remove.
func (r *remover) join(ctx context.Context, removals []executor.Task, res *RemoveResult) ([]executor.Task, error) {
	if err := r.cut(ctx, r.splitTarget(r.set.Size())); err != nil {
		return nil, err
	}
	units, err := r.input.tasks()
	if err != nil {
		return nil, err
	}
	ids, err := r.ex.Execute(ctx, []executor.Stage{readIDsStage{r}}, units)
	if err != nil {
		return nil, err
	}
	files, err := flow.DecodeAll[flow.RowResult](ids)
	if err != nil {
		return nil, err
	}
	var list []removal
	docs := int64(0)
	for _, f := range files {
		list = append(list, removal{File: f.File})
		docs += f.Rows
	}
	tasks, err := flow.EncodeTasks("docs", list)
	if err != nil {
		return nil, err
	}
	out, err := r.ex.Shuffle(ctx, joinStage{r, r.parts(docs, 64)}, append(tasks, removals...))
	if err != nil {
		return nil, err
	}
	parts, err := flow.DecodeAll[joinPart](out)
	if err != nil {
		return nil, err
	}
	list = list[:0]
	for _, p := range parts {
		res.Unmatched += p.Unmatched
		if p.Rows > 0 {
			list = append(list, removal{File: p.File})
		}
	}
	return flow.EncodeTasks("ords", list)
}

// idWords makes two words of an id: equal ids have equal words, and different ones differ (strings in 128 bits of hash).
func idWords(id int64, str []byte, isString bool) (uint64, uint64) {
	if !isString {
		return 0, uint64(id)
	}
	h := lsh.ContentHash(str)
	return h.Hi, h.Lo
}

type readIDsStage struct{ *remover }

func (s readIDsStage) Name() string { return "read-ids" }

func (s readIDsStage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	return &readIDsActor{s, env}, nil
}

type readIDsActor struct {
	readIDsStage
	env *executor.Env
}

func (a *readIDsActor) Close() error { return nil }

var docIDColumns = []string{"hi", "lo", "ord"}

func (a *readIDsActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	u, err := flow.DecodeTask[unit](task)
	if err != nil {
		return nil, err
	}
	var res flow.RowResult
	var file *executor.File
	err = a.large.Reading(ctx, out.Meter, a.plan.MaxDoc, nil, func(maxBytes int64) (err error) {
		if file != nil { // a second try, with more memory
			if err := out.Remove(file); err != nil {
				return err
			}
		}
		if file, err = out.Create("ids"); err != nil {
			return err
		}
		res = flow.RowResult{File: file.Name()}
		cols := make([]colfile.Column, len(docIDColumns))
		for i, name := range docIDColumns {
			cols[i] = colfile.Column{Name: name, Kind: colfile.Uint64}
		}
		w := colfile.NewWriter(file, cols)
		err = a.readUnit(ctx, a.env, out, a.set, u, maxBytes, func(b *corpus.Batch) error {
			hi, lo := make([]uint64, len(b.Ord)), make([]uint64, len(b.Ord))
			for i := range b.Ord {
				if b.IDs.Kind == corpus.StringIDs {
					hi[i], lo[i] = idWords(0, b.IDs.String.At(i), true)
				} else {
					hi[i], lo[i] = idWords(b.IDs.Int[i], nil, false)
				}
			}
			return w.Block([]colfile.Data{{Uint64: hi}, {Uint64: lo}, {Uint64: b.Ord}})
		})
		if err == nil {
			err = w.Finish()
			res.Rows = w.Rows()
		}
		return errors.Join(err, file.Close())
	})
	if err != nil {
		return nil, err
	}
	return flow.OneResult(task, res)
}

// joinStage finds the documents of removal ids. Its records are the words of an id and 0 for a removal, or 1 + the
// ordinal of a document; so in sorted order a removal comes before its documents.
type joinStage struct {
	*remover
	nparts int
}

type joinPart struct {
	flow.RowResult
	Unmatched int64 `json:"unmatched"`
}

var joinRecords = flow.Layout{Kind: 'j', Words: 3}

func (s joinStage) Name() string    { return "join" }
func (s joinStage) TotalParts() int { return s.nparts }

func (s joinStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &joinActor{s, env}, nil
}

type joinActor struct {
	joinStage
	env *executor.Env
}

func (a *joinActor) Close() error { return nil }

func (a *joinActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := flow.DecodeTask[removal](task)
	if err != nil {
		return err
	}
	w := a.records(out, joinRecords, a.nparts)
	send := func(hi, lo, what uint64) error {
		return w.Add(ctx, flow.PartOf(hi^lo, a.nparts), hi, lo, what)
	}
	if in.Table != nil {
		err = a.eachRemoval(ctx, in.Table, func(id int64, str []byte) error {
			hi, lo := idWords(id, str, a.set.IDKind == corpus.StringIDs)
			return send(hi, lo, 0)
		})
	} else {
		err = flow.EachRow(ctx, a.work, in.File, docIDColumns, func(r []uint64) error { return send(r[0], r[1], r[2]+1) })
	}
	if err != nil {
		return err
	}
	return w.Flush(ctx)
}

func (a *joinActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) (_ []executor.Task, err error) {
	s := a.sorter(a.env, 3, false)
	defer s.Close()
	err = flow.EachRecord(ctx, part, joinRecords, func(w []uint64, _ []byte) error { return s.Add(w, nil) })
	if err != nil {
		return nil, err
	}
	f, err := flow.NewRowFile(out, "ords", ordColumns)
	if err != nil {
		return nil, err
	}
	var res joinPart
	var last [2]uint64
	removed, matched := false, true
	end := func() {
		if removed && !matched {
			res.Unmatched++
		}
	}
	first := true
	err = s.Each(ctx, func(w []uint64, _ []byte) error {
		if key := [2]uint64(w); first || key != last {
			end()
			first, last, removed, matched = false, key, w[2] == 0, false
		}
		if w[2] == 0 || !removed {
			return nil
		}
		matched = true
		return f.Row(append(f.Buf[:0], w[2]-1))
	})
	if err != nil {
		return nil, err
	}
	end()
	if err := f.Close(); err != nil {
		return nil, err
	}
	res.RowResult = flow.RowResult{Part: part.Index(), File: f.Name, Rows: f.Rows()}
	return []executor.Task{flow.PartTask(part.Index(), res)}, nil
}

// ordsStage brings the ordinals to remove to the writing task of their file, sorted.
type ordsStage struct{ *remover }

var (
	ordColumns = []string{"ord"}
	ordRecords = flow.Layout{Kind: 'o', Words: 1}
)

func (s ordsStage) Name() string    { return "ords" }
func (s ordsStage) TotalParts() int { return len(s.first) }

func (s ordsStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &ordsActor{s, env}, nil
}

type ordsActor struct {
	ordsStage
	env *executor.Env
}

func (a *ordsActor) Close() error { return nil }

func (a *ordsActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := flow.DecodeTask[removal](task)
	if err != nil {
		return err
	}
	w := a.records(out, ordRecords, len(a.first))
	send := func(ord uint64) error {
		file, _ := corpus.SplitOrdinal(ord)
		if ord >= signBit || file >= len(a.set.Files) {
			return fmt.Errorf("curator: id %d is to be removed, and the input has no such document: it is not the input that the ids "+
				"were made from, or --id-field is missing", int64(ord))
		}
		return w.Add(ctx, sort.SearchInts(a.first, file+1)-1, ord)
	}
	if in.Table != nil {
		err = a.eachRemoval(ctx, in.Table, func(id int64, _ []byte) error { return send(uint64(id)) })
	} else {
		err = flow.EachRow(ctx, a.work, in.File, ordColumns, func(r []uint64) error { return send(r[0]) })
	}
	if err != nil {
		return err
	}
	return w.Flush(ctx)
}

func (a *ordsActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) (_ []executor.Task, err error) {
	s := a.sorter(a.env, 1, false)
	defer s.Close()
	err = flow.EachRecord(ctx, part, ordRecords, func(w []uint64, _ []byte) error { return s.Add(w, nil) })
	if err != nil {
		return nil, err
	}
	f, err := flow.NewRowFile(out, "ords", ordColumns)
	if err != nil {
		return nil, err
	}
	last, first := uint64(0), true
	err = s.Each(ctx, func(w []uint64, _ []byte) error {
		if !first && w[0] == last {
			return nil
		}
		first, last = false, w[0]
		return f.Row(w)
	})
	if err != nil {
		return nil, err
	}
	return f.Finish(out, part)
}

// removeStage writes files without what is to be removed.
type removeStage struct{ *remover }

type removeInput struct {
	First, End int    // files
	Ords       string // work file of the ordinals to remove; empty if there are none
}

func (s removeStage) Name() string { return "remove" }

func (s removeStage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	return &removeActor{s, env}, nil
}

type removeActor struct {
	removeStage
	env *executor.Env
}

func (a *removeActor) Close() error { return nil }

func (a *removeActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) (_ []executor.Task, err error) {
	in, err := flow.DecodeTask[removeInput](task)
	if err != nil {
		return nil, err
	}
	ords := &ordReader{}
	if in.Ords != "" {
		if ords.f, err = flow.OpenColumns(ctx, a.work, in.Ords); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, ords.f.Close()) }()
	}
	var total corpus.Rewritten
	for i := in.First; i < in.End; i++ {
		if err := a.set.Changed(ctx, i); err != nil {
			return nil, err
		}
		dst, err := a.placeFile(out, 0, a.set.Files[i].Path)
		if err != nil {
			return nil, err
		}
		done, err := a.set.Rewrite(ctx, i, func(row int64) bool { return !ords.has(corpus.Ordinal(i, row)) },
			corpus.Sink{W: dst, Alloc: a.env.Alloc})
		if err = errors.Join(err, dst.Close(), ords.err()); err != nil {
			return nil, err
		}
		total.Rows += done.Rows
		total.Kept += done.Kept
		total.Bytes += done.Bytes
		out.Progress(done.Bytes)
	}
	if ords.missed == nil {
		if ord, ok := ords.peek(); ok {
			ords.missed = &ord
		}
	}
	if err := ords.err(); err != nil {
		return nil, err
	}
	if m := ords.missed; m != nil {
		file, row := corpus.SplitOrdinal(*m)
		return nil, fmt.Errorf("curator: %s: row %d (counted from 0) is to be removed, and there is no such document: it is not the input that the ids were made from",
			a.set.Files[file].Name, row)
	}
	out.Count("kept", total.Kept)
	return flow.OneResult(task, total)
}

// ordReader walks over sorted ordinals.
type ordReader struct {
	f      *flow.ColumnReader // nil for none
	block  []uint64
	missed *uint64 // an ordinal that no document has
}

func (r *ordReader) err() error {
	if r.f == nil {
		return nil
	}
	return r.f.Err
}

func (r *ordReader) peek() (uint64, bool) {
	for r.f != nil && len(r.block) == 0 {
		if !r.f.Next() {
			return 0, false
		}
		r.block = r.f.Uint64("ord")
	}
	if len(r.block) == 0 {
		return 0, false
	}
	return r.block[0], true
}

// has reports whether ord is among the ordinals; they are asked for in ascending order.
func (r *ordReader) has(ord uint64) bool {
	for {
		next, ok := r.peek()
		if !ok || next > ord {
			return false
		}
		r.block = r.block[1:]
		if next == ord {
			return true
		}
		if r.missed == nil {
			r.missed = &next
		}
	}
}
