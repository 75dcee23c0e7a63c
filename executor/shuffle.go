package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

// Shuffle runs one shuffle stage: every actor inserts, every rank finishes once after all its inserts, and
// complete partitions are extracted. Results come in the order of partitions. Partitions that the work
// folder knows as committed, for the same tasks and number of partitions, are not extracted again, and if
// that is all of them nothing is inserted. A failure anywhere aborts the shuffle on all ranks.
func (e *Executor) Shuffle(ctx context.Context, st ShuffleStage, tasks []Task) (out []Task, err error) {
	if err := e.prepare(ctx, st); err != nil {
		return nil, err
	}
	if j := e.cfg.Job; !j.Root() {
		return e.shuffleMember(ctx, st, tasks)
	} else if j != nil {
		defer func() { j.conclude(e.key+st.Name(), out, err) }()
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
	}
	for _, t := range tasks {
		s.size.Add(t.Size)
	}
	if s.reuseParts() == total {
		s.reuseInserts()
		s.tasks.Store(int64(total))
		s.announce(int64(total))
	} else if e.cfg.Job != nil {
		s.runRounds(tasks)
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
	commits *committer
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

// run takes the only round of the stage when all ranks are in this process.
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
	comms, op, err := s.e.communicators()
	if err != nil {
		return fmt.Errorf("executor: stage %q: connecting the ranks: %w", s.name, err)
	}
	s.shuffle = &ShuffleStats{Op: op, TotalParts: s.parts.total}
	rd := &round{
		stageRun: s.stageRun, sc: s.scope, stage: s.stage, input: s.input, parts: s.parts,
		inserts: s.dispatcher(s.scope, 1, nil), allIn: make(chan struct{}),
	}
	if err := rd.connect(comms, op, s.e.epoch); err != nil {
		rd.disconnect()
		return err
	}
	s.actors = n
	s.tasks.Store(int64(len(tasks) + s.parts.total))
	s.spilled = rd.spilledBytes
	s.announce(s.tasks.Load())
	s.commits = newCommitter(s.stageRun, func(part int, results []Task) { s.results[part] = results })
	rd.commits = s.commits
	rd.run(s.e.envs(s.name, n), func(inserts *dispatcher) { s.feed(inserts, tasks) })
	s.commits.close()
	s.keep(rd)
	return nil
}

// feed hands out the tasks, larger ones first.
func (s *shuffleRun) feed(inserts *dispatcher, tasks []Task) {
	items := make([]item, len(tasks))
	for i, t := range tasks {
		items[i] = item{seq: i, task: t}
	}
	largestFirst(items)
	inserts.add(items...)
	inserts.close()
}

// keep takes what the round has counted, and disconnects it.
func (s *shuffleRun) keep(rd *round) {
	for i, sh := range rd.shufflers {
		s.shuffle.Ranks = append(s.shuffle.Ranks,
			RankShuffle{Rank: rd.first + i, Ledger: sh.Ledger(), Statistics: sh.Statistics()})
	}
	s.teardowns = append(s.teardowns, rd.disconnect()...)
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
