package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// runActors sets up one actor per env, each in a goroutine of its own, runs body on all of them once all
// are set up, and closes every actor that was set up, in every outcome. ready is called in between, and only if
// no set-up failed. It returns when all goroutines have ended; failures are told to r.
func runActors[A io.Closer](r *stageRun, call string, envs []*Env, setup func(context.Context, *Env) (A, error),
	ready func(), body func(*Env, A)) {
	var setups, ends sync.WaitGroup
	gate := make(chan struct{})
	setups.Add(len(envs))
	for _, env := range envs {
		ends.Go(func() {
			a, ok := setUp(r, call, env, &setups, setup)
			<-gate
			if !ok {
				return
			}
			defer tearDown(r, env, a)
			if !r.failed() {
				body(env, a)
			}
		})
	}
	setups.Wait()
	close(gate)
	if !r.failed() {
		// In a goroutine of its own: a source of tasks that ends its goroutine must not end the wait below.
		var fed sync.WaitGroup
		fed.Go(ready)
		fed.Wait()
	}
	ends.Wait()
}

func setUp[A io.Closer](r *stageRun, call string, env *Env, done *sync.WaitGroup,
	setup func(context.Context, *Env) (A, error)) (a A, ok bool) {
	defer done.Done()
	defer func(start time.Time) { r.setupNS.Add(int64(time.Since(start))) }(time.Now())
	err := guard(r.name, "", call, r.fail, func() (err error) {
		a, err = setup(r.ctx, env)
		if err == nil && any(a) == nil {
			err = fmt.Errorf("%s returned no actor", call)
		}
		return err
	})
	if err != nil {
		if !errors.Is(err, ErrPanic) {
			err = fmt.Errorf("executor: setting up actor %d of %d of stage %q: %w", env.Actor+1, env.Actors, r.name, err)
		}
		r.fail(err)
		return a, false
	}
	return a, true
}

func tearDown[A io.Closer](r *stageRun, env *Env, a A) {
	note := func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.teardowns = append(r.teardowns, err)
	}
	if err := guard(r.name, "", "Close", note, a.Close); err != nil {
		if !errors.Is(err, ErrPanic) {
			err = fmt.Errorf("executor: closing actor %d of %d of stage %q: %w", env.Actor+1, env.Actors, r.name, err)
		}
		note(err)
	}
}

// item is a task with its place in the stage.
type item struct {
	seq   int
	task  Task
	input inputHash
}

// pool runs the tasks of a plain stage.
type pool struct {
	*stageRun
	stage   Stage
	commits *committer
	jobs    chan []item
}

// run starts n actors, hands them the batches that feed gives to its argument, and returns when all have been
// processed and committed, or the stage has failed. feed should return when its argument returns false. sink
// gets the results of each task, from one goroutine.
func (p *pool) run(n int, feed func(give func([]item) bool), sink func(seq int, results []Task)) {
	p.commits = newCommitter(p.stageRun, sink)
	// Unbuffered: a batch is taken from its source only when an actor is free for it.
	p.jobs = make(chan []item)
	give := func(batch []item) bool {
		select {
		case p.jobs <- batch:
			return true
		case <-p.ctx.Done():
			return false
		}
	}
	runActors(p.stageRun, "NewActor", p.e.envs(p.name, n), p.stage.NewActor,
		func() {
			defer close(p.jobs)
			feed(give)
		},
		func(env *Env, a Actor) {
			for {
				start := time.Now()
				select {
				case batch, ok := <-p.jobs:
					p.waitNS.Add(int64(time.Since(start)))
					// select takes either of two that are ready, and the stage may have ended as well.
					if !ok || p.failed() {
						return
					}
					p.process(env, a, batch)
				case <-p.ctx.Done():
					return
				}
			}
		})
	p.commits.close()
}

// process does one batch, task by task unless the actor takes several.
func (p *pool) process(env *Env, a Actor, batch []item) {
	if b, ok := a.(BatchActor); ok {
		p.try(env, batch, "ProcessBatch", func(outs []*Attempt) ([][]Task, error) {
			tasks := make([]Task, len(batch))
			for i := range batch {
				tasks[i] = batch[i].task
			}
			results, err := b.ProcessBatch(p.ctx, tasks, outs)
			if err == nil && len(results) != len(tasks) {
				err = fmt.Errorf("ProcessBatch returned %d lists of results for %d tasks", len(results), len(tasks))
			}
			return results, err
		})
		return
	}
	for i := range batch {
		if p.failed() {
			return
		}
		p.try(env, batch[i:i+1], "Process", func(outs []*Attempt) ([][]Task, error) {
			results, err := a.Process(p.ctx, batch[i].task, outs[0])
			return [][]Task{results}, err
		})
	}
}

// try attempts tasks until they succeed, or fail for good, and submits what is to be committed.
func (p *pool) try(env *Env, batch []item, call string, do func([]*Attempt) ([][]Task, error)) {
	for number := uint32(0); ; number++ {
		outs := make([]*Attempt, len(batch))
		for i := range batch {
			outs[i] = &Attempt{Meter{&meter{run: p.stageRun, env: env, task: batch[i].task, number: number}}}
		}
		results, at, err := p.attempt(env, outs, call, do)
		if err == nil {
			p.submit(batch, outs, results)
			return
		}
		for _, out := range outs {
			out.m.discard()
		}
		if !p.again(outs[at].m, err) {
			p.fail(p.taskError(outs[at].m, err))
			return
		}
	}
}

// again reports whether a task that failed with err is tried once more.
func (r *stageRun) again(m *meter, err error) bool {
	if r.failed() || !IsTransient(err) || int(m.number)+1 >= r.e.cfg.MaxAttempts {
		return false
	}
	r.note(fmt.Sprintf("task %q of stage %q is tried again after attempt %d of %d: %v",
		m.task.ID, r.name, m.number+1, r.e.cfg.MaxAttempts, err))
	return true
}

// attempt runs do once. On an error, at is the index of the task it is about.
func (r *stageRun) attempt(env *Env, outs []*Attempt, call string, do func([]*Attempt) ([][]Task, error)) (
	results [][]Task, at int, err error) {
	r.attempts.Add(int64(len(outs)))
	exited := func(err error) {
		for _, out := range outs {
			out.m.end()
			out.m.discard()
		}
		r.fail(err)
	}
	start := time.Now()
	err = guard(r.name, outs[0].m.task.ID, call, exited, func() (err error) {
		results, err = do(outs)
		return err
	})
	spent := time.Since(start)
	for i, out := range outs {
		spent -= out.m.waited
		r.waitNS.Add(int64(out.m.waited))
		faults := []error{out.m.end()}
		if err == nil {
			faults = append(faults, nameResults(out.m.task, results[i]))
		}
		for _, fault := range faults {
			if err == nil && fault != nil {
				at, err = i, fault
			}
		}
	}
	r.computeNS.Add(int64(max(spent, 0))) // several goroutines of one actor may have waited
	return results, at, err
}

func (p *pool) submit(batch []item, outs []*Attempt, results [][]Task) {
	start := time.Now()
	for i := range batch {
		p.commits.submit(&pending{a: outs[i], seq: batch[i].seq, results: results[i], input: batch[i].input})
	}
	p.waitNS.Add(int64(time.Since(start)))
}

// nameResults gives results without an ID one, and checks the others.
func nameResults(from Task, results []Task) error {
	total := 0
	for i := range results {
		t := &results[i]
		if t.ID == "" {
			t.ID = from.ID
			if len(results) > 1 {
				t.ID = fmt.Sprintf("%s-%d", from.ID, i)
			}
		}
		if err := checkName(t.ID, maxNameLen); err != nil {
			return fmt.Errorf("result %d has the ID %.150q: %w", i, t.ID, err)
		}
		if len(t.Data) > maxTaskData {
			return fmt.Errorf("result %q has %d bytes of data, at most %d are allowed; put bulk data into a file",
				t.ID, len(t.Data), maxTaskData)
		}
		total += len(t.Data) + len(t.ID) + 32
	}
	if total > maxRecord/2 {
		return fmt.Errorf("the results have %d bytes, at most %d are allowed; put bulk data into a file", total, maxRecord/2)
	}
	return nil
}
