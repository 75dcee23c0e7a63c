package dedup

import (
	"context"

	"github.com/dovetail-dedup/dovetail/dedup/internal/components"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
)

// components labels every candidate with the pi-smallest document of its connected component in C and returns the label
// files. With Verify "none" the label is the verdict; otherwise labels decide nothing and only say which documents have
// to be looked at together.
func (r *run) components(ctx context.Context, pairs []flow.RowResult) ([]string, error) {
	tasks, err := flow.EncodeTasks("file", pairs)
	if err != nil {
		return nil, err
	}
	// Every candidate is a representative and occurs in a pair.
	vertices := min(r.steps.Documents-r.steps.ExactDuplicates, 2*r.steps.BandPairs)
	memory := r.plan.Budget / 2
	if r.Exec.onDisk {
		memory = -1
	}
	find := components.Config{
		Executor: r.ex, Work: r.work, Plan: r.plan, Refs: r.refs, Vertices: vertices, Memory: memory,
		Parts: r.parts(vertices, components.VertexBytes), Watch: r.watch,
	}
	labels, err := find.Find(ctx, tasks)
	if err != nil {
		return nil, err
	}
	return labels.Files, nil
}
