package executor

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Collective runs one collective stage: the tasks are split evenly over the ranks, every rank processes its share in one
// call, and the results come back in the order of the tasks. The stage counts as a whole: it is committed when every rank
// has succeeded, and if the work folder knows all of its tasks as committed by one run, for the same tasks in the same
// order, it is not run again. A failure on any rank ends it on all.
//
// In a job of several processes each is one rank. If one is lost, the others begin again without it, or the job ends, as
// [JobConfig].StopOnLoss says; no rank's attempts count that were made before.
func (e *Executor) Collective(ctx context.Context, st CollectiveStage, tasks []Task) (out []Task, err error) {
	if err := e.prepare(ctx, st); err != nil {
		return nil, err
	}
	if j := e.cfg.Job; !j.Root() {
		return e.collectiveMember(ctx, st, tasks)
	} else if j != nil {
		defer func() { j.conclude(e.key+st.Name(), out, err) }()
	}
	if e.idle {
		return nil, fmt.Errorf("executor: stage %q: %w: every rank takes part in a collective stage, but rank 0 leaves the work to others",
			st.Name(), ErrNoResources)
	}
	if err := checkTasks(st, tasks); err != nil {
		return nil, err
	}
	c := &collectiveRun{
		stageRun: e.newRun(ctx, st, kindCollective), stage: st, input: hashTasks(tasks, 0), all: tasks, results: make([][]Task, len(tasks)),
	}
	c.tasks.Store(int64(len(tasks)))
	for _, t := range tasks {
		c.size.Add(t.Size)
	}
	if c.reuseAll() {
		c.announce(int64(len(tasks)))
	} else if e.cfg.Job.Size() > 1 {
		c.runRounds()
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
	results [][]Task // by task
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

// run takes the only round of the stage when all ranks are in this process.
func (c *collectiveRun) run() error {
	ranks := c.e.cfg.Ranks
	n, err := c.actorCount(c.stage, ranks, false)
	if err != nil {
		return err
	}
	if n < ranks {
		c.note(fmt.Sprintf("stage %q has room for %d actors, but each of %d ranks needs one: using %d", c.name, n, ranks, ranks))
	}
	comms, op, err := c.e.communicators()
	if err != nil {
		return fmt.Errorf("executor: stage %q: connecting the ranks: %w", c.name, err)
	}
	c.shuffle = &ShuffleStats{Op: op, TotalParts: ranks}
	rd := &collectiveRound{stageRun: c.stageRun, sc: c.scope, stage: c.stage, all: c.all, size: ranks, shares: make([]share, ranks)}
	defer c.leave(rd)
	if err := rd.join(comms, op, c.e.cfg.Budget.Limit()); err != nil {
		return err
	}
	c.actors = ranks
	c.spilled = rd.spilledBytes
	c.announce(c.tasks.Load())
	rd.run(c.e.envs(c.name, ranks))
	if c.failed() {
		rd.discard()
		return nil
	}
	finished := make([]*pending, 0, len(c.all))
	for i := range rd.shares {
		finished = append(finished, rd.pending(i, c.input)...)
	}
	c.commit(finished)
	return nil
}

// pending are the finished attempts of a rank.
func (c *collectiveRound) pending(rank int, input inputHash) (list []*pending) {
	s := &c.shares[rank]
	for i, out := range s.outs {
		list = append(list, &pending{a: out, seq: s.first + i, results: s.results[i], input: input})
	}
	return list
}

// leave closes the groups and keeps what they have counted.
func (c *collectiveRun) leave(rd *collectiveRound) {
	for _, rank := range slices.Sorted(maps.Keys(rd.groups)) {
		g := rd.groups[rank]
		_ = g.Close() // never fails
		c.shuffle.Ranks = append(c.shuffle.Ranks, RankShuffle{Rank: rank, Statistics: g.Statistics()})
	}
}

// commit makes the results of all ranks permanent.
func (c *collectiveRun) commit(finished []*pending) {
	commits := newCommitter(c.stageRun, func(i int, results []Task) { c.results[i] = results })
	for _, p := range finished {
		commits.submit(p)
	}
	commits.close()
}
