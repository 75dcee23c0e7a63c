package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

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
		stageRun: e.newRun(ctx, st, "shuffle"), stage: st, input: hashTasks(tasks, total),
		parts: &partSet{total: total, done: make([]bool, total)}, results: make([][]Task, total),
		opened: make(map[int]*shuffle.Partition),
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
	inserts   *dispatcher
	extracts  []*dispatcher // by rank: its partitions, as they become complete
	commits   *committer
	opened    map[int]*shuffle.Partition // those being extracted
	// committing counts inserts that were accepted and are not yet committed in the shuffle.
	committing sync.WaitGroup
	inserted   counters // of inserts that count
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

	c := &crew[ShuffleActor]{r: s.stageRun, call: "NewShuffleActor", setup: s.stage.NewShuffleActor, body: s.serve}
	s.inserts = s.dispatcher(s.stage, 1, c.giveUp)
	for range s.shufflers {
		s.extracts = append(s.extracts, s.dispatcher(s.stage, 1, c.giveUp))
	}
	s.commits = newCommitter(s.stageRun, func(part int, results []Task) { s.results[part] = results })
	var ends sync.WaitGroup
	c.run(s.e.envs(s.name, n), func() {
		ends.Go(s.finishInserts)
		for rank := range s.shufflers {
			ends.Go(func() { s.offer(rank) })
		}
		s.feed(tasks)
	})
	ends.Wait()
	s.inserts.stop()
	for _, d := range s.extracts {
		d.stop()
	}
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
	items := make([]item, len(tasks))
	for i, t := range tasks {
		items[i] = item{seq: i, task: t}
	}
	largestFirst(items)
	s.inserts.add(items...)
	s.inserts.close()
}

// serve is what an actor does: first inserts, then partitions of its rank.
func (s *shuffleRun) serve(env *Env, a ShuffleActor) (fit bool) {
	for {
		g, ok := s.inserts.next(env)
		if !ok {
			break
		}
		if !s.insert(env, a, g) {
			return false
		}
	}
	for {
		g, ok := s.extracts[env.Rank].next(env)
		if !ok {
			return true
		}
		if !s.extract(env, a, g) {
			return false
		}
	}
}

// insert attempts to insert one task.
func (s *shuffleRun) insert(env *Env, a ShuffleActor, g *grant) (fit bool) {
	it := g.items[0]
	m := &meter{run: s.stageRun, env: env, task: it.task, number: g.Tasks[0].Number}
	sh := s.shufflers[env.Rank]
	in := sh.Begin(uint64(it.seq), m.number)
	drop := func() {
		if err := in.Abort(); err != nil && !s.failed() {
			s.fail(fmt.Errorf("executor: stage %q, rank %d: taking inserts back: %w", s.name, env.Rank, err))
		}
		m.discard()
	}
	_, _, err := s.attempt(env, []*Attempt{{Meter{m}}}, "Insert", func(err error) { drop(); s.inserts.died(g, err) },
		func([]*Attempt) ([][]Task, error) {
			return make([][]Task, 1), a.Insert(g.ctx, it.task, &PartWriter{Meter{m}, in, sh, s.parts})
		})
	if err != nil {
		drop()
		return s.inserts.outcome(g, 0, false, err)
	}
	s.committing.Add(1)
	defer s.committing.Done()
	if !s.inserts.finished(g, 0) {
		drop()
		return false
	}
	if err := in.Commit(s.ctx); err != nil {
		m.discard()
		s.fail(s.taskError(env, it.task, m.number, 0, err))
		return true
	}
	s.inserted.add(m.counts)
	s.insertsDone.Add(1)
	s.tasksDone.Add(1)
	s.sizeDone.Add(it.task.Size)
	return true
}

// finishInserts waits for the last insert and then finishes all ranks.
func (s *shuffleRun) finishInserts() {
	select {
	case <-s.inserts.done:
	case <-s.ctx.Done():
		return
	}
	s.committing.Wait()
	// No partition is complete before the ranks have finished, so this is in the log before any of them.
	s.addCounters(s.inserted.list)
	if s.work != nil {
		err := s.work.commitAll([]*commit{{
			stage: s.name, epoch: s.e.epoch, input: s.input, counters: s.inserted.list,
		}}, false)
		if err != nil {
			s.fail(err)
			return
		}
	}
	for rank, sh := range s.shufflers {
		if err := sh.InsertFinished(s.ctx); err != nil {
			s.fail(fmt.Errorf("executor: stage %q, rank %d: finishing the inserts: %w", s.name, rank, err))
			return
		}
	}
}

// offer gives the partitions of a rank to its actors as they become complete.
func (s *shuffleRun) offer(rank int) {
	for !s.failed() {
		part, err := s.shufflers[rank].WaitAny(s.ctx)
		if errors.Is(err, io.EOF) {
			s.extracts[rank].close()
			return
		}
		if err != nil {
			s.fail(fmt.Errorf("executor: stage %q, rank %d: waiting for partitions: %w", s.name, rank, err))
			return
		}
		if !s.parts.done[part] {
			s.extracts[rank].add(item{seq: part, task: partTask(part)})
		}
	}
}

// extract attempts to make one partition into results.
func (s *shuffleRun) extract(env *Env, a ShuffleActor, g *grant) (fit bool) {
	part := g.items[0].seq
	p, err := s.open(env.Rank, part)
	if err != nil {
		s.fail(fmt.Errorf("executor: stage %q, rank %d: opening partition %d: %w", s.name, env.Rank, part, err))
		return true
	}
	out := &Attempt{Meter{&meter{run: s.stageRun, env: env, task: g.items[0].task, number: g.Tasks[0].Number}}}
	results, _, err := s.attempt(env, []*Attempt{out}, "Extract", func(err error) { s.extracts[env.Rank].died(g, err) },
		func([]*Attempt) ([][]Task, error) {
			results, err := a.Extract(g.ctx, p, out)
			return [][]Task{results}, err
		})
	if err != nil {
		out.m.discard()
		return s.extracts[env.Rank].outcome(g, 0, false, err)
	}
	if !s.extracts[env.Rank].finished(g, 0) {
		out.m.discard()
		return false
	}
	if err := s.close(env.Rank, part); err != nil {
		s.fail(err)
	}
	s.commits.submit(&pending{a: out, seq: part, results: results[0], input: s.input})
	return true
}

// open returns a partition, which stays open until it is done: another attempt reads it from its beginning.
func (s *shuffleRun) open(rank, part int) (*shuffle.Partition, error) {
	s.mu.Lock()
	p := s.opened[part]
	s.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := s.shufflers[rank].Open(part)
	if err == nil {
		s.mu.Lock()
		s.opened[part] = p
		s.mu.Unlock()
	}
	return p, err
}

func (s *shuffleRun) close(rank, part int) error {
	s.mu.Lock()
	p := s.opened[part]
	delete(s.opened, part)
	s.mu.Unlock()
	if err := p.Close(); err != nil {
		return fmt.Errorf("executor: stage %q, rank %d: closing partition %d: %w", s.name, rank, part, err)
	}
	return nil
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
	for part := range s.opened {
		if err := s.close(s.shufflers[0].OwnerOf(part), part); err != nil {
			s.teardowns = append(s.teardowns, err)
		}
	}
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
