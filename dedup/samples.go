package dedup

import (
	"context"
	"errors"
	"slices"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
)

// The samples stage rereads the few documents whose texts the report shows, in order, passing over files and row groups
// that hold none. A task is a split; it writes a sample file of one row per block:
//
//	ord    the ordinal
//	bytes  length of the text as it stands in the file
//	id     the user's id: "id" or "sid" as in sign files
//	text   the text, at most sampleBytes of it
type samplesStage struct{ *run }

// samplesInput is a task: the wanted documents of a split in ascending order.
type samplesInput struct {
	Split int      `json:"split"`
	Ords  []uint64 `json:"ords"`
}

// samplesResult is the sample file of a split; block i holds document Ords[i].
type samplesResult struct {
	File string   `json:"file"`
	Ords []uint64 `json:"ords"`
}

// sampleBytes is how much of a text is looked at for the report.
const sampleBytes = 1 << 20

func (s samplesStage) Name() string { return "samples" }

func (s samplesStage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	return &samplesActor{s.run, env}, nil
}

type samplesActor struct {
	*run
	env *executor.Env
}

func (a *samplesActor) Close() error { return nil }

func (a *samplesActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) (_ []executor.Task, err error) {
	in, err := flow.DecodeTask[samplesInput](task)
	if err != nil {
		return nil, err
	}
	signed, err := a.signed(ctx, in)
	if err != nil {
		return nil, err
	}
	file, err := out.Create("texts")
	if err != nil {
		return nil, err
	}
	w := colfile.NewWriter(file, a.sampleColumns())
	kept := a.texts.Open(in.Split)
	defer kept.Close()
	if kept == nil {
		turn, err := a.readTurn(ctx, out.Meter, &a.signs[in.Split], 1)
		if err != nil {
			return nil, err
		}
		defer turn.Done()
	}
	at := 0
	err = a.eachText(ctx, a.env.Alloc, in.Split, kept, eachOf(in.Ords), func(ord uint64, text []byte, null bool) error {
		if at == len(in.Ords) || in.Ords[at] != ord || textHash(text, null) != signed[at].text {
			return a.changed(ord)
		}
		at++
		return w.Block(a.sampleRow(signed[at-1], text))
	})
	if err == nil && at < len(in.Ords) {
		err = a.changed(in.Ords[at])
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(w.Finish(), file.Close()); err != nil {
		return nil, err
	}
	return flow.OneResult(task, samplesResult{file.Name(), in.Ords})
}

// eachOf yields ordinals one by one, for corpus.ReadOptions.Select.
func eachOf(ords []uint64) func() (uint64, bool, error) {
	return func() (ord uint64, ok bool, err error) {
		if len(ords) > 0 {
			ord, ok, ords = ords[0], true, ords[1:]
		}
		return ord, ok, nil
	}
}

// signed finds what the sign file says of the wanted documents.
func (a *samplesActor) signed(ctx context.Context, in samplesInput) (_ []outcome, err error) {
	docs := docReader{run: a.run, ctx: ctx, signs: [][]string{a.signs[in.Split].Files}, removals: []string{""}}
	defer docs.close()
	out := make([]outcome, 0, len(in.Ords))
	for len(out) < len(in.Ords) {
		more, err := docs.read()
		if err != nil {
			return nil, err
		}
		if !more {
			return nil, a.changed(in.Ords[len(out)])
		}
		for _, d := range docs.block {
			if len(out) < len(in.Ords) && d.ord == in.Ords[len(out)] {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// sampleColumns are the columns of a sample file.
func (r *run) sampleColumns() []colfile.Column {
	cols := []colfile.Column{{Name: "ord", Kind: colfile.Uint64}, {Name: "bytes", Kind: colfile.Uint64}, {Name: "text", Kind: colfile.Bytes}}
	switch kind := r.set.IDKind; {
	case kind.Ints():
		cols = append(cols, colfile.Column{Name: "id", Kind: colfile.Uint64})
	case kind.Bytes():
		cols = append(cols, colfile.Column{Name: "sid", Kind: colfile.Bytes})
	}
	return cols
}

func (r *run) sampleRow(d outcome, text []byte) []colfile.Data {
	row := []colfile.Data{
		{Uint64: []uint64{d.ord}}, {Uint64: []uint64{uint64(len(text))}}, {Bytes: [][]byte{text[:min(len(text), sampleBytes)]}},
	}
	switch kind := r.set.IDKind; {
	case kind.Ints():
		row = append(row, colfile.Data{Uint64: []uint64{d.id.num}})
	case kind.Bytes():
		row = append(row, colfile.Data{Bytes: [][]byte{[]byte(d.id.str)}})
	}
	return row
}

// sample is a document of the report.
type sample struct {
	id   userID
	size int64 // bytes of the whole text
	text []byte
}

// sampleStore finds the samples of a run.
type sampleStore struct {
	*run
	ctx context.Context
	at  map[uint64]samplePlace
}

type samplePlace struct {
	file  string
	block int
}

// samples runs the samples stage for everything that the report will show.
func (r *run) samples(ctx context.Context) (*sampleStore, error) {
	store := &sampleStore{run: r, ctx: ctx, at: make(map[uint64]samplePlace)}
	wanted := make([][]uint64, len(r.splits))
	want := func(removals []removal) {
		for _, m := range removals {
			for _, ord := range []uint64{m.Doc, m.Kept} {
				split := r.splitOf(ord)
				wanted[split] = append(wanted[split], ord)
			}
		}
	}
	want(r.found.Near)
	want(r.found.Exact)
	for _, c := range r.found.Clusters {
		want(c.Removed)
	}
	var inputs []samplesInput
	var sizes []int64
	for split, ords := range wanted {
		if len(ords) > 0 {
			slices.Sort(ords)
			inputs = append(inputs, samplesInput{split, slices.Compact(ords)})
			sizes = append(sizes, r.splits[split].Size)
		}
	}
	tasks, err := flow.EncodeTasks("split", inputs)
	if err != nil || len(tasks) == 0 {
		return store, err
	}
	for i, n := range sizes {
		tasks[i].Size = n
	}
	out, err := r.ex.Execute(ctx, []executor.Stage{samplesStage{r}}, tasks)
	if err != nil {
		return nil, err
	}
	results, err := flow.DecodeAll[samplesResult](out)
	if err != nil {
		return nil, err
	}
	for _, res := range results {
		for i, ord := range res.Ords {
			store.at[ord] = samplePlace{res.File, i}
		}
	}
	return store, nil
}

// get reads one sample. Its text is a copy.
func (s *sampleStore) get(ord uint64) (_ sample, err error) {
	place, ok := s.at[ord]
	if !ok {
		return sample{}, s.changed(ord)
	}
	f, err := flow.OpenColumns(s.ctx, s.work, place.file)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if !f.Block(place.block) || f.Rows != 1 {
		return sample{}, errors.Join(f.Err, s.changed(ord))
	}
	id, err := userIDs(f, s.set.IDKind)
	if err != nil {
		return sample{}, err
	}
	out := sample{id: id(0)}
	ords, size, text := f.Uint64("ord"), f.Uint64("bytes"), f.Blobs("text")
	if f.Err != nil || ords[0] != ord {
		return sample{}, errors.Join(f.Err, s.changed(ord))
	}
	out.size, out.text = int64(size[0]), slices.Clone(text[0])
	return out, nil
}
