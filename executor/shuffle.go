package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

// Shuffle runs one shuffle stage: every actor inserts, every rank finishes once after all its inserts, and
// complete partitions are extracted. Results come in the order of partitions. Partitions that the work
// folder knows as committed, for the same tasks and number of partitions, are not extracted again, and if
// that is all of them nothing is inserted. A failure anywhere aborts the shuffle on all ranks.
func (e *Executor) Shuffle(ctx context.Context, st ShuffleStage, tasks []Task) ([]Task, error) {
	if err := e.prepare(ctx, st); err != nil {
		return nil, err
	}
	if err := checkTasks(st, tasks); err != nil {
		return nil, err
	}
	total := st.TotalParts()
	if total < 1 {
		return nil, fmt.Errorf("executor: stage %q: TotalParts is %d, want at least 1", st.Name(), total)
	}
	s := &shuffleRun{
		stageRun: e.newRun(ctx, st.Name(), "shuffle"), stage: st, input: hashTasks(tasks, total),
		parts: &partSet{total: total, done: make([]bool, total)}, results: make([][]Task, total),
	}
	for _, t := range tasks {
		s.size.Add(t.Size)
	}
	if s.reuseParts() == total {
		s.reuseInserts()
		s.tasks.Store(int64(total))
		s.announce(int64(total))
	} else if err := s.run(tasks); err != nil {
		s.fail(err)
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return slices.Concat(s.results...), nil
}

// shuffleRun is one shuffle stage being run.
type shuffleRun struct {
	*stageRun
	stage   ShuffleStage
	input   inputHash // of all tasks together
	parts   *partSet
	results [][]Task // by partition

	shufflers []*shuffle.Shuffler // by rank
	inserting []atomic.Int32      // by rank: actors that may still insert
	busy      atomic.Int32        // their sum
	jobs      chan item
	commits   *committer
	inserted  counters // of inserts that count
}

// reuseParts takes over the partitions that are committed and returns their number.
func (s *shuffleRun) reuseParts() (n int) {
	if s.work == nil {
		return 0
	}
	for p := range s.parts.total {
		t := partTask(p)
		c, note := s.work.lookup(s.name, t.ID, s.input)
		s.note(note)
		if c == nil {
			continue
		}
		s.reuse(t, c)
		s.parts.done[p], s.results[p] = true, c.results
		n++
	}
	return n
}

// reuseInserts takes over what the inserts of an earlier run have counted, as they are not run again.
func (s *shuffleRun) reuseInserts() {
	if c, _ := s.work.lookup(s.name, "", s.input); c != nil {
		s.addCounters(c.counters)
	}
	s.sizeDone.Store(s.size.Load())
}

func (s *shuffleRun) run(tasks []Task) error {
	n, err := s.actorCount(s.stage, max(len(tasks), s.parts.total), false)
	if err != nil {
		return err
	}
	if n < s.e.cfg.Ranks {
		s.note(fmt.Sprintf("stage %q has room for %d actors, but each of %d ranks needs one: using %d",
			s.name, n, s.e.cfg.Ranks, s.e.cfg.Ranks))
		n = s.e.cfg.Ranks
	}
	if err := s.connect(); err != nil {
		s.disconnect()
		return err
	}
	// A rank that waits for others must hear of a failure of this one, and of the end of ctx.
	aborted := make(chan struct{})
	stop := context.AfterFunc(s.ctx, func() {
		defer close(aborted)
		for _, sh := range s.shufflers {
			sh.Abort(context.Cause(s.ctx))
		}
	})
	s.actors = n
	s.tasks.Store(int64(len(tasks) + s.parts.total))
	s.spilled = func() (n int64) {
		for _, sh := range s.shufflers {
			n += sh.Statistics().Spilled.Bytes
		}
		return n
	}
	s.announce(s.tasks.Load())

	envs := s.e.envs(s.name, n)
	s.inserting = make([]atomic.Int32, s.e.cfg.Ranks)
	for _, env := range envs {
		s.inserting[env.Rank].Add(1)
	}
	s.busy.Store(int32(n))
	s.jobs = make(chan item)
	s.commits = newCommitter(s.stageRun, func(part int, results []Task) { s.results[part] = results })
	runActors(s.stageRun, "NewShuffleActor", envs, s.stage.NewShuffleActor,
		func() { s.feed(tasks) },
		func(env *Env, a ShuffleActor) {
			s.insertAll(env, a)
			s.finishInserts(env.Rank)
			s.extractAll(env, a)
		})
	s.commits.close()
	s.conclude()
	if !stop() {
		<-aborted
	}
	s.disconnect()
	return nil
}

// feed hands out the tasks, larger ones first.
func (s *shuffleRun) feed(tasks []Task) {
	defer close(s.jobs)
	items := make([]item, len(tasks))
	for i, t := range tasks {
		items[i] = item{seq: i, task: t}
	}
	largestFirst(items)
	for _, it := range items {
		select {
		case s.jobs <- it:
		case <-s.ctx.Done():
			return
		}
	}
}

// insertAll inserts tasks until there are none left.
func (s *shuffleRun) insertAll(env *Env, a ShuffleActor) {
	for {
		start := time.Now()
		select {
		case it, ok := <-s.jobs:
			s.waitNS.Add(int64(time.Since(start)))
			if !ok || s.failed() {
				return
			}
			s.insert(env, a, it)
		case <-s.ctx.Done():
			return
		}
	}
}

// insert attempts one task until its inserts count, or it fails for good.
func (s *shuffleRun) insert(env *Env, a ShuffleActor, it item) {
	for number := uint32(0); ; number++ {
		m := &meter{run: s.stageRun, env: env, task: it.task, number: number}
		sh := s.shufflers[env.Rank]
		in := sh.Begin(uint64(it.seq), number)
		_, _, err := s.attempt(env, []*Attempt{{Meter{m}}}, "Insert", func([]*Attempt) ([][]Task, error) {
			return make([][]Task, 1), a.Insert(s.ctx, it.task, &PartWriter{Meter{m}, in, sh, s.parts})
		})
		if err == nil {
			err = in.Commit(s.ctx)
		} else if aerr := in.Abort(); aerr != nil && !s.failed() {
			err = errors.Join(err, aerr)
		}
		if err == nil {
			s.inserted.add(m.counts)
			s.inserts.Add(1)
			s.tasksDone.Add(1)
			s.sizeDone.Add(it.task.Size)
			return
		}
		m.discard()
		if !s.again(m, err) {
			s.fail(s.taskError(m, err))
			return
		}
	}
}

// finishInserts is called by each actor when it has no more to insert; the last one of a rank finishes the
// rank.
func (s *shuffleRun) finishInserts(rank int) {
	if s.busy.Add(-1) == 0 && !s.failed() {
		// No partition is complete before this rank has finished, so this is in the log before any of them.
		s.addCounters(s.inserted.list)
		if s.work != nil {
			err := s.work.commitAll([]*commit{{
				stage: s.name, epoch: s.e.epoch, input: s.input, counters: s.inserted.list,
			}}, false)
			if err != nil {
				s.fail(err)
			}
		}
	}
	if s.inserting[rank].Add(-1) > 0 || s.failed() {
		return
	}
	if err := s.shufflers[rank].InsertFinished(s.ctx); err != nil {
		s.fail(fmt.Errorf("executor: stage %q, rank %d: finishing the inserts: %w", s.name, rank, err))
	}
}

// extractAll extracts partitions of the actor's rank as they become complete, until there are none left.
func (s *shuffleRun) extractAll(env *Env, a ShuffleActor) {
	sh := s.shufflers[env.Rank]
	for !s.failed() {
		start := time.Now()
		part, err := sh.WaitAny(s.ctx)
		s.waitNS.Add(int64(time.Since(start)))
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			s.fail(fmt.Errorf("executor: stage %q, rank %d: waiting for partitions: %w", s.name, env.Rank, err))
			return
		}
		if !s.parts.done[part] {
			s.extract(env, a, part)
		}
	}
}

// extract attempts one partition until it succeeds, or fails for good, and submits it to be committed.
func (s *shuffleRun) extract(env *Env, a ShuffleActor, part int) {
	p, err := s.shufflers[env.Rank].Open(part)
	if err != nil {
		s.fail(fmt.Errorf("executor: stage %q, rank %d: opening partition %d: %w", s.name, env.Rank, part, err))
		return
	}
	defer func() {
		if err := p.Close(); err != nil {
			s.fail(fmt.Errorf("executor: stage %q, rank %d: closing partition %d: %w", s.name, env.Rank, part, err))
		}
	}()
	for number := uint32(0); ; number++ {
		out := &Attempt{Meter{&meter{run: s.stageRun, env: env, task: partTask(part), number: number}}}
		results, _, err := s.attempt(env, []*Attempt{out}, "Extract", func(outs []*Attempt) ([][]Task, error) {
			results, err := a.Extract(s.ctx, p, out)
			return [][]Task{results}, err
		})
		if err == nil {
			s.commits.submit(&pending{a: out, seq: part, results: results[0], input: s.input})
			return
		}
		out.m.discard()
		if !s.again(out.m, err) {
			s.fail(s.taskError(out.m, err))
			return
		}
	}
}

// conclude checks the ledger on every rank, unless the stage has failed.
func (s *shuffleRun) conclude() {
	for rank, sh := range s.shufflers {
		if s.failed() {
			return
		}
		if err := sh.Wait(s.ctx); err != nil {
			s.fail(fmt.Errorf("executor: stage %q, rank %d: %w", s.name, rank, err))
		}
	}
}

// connect makes the ranks' shufflers.
func (s *shuffleRun) connect() error {
	comms, op, err := s.e.communicators()
	if err != nil {
		return fmt.Errorf("executor: stage %q: connecting the ranks: %w", s.name, err)
	}
	s.shuffle = &ShuffleStats{Op: op, TotalParts: s.parts.total}
	for _, c := range comms {
		sh, err := shuffle.New(shuffle.Options{
			Comm: c, Run: s.e.runID, Op: op, Epoch: s.e.epoch, TotalParts: s.parts.total,
			Budget: s.e.cfg.Budget, Alloc: s.e.cfg.Alloc,
			SpillDir: s.e.spill, SpillMemoryLimit: s.e.cfg.SpillMemoryLimit,
		})
		if err != nil {
			return fmt.Errorf("executor: stage %q: %w", s.name, err)
		}
		s.shufflers = append(s.shufflers, sh)
	}
	return nil
}

// disconnect keeps what the shufflers have counted and closes them.
func (s *shuffleRun) disconnect() {
	for rank, sh := range s.shufflers {
		s.shuffle.Ranks = append(s.shuffle.Ranks,
			RankShuffle{Rank: rank, Ledger: sh.Ledger(), Statistics: sh.Statistics()})
		if err := sh.Close(); err != nil {
			s.teardowns = append(s.teardowns, fmt.Errorf("executor: stage %q, rank %d: %w", s.name, rank, err))
		}
	}
}

// communicators returns those of all ranks, connecting them the first time, and an operation id.
func (e *Executor) communicators() ([]*shuffle.Communicator, shuffle.OpID, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, 0, ErrClosed
	}
	if e.comms == nil {
		var errs []error
		for _, t := range inproc.New(e.cfg.Ranks, inproc.Options{}) {
			c, err := shuffle.NewCommunicator(t)
			if err != nil {
				errs = append(errs, err, t.Close())
				continue
			}
			e.comms = append(e.comms, c)
		}
		if err := errors.Join(errs...); err != nil {
			for _, c := range e.comms {
				err = errors.Join(err, c.Close())
			}
			e.comms = nil
			return nil, 0, err
		}
	}
	op := e.nextOp
	// An id may be used again once an operation has ended everywhere, so 2^20 of them are enough.
	e.nextOp = (e.nextOp + 1) % shuffle.MaxOps
	return e.comms, op, nil
}
