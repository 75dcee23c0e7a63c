package executor

import (
	"context"
	"fmt"
	"slices"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/collective"
)

// collectiveRound is one try of a collective stage, as far as it is this process's. It is the only one unless ranks are lost.
type collectiveRound struct {
	*stageRun
	sc     *scope
	stage  CollectiveStage
	all    []Task
	size   int                       // ranks of the round
	number uint32                    // of the attempts that are made in it
	groups map[int]*collective.Group // of the ranks in this process, by rank
	shares []share                   // by rank; those of other processes are empty
	life   life                      // of the attempts of this process
}

// share is what one rank does.
type share struct {
	first   int // index of its first task
	outs    []*Attempt
	results [][]Task
}

// join makes the groups of this process's ranks. limit is the smallest memory budget of all ranks: pieces are of a size that suits
// them all.
func (c *collectiveRound) join(comms []*shuffle.Communicator, op shuffle.OpID, limit int64) error {
	c.groups = make(map[int]*collective.Group)
	for _, comm := range comms {
		g, err := collective.New(collective.Options{
			Comm: comm, Run: c.e.runID, Op: op, Epoch: c.e.epoch, MaxChunk: collective.ChunkFor(limit, c.size),
			Budget: c.e.cfg.Budget, Alloc: c.e.cfg.Alloc, SpillDir: c.e.spill,
		})
		if err != nil {
			return fmt.Errorf("executor: stage %q: %w", c.name, err)
		}
		c.groups[g.Rank()] = g
	}
	return nil
}

// run has the actors of this process's ranks do their shares. It returns when all have, or one has failed: the scope says so.
func (c *collectiveRound) run(envs []*Env) {
	// A rank that waits for others must hear of a failure of this one, and of the end of the scope.
	aborted := make(chan struct{})
	stop := context.AfterFunc(c.sc.ctx, func() {
		defer close(aborted)
		for _, g := range c.groups {
			g.Abort(context.Cause(c.sc.ctx))
		}
	})
	actors := &crew[CollectiveActor]{
		r: c.stageRun, sc: c.sc, call: "NewCollectiveActor", body: c.process,
		setup: func(ctx context.Context, env *Env) (CollectiveActor, error) {
			a, err := c.stage.NewCollectiveActor(ctx, env, c.groups[env.Rank])
			return a, c.broken(env, err)
		},
	}
	actors.run(envs, func() {})
	if !stop() {
		<-aborted
	}
}

// broken returns err, and with it why the group of a rank has ended if that is the reason: stages need not wrap it.
func (c *collectiveRound) broken(env *Env, err error) error {
	if err == nil {
		return nil
	}
	if why := c.groups[env.Rank].Err(); why != nil && broke(why, env.Rank) && !broke(err, env.Rank) {
		return fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// process is what the actor of a rank does. Whatever happens to it, another in its place would be of no use.
func (c *collectiveRound) process(env *Env, a CollectiveActor) (fit bool) {
	defer c.groups[env.Rank].Close() // ranks that make a call that this one does not must not wait for it
	lo, hi := split(len(c.all), c.size, env.Rank)
	tasks := c.all[lo:hi]
	outs := make([]*Attempt, max(1, len(tasks))) // without tasks, there is still the attempt itself to count
	for i := range outs {
		outs[i] = &Attempt{Meter{&meter{run: c.stageRun, env: env, number: c.number, life: &c.life}}}
		if i < len(tasks) {
			outs[i].m.task = tasks[i]
		}
	}
	results, _, err := c.attempt(env, outs, "Process", c.sc.fail, func(outs []*Attempt) ([][]Task, error) {
		results, err := a.Process(outs[0].m.within(c.sc.ctx), slices.Clone(tasks), outs[:len(tasks):len(tasks)])
		if err == nil && len(results) != len(tasks) {
			err = fmt.Errorf("it returned %d lists of results for %d tasks", len(results), len(tasks))
		}
		if len(tasks) == 0 {
			results = make([][]Task, 1)
		}
		return results, c.broken(env, err)
	})
	if err != nil {
		for _, out := range outs {
			out.m.discard()
		}
		c.sc.fail(c.rankError(env, tasks, err))
		return true
	}
	c.shares[env.Rank] = share{lo, outs[:len(tasks)], results}
	return true
}

// rankError says which rank failed, and over which tasks.
func (c *collectiveRound) rankError(env *Env, tasks []Task, err error) error {
	about := "without tasks"
	switch n := len(tasks); {
	case n == 1:
		about = fmt.Sprintf("task %q", tasks[0].ID)
	case n > 1:
		about = fmt.Sprintf("tasks %q to %q", tasks[0].ID, tasks[n-1].ID)
	}
	return fmt.Errorf("executor: stage %q, rank %d of %d, %s: %w", c.name, env.Rank, env.Size, about, err)
}

// discard undoes what the ranks of this process have done.
func (c *collectiveRound) discard() {
	for i := range c.shares {
		for _, out := range c.shares[i].outs {
			out.m.discard()
		}
		c.shares[i] = share{}
	}
}

func (c *collectiveRound) spilledBytes() (n int64) {
	for _, g := range c.groups {
		n += g.Statistics().Spilled.Bytes
	}
	return n
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
