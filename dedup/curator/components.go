package curator

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/dovetail-dedup/dovetail/dedup/internal/components"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// ComponentsOptions are the parameters of Curator's last pipeline: BucketsToEdgesStage, ConnectedComponentsStage and
// IdentifyDuplicatesStage. Start from [DefaultComponentsOptions].
type ComponentsOptions struct {
	Exec
	// Inputs are files and folders of buckets, as LSH or Curator writes them.
	Inputs []string
	// Cache is the folder for BucketsToEdgesStage and ConnectedComponentsStage.
	Cache string
	// Output is the folder for FuzzyDuplicateIds.
	Output string
	// IDField is the column of lists of ids in the input, and the id column of the output.
	IDField string
	// Files is the number of files of ConnectedComponentsStage; Curator writes one for each GPU. There are never more
	// than files with buckets.
	Files int
	// TotalNparts is the number of files of FuzzyDuplicateIds; 0 means as many as of ConnectedComponentsStage.
	TotalNparts int
}

// DefaultComponentsOptions returns what Curator does on one GPU.
func DefaultComponentsOptions() ComponentsOptions {
	return ComponentsOptions{IDField: IDColumn, Files: 1}
}

func (o *ComponentsOptions) validate() error {
	var f faults
	o.Exec.validate(&f)
	f.check(len(o.Inputs) > 0, "--input: name the folder with the buckets, LSHStage")
	f.check(o.Cache != "", "--cache: name the cache folder")
	f.check(o.Output != "", "--output: name the folder for %s", FuzzyIDsDir)
	f.check(o.IDField != "", "--id-field: name the column of ids")
	validateFiles(&f, o.Files)
	f.check(o.TotalNparts >= 0 && o.TotalNparts <= maxNparts, "--total-nparts %d: must be from 1 to %d, or 0 to go by --components-files", o.TotalNparts, maxNparts)
	return f.err()
}

func validateFiles(f *faults, files int) {
	f.check(files >= 1 && files <= maxNparts, "--components-files %d: must be from 1 to %d", files, maxNparts)
}

// ComponentsResult is what the stages say of themselves.
type ComponentsResult struct {
	Edges         int64 `json:"edges"`
	Documents     int64 `json:"documents"`      // in groups of two and more
	Groups        int64 `json:"num_groups"`     // of two documents and more
	NumDuplicates int64 `json:"num_duplicates"` // to remove
	Rounds        int   `json:"rounds"`         // of star operations on disk; 0 if the graph fitted in memory
	// AlreadyDone is set when the output was there before the call, which then did nothing.
	AlreadyDone bool `json:"-"`
}

// Components turns buckets into the ids to remove: edges between neighbours in a bucket, the connected components of the
// edges, and of every component all but the smallest id. Without buckets nothing is written, as with Curator.
func Components(ctx context.Context, o ComponentsOptions) (*ComponentsResult, error) {
	o.Exec.ensureDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := o.agree(ctx); err != nil {
		return nil, err
	}
	in, err := findTables(o.Inputs)
	if err != nil {
		return nil, err
	}
	j, err := newJob("components", o.Exec, 1, struct {
		Inputs      []inputFile `json:"inputs"`
		IDField     string      `json:"id_field"`
		Files       int         `json:"components_files"`
		TotalNparts int         `json:"total_nparts"`
	}{in, o.IDField, o.Files, o.TotalNparts},
		filepath.Join(o.Cache, EdgesDir), filepath.Join(o.Cache, ComponentsDir), filepath.Join(o.Output, FuzzyIDsDir))
	if err != nil {
		return nil, err
	}
	if err := j.apart(o.Inputs); err != nil {
		return nil, err
	}
	res := new(ComponentsResult)
	done, err := j.finished(ctx, res)
	if err != nil {
		return nil, err
	}
	if res.AlreadyDone = done; done {
		return res, nil
	}
	c := &componentsJob{job: j, o: &o}
	if err := c.inputs(ctx, in); err != nil {
		return nil, err
	}
	if len(c.edges) == 0 {
		return new(ComponentsResult), nil
	}
	return res, j.run(ctx, func(ctx context.Context) (any, error) {
		*res = ComponentsResult{}
		return res, c.run(ctx, res)
	})
}

// Output folders of a componentsJob.
const (
	edgesFolder = iota
	componentsFolder
	idsFolder
)

type componentsJob struct {
	*job
	o     *ComponentsOptions
	edges []edgesInput
	names []string // of the files of ConnectedComponentsStage
}

// edgesInput is a file of buckets, and the task id of its edges.
type edgesInput struct {
	ID   string `json:"id"`
	File string `json:"file"`
}

// inputs names the tasks of files that have buckets, which Curator counts from 0.
func (c *componentsJob) inputs(ctx context.Context, in []inputFile) error {
	for _, f := range in {
		t, err := openTable(ctx, f.Path)
		if err != nil {
			return err
		}
		rows := t.rows()
		if err := t.close(); err != nil {
			return err
		}
		if rows > 0 {
			c.edges = append(c.edges, edgesInput{fmt.Sprintf("0_%d", len(c.edges)), f.Path})
		}
	}
	return nil
}

func (c *componentsJob) run(ctx context.Context, res *ComponentsResult) error {
	tasks, err := flow.EncodeTasks("part", c.edges)
	if err != nil {
		return err
	}
	edges, err := c.ex.Execute(ctx, []executor.Stage{edgesStage{c}}, tasks)
	if err != nil {
		return err
	}
	found, err := flow.DecodeAll[edgesResult](edges)
	if err != nil {
		return err
	}
	vertices := int64(0) // at most
	for _, e := range found {
		res.Edges += e.Edges
		vertices += e.Members
	}
	if err := c.nameFiles(edges); err != nil {
		return err
	}
	memory := c.plan.Budget / 2
	if c.onDisk {
		memory = -1
	}
	find := components.Config{
		Executor: c.ex, Work: c.work, Plan: c.plan, Vertices: vertices, Memory: memory,
		Parts: c.parts(vertices, components.VertexBytes), Edges: c.eachEdge,
	}
	labels, err := find.Find(ctx, edges)
	if err != nil {
		return err
	}
	res.Rounds = labels.Rounds
	if tasks, err = flow.EncodeTasks("labels", labels.Files); err != nil {
		return err
	}
	if _, err = c.ex.Shuffle(ctx, groupsStage{c}, tasks); err != nil {
		return err
	}
	nparts := c.o.TotalNparts
	if nparts == 0 {
		nparts = len(c.names)
	}
	ids, err := c.ex.Shuffle(ctx, identifyStage{c, nparts}, tasks)
	if err != nil {
		return err
	}
	parts, err := flow.DecodeAll[idsPart](ids)
	if err != nil {
		return err
	}
	for _, p := range parts {
		res.Groups += p.Groups
		res.NumDuplicates += p.IDs
	}
	res.Documents = res.Groups + res.NumDuplicates
	return nil
}

// nameFiles names the files of ConnectedComponentsStage: each after the first task of the batch that its process would
// have had. A task that comes out of BucketsToEdgesStage is named after its input and its file.
func (c *componentsJob) nameFiles(tasks []executor.Task) error {
	batches, err := executor.Batches(tasks, 0, c.o.Files)
	if err != nil {
		return err
	}
	at := 0
	for _, b := range batches {
		in := c.edges[at]
		path := filepath.Join(c.folders[edgesFolder].final, in.ID+".parquet")
		c.names = append(c.names, in.ID+"_"+fileGroupID([]string{path})+".parquet")
		at += len(b)
	}
	return nil
}

// The edges stage makes a chain of every bucket: an edge from each id to the next. It does not drop edges that occur in
// several buckets, as Curator does not.
type edgesStage struct{ *componentsJob }

// edgesResult describes a file of edges by its path while the job goes on.
type edgesResult struct {
	File    string `json:"file"`
	Edges   int64  `json:"edges"`
	Members int64  `json:"members"` // of the buckets together
}

func (s edgesStage) Name() string { return "edges" }

func (s edgesStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	return edgesActor(s), nil
}

type edgesActor struct{ *componentsJob }

func (a edgesActor) Close() error { return nil }

// Row groups of edges, vertices and the like.
const (
	pairGroupRows  = 64 << 10
	pairGroupBytes = 2 << 20
)

func (a edgesActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) (_ []executor.Task, err error) {
	in, err := flow.DecodeTask[edgesInput](task)
	if err != nil {
		return nil, err
	}
	from, err := openTable(ctx, in.File)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	dst, err := a.placeFile(out, edgesFolder, in.ID+".parquet")
	if err != nil {
		return nil, err
	}
	t, err := newTable(dst, field{a.o.IDField + "_x", kindInt64}, field{a.o.IDField + "_y", kindInt64})
	if err != nil {
		return nil, err
	}
	edges, members := int64(0), int64(0)
	err = from.guarded(func() error {
		column, err := from.list("--id-field", a.o.IDField)
		if err != nil {
			return err
		}
		for g := range from.groups() {
			if ctx.Err() != nil {
				return callbackError{context.Cause(ctx)}
			}
			lists, err := from.open(g, column)
			if err != nil {
				return err
			}
			for range from.groupRows(g) {
				first, last := true, int64(0)
				_, err := lists.each(func(v uint64) error {
					id := int64(v)
					members++
					if !first {
						t.int(0, last)
						t.int(1, id)
						edges++
						if err := t.next(pairGroupRows, pairGroupBytes); err != nil {
							return callbackError{err}
						}
					}
					first, last = false, id
					return nil
				})
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(t.close(), dst.Close()); err != nil {
		return nil, err
	}
	out.Count("edges", edges)
	return flow.OneResult(task, edgesResult{dst.Name(), edges, members})
}

// eachEdge reads a file of edges.
func (c *componentsJob) eachEdge(ctx context.Context, task executor.Task, f func(u, v flow.Ref) error) (err error) {
	in, err := flow.DecodeTask[edgesResult](task)
	if err != nil {
		return err
	}
	checked, err := c.work.OpenCommitted(in.File) // compares an earlier run's file with its checksum
	if err != nil {
		return err
	}
	if err := checked.Close(); err != nil {
		return err
	}
	t, err := openTable(ctx, in.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	return t.guarded(func() error {
		for g := range t.groups() {
			x, err := t.open(g, 0)
			if err != nil {
				return err
			}
			y, err := t.open(g, 1)
			if err != nil {
				return err
			}
			for range t.groupRows(g) {
				u, err := x.int()
				if err != nil {
					return err
				}
				v, err := y.int()
				if err != nil {
					return err
				}
				if err := f(flow.Ref{Ord: uint64(u) ^ signBit}, flow.Ref{Ord: uint64(v) ^ signBit}); err != nil {
					return callbackError{err}
				}
			}
		}
		return nil
	})
}

// insertLabels sends the rows of a label file, as (id, label), to the partitions of the hash of one of the two.
func (c *componentsJob) insertLabels(ctx context.Context, task executor.Task, out *executor.PartWriter, nparts, by int) error {
	file, err := flow.DecodeTask[string](task)
	if err != nil {
		return err
	}
	w := c.records(out, labelRecords, nparts)
	keys := newIntHasher(nparts)
	defer keys.release()
	var rows [][2]uint64
	flush := func() error {
		parts, err := keys.parts()
		if err != nil {
			return err
		}
		for i, r := range rows {
			if err := w.Add(ctx, int(parts[i]), r[:]...); err != nil {
				return err
			}
		}
		rows = rows[:0]
		return nil
	}
	err = flow.EachRow(ctx, c.work, file, components.LabelColumns, func(row []uint64) error {
		keys.int(int64(row[by] ^ signBit))
		if rows = append(rows, [2]uint64(row)); len(rows) < 4096 {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	return w.Flush(ctx)
}

var labelRecords = flow.Layout{Kind: 'l', Words: 2} // id, label

// sortLabels calls f for every label of a partition once, in ascending order of the ids.
func (c *componentsJob) sortLabels(ctx context.Context, env *executor.Env, part *shuffle.Partition, f func(each eachLabel) error) (err error) {
	s := c.sorter(env, 2, false)
	defer s.Close()
	err = flow.EachRecord(ctx, part, labelRecords, func(w []uint64, _ []byte) error { return s.Add(w, nil) })
	if err != nil {
		return err
	}
	return f(func(row func(id, label int64) error) error {
		var last [2]uint64
		first := true
		return s.Each(ctx, func(w []uint64, _ []byte) error {
			if r := [2]uint64(w); first || r != last {
				first, last = false, r
				return row(int64(w[0]^signBit), int64(w[1]^signBit))
			}
			return nil
		})
	})
}

// eachLabel walks over labels; it can be called again.
type eachLabel func(row func(id, label int64) error) error

// The groups stage writes ConnectedComponentsStage: every document that has an edge and the smallest of its component.
type groupsStage struct{ *componentsJob }

func (s groupsStage) Name() string    { return "groups" }
func (s groupsStage) TotalParts() int { return len(s.names) }

func (s groupsStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &groupsActor{s, env}, nil
}

type groupsActor struct {
	groupsStage
	env *executor.Env
}

func (a *groupsActor) Close() error { return nil }

func (a *groupsActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	return a.insertLabels(ctx, task, out, len(a.names), 0)
}

func (a *groupsActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	dst, err := a.placeFile(out, componentsFolder, a.names[part.Index()])
	if err != nil {
		return nil, err
	}
	t, err := newTable(dst, field{a.o.IDField, kindInt64}, field{GroupColumn, kindInt64})
	if err != nil {
		return nil, err
	}
	err = a.sortLabels(ctx, a.env, part, func(each eachLabel) error {
		return each(func(id, label int64) error {
			t.int(0, id)
			t.int(1, label)
			return t.next(pairGroupRows, pairGroupBytes)
		})
	})
	if err != nil {
		return nil, err
	}
	return nil, errors.Join(t.close(), dst.Close())
}

// The identify stage writes FuzzyDuplicateIds: of every group all ids but the smallest, in the partition of the hash of
// the group.
type identifyStage struct {
	*componentsJob
	nparts int
}

// idsPart describes a file of removal ids.
type idsPart struct {
	Groups int64 `json:"num_groups"`
	IDs    int64 `json:"num_removal_ids"`
}

func (s identifyStage) Name() string    { return "identify" }
func (s identifyStage) TotalParts() int { return s.nparts }

func (s identifyStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &identifyActor{s, env}, nil
}

type identifyActor struct {
	identifyStage
	env *executor.Env
}

func (a *identifyActor) Close() error { return nil }

func (a *identifyActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	return a.insertLabels(ctx, task, out, a.nparts, 1)
}

func (a *identifyActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	var res idsPart
	err := a.sortLabels(ctx, a.env, part, func(each eachLabel) error {
		err := each(func(id, label int64) error {
			if id == label {
				res.Groups++
			} else {
				res.IDs++
			}
			return nil
		})
		if err != nil {
			return err
		}
		return a.writeIDs(out, idsFolder, part.Index(), field{a.o.IDField, kindInt64}, res.IDs, func(add func(int64, []byte) error) error {
			return each(func(id, label int64) error {
				if id == label {
					return nil
				}
				return add(id, nil)
			})
		})
	})
	if err != nil {
		return nil, err
	}
	out.Count("removal_ids", res.IDs)
	return []executor.Task{flow.PartTask(part.Index(), res)}, nil
}

// writeIDs writes a file of n removal ids, int64 or strings, with Curator's row groups. They may be large, so rows are
// written as they come.
func (j *job) writeIDs(out *executor.Attempt, folder, part int, id field, n int64, each func(add func(id int64, str []byte) error) error) error {
	dst, err := j.placeFile(out, folder, fmt.Sprintf("part.%d.parquet", part))
	if err != nil {
		return err
	}
	t, err := newTable(dst, id)
	if err != nil {
		return err
	}
	perGroup := max(1000, min(n/10, 1_000_000))
	rows := int64(0)
	err = each(func(id int64, str []byte) error {
		if rows%perGroup == 0 {
			if rows > 0 {
				if err := t.end(); err != nil {
					return err
				}
			}
			if err := t.begin(); err != nil {
				return err
			}
		}
		rows++
		return t.extendRow(id, str)
	})
	if err == nil && rows > 0 {
		err = t.end()
	}
	if err != nil {
		return err
	}
	return errors.Join(t.close(), dst.Close())
}
