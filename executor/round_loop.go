package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/rounds"
)

// maxBroken is how many rounds of a stage may break although no rank was lost.
const maxBroken = 3

// roundLoop drives a [rounds.Machine] on the root: it adds the lock, the clock and what is known of the ranks.
type roundLoop struct {
	j       *Job
	run     *stageRun
	start   time.Time
	done    chan struct{} // closed when the stage is complete
	perform func(rounds.Action)

	mu     sync.Mutex
	idle   sync.Cond // busy became false
	m      *rounds.Machine
	events []rounds.Event // not yet stepped; whoever steps takes them all
	busy   bool
	over   bool
	timer  *time.Timer
	links  map[int]*link // ranks in the stage
	limits map[int]int64 // of their memory budgets
	addrs  map[int]string
	place  map[int]int   // a member's rank in the round
	why    map[int]error // of ranks that were lost, and, at -1-rank, of links that broke

	signs   atomic.Int64   // that other ranks have given of doing something
	calling func(int) bool // whether a rank waits in a call for others; nil if there are no calls
}

func newRoundLoop(run *stageRun, perform func(rounds.Action)) *roundLoop {
	j := run.e.cfg.Job
	r := &roundLoop{
		j: j, run: run, start: time.Now(), done: make(chan struct{}), perform: perform,
		m: rounds.New(rounds.Config{
			Stop: j.cfg.StopOnLoss, Return: j.children != nil, MaxBroken: maxBroken, Patience: j.cfg.Silence + j.cfg.Silence/4,
		}),
		links: make(map[int]*link), limits: make(map[int]int64), addrs: make(map[int]string), place: make(map[int]int), why: make(map[int]error),
	}
	r.idle.L = &r.mu
	return r
}

// drive lets h handle what other ranks say about the stage until it is complete or cannot go on. After that nothing more is
// performed.
func (r *roundLoop) drive(h stageHandler) {
	s := r.run
	a := r.j.attach(s.key, h)
	r.open()
	stop := context.AfterFunc(r.j.ctx, func() { s.fail(r.j.gone()) })
	unwatch := r.j.watchEntry(s.e.cfg.TaskTimeout, s.name, r.has)
	select {
	case <-r.done:
	case <-s.ctx.Done():
	}
	unwatch()
	stop()
	r.j.detach(s.key, a)
	r.stop()
}

// open lets the first round begin when all ranks that are there have come to the stage. Rank 0 has, unless it leaves the work to
// others.
func (r *roundLoop) open() {
	for _, rank := range r.j.ranks() {
		if rank != 0 {
			r.event(rounds.Event{Kind: rounds.EvExpected, Rank: rank})
		}
	}
	if !r.run.e.idle {
		r.event(rounds.Event{Kind: rounds.EvEntered, Rank: 0})
	}
	r.event(rounds.Event{Kind: rounds.EvOpen})
}

// stop ends the loop: nothing more is performed.
func (r *roundLoop) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.timer != nil {
		r.timer.Stop()
	}
	for r.busy {
		r.idle.Wait()
	}
}

// event steps the machine. What it asks for may lead to more events, which are stepped after it.
func (r *roundLoop) event(ev rounds.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, ev)
	if r.busy {
		return
	}
	r.busy = true
	for len(r.events) > 0 && !r.over {
		ev := r.events[0]
		r.events = r.events[1:]
		ev.Now = time.Since(r.start)
		// perform may let go of the lock, so the actions are kept.
		for _, a := range slices.Clone(r.m.Step(ev)) {
			r.perform(a)
		}
	}
	r.busy = false
	r.idle.Broadcast()
	if at, ok := r.m.Wake(); ok && !r.over {
		if r.timer != nil {
			r.timer.Stop()
		}
		r.timer = time.AfterFunc(at-time.Since(r.start)+time.Millisecond, func() { r.event(rounds.Event{Kind: rounds.EvTick}) })
	}
}

// later queues an event of the root's own. The lock is held.
func (r *roundLoop) later(kind rounds.Kind, round int) {
	r.events = append(r.events, rounds.Event{Kind: kind, Round: round, Peer: -1})
}

// tell sends a message to the members of the round that are there. The lock is held.
func (r *roundLoop) tell(members []int, message func(i int) *control.Message) {
	for i, rank := range members {
		if l := r.links[rank]; l != nil {
			m := message(i)
			m.Stage = r.run.key
			l.send(m)
		}
	}
}

// again says that a round begins that is not the first. The lock is held.
func (r *roundLoop) again(a rounds.Action) {
	line := fmt.Sprintf("stage %q begins again with %d ranks", r.run.name, len(a.Members))
	if err := r.why[-1-a.Rank]; a.Broken && err != nil {
		line += fmt.Sprintf("; rank %d says: %v", a.Rank, err)
	}
	r.run.note(line)
}

// conclude does what the machine asks at the end of the stage.
func (r *roundLoop) conclude(a rounds.Action) {
	switch a.Kind {
	case rounds.ActComplete:
		close(r.done)
	case rounds.ActLost:
		r.run.fail(r.why[a.Rank])
	case rounds.ActLink:
		err := r.why[-1-a.Rank]
		if err == nil {
			err = errors.New("no reason was given")
		}
		r.run.fail(fmt.Errorf("executor: stage %q: %w: the links between ranks broke %d times although no rank was lost, at last as rank %d "+
			"saw it: %w; run the job again to go on from what was finished", r.run.name, ErrRankLost, maxBroken, a.Rank, err))
	}
}

// entered says that a rank has come to the stage.
func (r *roundLoop) entered(l *link, m *control.Message) {
	r.mu.Lock()
	r.links[l.rank], r.limits[l.rank] = l, m.N
	r.mu.Unlock()
	r.event(rounds.Event{Kind: rounds.EvEntered, Rank: l.rank})
}

// has reports whether a rank has come to the stage.
func (r *roundLoop) has(rank int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.links[rank] != nil
}

// forget takes the link to a rank that is gone out. It reports false if the rank has come back over another.
func (r *roundLoop) forget(l *link, why error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.links[l.rank]; now != nil && now != l {
		return false
	}
	delete(r.links, l.rank)
	r.why[l.rank] = why
	return true
}

// answer steps the machine for a message about a round and reports whether it was one.
func (r *roundLoop) answer(l *link, m *control.Message) bool {
	ev := rounds.Event{Rank: l.rank, Round: int(m.Epoch), Peer: int(m.Rank)}
	switch m.Kind {
	case kindReady:
		ev.Kind = rounds.EvReady
		r.mu.Lock()
		if n, _ := r.m.Round(); n == ev.Round {
			r.addrs[l.rank] = m.Text
		}
		r.mu.Unlock()
	case kindBroken:
		ev.Kind = rounds.EvBroken
		r.mu.Lock()
		r.why[-1-l.rank] = l.failure(m.Text)
		r.mu.Unlock()
	case kindStopped:
		ev.Kind = rounds.EvStopped
	case kindOver:
		ev.Kind = rounds.EvOver
	default:
		return false
	}
	r.event(ev)
	return true
}
