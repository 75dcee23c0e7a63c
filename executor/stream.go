package executor

import (
	"context"
	"errors"
	"fmt"
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
// In a job of several processes it fails.
//
// Leaving the loop early stops the stage; nothing is left running after the loop. The source runs in a
// goroutine of its own and is asked to stop when it next yields.
func (e *Executor) Stream(ctx context.Context, st Stage, tasks iter.Seq2[Task, error]) iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		if e.cfg.Job.Size() > 1 {
			yield(Task{}, fmt.Errorf("executor: stage %q: a job of several processes cannot stream; use Execute", st.Name()))
			return
		}
		if err := e.prepare(ctx, st); err != nil {
			yield(Task{}, err)
			return
		}
		r := e.newRun(ctx, st, "pool")
		n, err := r.actorCount(st, -1, false)
		if err != nil {
			r.fail(err)
			yield(Task{}, r.end())
			return
		}
		r.actors = n
		s := &stream{pool: &pool{stageRun: r, stage: st}, source: tasks, batch: batchSize(st)}
		inFlight := e.cfg.InFlight
		if inFlight == 0 {
			inFlight = 4 * n * s.batch
		}
		// A batch that could never be filled would never be handed out.
		inFlight = max(inFlight, s.batch)
		s.window = make(chan struct{}, inFlight)
		s.done = make(chan outcome, inFlight)
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
	done chan outcome
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
			next++
			for _, t := range results {
				if !yield(t, nil) {
					return
				}
			}
			<-s.window
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
