package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
)

// errStageOver ends what a stage does on a rank when the root says that it is over.
var errStageOver = errors.New("the stage is over")

// member is a stage being run on a rank that is not the root.
type member struct {
	*stageRun
	job   *Job
	begin chan *control.Message
	over  chan *control.Message

	mu     sync.Mutex
	hand   *farHand
	giveUp func(actor int)
	pulse  func() (n int64, calling bool) // n changes when this rank does something in the stage; calling: it waits in a call for others. Or nil
	pulsed int64                          // when the root was told last

	shownUnits, shownRows int64
	shownTimes            actorTimes
}

func (m *member) enter(*link, *control.Message) {}
func (m *member) left(*link, error)             {}

func (m *member) handle(_ *link, msg *control.Message) {
	switch msg.Kind {
	case kindBegin:
		select {
		case m.begin <- msg:
		default:
		}
	case kindStageOver:
		select {
		case m.over <- msg:
		default:
		}
		m.cancel(errStageOver)
	default:
		m.mu.Lock()
		h, giveUp := m.hand, m.giveUp
		m.mu.Unlock()
		if h == nil || h.round != int(msg.Epoch) {
			return
		}
		switch msg.Kind {
		case kindGive:
			h.give(msg)
		case kindCancel:
			h.tooLong(int(msg.Actor), msg.Grant)
		case kindGiveUp:
			giveUp(int(msg.Actor))
		}
	}
}

// take makes a hand the one that messages are for.
func (m *member) take(h *farHand, giveUp func(int)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hand, m.giveUp = h, giveUp
}

// runMember does this rank's part of a plain stage.
func (e *Executor) runMember(ctx context.Context, st Stage, tasks []Task) ([]Task, error) {
	r := e.newRun(ctx, st, "pool")
	m := e.newMember(r)
	defer m.detach(e.cfg.Job.attach(r.key, m))
	m.enterStage(hashTasks(tasks, 0))
	if b := m.wait(m.begin); b != nil {
		hand := newFarHand(m.stageRun, m.scope, e.cfg.Job, 0, false, nil, m.tell)
		p := &pool{stageRun: r, stage: st, hand: hand, commits: hand}
		c := &crew[Actor]{r: r, sc: r.scope, call: "NewActor", setup: st.NewActor, body: p.work}
		m.take(hand, c.giveUp)
		r.actors = int(b.N)
		stop := m.showProgress()
		c.run(e.envsFrom(r.name, r.actors, int(b.Actor)), func() {})
		stop()
	}
	return m.end()
}

// farActors returns how many actors of a stage the other ranks have that are there.
func (j *Job) farActors(r *stageRun) (n int) {
	if j == nil {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.links {
		n += l.actors(r)
	}
	return n
}

func (e *Executor) newMember(r *stageRun) *member {
	return &member{
		stageRun: r, job: e.cfg.Job, begin: make(chan *control.Message, 1), over: make(chan *control.Message, 1),
	}
}

func (m *member) detach(a *attached) { m.job.detach(m.key, a) }

// enterStage tells the root that this rank has come to the stage, with tasks of that hash.
func (m *member) enterStage(h inputHash) {
	m.job.send(&control.Message{Kind: kindEnter, Stage: m.key, Data: h[:], N: m.e.cfg.Budget.Limit()})
}

// inRounds does this rank's part of a stage that is tried in rounds, with tasks of that hash. stopRound ends the last of them.
func (m *member) inRounds(h inputHash, stopRound func(why error)) ([]Task, error) {
	m.enterStage(h)
	stop := m.showProgress()
	select {
	case <-m.ctx.Done():
	case <-m.job.ctx.Done():
	}
	stopRound(errStageOver)
	stop()
	return m.end()
}

// wait waits for a message of the root, and returns nil if the stage ends before.
func (m *member) wait(ch chan *control.Message) *control.Message {
	select {
	case msg := <-ch:
		return msg
	case <-m.ctx.Done():
	case <-m.job.ctx.Done():
	}
	return nil
}

// end waits for the end of the stage on the root and returns its results.
func (m *member) end() ([]Task, error) {
	err := m.reason()
	if err != nil {
		failed := &control.Message{Kind: kindStageFailed, Stage: m.key}
		m.job.describe(failed, err)
		m.job.send(failed)
	}
	var over *control.Message
	if m.parent.Err() == nil {
		select {
		case over = <-m.over:
		case <-m.job.ctx.Done():
			// The root may have said how the stage ended, and then gone.
			select {
			case over = <-m.over:
			default:
			}
		case <-m.parent.Done():
		}
	}
	m.cancel(nil)
	var errs []error
	switch {
	case m.parent.Err() != nil:
		errs = append(errs, fmt.Errorf("executor: stage %q was stopped: %w", m.name, context.Cause(m.parent)))
	case over == nil:
		errs = append(errs, m.job.gone())
	case over.Flags&flagFailed != 0 && err != nil:
		errs = append(errs, err) // which the root has repeated
	case over.Flags&flagFailed != 0:
		errs = append(errs, &RemoteError{Rank: 0, Text: over.Text})
	}
	if err := errors.Join(append(errs, m.teardowns...)...); err != nil {
		return nil, err
	}
	m.e.addStats(m.stageRun, m.stats(nil))
	return fromWire(over.Tasks), nil
}

// showProgress tells the root how far this rank is, until it is stopped.
func (m *member) showProgress() (stop func()) {
	m.e.show(m.stageRun)
	tell := every(m.e.cfg.ProgressInterval, m.tell)
	if m.e.cfg.TaskTimeout <= 0 {
		return tell
	}
	alive := every(m.e.cfg.TaskTimeout/toldPerTimeout, m.tellAlive)
	return func() { alive(); tell() }
}

// tell tells the root how far this rank is.
func (m *member) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	units, rows, times := m.units.Load(), m.rows.Load(), m.actorTimes()
	if units == m.shownUnits && rows == m.shownRows && times == m.shownTimes {
		return
	}
	m.job.send(&control.Message{
		Kind: kindProgress, Stage: m.key, N: units - m.shownUnits, At: rows - m.shownRows, Data: times.since(m.shownTimes),
	})
	m.shownUnits, m.shownRows, m.shownTimes = units, rows, times
}
