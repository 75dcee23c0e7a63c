package dedup

import (
	"context"
	"encoding/json"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
)

// The components stage labels every candidate with the pi-smallest document of its connected component in C. With
// Verify "none" the label is the verdict; otherwise labels decide nothing and only say which documents have to be
// looked at together.
//
// One task reads all pair files into a union-find forest: no edge list, about 60 bytes a candidate while it grows.
// Where that does not fit, the star stages of stars.go do the same on disk.
//
// Label files have columns doc and label; a document may occur in several rows, always with one label.
type componentsStage struct{ *run }

// componentsInput is the task: the pair files, and a bound on the number of candidates.
type componentsInput struct {
	Files    []string `json:"files"`
	Vertices int64    `json:"vertices"`
}

func (s componentsStage) Name() string { return "components" }

func (s componentsStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return componentsActor(s), nil
}

type componentsActor struct{ *run }

func (a componentsActor) Close() error { return nil }

func (a componentsActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	in, err := flow.DecodeTask[componentsInput](task)
	if err != nil {
		return nil, err
	}
	if _, err := out.Reserve(ctx, "components", unionFindBytes(in.Vertices)); err != nil {
		return nil, err
	}
	var u unionFind
	for _, file := range in.Files {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		err := flow.EachRow(a.work, file, a.refs.Columns("doc", "leader"), func(w []uint64) error {
			doc, rest := a.refs.Read(w)
			leader, _ := a.refs.Read(rest)
			u.union(doc, leader)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	w, err := flow.NewRowFile(out, "labels", labelColumns)
	if err != nil {
		return nil, err
	}
	for i := range u.vertices() {
		doc, label := u.label(i)
		if err := w.Row(append(w.Buf[:0], doc, label)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return flow.OneResult(task, flow.RowResult{File: w.Name, Rows: w.Rows()})
}

var labelColumns = []string{"doc", "label"}

// components labels the documents of C and returns the label files.
func (r *run) components(ctx context.Context, pairs []flow.RowResult) ([]string, error) {
	// Every candidate is a representative and occurs in a pair.
	in := componentsInput{Vertices: min(r.steps.Documents-r.steps.ExactDuplicates, 2*r.steps.BandPairs)}
	if r.Exec.onDisk || r.plan.Budget > 0 && unionFindBytes(in.Vertices) > r.plan.Budget/2 {
		return r.starComponents(ctx, pairs)
	}
	for _, p := range pairs {
		in.Files = append(in.Files, p.File)
	}
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	out, err := r.ex.Execute(ctx, []executor.Stage{componentsStage{r}}, []executor.Task{{ID: "all", Data: data}})
	if err != nil {
		return nil, err
	}
	return flow.FilesOf(out)
}
