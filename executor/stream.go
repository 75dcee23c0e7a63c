package executor

import (
	"context"
	"errors"
	"iter"
)

// outcome is a task that is done.
type outcome struct {
	seq     int
	results []Task
}

// Stream runs one stage over a sequence of tasks and yields the results in the order of the tasks, once they
// are committed. At most [Config.InFlight] tasks are taken from the source ahead of the consumer, so streams
// can be chained and a slow consumer slows them all. The first error, from the source, the stage or ctx, is
// yielded last. The sequence can be ranged over once.
//
// In a job of several processes all ranks call it with the same stage and tasks, and each gets all results, in the same order; what
// counts as ahead of the consumer is what is ahead of the slowest of them. The tasks are those of rank 0's source. The others range over
// theirs without such a bound, only to compare them at the end. A rank that was lost and comes back cannot take part any more, as
// the results are not kept.
//
// Leaving the loop early stops the stage; nothing is left running after the loop. The source runs in a
// goroutine of its own and is asked to stop when it next yields.
func (e *Executor) Stream(ctx context.Context, st Stage, tasks iter.Seq2[Task, error]) iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		if err := e.prepare(ctx, st); err != nil {
			yield(Task{}, err)
			return
		}
		if !e.cfg.Job.Root() {
			e.streamMember(ctx, st, tasks, yield)
			return
		}
		r := e.newRun(ctx, st, "pool")
		s := &stream{pool: &pool{stageRun: r, stage: st}, source: tasks, batch: batchSize(st)}
		n, err := r.actorCount(st, -1, false)
		if err != nil {
			r.fail(err)
			yield(Task{}, s.end())
			return
		}
		r.actors = n
		inFlight := e.cfg.InFlight
		if inFlight == 0 {
			inFlight = 4 * s.batch * (n + e.cfg.Job.farActors(r))
		}
		// A batch that could never be filled would never be handed out.
		inFlight = max(inFlight, s.batch)
		s.window = make(chan struct{}, inFlight)
		s.done = make(chan outcome, inFlight)
		if e.cfg.Job != nil {
			s.invited = func(f *farPool) stageHandler {
				s.ranks = &streamRoot{farPool: f, came: make(chan struct{}, 1), free: func() { <-s.window }}
				return s.ranks
			}
		}
		r.announce(-1)
		s.run(yield)
	}
}

type stream struct {
	*pool
	source iter.Seq2[Task, error]
	batch  int
	// window has an element for every task taken from the source and not yet given to the consumer.
	window chan struct{}
	// done has room for as many, so that committing never waits for the consumer.
	done  chan outcome
	ranks *streamRoot // in a job: set before the first task is handed out
	taken taskHash    // from the source
}

// end closes the stage, and tells the other ranks of a job.
func (s *stream) end() error {
	err := s.pool.end()
	if j := s.e.cfg.Job; j != nil {
		told := err
		if told == nil && errors.Is(context.Cause(s.ctx), errLeft) {
			told = errRootLeft
		}
		j.concludeStream(s.key, &s.taken, told)
	}
	return err
}

var errLeft = errors.New("the consumer has left")

func (s *stream) run(yield func(Task, error) bool) {
	go func() {
		defer close(s.done)
		s.pool.run(s.actors, s.feed, func(seq int, results []Task) { s.done <- outcome{seq, results} })
	}()
	finished := false
	// Also when yield panics.
	defer func() {
		if finished {
			return
		}
		s.cancel(errLeft)
		for range s.done {
		}
		_ = s.end() // no one is left to hear of it; it is in the statistics
	}()
	ahead := make(map[int][]Task) // done, but behind one that is not
	next := 0
	for o := range s.done {
		ahead[o.seq] = o.results
		for results, ok := ahead[next]; ok; results, ok = ahead[next] {
			delete(ahead, next)
			if s.ranks != nil {
				s.ranks.publish(next, results)
			}
			next++
			for _, t := range results {
				if !yield(t, nil) {
					return
				}
			}
			if s.ranks != nil {
				s.ranks.took()
			} else {
				<-s.window
			}
		}
	}
	finished = true
	if err := s.end(); err != nil {
		yield(Task{}, err)
	}
}

// feed takes tasks from the source while the window has room and adds them in batches.
func (s *stream) feed(add func(...item)) {
	seen := make(map[string]struct{})
	seq := 0
	var batch []item
	enter := func() bool {
		select {
		case s.window <- struct{}{}:
			return true
		case <-s.ctx.Done():
			return false
		}
	}
	// The slot comes first: a task is taken from the source only when there is room for it.
	if !enter() {
		return
	}
	err := guard(s.name, "", "the source of tasks", s.fail, func() (failure error) {
		for t, err := range s.source {
			if err == nil {
				err = checkTask(s.stage, t, seen)
			}
			if err != nil {
				return err
			}
			s.tasks.Add(1)
			s.size.Add(t.Size)
			if s.ranks != nil {
				s.taken.add(t)
			}
			it := item{seq: seq, task: t}
			seq++
			if c := s.lookup(&it); c != nil {
				s.done <- outcome{it.seq, c.results}
			} else if batch = append(batch, it); len(batch) == s.batch {
				add(batch...)
				batch = batch[:0]
			}
			if !enter() {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		s.fail(err)
		return
	}
	add(batch...)
}
