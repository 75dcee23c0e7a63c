package executor

import (
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/rounds"
)

// How a shuffle stage is noticed that stands still although every process answers and no actor can be blamed: between inserts and partitions no
// actor holds a task, an insert may hang while it is committed, and actors that wait for room are not stuck. Each rank counts what its
// shuffler and its actors do, and tells the root when that has changed. If it has changed nowhere for twice [Config].TaskTimeout, and for
// some seconds at least, the round is given up, as when a link breaks. Who is at fault shows then: a rank that does not even stop is lost, and the others begin again
// without it. If all stop, they begin again together, three times at most.

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
	most := max(standstill, int(leastStandstill*looksPerTimeout/timeout))
	return every(timeout/looksPerTimeout, func() {
		nowSigns, nowDid := r.signs.Load(), own()
		if nowSigns != signs || nowDid != did {
			signs, did, looks = nowSigns, nowDid, 0
			return
		}
		if looks++; looks > most {
			looks = 0
			r.standsStill(max(2*timeout, leastStandstill))
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
	links := make(map[int]*link)
	for _, rank := range ranks {
		links[rank] = r.links[rank]
	}
	if len(ranks) > 0 && work {
		err := fmt.Errorf("nothing has happened on any rank for %v, although all answer; %s not done", since, areRanks(ranks))
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
		st := sh.Statistics()
		n += st.Messages + st.Wants
		for _, t := range []int64{st.Sent.Chunks, st.Received.Chunks, st.Self.Chunks, st.Dropped.Chunks, st.Spilled.Chunks, st.Unspilled.Chunks} {
			n += t
		}
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
