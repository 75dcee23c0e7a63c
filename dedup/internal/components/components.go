// Package components labels the vertices of a graph with the smallest vertex of their connected component. A graph that
// fits goes through one union-find forest in memory; a larger one through large-star and small-star rounds on disk
// (stars.go), in the memory of one partition whatever the number of vertices and the shape of the components. The
// labels are the same.
package components

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
)

// Config says what the graph is and how to go about it.
type Config struct {
	// Executor runs the stages, named "components", "star-00-large" and so on; Work is its work folder.
	Executor *executor.Executor
	Work     *executor.Work
	// Refs says whether keep keys take part in the order of the vertices.
	Refs flow.RefCodec
	// Plan is how memory is shared out.
	Plan flow.Plan
	// Edges calls f for every edge that one of the tasks given to [Config.Find] describes, whatever their order.
	// It is called by several actors at a time, and the Data of the tasks must be JSON. nil means that each task is the
	// [flow.RowResult] of a row file with the columns [EdgeColumns] of refs.
	Edges func(ctx context.Context, task executor.Task, f func(u, v flow.Ref) error) error
	// Vertices is at least the number of vertices.
	Vertices int64
	// Memory is what the forest may take in bytes; 0 means any amount, less than 0 none.
	Memory int64
	// Parts is the number of partitions on disk: as many as keep a partition's table, [VertexBytes] for each
	// vertex in it, within an actor's share of memory. Where it does not fit, it is made in several passes.
	Parts int
	// Watch, if not nil, is told the bytes that tables take; by several goroutines.
	Watch func(table string, held int64)
}

// edges is Edges, or what nil means.
func (c *Config) edges() func(ctx context.Context, task executor.Task, f func(u, v flow.Ref) error) error {
	if c.Edges == nil {
		return c.rowEdges
	}
	return c.Edges
}

// VertexBytes is the memory of one vertex in the table of a partition, at worst, with room for uneven partitions.
const VertexBytes = 96

// Labels are row files with the columns of [LabelColumns], ordinals of a vertex and of the smallest of its component. A
// vertex may occur in several rows, always with one label.
type Labels struct {
	Files []string
	// Rounds is the number of rounds on disk; 0 if the graph fitted in memory.
	Rounds int
}

// LabelColumns are the columns of label files.
var LabelColumns = []string{"doc", "label"}

// Find labels the vertices of all edges of the tasks.
func (c *Config) Find(ctx context.Context, tasks []executor.Task) (*Labels, error) {
	if c.Memory < 0 || c.Memory > 0 && unionFindBytes(c.Vertices) > c.Memory {
		return c.onDisk(ctx, tasks)
	}
	in := forestInput{Vertices: c.Vertices}
	for _, t := range tasks {
		in.Edges = append(in.Edges, t.Data)
	}
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	out, err := c.Executor.Execute(ctx, []executor.Stage{forestStage{c}}, []executor.Task{{ID: "all", Data: data}})
	if err != nil {
		return nil, err
	}
	files, err := flow.FilesOf(out)
	return &Labels{Files: files}, err
}

// The forest stage reads all edges into a union-find forest: no edge list, about 60 bytes a vertex while it grows.
type forestStage struct{ *Config }

// forestInput is the task: what the tasks of all edges say, and a bound on the number of vertices.
type forestInput struct {
	Edges    []json.RawMessage `json:"edges"`
	Vertices int64             `json:"vertices"`
}

func (s forestStage) Name() string                  { return "components" }
func (s forestStage) Resources() executor.Resources { return executor.Resources{CPUs: 1} }

func (s forestStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return forestActor(s), nil
}

type forestActor struct{ *Config }

func (a forestActor) Close() error { return nil }

func (a forestActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	in, err := flow.DecodeTask[forestInput](task)
	if err != nil {
		return nil, err
	}
	if _, err := out.Reserve(ctx, "components", unionFindBytes(in.Vertices)); err != nil {
		return nil, err
	}
	var u unionFind
	read := a.edges()
	for _, edges := range in.Edges {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		err := read(ctx, executor.Task{ID: task.ID, Data: edges}, func(x, y flow.Ref) error {
			u.union(x, y)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	w, err := flow.NewRowFile(out, "labels", LabelColumns)
	if err != nil {
		return nil, err
	}
	components := int64(0)
	for i := range u.vertices() {
		doc, label := u.label(i)
		if doc == label {
			components++
		}
		if err := w.Row(append(w.Buf[:0], doc, label)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	out.Count("candidates", int64(u.vertices()))
	out.Count("components", components)
	return flow.OneResult(task, flow.RowResult{File: w.Name, Rows: w.Rows()})
}

var errUnsettled = errors.New("dedup: connected components did not settle; this is a fault of the program, please report it")
