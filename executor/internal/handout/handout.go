// Package handout decides which actor does which task, and what becomes of tasks that fail: the part of an executor that
// must be right whatever actors do. It is a state machine: events go in, actions come out, and nothing in it starts a
// goroutine, reads a clock or does I/O. The executor drives one per running stage; the simulator drives any number of
// them under one seed.
//
// # What it promises
//
// Every task is handed out until one attempt of it is accepted, and exactly one attempt ever is: the answer of an actor counts
// only while that actor holds that very attempt. So an actor that was given up for lost and comes back, or a message that
// arrives twice, changes nothing.
//
// A task that fails with a transient error is tried again after a pause that doubles, up to a limit, and by another actor if
// one is free. A task whose actor dies under it is handed to another, alone, so that of a batch the culprit is known; a
// task under which MaxKills actors died ends the stage, because it would take the others with it. Any other failure ends
// the stage at once.
package handout

import (
	"cmp"
	"slices"
	"time"
)

// Config says how often and how fast failed tasks are tried again.
type Config struct {
	// MaxAttempts is how often a task is tried that fails with transient errors, at least 1.
	MaxAttempts int
	// MaxKills is under how many actors' deaths a task may be before the stage ends, at least 1.
	MaxKills int
	// Batch is the largest number of tasks of one grant, at least 1.
	Batch int
	// Deadline is how long an actor may take for one task of a grant; 0 is forever.
	Deadline time.Duration
	// Backoff is the pause before the second attempt; it doubles up to MaxBackoff.
	Backoff, MaxBackoff time.Duration
}

// Grant is a batch of attempts in the hands of one actor.
type Grant struct {
	// ID is never used again in this stage.
	ID uint64
	// Actor holds it.
	Actor int
	// Tasks are the attempts, in the order in which their tasks were added.
	Tasks []Attempt
}

// Attempt is one try of a task.
type Attempt struct {
	Task   int
	Number uint32 // never twice for one task
}

// Why says how an attempt failed.
type Why uint8

const (
	// Permanent failures are properties of the task.
	Permanent Why = iota
	// Transient failures may not happen again.
	Transient
)

// Kind tells events and actions apart.
type Kind uint8

// Events.
const (
	// EvAdd adds the next N tasks: they are numbered from 0 in the order in which they are added.
	EvAdd Kind = iota + 1
	// EvClose says that no more tasks are added.
	EvClose
	// EvIdle says that Actor, known or new, has nothing to do.
	EvIdle
	// EvDone says that Actor has done attempt At of the grant ID.
	EvDone
	// EvFailed says that attempt At of the grant ID failed, and why. All says that the others of the grant, which had one
	// call together, failed with it.
	EvFailed
	// EvLost says that Actor has died, or is given up, with what it holds.
	EvLost
	// EvTick says that time has passed.
	EvTick
	// EvLeave says that Actor goes away, for no fault of what it holds, which it has not tried.
	EvLeave
)

// Event is what happened, at time Now on any clock that does not run backwards.
type Event struct {
	Kind  Kind
	Now   time.Duration
	N     int
	Actor int
	ID    uint64
	At    int
	All   bool
	Why   Why
}

// Actions.
const (
	// ActGive gives Grant to its actor.
	ActGive Kind = iota + 64
	// ActAccept says that Attempt is the one of its task that counts.
	ActAccept
	// ActRetry says that the task of Attempt will be tried again, not before time At.
	ActRetry
	// ActGiveUp ends the stage: the task of Attempt has failed for good. Kills of its actors died under it.
	ActGiveUp
	// ActExpire says that Actor has held its grant for longer than it may; whoever can should stop it and say EvLost.
	ActExpire
	// ActFinished says that all tasks are done and no more will come. It comes once.
	ActFinished
)

// Action is what is to be done.
type Action struct {
	Kind    Kind
	Grant   *Grant
	Attempt Attempt
	Actor   int
	At      time.Duration
	Kills   int
}

// Machine is the state. The zero value is not usable; see [New].
type Machine struct {
	cfg    Config
	next   int // the first task not yet given
	added  int // tasks added
	again  []retry
	faults map[int]*faults // of tasks that have failed
	actors map[int]*actor
	parked []int // idle actors, the one that waits longest first
	nextID uint64
	done   int
	closed bool
	ended  bool
	pick   []int
	acts   []Action
}

// retry is a task that waits to be tried again.
type retry struct {
	task  int
	due   time.Duration
	avoid int // the actor it failed on
}

// faults is what is remembered of a task that did not succeed at once.
type faults struct {
	next   uint32 // number of the next attempt
	failed int    // transient failures
	kills  int    // actors that died
}

type actor struct {
	grant   *Grant
	done    []bool // which attempts of grant were answered
	since   time.Duration
	expired bool
}

// New returns a machine without tasks and actors.
func New(cfg Config) *Machine {
	cfg.MaxAttempts, cfg.MaxKills, cfg.Batch = max(1, cfg.MaxAttempts), max(1, cfg.MaxKills), max(1, cfg.Batch)
	return &Machine{cfg: cfg, faults: make(map[int]*faults), actors: make(map[int]*actor)}
}

// Step takes one event and returns what is to be done, in memory that the next call uses again. After ActGiveUp or
// ActFinished nothing more is given out.
func (m *Machine) Step(ev Event) []Action {
	m.acts = m.acts[:0]
	switch ev.Kind {
	case EvAdd:
		m.added += ev.N
	case EvClose:
		m.closed = true
	case EvIdle:
		m.idle(ev.Actor)
	case EvDone:
		m.answer(ev)
	case EvFailed:
		m.failed(ev)
	case EvLost:
		m.lost(ev)
	case EvTick:
		m.expire(ev.Now)
	case EvLeave:
		m.leave(ev.Actor)
	}
	m.give(ev.Now)
	if m.closed && m.done == m.added && !m.ended {
		m.ended = true
		m.acts = append(m.acts, Action{Kind: ActFinished})
	}
	return m.acts
}

// Wake returns when EvTick is next of use, and false if time changes nothing.
func (m *Machine) Wake() (at time.Duration, ok bool) {
	if m.ended {
		return 0, false
	}
	earlier := func(t time.Duration) {
		if !ok || t < at {
			at, ok = t, true
		}
	}
	if len(m.again) > 0 && len(m.parked) > 0 {
		earlier(m.again[0].due)
	}
	if m.cfg.Deadline > 0 {
		for _, a := range m.actors {
			if a.grant != nil && !a.expired {
				earlier(a.deadline(m.cfg.Deadline))
			}
		}
	}
	return at, ok
}

// Busy returns the number of actors that hold something.
func (m *Machine) Busy() int { return len(m.actors) - len(m.parked) }

func (a *actor) deadline(each time.Duration) time.Duration {
	return a.since + each*time.Duration(len(a.grant.Tasks))
}

func (m *Machine) idle(id int) {
	a := m.actors[id]
	if a == nil {
		a = &actor{}
		m.actors[id] = a
	} else if a.grant == nil {
		return // said twice
	}
	if a.grant != nil {
		// It has given back a grant without an answer to some of it: those were not tried.
		m.back(a, nil)
	}
	a.grant = nil
	m.parked = append(m.parked, id)
}

// holder returns the actor that holds the attempt an answer is about, or nil.
func (m *Machine) holder(ev Event) *actor {
	a := m.actors[ev.Actor]
	if a == nil || a.grant == nil || a.grant.ID != ev.ID || ev.At < 0 || ev.At >= len(a.grant.Tasks) {
		return nil
	}
	if a.done[ev.At] {
		return nil
	}
	return a
}

func (m *Machine) answer(ev Event) {
	a := m.holder(ev)
	if a == nil || m.ended {
		return
	}
	t := a.grant.Tasks[ev.At]
	a.done[ev.At] = true
	m.done++
	delete(m.faults, t.Task)
	m.acts = append(m.acts, Action{Kind: ActAccept, Attempt: t})
}

func (m *Machine) failed(ev Event) {
	a := m.holder(ev)
	if a == nil || m.ended {
		return
	}
	t := a.grant.Tasks[ev.At]
	f := m.fault(t.Task, t.Number)
	f.failed++
	if ev.Why == Permanent || f.failed >= m.cfg.MaxAttempts {
		m.giveUp(t, f)
		return
	}
	due := ev.Now + m.pause(f.failed)
	m.acts = append(m.acts, Action{Kind: ActRetry, Attempt: t, At: due})
	for i, o := range a.grant.Tasks {
		if a.done[i] || i != ev.At && !ev.All {
			continue
		}
		a.done[i] = true
		m.fault(o.Task, o.Number)
		m.retry(retry{o.Task, due, ev.Actor})
	}
}

func (m *Machine) lost(ev Event) {
	a := m.actors[ev.Actor]
	if a == nil {
		return
	}
	delete(m.actors, ev.Actor)
	m.parked = slices.DeleteFunc(m.parked, func(id int) bool { return id == ev.Actor })
	if a.grant != nil && !m.ended {
		m.back(a, &ev)
	}
}

func (m *Machine) leave(id int) {
	a := m.actors[id]
	if a == nil {
		return
	}
	delete(m.actors, id)
	m.parked = slices.DeleteFunc(m.parked, func(p int) bool { return p == id })
	if a.grant != nil && !m.ended {
		m.back(a, nil)
	}
}

// back returns what an actor has not answered to the queue. With ev the actor died under it.
func (m *Machine) back(a *actor, ev *Event) {
	for i, t := range a.grant.Tasks {
		if a.done[i] {
			continue
		}
		a.done[i] = true
		f := m.fault(t.Task, t.Number)
		r := retry{task: t.Task, avoid: -1}
		if ev != nil {
			if f.kills++; f.kills >= m.cfg.MaxKills {
				m.giveUp(t, f)
				return
			}
			r.due, r.avoid = ev.Now, ev.Actor
			m.acts = append(m.acts, Action{Kind: ActRetry, Attempt: t, At: ev.Now, Kills: f.kills})
		}
		m.retry(r)
	}
}

func (m *Machine) giveUp(t Attempt, f *faults) {
	m.ended = true
	m.acts = append(m.acts, Action{Kind: ActGiveUp, Attempt: t, Kills: f.kills})
}

func (m *Machine) fault(task int, number uint32) *faults {
	f := m.faults[task]
	if f == nil {
		f = &faults{}
		m.faults[task] = f
	}
	f.next = max(f.next, number+1)
	return f
}

// retry queues a task that is to be tried again, by the time when it may.
func (m *Machine) retry(r retry) {
	at, _ := slices.BinarySearchFunc(m.again, r, func(a, b retry) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.task, b.task))
	})
	m.again = slices.Insert(m.again, at, r)
}

// pause is how long a task that has failed n times waits.
func (m *Machine) pause(n int) time.Duration {
	d := m.cfg.Backoff
	for ; n > 1 && d < m.cfg.MaxBackoff; n-- {
		d *= 2
	}
	return min(d, max(m.cfg.MaxBackoff, m.cfg.Backoff))
}

func (m *Machine) expire(now time.Duration) {
	if m.cfg.Deadline == 0 || m.ended {
		return
	}
	var late []int
	for id, a := range m.actors {
		if a.grant != nil && !a.expired && a.deadline(m.cfg.Deadline) <= now {
			a.expired = true
			late = append(late, id)
		}
	}
	slices.Sort(late)
	for _, id := range late {
		m.acts = append(m.acts, Action{Kind: ActExpire, Actor: id})
	}
}

// give hands out what there is to idle actors. Tasks that are due again go first: others may wait for their results.
func (m *Machine) give(now time.Duration) {
	for len(m.parked) > 0 && !m.ended {
		if len(m.again) > 0 && m.again[0].due <= now {
			r := m.again[0]
			at := max(0, slices.IndexFunc(m.parked, func(id int) bool { return id != r.avoid }))
			m.again = slices.Delete(m.again, 0, 1)
			tasks := append(m.pick[:0], r.task)
			// Under a task that killed an actor there is no company.
			for m.faults[r.task].kills == 0 && len(tasks) < m.cfg.Batch && len(m.again) > 0 && m.again[0].due <= now &&
				m.faults[m.again[0].task].kills == 0 {
				tasks = append(tasks, m.again[0].task)
				m.again = slices.Delete(m.again, 0, 1)
			}
			m.pick = tasks
			m.grant(now, at, tasks)
			continue
		}
		n := min(m.cfg.Batch, m.added-m.next)
		if n == 0 {
			return
		}
		m.pick = m.pick[:0]
		for ; n > 0; n-- {
			m.pick = append(m.pick, m.next)
			m.next++
		}
		m.grant(now, 0, m.pick)
	}
}

// grant gives tasks to the idle actor at a place in the queue.
func (m *Machine) grant(now time.Duration, at int, tasks []int) {
	id := m.parked[at]
	m.parked = slices.Delete(m.parked, at, at+1)
	m.nextID++
	g := &Grant{ID: m.nextID, Actor: id, Tasks: make([]Attempt, len(tasks))}
	for i, t := range tasks {
		g.Tasks[i].Task = t
		if f := m.faults[t]; f != nil {
			g.Tasks[i].Number = f.next
		}
	}
	a := m.actors[id]
	*a = actor{grant: g, done: make([]bool, len(tasks)), since: now}
	m.acts = append(m.acts, Action{Kind: ActGive, Grant: g, Actor: id})
}
