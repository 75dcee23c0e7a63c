// Package rounds decides how a shuffle stage goes on when ranks come and go. A shuffle needs all its ranks to its end, because each
// holds partitions of it. So it is tried in rounds: a round has a fixed set of members, and when one of them is lost, the
// others stop, and the next round is of those that are left, for the partitions that are not committed yet.
//
// It is a state machine, as package handout is: events in, actions out, no goroutine, clock or I/O. The root of a job drives
// one per shuffle stage; the simulator drives it under a seed.
package rounds

import (
	"maps"
	"slices"
	"time"
)

// Config says how patient to be.
type Config struct {
	// Stop ends the stage at the first loss.
	Stop bool
	// Return says that others come in the place of ranks that are lost: without any the stage waits for them.
	Return bool
	// MaxBroken is how many rounds may break although no member was lost (a link between two of them that fails), at least 1.
	MaxBroken int
	// Patience is how long a broken round waits to hear which member was lost.
	Patience time.Duration
}

// Kind tells events and actions apart.
type Kind uint8

// Events. A rank's messages carry the number of the round they are about; those of another round change nothing.
const (
	// EvEntered says that Rank has come to the stage, and can be a member from the next round on.
	EvEntered Kind = iota + 1
	// EvExpected says that Rank is alive and on its way to the stage: the first round waits for it.
	EvExpected
	// EvOpen says that all ranks that are expected have been named: the first round may begin.
	EvOpen
	// EvLost says that Rank is gone for good.
	EvLost
	// EvReady says that Rank can be reached by the other members of Round.
	EvReady
	// EvBroken says that Round cannot go on, as Rank sees it, because of another member, Peer (-1 if it cannot tell).
	EvBroken
	// EvStopped says that Rank has stopped working on Round, after ActAbort.
	EvStopped
	// EvOver says that Rank has done all it had to do in Round.
	EvOver
	// EvTick says that time has passed.
	EvTick
)

// Event is what happened, at time Now on a clock that does not run backwards.
type Event struct {
	Kind  Kind
	Now   time.Duration
	Rank  int
	Round int
	Peer  int
}

// Actions.
const (
	// ActPrepare asks Members to get ready for Round. If the round before ended although no member was lost, Broken says so, and that the link
	// between Rank and Peer broke.
	ActPrepare Kind = iota + 64
	// ActConnect tells all members of Round that all are ready.
	ActConnect
	// ActAbort tells the members of Round that are left to stop, and to say so.
	ActAbort
	// ActComplete says that all members of Round are done.
	ActComplete
	// ActLost ends the stage: Rank was lost, and the stage is to stop then, or no rank is left.
	ActLost
	// ActLink ends the stage: the link between Rank and Peer breaks again and again.
	ActLink
)

// Action is what is to be done.
type Action struct {
	Kind    Kind
	Round   int
	Members []int // ascending; the place in it is a member's rank in the shuffle
	Rank    int
	Peer    int
	Broken  bool
}

// State is where a round is.
type state uint8

const (
	idle      state = iota // before the first round
	preparing              // members get ready
	running
	stopping // members were told to stop
	waiting  // all have stopped; who was lost?
	ended
)

// Machine is the state of one stage.
type Machine struct {
	cfg      Config
	state    state
	round    int // of the last ActPrepare, from 1
	members  []int
	pending  map[int]bool // members that have not answered what was asked of all
	alive    map[int]bool // ranks that have entered; false if they are only expected
	gone     map[int]bool // ranks that were lost and have not come back
	open     bool
	lost     bool // a member of this round was lost
	broken   int  // rounds that broke without a loss
	from, to int  // the link that broke this round
	since    time.Duration
	acts     []Action
}

// New returns a machine without ranks.
func New(cfg Config) *Machine {
	cfg.MaxBroken = max(1, cfg.MaxBroken)
	return &Machine{cfg: cfg, alive: make(map[int]bool), gone: make(map[int]bool)}
}

// Step takes one event and returns what is to be done, in memory that the next call uses again.
func (m *Machine) Step(ev Event) []Action {
	m.acts = m.acts[:0]
	if m.state == ended {
		return nil
	}
	mine := ev.Round == m.round && slices.Contains(m.members, ev.Rank)
	switch ev.Kind {
	case EvEntered:
		m.alive[ev.Rank] = true
		delete(m.gone, ev.Rank)
	case EvExpected:
		if !m.alive[ev.Rank] && !m.gone[ev.Rank] {
			m.alive[ev.Rank] = false
		}
	case EvOpen:
		m.open = true
	case EvLost:
		m.leave(ev)
	case EvReady:
		if mine && m.state == preparing {
			delete(m.pending, ev.Rank)
		}
	case EvBroken:
		if mine && (m.state == preparing || m.state == running) {
			m.from, m.to = ev.Rank, ev.Peer
			m.abort(ev.Now)
		}
	case EvStopped:
		if mine && m.state == stopping {
			delete(m.pending, ev.Rank)
		}
	case EvOver:
		if mine && m.state == running {
			delete(m.pending, ev.Rank)
		}
	}
	m.advance(ev.Now)
	return m.acts
}

// Wake returns when EvTick is next of use, and false if time changes nothing.
func (m *Machine) Wake() (at time.Duration, ok bool) {
	return m.since + m.cfg.Patience, m.state == waiting
}

// Round returns the number of the last round, from 1, and its members.
func (m *Machine) Round() (int, []int) { return m.round, m.members }

// Awaited returns the members that have not answered yet what was asked of all in the round, ascending, and whether that is to do
// the work of it; otherwise it is to get ready, or to stop.
func (m *Machine) Awaited() (round int, ranks []int, work bool) {
	if m.state != preparing && m.state != running && m.state != stopping {
		return m.round, nil, false
	}
	return m.round, slices.Sorted(maps.Keys(m.pending)), m.state == running
}

// leave takes out a rank that was lost.
func (m *Machine) leave(ev Event) {
	m.gone[ev.Rank] = true
	if _, ok := m.alive[ev.Rank]; !ok {
		return
	}
	delete(m.alive, ev.Rank)
	member := m.state != idle && slices.Contains(m.members, ev.Rank)
	if m.cfg.Stop || len(m.alive) == 0 && !m.cfg.Return {
		m.state = ended
		m.acts = append(m.acts, Action{Kind: ActAbort, Round: m.round, Members: m.left()},
			Action{Kind: ActLost, Rank: ev.Rank, Round: m.round})
		return
	}
	if !member {
		return
	}
	m.lost = true
	delete(m.pending, ev.Rank)
	if m.state == preparing || m.state == running {
		m.abort(ev.Now)
	}
}

// left returns the members of the round that are not lost.
func (m *Machine) left() (list []int) {
	for _, r := range m.members {
		if _, ok := m.alive[r]; ok {
			list = append(list, r)
		}
	}
	return list
}

func (m *Machine) abort(now time.Duration) {
	m.state, m.since = stopping, now
	m.ask(m.left())
	m.acts = append(m.acts, Action{Kind: ActAbort, Round: m.round, Members: m.left()})
}

func (m *Machine) ask(ranks []int) {
	m.pending = make(map[int]bool, len(ranks))
	for _, r := range ranks {
		m.pending[r] = true
	}
}

// advance does what is due once nothing is pending.
func (m *Machine) advance(now time.Duration) {
	if m.state == idle {
		if !m.open {
			return
		}
		for _, entered := range m.alive {
			if !entered {
				return
			}
		}
		if len(m.alive) > 0 {
			m.begin(false)
		}
		return
	}
	if len(m.pending) > 0 || m.state == ended {
		return
	}
	switch m.state {
	case preparing:
		m.state = running
		m.ask(m.members)
		m.acts = append(m.acts, Action{Kind: ActConnect, Round: m.round, Members: m.members})
	case running:
		m.state = ended
		m.acts = append(m.acts, Action{Kind: ActComplete, Round: m.round, Members: m.members})
	case stopping:
		m.state = waiting
		fallthrough
	case waiting:
		switch {
		case m.lost:
			m.begin(false)
		case now >= m.since+m.cfg.Patience:
			if m.broken++; m.broken >= m.cfg.MaxBroken {
				m.state = ended
				m.acts = append(m.acts, Action{Kind: ActLink, Round: m.round, Rank: m.from, Peer: m.to})
				return
			}
			m.begin(true)
		}
	}
}

// begin starts a round of all ranks that are there; broken says that the last one ended although no member was lost.
func (m *Machine) begin(broken bool) {
	m.round++
	m.state, m.lost, m.members = preparing, false, nil
	for r, entered := range m.alive {
		if entered {
			m.members = append(m.members, r)
		}
	}
	slices.Sort(m.members)
	if len(m.members) == 0 {
		m.state = idle // until those that are expected have come
		m.round--
		return
	}
	m.ask(m.members)
	m.acts = append(m.acts, Action{Kind: ActPrepare, Round: m.round, Members: slices.Clone(m.members), Broken: broken, Rank: m.from, Peer: m.to})
}
