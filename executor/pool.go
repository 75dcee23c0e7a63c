package executor

import (
	"context"
	"fmt"
	"time"
)

// pool runs the tasks of a plain stage.
type pool struct {
	*stageRun
	stage   Stage
	hand    hand
	commits sink
	inputs  inputHash                   // of all tasks; with a job
	invited func(*farPool) stageHandler // what handles messages of other ranks instead, if not nil
}

// run starts n actors, hands them the tasks that feed adds, and returns when all have been processed and committed, or the
// stage has failed. sink gets the results of each task, from one goroutine.
func (p *pool) run(n int, feed func(add func(...item)), sink func(seq int, results []Task)) {
	commits := newCommitter(p.stageRun, sink)
	p.commits = commits
	c := &crew[Actor]{r: p.stageRun, sc: p.scope, call: "NewActor", setup: p.stage.NewActor, body: p.work}
	d := p.dispatcher(p.scope, batchSize(p.stage), c.giveUp)
	p.hand = d
	if p.e.idle {
		n = 0
	}
	unwatch := d.watch()
	leave := p.invite(d, n)
	c.run(p.e.envs(p.name, n), func() {
		defer d.close()
		feed(d.add)
	})
	leave()
	unwatch()
	d.stop()
	commits.close()
}

// invite lets the other ranks of the job take part. The caller calls the result when its own actors are done: it waits until
// those of the others are.
func (p *pool) invite(d *dispatcher, n int) (leave func()) {
	j := p.e.cfg.Job
	if j == nil {
		return func() {}
	}
	var h stageHandler = &farPool{far: newFar(p.stageRun, p.scope, d, n), p: p}
	if p.invited != nil {
		h = p.invited(h.(*farPool))
	}
	a := j.attach(p.key, h)
	stop := context.AfterFunc(j.ctx, func() { p.fail(j.gone()) })
	return func() {
		select {
		case <-d.done:
		case <-p.ctx.Done():
		}
		if s, ok := h.(*streamRoot); ok {
			s.await(p.ctx)
		}
		stop()
		j.detach(p.key, a)
	}
}

// work is what an actor does.
func (p *pool) work(env *Env, a Actor) (fit bool) {
	for {
		g, ok := p.hand.next(env)
		if !ok {
			return true
		}
		if p.gone(env) { // while it waited
			p.hand.leave(env)
			return false
		}
		if !p.process(env, a, g) {
			return false
		}
	}
}

// process does one batch, task by task unless the actor takes several, and reports whether the actor is fit for more.
func (p *pool) process(env *Env, a Actor, g *grant) (fit bool) {
	if b, ok := a.(BatchActor); ok {
		return p.try(env, g, 0, len(g.items), "ProcessBatch", func(outs []*Attempt) ([][]Task, error) {
			tasks := make([]Task, len(g.items))
			for i := range g.items {
				tasks[i] = g.items[i].task
			}
			results, err := b.ProcessBatch(outs[0].m.within(g.ctx), tasks, outs)
			if err == nil && len(results) != len(tasks) {
				err = fmt.Errorf("ProcessBatch returned %d lists of results for %d tasks", len(results), len(tasks))
			}
			return results, err
		})
	}
	for i := range g.items {
		if p.failed() {
			return true
		}
		if !p.try(env, g, i, i+1, "Process", func(outs []*Attempt) ([][]Task, error) {
			results, err := a.Process(outs[0].m.within(g.ctx), g.items[i].task, outs[0])
			return [][]Task{results}, err
		}) {
			return false
		}
	}
	return true
}

// try attempts the tasks lo to hi of a grant and submits what is to be committed.
func (p *pool) try(env *Env, g *grant, lo, hi int, call string, do func([]*Attempt) ([][]Task, error)) (fit bool) {
	outs := make([]*Attempt, hi-lo)
	for i := range outs {
		outs[i] = &Attempt{Meter{&meter{
			run: p.stageRun, env: env, task: g.items[lo+i].task, number: g.Tasks[lo+i].Number, life: g.life,
		}}}
	}
	results, at, err := p.attempt(env, outs, call, func(err error) { p.hand.died(g, err) }, do)
	if err != nil {
		for _, out := range outs {
			out.m.discard()
		}
		return p.hand.outcome(g, lo+at, hi-lo > 1, err)
	}
	start := time.Now()
	fit = true
	for i, out := range outs {
		// It does not count if the batch took so long that it was given to someone else.
		if fit = p.hand.finished(g, lo+i); !fit {
			out.m.discard()
			continue
		}
		p.commits.submit(&pending{
			a: out, seq: g.items[lo+i].seq, results: results[i], input: g.items[lo+i].input, g: g, at: lo + i,
		})
	}
	p.waitNS.Add(int64(time.Since(start)))
	return fit
}

// attempt runs do once. On an error, at is the index of the task it is about. If do ends its goroutine, gone is told why.
func (r *stageRun) attempt(env *Env, outs []*Attempt, call string, gone func(error), do func([]*Attempt) ([][]Task, error)) (
	results [][]Task, at int, err error) {
	r.attempts.Add(int64(len(outs)))
	exited := func(err error) {
		for _, out := range outs {
			out.m.end()
			out.m.discard()
		}
		gone(r.blame(env, err))
	}
	start := time.Now()
	err = guard(r.name, outs[0].m.task.ID, call, exited, func() (err error) {
		results, err = do(outs)
		return err
	})
	total := time.Since(start)
	for i, out := range outs {
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
	r.spend(divide(total, outs))
	if err != nil {
		err = r.blame(env, err)
	}
	return results, at, err
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
