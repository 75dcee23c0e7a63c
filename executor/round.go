package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// round is one try of a shuffle stage, as far as it is this process's. It is the only one unless ranks are lost.
type round struct {
	*stageRun
	sc     *scope
	stage  ShuffleStage
	number int // from 1; 0 if there can be no other
	input  inputHash
	parts  *partSet

	first     int                 // the rank of shufflers[0]
	shufflers []*shuffle.Shuffler // of the ranks in this process
	inserts   hand
	extracts  []*dispatcher // of each of them: its partitions, as they become complete
	commits   sink
	// allIn is closed when the inserts of all ranks are committed. Whoever hands them out does so.
	allIn chan struct{}

	committing tally // inserts that were accepted and are not yet committed in the shuffle
	inserted   counters
	// insertedTasks and insertedSize are what this round has added to the stage's.
	insertedTasks, insertedSize atomic.Int64
	// hired, if not nil, is told how an actor is given up, before any is set up.
	hired func(giveUp func(actor int))

	inserting sync.Mutex
	under     map[int]*openInsert // by actor: what it inserts at the moment

	opening sync.Mutex
	opened  map[int]*shuffle.Partition // those being extracted
}

// hand gives actors their tasks and takes their answers: [dispatcher], or what stands for one on another rank.
type hand interface {
	// next waits for a grant for an actor that has nothing to do. There is none when all tasks are done or the scope ends.
	next(env *Env) (*grant, bool)
	// finished reports whether attempt at of a grant is the one of its task that counts.
	finished(g *grant, at int) bool
	// outcome says that attempt at of a grant ended with err, and with all, its neighbours with it. It reports whether the
	// actor is fit for more.
	outcome(g *grant, at int, all bool, err error) (fit bool)
	// died says that the actor that holds g is gone because of err.
	died(g *grant, err error) bool
	// leave says that an actor goes away that has not tried what it was given last.
	leave(env *Env)
}

// sink makes finished attempts permanent.
type sink interface{ submit(p *pending) }

// run does this process's part and returns when it is over, or failed: the scope says so. feed is called to hand out tasks, if
// that is done here.
func (s *round) run(envs []*Env, feed func(*dispatcher)) {
	// A rank that waits for others must hear of a failure of this one, and of the end of the scope.
	aborted := make(chan struct{})
	stop := context.AfterFunc(s.sc.ctx, func() {
		defer close(aborted)
		for _, sh := range s.shufflers {
			sh.Abort(context.Cause(s.sc.ctx))
		}
	})
	c := &crew[ShuffleActor]{r: s.stageRun, sc: s.sc, call: "NewShuffleActor", setup: s.stage.NewShuffleActor, body: s.serve, perRank: true}
	giveUp := func(actor int) {
		s.takeBack(actor)
		c.giveUp(actor)
	}
	local, _ := s.inserts.(*dispatcher)
	if local != nil {
		local.lose, local.back = giveUp, s.takeBack
	}
	if s.hired != nil {
		s.hired(giveUp)
	}
	var extracts []*dispatcher
	for range s.shufflers {
		extracts = append(extracts, s.dispatcher(s.sc, 1, c.giveUp))
	}
	s.opening.Lock()
	s.extracts = extracts
	s.opening.Unlock()
	var unwatch []func()
	for _, d := range s.extracts {
		unwatch = append(unwatch, d.watch())
	}
	if local != nil {
		unwatch = append(unwatch, local.watch())
	}
	var ends sync.WaitGroup
	c.run(envs, func() {
		if local != nil {
			ends.Go(func() { s.settle(local) })
		}
		ends.Go(s.finishInserts)
		for i := range s.shufflers {
			ends.Go(func() { s.offer(i) })
		}
		if local != nil {
			feed(local)
		}
	})
	ends.Wait()
	for _, stop := range unwatch {
		stop()
	}
	if local != nil {
		local.stop()
	}
	for _, d := range s.extracts {
		d.stop()
	}
	s.conclude()
	if !stop() {
		<-aborted
	}
}

// serve is what an actor does: first inserts, then partitions of its rank.
func (s *round) serve(env *Env, a ShuffleActor) (fit bool) {
	for {
		g, ok := s.inserts.next(env)
		if !ok {
			break
		}
		if s.gone(env) {
			s.inserts.leave(env)
			return false
		}
		if !s.insert(env, a, g) {
			return false
		}
	}
	for {
		extracts := s.extracts[env.Rank-s.first]
		g, ok := extracts.next(env)
		if !ok {
			return true
		}
		if s.gone(env) {
			extracts.leave(env)
			return false
		}
		if !s.extract(env, a, g) {
			return false
		}
	}
}

// insert attempts to insert one task.
func (s *round) insert(env *Env, a ShuffleActor, g *grant) (fit bool) {
	if why := context.Cause(g.ctx); errors.Is(why, errTooLong) {
		return s.inserts.outcome(g, 0, false, why) // nobody would take it back
	}
	it := g.items[0]
	m := &meter{run: s.stageRun, env: env, task: it.task, number: g.Tasks[0].Number, life: g.life}
	sh := s.shufflers[env.Rank-s.first]
	in := sh.Begin(uint64(it.seq), m.number)
	back := s.begin(env, in)
	drop := func() {
		back()
		m.discard()
	}
	_, _, err := s.attempt(env, []*Attempt{{Meter{m}}}, "Insert", func(err error) { drop(); s.inserts.died(g, err) },
		func([]*Attempt) ([][]Task, error) {
			return make([][]Task, 1), a.Insert(m.within(g.ctx), it.task, &PartWriter{Meter{m}, in, sh, s.parts})
		})
	if err != nil {
		drop()
		return s.inserts.outcome(g, 0, false, err)
	}
	// Counted first: the last task is finished before its inserts are committed.
	s.committing.add()
	if !s.inserts.finished(g, 0) {
		s.committing.done()
		drop()
		return false
	}
	s.accepted(env, in)
	if err := in.Commit(s.sc.ctx); err != nil {
		m.discard()
		s.sc.fail(s.taskError(env, it.task, m.number, 0, err))
		return true
	}
	s.insertDone(m)
	if r, ok := s.inserts.(insertReporter); ok {
		r.insertDone(g, m)
	}
	return true
}

// extractReporter is a [hand] that is told which partitions are being extracted.
type extractReporter interface{ extracting(part int) }

// insertReporter is a [hand] that is told of inserts that are committed in the shuffle.
type insertReporter interface {
	insertDone(g *grant, m *meter)
}

// insertDone counts inserts that are committed in the shuffle, whichever rank did them.
func (s *round) insertDone(m *meter) {
	s.inserted.add(m.counts)
	s.insertedTasks.Add(1)
	s.insertedSize.Add(m.task.Size)
	s.insertsDone.Add(1)
	s.tasksDone.Add(1)
	s.sizeDone.Add(m.task.Size)
	s.timed(&s.insertTimes, m, "task inserted", 0)
	s.committing.done()
}

// settle waits until the inserts of all ranks are committed and says so.
func (s *round) settle(inserts *dispatcher) {
	select {
	case <-inserts.done:
	case <-s.sc.ctx.Done():
		return
	}
	if !s.committing.wait(s.sc.ctx) {
		return
	}
	// No partition is complete before the ranks have finished, so this is in the log before any of them.
	if s.number == 0 {
		s.addCounters(s.inserted.list)
	}
	if s.work != nil {
		err := s.work.commitAll([]*commit{{
			stage: s.name, epoch: s.e.epoch, input: s.input, counters: s.inserted.list,
		}}, false)
		if err != nil {
			s.sc.fail(err)
			return
		}
	}
	close(s.allIn)
}

// finishInserts finishes the ranks of this process when there are no more inserts.
func (s *round) finishInserts() {
	select {
	case <-s.allIn:
	case <-s.sc.ctx.Done():
		return
	}
	for i, sh := range s.shufflers {
		if err := sh.InsertFinished(s.sc.ctx); err != nil {
			s.sc.fail(fmt.Errorf("executor: stage %q, rank %d: finishing the inserts: %w", s.name, s.first+i, err))
			return
		}
	}
}

// offer gives the partitions of a rank to its actors as they become complete.
func (s *round) offer(i int) {
	for !s.sc.failed() {
		part, err := s.shufflers[i].WaitAny(s.sc.ctx)
		if errors.Is(err, io.EOF) {
			s.extracts[i].close()
			return
		}
		if err != nil {
			s.sc.fail(fmt.Errorf("executor: stage %q, rank %d: waiting for partitions: %w", s.name, s.first+i, err))
			return
		}
		if !s.parts.done[part] {
			s.extracts[i].add(item{seq: part, task: partTask(part)})
		}
	}
}

// attemptsPerRound keeps the numbers of attempts of a partition apart that are made in different rounds.
const attemptsPerRound = 1 << 12

// extract attempts to make one partition into results.
func (s *round) extract(env *Env, a ShuffleActor, g *grant) (fit bool) {
	part, extracts := g.items[0].seq, s.extracts[env.Rank-s.first]
	p, err := s.open(env.Rank-s.first, part)
	if err != nil {
		s.sc.fail(fmt.Errorf("executor: stage %q, rank %d: opening partition %d: %w", s.name, env.Rank, part, err))
		return true
	}
	if r, ok := s.inserts.(extractReporter); ok {
		r.extracting(part)
	}
	number := uint32(max(0, s.number-1))*attemptsPerRound + g.Tasks[0].Number
	out := &Attempt{Meter{&meter{run: s.stageRun, env: env, task: g.items[0].task, number: number, life: g.life}}}
	results, _, err := s.attempt(env, []*Attempt{out}, "Extract", func(err error) { extracts.died(g, err) },
		func([]*Attempt) ([][]Task, error) {
			results, err := a.Extract(out.m.within(g.ctx), p, out)
			return [][]Task{results}, err
		})
	if err != nil {
		out.m.discard()
		return extracts.outcome(g, 0, false, err)
	}
	if !extracts.finished(g, 0) {
		out.m.discard()
		return false
	}
	if err := s.close(part); err != nil {
		s.sc.fail(err)
	}
	s.commits.submit(&pending{a: out, seq: part, results: results[0], input: s.input, round: s.number})
	return true
}

// open returns a partition, which stays open until it is done: another attempt reads it from its beginning.
func (s *round) open(i, part int) (*shuffle.Partition, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if p := s.opened[part]; p != nil {
		return p, nil
	}
	p, err := s.shufflers[i].Open(part)
	if err == nil {
		if s.opened == nil {
			s.opened = make(map[int]*shuffle.Partition)
		}
		s.opened[part] = p
	}
	return p, err
}

func (s *round) close(part int) error {
	s.opening.Lock()
	p := s.opened[part]
	delete(s.opened, part)
	s.opening.Unlock()
	if err := p.Close(); err != nil {
		return fmt.Errorf("executor: stage %q: closing partition %d: %w", s.name, part, err)
	}
	return nil
}

// conclude checks the ledger on every rank of this process, unless the round has failed.
func (s *round) conclude() {
	for i, sh := range s.shufflers {
		if s.sc.failed() {
			return
		}
		if err := sh.Wait(s.sc.ctx); err != nil {
			s.sc.fail(fmt.Errorf("executor: stage %q, rank %d: %w", s.name, s.first+i, err))
		}
	}
}

// connect makes the shufflers of this process's ranks.
func (s *round) connect(comms []*shuffle.Communicator, op shuffle.OpID, epoch uint32) error {
	for _, c := range comms {
		sh, err := shuffle.New(shuffle.Options{
			Comm: c, Run: s.e.runID, Op: op, Epoch: epoch, TotalParts: s.parts.total,
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

// disconnect closes what is open.
func (s *round) disconnect() (errs []error) {
	for part := range s.opened {
		if err := s.close(part); err != nil {
			errs = append(errs, err)
		}
	}
	for i, sh := range s.shufflers {
		if err := sh.Close(); err != nil {
			errs = append(errs, fmt.Errorf("executor: stage %q, rank %d: %w", s.name, s.first+i, err))
		}
	}
	return errs
}

func (s *round) spilledBytes() (n int64) {
	for _, sh := range s.shufflers {
		n += sh.Statistics().Spilled.Bytes
	}
	return n
}
