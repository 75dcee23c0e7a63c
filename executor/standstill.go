package executor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/rounds"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// How a shuffle stage is noticed that stands still although every process answers and no actor can be blamed: between inserts and partitions no
// actor holds a task, an insert may hang while it is committed, and actors that wait for room are not stuck. In a collective stage one
// actor that is stuck has all others wait in a call, and no other could take its place. Each rank counts what its
// shuffler or its calls and its actors do, and tells the root when that has changed. If it has changed nowhere for twice [Config].TaskTimeout, and for
// some seconds at least, the round is given up, as when a link breaks. Who is at fault shows then: a rank that does not even stop is lost,
// and the others begin again without it. If all stop, they begin again together, three times at most.

// standstill is how many looks at a stage in which nothing happens are too many, of which there are four to the timeout: stuck actors are
// noticed before, and are something that happens.
const standstill = 2 * looksPerTimeout

// leastStandstill leaves time to a busy machine, on which a rank may get nowhere for moments.
const leastStandstill = 4 * time.Second

// noticed takes note of a message of another rank about the stage, if that shows that it does something.
func (r *roundLoop) noticed(m *control.Message) {
	switch {
	case m.Kind == kindNote, m.Kind == kindProgress && m.N == 0 && m.At == 0, m.Kind == kindAlive && m.Flags&flagYes == 0:
		return
	}
	r.signs.Add(1)
}

// watch looks whether the stage stands still until it is stopped. own is a number that changes when this rank does something.
func (r *roundLoop) watch(own func() int64) (stop func()) {
	timeout := r.run.e.cfg.TaskTimeout
	if timeout <= 0 {
		return func() {}
	}
	var signs, did int64
	looks := 0
	most := max(standstill, int(r.run.e.still*looksPerTimeout/timeout))
	return every(timeout/looksPerTimeout, func() {
		nowSigns, nowDid := r.signs.Load(), own()
		if nowSigns != signs || nowDid != did {
			signs, did, looks = nowSigns, nowDid, 0
			return
		}
		if looks++; looks > most {
			looks = 0
			r.standsStill(max(2*timeout, r.run.e.still))
		}
	})
}

// standsStill gives up the round, or those who do not even do that.
func (r *roundLoop) standsStill(since time.Duration) {
	r.mu.Lock()
	if r.busy || r.over || r.run.failed() {
		r.mu.Unlock()
		return // it is this rank that is at something, and what others have answered is not looked at yet
	}
	round, ranks, work := r.m.Awaited()
	about := "not done"
	if r.calling != nil && work {
		if rest := slices.DeleteFunc(slices.Clone(ranks), r.calling); len(rest) > 0 && len(rest) < len(ranks) {
			ranks, about = rest, "busy with something else while the others wait in a call"
		}
	}
	links := make(map[int]*link)
	for _, rank := range ranks {
		links[rank] = r.links[rank]
	}
	if len(ranks) > 0 && work {
		err := fmt.Errorf("nothing has happened on any rank for %v, although all answer; %s %s", since, areRanks(ranks), about)
		r.why[-1-ranks[0]] = err
		r.run.note(fmt.Sprintf("stage %q: %v", r.run.name, err))
	}
	r.mu.Unlock()
	if len(ranks) > 0 && work {
		r.event(rounds.Event{Kind: rounds.EvBroken, Rank: ranks[0], Round: round, Peer: -1})
		return
	}
	for _, l := range links {
		if l != nil { // or it is the root's own, which only its user can end
			l.evict(fmt.Errorf("it neither begins nor stops its part of stage %q, for %v: its program is stuck", r.run.name, since))
		}
	}
}

// areRanks names ranks as the subject of a sentence.
func areRanks(ranks []int) string {
	if len(ranks) == 1 {
		return fmt.Sprintf("rank %d is", ranks[0])
	}
	return "ranks " + strings.Trim(strings.ReplaceAll(fmt.Sprint(ranks), " ", ", "), "[]") + " are"
}

// beat is a number that changes when the root does something in the stage, or has something committed.
func (r *shuffleRoot) beat() int64 {
	r.mu.Lock()
	own := r.own
	linked := own != nil && own.linked && !own.stopped
	r.mu.Unlock()
	n := r.s.insertsDone.Load() + r.s.tasksDone.Load() + r.s.units.Load() + r.s.rows.Load()
	if linked {
		n += own.beat()
	}
	return n
}

// beat is a number that changes when the shufflers or actors of this process do something in the round.
func (s *round) beat() (n int64) {
	for _, sh := range s.shufflers {
		n += moved(sh.Statistics())
	}
	s.opening.Lock()
	dispatchers := s.extracts
	s.opening.Unlock()
	if d, ok := s.inserts.(*dispatcher); ok {
		n += d.beat()
	}
	for _, d := range dispatchers {
		n += d.beat()
	}
	return n
}

// moved is a number that grows when a shuffler moves something.
func moved(s shuffle.Statistics) int64 {
	return s.Messages + s.Wants + s.Sent.Chunks + s.Received.Chunks + s.Self.Chunks + s.Dropped.Chunks + s.Spilled.Chunks + s.Unspilled.Chunks
}

// beat is a number that changes when this process's ranks do something in the round, and whether they are all in a call of their groups:
// then they wait for others.
func (c *collectiveRound) beat() (n int64, calling bool) {
	n, calling = c.life.signs.Load(), len(c.groups) > 0
	for _, g := range c.groups {
		st, begun, in := g.Progress()
		n += steps(moved(st), begun, in)
		calling = calling && in
	}
	return n, calling
}

// steps is the sum of what was moved, of the calls that were begun and of those that have ended. Each of them only grows, so that nothing
// that happens can be hidden by something else that does: the end of a call by the message that ended it.
func steps(moved int64, begun int, in bool) int64 {
	ended := begun
	if in {
		ended--
	}
	return moved + int64(begun) + int64(ended)
}

// beat is a number that changes when the root does something in the stage.
func (r *collectiveRoot) beat() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.c.units.Load() + r.c.rows.Load()
	if own := r.own; own != nil && !own.stopped {
		did, calling := own.beat()
		n += did
		r.waits[0] = calling
	}
	return n
}

// beat is [collectiveRound.beat] of this rank.
func (m *collectiveMember) beat() (int64, bool) {
	m.rmu.Lock()
	defer m.rmu.Unlock()
	if m.cur == nil {
		return 0, false
	}
	return m.cur.beat()
}

// beat counts the signs of life of the actors of this process.
func (d *dispatcher) beat() (n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.actors {
		if s.now != nil && s.far == nil {
			n += s.now.life.signs.Load()
		}
	}
	return n
}
