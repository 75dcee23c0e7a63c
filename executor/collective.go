package executor

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/dovetail-dedup/dovetail/shuffle/collective"
)

// Collective runs one collective stage: the tasks are split evenly over the ranks, every rank processes its share in one
// call, and the results come back in the order of the tasks. The stage counts as a whole: it is committed when every rank
// has succeeded, and if the work folder knows all of its tasks as committed by one run, for the same tasks in the same
// order, it is not run again. A failure on any rank ends it on all. All ranks must be in this process: a [Config].Job of
// several is refused.
func (e *Executor) Collective(ctx context.Context, st CollectiveStage, tasks []Task) ([]Task, error) {
	if n := e.cfg.Job.Size(); n > 1 {
		return nil, fmt.Errorf("executor: stage %q is a collective one, whose ranks have to be in one process, and the job has %d "+
			"processes; run it without a job, with Config.Ranks", st.Name(), n)
	}
	if err := e.prepare(ctx, st); err != nil {
		return nil, err
	}
	if err := checkTasks(st, tasks); err != nil {
		return nil, err
	}
	c := &collectiveRun{
		stageRun: e.newRun(ctx, st, kindCollective), stage: st, input: hashTasks(tasks, 0), all: tasks,
		shares: make([]share, e.cfg.Ranks), results: make([][]Task, len(tasks)),
	}
	c.tasks.Store(int64(len(tasks)))
	for _, t := range tasks {
		c.size.Add(t.Size)
	}
	if c.reuseAll() {
		c.announce(int64(len(tasks)))
	} else if err := c.run(); err != nil {
		c.fail(err)
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	return slices.Concat(c.results...), nil
}

// collectiveRun is one collective stage being run.
type collectiveRun struct {
	*stageRun
	stage   CollectiveStage
	input   inputHash // of all tasks together
	all     []Task
	groups  map[int]*collective.Group // of the ranks in this process, by rank
	shares  []share                   // by rank
	results [][]Task                  // by task
}

// share is what one rank does.
type share struct {
	first   int // index of its first task
	outs    []*Attempt
	results [][]Task
}

// reuseAll takes over the results of an earlier run, if it committed all of them.
func (c *collectiveRun) reuseAll() bool {
	if c.work == nil {
		return false
	}
	found := make([]*commit, len(c.all))
	for i, t := range c.all {
		var note string
		found[i], note = c.work.lookup(c.name, t.ID, c.input)
		// A run that was killed while it committed leaves a part, and the next one perhaps another.
		if found[i] == nil || found[i].epoch != found[0].epoch {
			c.note(note)
			return false
		}
	}
	for i, t := range c.all {
		c.reuse(t, found[i])
		c.results[i] = found[i].results
	}
	return true
}

func (c *collectiveRun) run() error {
	ranks := c.e.cfg.Ranks
	n, err := c.actorCount(c.stage, ranks, false)
	if err != nil {
		return err
	}
	if n < ranks {
		c.note(fmt.Sprintf("stage %q has room for %d actors, but each of %d ranks needs one: using %d", c.name, n, ranks, ranks))
	}
	defer c.leave()
	if err := c.connect(); err != nil {
		return err
	}
	// A rank that waits for others must hear of a failure of this one, and of the end of ctx.
	aborted := make(chan struct{})
	stop := context.AfterFunc(c.ctx, func() {
		defer close(aborted)
		for _, g := range c.groups {
			g.Abort(context.Cause(c.ctx))
		}
	})
	c.actors = ranks
	c.spilled = func() (n int64) {
		for _, g := range c.groups {
			n += g.Statistics().Spilled.Bytes
		}
		return n
	}
	c.announce(c.tasks.Load())
	actors := &crew[CollectiveActor]{
		r: c.stageRun, sc: c.scope, call: "NewCollectiveActor", body: c.process,
		setup: func(ctx context.Context, env *Env) (CollectiveActor, error) {
			return c.stage.NewCollectiveActor(ctx, env, c.groups[env.Rank])
		},
	}
	envs := slices.DeleteFunc(c.e.envs(c.name, ranks), func(env *Env) bool { return c.groups[env.Rank] == nil })
	actors.run(envs, func() {})
	c.commit()
	if !stop() {
		<-aborted
	}
	return nil
}

// connect makes the groups.
func (c *collectiveRun) connect() error {
	comms, op, err := c.e.communicators()
	if err != nil {
		return fmt.Errorf("executor: stage %q: connecting the ranks: %w", c.name, err)
	}
	c.shuffle = &ShuffleStats{Op: op, TotalParts: c.e.cfg.Ranks}
	c.groups = make(map[int]*collective.Group)
	for _, comm := range comms {
		g, err := collective.New(collective.Options{
			Comm: comm, Run: c.e.runID, Op: op, Epoch: c.e.epoch,
			Budget: c.e.cfg.Budget, Alloc: c.e.cfg.Alloc, SpillDir: c.e.spill,
		})
		if err != nil {
			return fmt.Errorf("executor: stage %q: %w", c.name, err)
		}
		c.groups[g.Rank()] = g
	}
	return nil
}

// leave closes the groups and keeps what they have counted.
func (c *collectiveRun) leave() {
	for _, rank := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[rank]
		_ = g.Close() // never fails
		c.shuffle.Ranks = append(c.shuffle.Ranks, RankShuffle{Rank: rank, Statistics: g.Statistics()})
	}
}

// split returns the tasks of a rank: the first ranks have one more where it does not come out even.
func split(tasks, ranks, rank int) (lo, hi int) {
	each, more := tasks/ranks, tasks%ranks
	lo = rank*each + min(rank, more)
	hi = lo + each
	if rank < more {
		hi++
	}
	return lo, hi
}

// process is what the actor of a rank does. Whatever happens to it, another in its place would be of no use.
func (c *collectiveRun) process(env *Env, a CollectiveActor) (fit bool) {
	defer c.groups[env.Rank].Close() // ranks that make a call that this one does not must not wait for it
	lo, hi := split(len(c.all), c.e.cfg.Ranks, env.Rank)
	tasks := c.all[lo:hi]
	outs := make([]*Attempt, max(1, len(tasks))) // without tasks, there is still the attempt itself to count
	for i := range outs {
		outs[i] = &Attempt{Meter{&meter{run: c.stageRun, env: env}}}
		if i < len(tasks) {
			outs[i].m.task = tasks[i]
		}
	}
	results, _, err := c.attempt(env, outs, "Process", c.fail, func(outs []*Attempt) ([][]Task, error) {
		results, err := a.Process(outs[0].m.within(c.ctx), slices.Clone(tasks), outs[:len(tasks):len(tasks)])
		if err == nil && len(results) != len(tasks) {
			err = fmt.Errorf("it returned %d lists of results for %d tasks", len(results), len(tasks))
		}
		if len(tasks) == 0 {
			results = make([][]Task, 1)
		}
		return results, err
	})
	if err != nil {
		for _, out := range outs {
			out.m.discard()
		}
		c.fail(c.rankError(env, tasks, err))
		return true
	}
	c.shares[env.Rank] = share{lo, outs[:len(tasks)], results}
	return true
}

// rankError says which rank failed, and over which tasks.
func (c *collectiveRun) rankError(env *Env, tasks []Task, err error) error {
	about := "without tasks"
	switch n := len(tasks); {
	case n == 1:
		about = fmt.Sprintf("task %q", tasks[0].ID)
	case n > 1:
		about = fmt.Sprintf("tasks %q to %q", tasks[0].ID, tasks[n-1].ID)
	}
	return fmt.Errorf("executor: stage %q, rank %d of %d, %s: %w", c.name, env.Rank, env.Size, about, err)
}

// commit makes the results permanent, if every rank has them.
func (c *collectiveRun) commit() {
	if c.failed() {
		for _, s := range c.shares {
			for _, out := range s.outs {
				out.m.discard()
			}
		}
		return
	}
	commits := newCommitter(c.stageRun, func(i int, results []Task) { c.results[i] = results })
	for _, s := range c.shares {
		for i, out := range s.outs {
			commits.submit(&pending{a: out, seq: s.first + i, results: s.results[i], input: c.input})
		}
	}
	commits.close()
}
