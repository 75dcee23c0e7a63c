package executor

import (
	"context"
	"errors"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/handout"
)

// farHand stands for the root's dispatcher on another rank: it passes questions and answers on. It is also where finished
// attempts go.
type farHand struct {
	r      *stageRun
	sc     *scope
	job    *Job
	round  int
	claims bool   // an attempt counts only once the root has said so
	tell   func() // the root how far this rank is

	mu    sync.Mutex
	seats map[int]*farSeat
	none  <-chan struct{} // closed when there are no more tasks; nil if the end of the scope says so
}

// farSeat is where an actor waits for its next grant.
type farSeat struct {
	inbox  chan *grant
	now    *grant
	cancel context.CancelCauseFunc
}

func newFarHand(r *stageRun, sc *scope, j *Job, round int, claims bool, none <-chan struct{}, tell func()) *farHand {
	return &farHand{
		tell: tell, r: r, sc: sc, job: j, round: round, claims: claims, seats: make(map[int]*farSeat), none: none,
	}
}

// message makes one about an actor.
func (h *farHand) message(kind uint8, actor int, grant uint64) *control.Message {
	return &control.Message{Kind: kind, Stage: h.r.key, Epoch: uint32(h.round), Actor: int64(actor), Grant: grant}
}

func (h *farHand) next(env *Env) (*grant, bool) {
	h.mu.Lock()
	s := h.seats[env.Actor]
	if s == nil {
		s = &farSeat{inbox: make(chan *grant, 1)}
		h.seats[env.Actor] = s
	}
	if s.cancel != nil {
		s.cancel(nil)
	}
	s.now, s.cancel = nil, nil
	h.mu.Unlock()
	h.job.send(h.message(kindIdle, env.Actor, 0))
	select {
	case g := <-s.inbox:
		return g, !h.sc.failed()
	case <-h.none:
	case <-h.sc.ctx.Done():
	case <-h.job.ctx.Done():
		h.sc.fail(h.job.gone())
	}
	return nil, false
}

// give hands a grant of the root to an actor.
func (h *farHand) give(m *control.Message) {
	g := &grant{Grant: &handout.Grant{ID: m.Grant, Actor: int(m.Actor), Tasks: make([]handout.Attempt, len(m.Tasks))}, life: new(life)}
	for i, t := range m.Tasks {
		g.Tasks[i].Number = t.Number
		g.items = append(g.items, item{seq: int(t.Seq), task: Task{ID: t.ID, Data: t.Data, Size: t.Size}})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.seats[g.Actor]
	if s == nil || s.now != nil || len(g.items) == 0 {
		return
	}
	g.ctx, s.cancel = context.WithCancelCause(h.sc.ctx)
	s.now = g
	s.inbox <- g
}

// tooLong tells an actor that the time of a grant is up.
func (h *farHand) tooLong(actor int, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.seats[actor]; s != nil && s.now != nil && s.now.ID == id {
		s.cancel(errTooLong)
	}
}

func (h *farHand) finished(g *grant, at int) bool {
	if !h.claims {
		return true
	}
	m, err := h.job.ask(h.sc.ctx, h.message(kindClaim, g.Actor, g.ID))
	return err == nil && m.Flags&flagYes != 0
}

func (h *farHand) outcome(g *grant, at int, all bool, err error) (fit bool) {
	if h.sc.failed() {
		return true
	}
	if why := g.fatal(err); why != nil {
		h.died(g, why)
		return false
	}
	m := h.message(kindFailed, g.Actor, g.ID)
	m.At = int64(at)
	h.job.describe(m, err)
	if all {
		m.Flags |= flagAll
	}
	if IsTransient(err) {
		m.Flags |= flagTransient
	}
	h.job.send(m)
	return true
}

func (h *farHand) died(g *grant, err error) bool {
	m := h.message(kindDied, g.Actor, g.ID)
	h.job.describe(m, err)
	h.job.send(m)
	h.mu.Lock()
	delete(h.seats, g.Actor)
	h.mu.Unlock()
	return true
}

func (h *farHand) leave(env *Env) {
	h.mu.Lock()
	s := h.seats[env.Actor]
	delete(h.seats, env.Actor)
	h.mu.Unlock()
	if s != nil && s.now != nil {
		s.cancel(nil)
		m := h.message(kindDied, env.Actor, s.now.ID)
		m.Flags |= flagUntried
		h.job.send(m)
	}
}

// submit puts the files of an attempt on disk and tells the root, which commits it.
func (h *farHand) submit(p *pending) {
	m := h.message(kindDone, 0, 0)
	if p.g != nil {
		m.Actor, m.Grant, m.At = int64(p.g.Actor), p.g.ID, int64(p.at)
	} else {
		m.Kind, m.N, m.At, m.Actor = kindPart, int64(p.seq), int64(p.a.m.number), int64(p.a.m.env.Actor)
	}
	me := p.a.m
	if err := errors.Join(me.syncAll(), me.closeBarrier()); err != nil {
		me.discard()
		h.sc.fail(h.r.taskError(me.env, me.task, me.number, 0, err))
		return
	}
	m.Tasks = wireTasks(p.results)
	for _, f := range me.files {
		m.Files = append(m.Files, control.File{Name: f.name, Temp: f.temp, Path: f.path, Placed: f.placed, Size: f.size, CRC: f.crc})
	}
	m.Sums, m.Data = wireCounters(me.counts), me.spent.append(nil)
	h.tell() // first: the stage may be over when the last attempt is
	h.job.send(m)
}

// extracting tells the root what the process of an actor would die of, if it dies now. The root has heard it when this returns.
func (h *farHand) extracting(part int) {
	if h.job.parent == nil {
		return
	}
	m := h.message(kindExtract, 0, 0)
	m.N = int64(part)
	_, _ = h.job.ask(h.sc.ctx, m) // if the link is gone, so is all else
}

// insertDone tells the root that inserts are committed in the shuffle.
func (h *farHand) insertDone(g *grant, me *meter) {
	m := h.message(kindInserted, g.Actor, g.ID)
	m.Sums, m.Data = wireCounters(me.counts), me.spent.append(nil)
	h.tell()
	h.job.send(m)
}
