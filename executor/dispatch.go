package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/handout"
)

// item is a task with its place in the stage.
type item struct {
	seq   int
	task  Task
	input inputHash
}

// grant is a batch of items in the hands of an actor.
type grant struct {
	*handout.Grant
	items []item
	ctx   context.Context // ends early if the batch takes too long
	life  *life
}

// dispatcher gives the tasks of a stage to actors as they become free. It drives a [handout.Machine], which decides, and
// adds what the machine must not have: a lock, a clock, and channels to the actors. It is safe for concurrent use.
type dispatcher struct {
	r       *stageRun
	sc      *scope
	start   time.Time
	done    chan struct{} // closed when all tasks are done
	lose    func(actor int)
	back    func(actor int) // takes back what an actor has done of what it holds; it does not wait. Nil if there is nothing to be taken back
	limited bool            // a batch may take only so long

	mu     sync.Mutex
	m      *handout.Machine
	items  []item
	actors map[int]*seat
	timer  *time.Timer
	armed  time.Duration // when timer goes off; 0 if it does not
	cause  error         // of the event at hand
	whose  *Env
}

// seat is where an actor waits for its next grant.
type seat struct {
	env    *Env
	inbox  chan *grant // has room for one, and the machine gives no second
	now    *grant
	cancel context.CancelCauseFunc
	far    remoteActor // instead of inbox, if the actor is on another rank
}

// remoteActor is how an actor on another rank is told something. None of its methods wait.
type remoteActor interface {
	give(g *grant)
	// tooLong says that the time of the grant is up, and giveUp that the actor is not counted on any more.
	tooLong(g *grant)
	giveUp()
}

// errTooLong is the cause with which the context of an attempt ends that has taken longer than its stage allows.
var errTooLong = errors.New("it takes longer than its stage allows")

const (
	firstPause = 50 * time.Millisecond
	longPause  = 5 * time.Second
	// maxKills is how many actors a task may take with it.
	maxKills = 2
	// silence is how long an actor whose time is up has to come back before it is given up.
	silence = time.Second
)

// dispatcher makes one. lose is told of actors that do not answer any more.
func (r *stageRun) dispatcher(sc *scope, batch int, lose func(actor int)) *dispatcher {
	cfg := handout.Config{
		MaxAttempts: r.e.cfg.MaxAttempts, MaxKills: maxKills, Batch: batch, Backoff: firstPause, MaxBackoff: longPause,
	}
	if d, ok := r.stage.(Deadliner); ok {
		cfg.Deadline = max(0, d.TaskDeadline())
	}
	return &dispatcher{
		r: r, sc: sc, start: time.Now(), done: make(chan struct{}), lose: lose, limited: cfg.Deadline > 0 || r.e.cfg.TaskTimeout > 0,
		m: handout.New(cfg), actors: make(map[int]*seat),
	}
}

// add queues tasks; close says that there are no more.
func (d *dispatcher) add(its ...item) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.items = append(d.items, its...)
	d.step(handout.Event{Kind: handout.EvAdd, N: len(its)})
}

func (d *dispatcher) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.step(handout.Event{Kind: handout.EvClose})
}

// stop is called when the stage has ended, one way or the other.
func (d *dispatcher) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.armed = -1
}

// next waits for a grant for an actor that has nothing to do. There is none when all tasks are done or the stage ends.
func (d *dispatcher) next(env *Env) (*grant, bool) {
	start := time.Now()
	d.mu.Lock()
	s := d.sit(env, nil)
	d.mu.Unlock()
	defer func() { d.r.waitNS.Add(int64(time.Since(start))) }()
	select {
	case g := <-s.inbox:
		return g, !d.sc.failed()
	case <-d.done:
		return nil, false
	case <-d.sc.ctx.Done():
		return nil, false
	}
}

// ready says that an actor on another rank has nothing to do.
func (d *dispatcher) ready(env *Env, far remoteActor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sit(env, far)
}

// sit says that an actor has nothing to do, and returns where it waits. The lock is held.
func (d *dispatcher) sit(env *Env, far remoteActor) *seat {
	s := d.actors[env.Actor]
	if s == nil {
		s = &seat{env: env, inbox: make(chan *grant, 1), far: far}
		d.actors[env.Actor] = s
	}
	s.leave()
	d.step(handout.Event{Kind: handout.EvIdle, Actor: env.Actor})
	return s
}

// vacate says that the actor of a seat has died, because of why, or left of itself. The lock is held.
func (d *dispatcher) vacate(s *seat, kind handout.Kind, why error) {
	s.leave()
	delete(d.actors, s.env.Actor)
	d.cause, d.whose = why, s.env
	d.step(handout.Event{Kind: kind, Actor: s.env.Actor})
}

// held returns the grant that an actor holds, if it has that id.
func (d *dispatcher) held(actor int, id uint64) *grant {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.actors[actor]; s != nil && s.now != nil && s.now.ID == id {
		return s.now
	}
	return nil
}

// holding returns what actors hold.
func (d *dispatcher) holding(actors []int) (its []item) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, actor := range actors {
		if s := d.actors[actor]; s != nil && s.now != nil {
			its = append(its, s.now.items...)
		}
	}
	return its
}

// gone says that actors are gone with their rank. Those that hold nothing go first: they must not be given what the others
// leave behind.
func (d *dispatcher) gone(actors []int, why error) {
	kind := handout.EvLost
	if isUnheard(why) {
		kind = handout.EvLeave
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, idle := range []bool{true, false} {
		for _, actor := range actors {
			if s := d.actors[actor]; s != nil && (s.now == nil) == idle {
				d.vacate(s, kind, why)
			}
		}
	}
}

// leave says that an actor goes away that has not tried what it was given last.
func (d *dispatcher) leave(env *Env) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.actors[env.Actor]; s != nil {
		d.vacate(s, handout.EvLeave, nil)
	}
}

func (s *seat) leave() {
	if s.cancel != nil {
		s.cancel(nil)
	}
	s.now, s.cancel = nil, nil
}

// finished reports whether the attempt at of a grant is the one of its task that counts.
func (d *dispatcher) finished(g *grant, at int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.step(handout.Event{Kind: handout.EvDone, Actor: g.Actor, ID: g.ID, At: at}) {
		if a.Kind == handout.ActAccept {
			d.r.attemptEvent(slog.LevelDebug, "attempt finished", nil, d.env(g.Actor), g.items[at].task.ID, a.Attempt.Number)
			d.items[a.Attempt.Task] = item{} // what it holds may be large, and is done with
			return true
		}
	}
	return false
}

// failed says that attempt at of a grant has failed, and with all, that its neighbours have with it.
func (d *dispatcher) failed(g *grant, at int, all bool, err error) {
	ev := handout.Event{Kind: handout.EvFailed, Actor: g.Actor, ID: g.ID, At: at, All: all, Why: handout.Permanent}
	if IsTransient(err) {
		ev.Why = handout.Transient
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.actors[g.Actor]; s != nil && s.now == g {
		d.cause, d.whose = err, s.env
		d.step(ev)
	}
}

// outcome says that attempt at of a grant ended with err, and with all, its neighbours with it. It reports whether the actor is
// fit for more: not after a panic, nor after it took too long, nor without its device.
func (d *dispatcher) outcome(g *grant, at int, all bool, err error) (fit bool) {
	if why := g.fatal(err); why != nil {
		d.died(g, why)
		return false
	}
	d.failed(g, at, all, err)
	return true
}

// fatal returns why an actor is not fit for more after an attempt of g that ended with err, or nil if it is.
func (g *grant) fatal(err error) error {
	switch {
	case errors.Is(err, ErrPanic), errors.Is(err, ErrDeviceLost):
		return err
	case errors.Is(context.Cause(g.ctx), errTooLong):
		return context.Cause(g.ctx)
	}
	return nil
}

// died says that the actor that holds g is gone, or given up, because of err. It reports whether it did hold g.
func (d *dispatcher) died(g *grant, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.actors[g.Actor]
	if s == nil || s.now != g {
		return false
	}
	d.vacate(s, handout.EvLost, err)
	return true
}

// step drives the machine. The lock is held.
func (d *dispatcher) step(ev handout.Event) []handout.Action {
	ev.Now = time.Since(d.start)
	acts := d.m.Step(ev)
	for i := range acts {
		d.perform(&acts[i])
	}
	d.arm()
	return acts
}

func (d *dispatcher) perform(a *handout.Action) {
	switch a.Kind {
	case handout.ActGive:
		s := d.actors[a.Actor]
		g := &grant{Grant: a.Grant, items: make([]item, len(a.Grant.Tasks)), ctx: d.sc.ctx, life: new(life)}
		for i, t := range a.Grant.Tasks {
			g.items[i] = d.items[t.Task]
			d.r.attemptEvent(slog.LevelDebug, "attempt started", nil, s.env, g.items[i].task.ID, t.Number)
		}
		if d.limited && s.far == nil {
			g.ctx, s.cancel = context.WithCancelCause(d.sc.ctx)
		}
		s.now = g
		if s.far != nil {
			s.far.give(g)
		} else {
			s.inbox <- g
		}
	case handout.ActRetry:
		d.r.retries.Add(1)
		d.r.note(d.again(a))
		d.r.attemptEvent(slog.LevelWarn, "attempt failed", d.cause, d.whose, d.items[a.Attempt.Task].task.ID, a.Attempt.Number,
			slog.Bool("actor_lost", a.Kills > 0))
	case handout.ActGiveUp:
		d.r.attemptEvent(slog.LevelError, "task failed", d.cause, d.whose, d.items[a.Attempt.Task].task.ID, a.Attempt.Number,
			slog.Bool("actor_lost", a.Kills > 0))
		d.sc.fail(d.r.taskError(d.whose, d.items[a.Attempt.Task].task, a.Attempt.Number, a.Kills, d.cause))
	case handout.ActExpire:
		d.expired(a.Actor, errTooLong)
	case handout.ActFinished:
		close(d.done)
	}
}

// env returns the environment of an actor that has asked for work.
func (d *dispatcher) env(actor int) *Env {
	if s := d.actors[actor]; s != nil {
		return s.env
	}
	return nil
}

// again says why a task is tried once more.
func (d *dispatcher) again(a *handout.Action) string {
	id := d.items[a.Attempt.Task].task.ID
	if a.Kills > 0 {
		return fmt.Sprintf("task %q of stage %q runs again, because its actor was lost: %v", id, d.r.name, d.cause)
	}
	return fmt.Sprintf("task %q of stage %q is tried again after attempt %d of %d: %v",
		id, d.r.name, a.Attempt.Number+1, d.r.e.cfg.MaxAttempts, d.cause)
}

// expired tells an actor that its time is up, and gives it up if it does not listen.
func (d *dispatcher) expired(actor int, why error) {
	s := d.actors[actor]
	if s == nil || s.now == nil {
		return
	}
	if s.far != nil {
		s.far.tooLong(s.now)
	} else {
		s.cancel(why)
	}
	g, far := s.now, s.far
	time.AfterFunc(silence, func() {
		if d.renounce(actor, g, why) && far == nil {
			d.lose(actor)
		}
	})
}

// renounce gives up the actor that holds g. It reports whether it did hold it.
func (d *dispatcher) renounce(actor int, g *grant, why error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.actors[actor]
	if s == nil || s.now != g {
		return false
	}
	// First of all: once the task is another's, all of them may be done at any moment, and nothing may be open then.
	if s.far != nil {
		s.far.giveUp()
	} else if d.back != nil {
		d.back(actor)
	}
	// When the stage is ending anyway the task is nobody's business any more, but the end waits for the actor.
	if !d.sc.failed() {
		d.vacate(s, handout.EvLost, why)
	}
	return true
}

// arm sets the timer for the next moment at which time matters.
func (d *dispatcher) arm() {
	at, ok := d.m.Wake()
	if d.armed < 0 || !ok || at == d.armed {
		return
	}
	d.armed = at
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer = time.AfterFunc(at-time.Since(d.start), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.armed == at {
			d.armed = 0
		}
		if d.armed >= 0 {
			d.step(handout.Event{Kind: handout.EvTick})
		}
	})
}
