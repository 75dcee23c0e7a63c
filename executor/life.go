package executor

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
)

// How an actor is noticed that is stuck, although its process is alive and answers: it shows no sign of life for [Config].TaskTimeout.
// Signs are everything that an attempt does through its meter and its files. Time is counted in looks, of which a process that was
// stopped for an hour and goes on makes one, not a thousand.

// looksPerTimeout is how often an actor is looked at before it is taken to be stuck.
const looksPerTimeout = 4

// toldPerTimeout is how often a rank tells the root of signs of life in that time.
const toldPerTimeout = 2 * looksPerTimeout

// life is what those who hold a grant do that can be seen from outside.
type life struct {
	signs   atomic.Int64
	waiting atomic.Int32 // calls that wait for memory or for room: whoever waits is not stuck

	// Of whoever looks:
	seen  int64
	quiet int   // looks since signs changed
	told  int64 // signs when moved was asked last
}

// moved reports whether there was a sign since it was asked last. Unlike look it does not think of one who waits as alive.
func (l *life) moved() bool {
	n := l.signs.Load()
	was := l.told
	l.told = n
	return n != was
}

// sign says that the attempt goes on.
func (l *life) sign() {
	if l != nil {
		l.signs.Add(1)
	}
}

// wait begins a wait, which the result ends.
func (l *life) wait() (end func()) {
	if l == nil {
		return func() {}
	}
	l.waiting.Add(1)
	return func() { l.waiting.Add(-1); l.signs.Add(1) }
}

// look reports whether there was a sign since the last look.
func (l *life) look() bool {
	n := l.signs.Load()
	if l.waiting.Load() > 0 || n != l.seen || l.quiet == 0 {
		l.seen, l.quiet = n, 1
		return true
	}
	l.quiet++
	return false
}

// Alive says that the attempt goes on, for computations that take long and read, write and report nothing meanwhile; see
// [Config].TaskTimeout. It costs next to nothing.
func (m Meter) Alive() { m.m.life.sign() }

// Waiting says that the attempt waits, for something that others hold, until the result is called: the time counts as waiting, and
// the actor is not taken to be stuck.
func (m Meter) Waiting() (end func()) {
	over, start := m.m.life.wait(), time.Now()
	return func() {
		over()
		m.m.wait(start)
	}
}

// watch looks at the actors that hold a grant until it is stopped, and has those told, and then given up, that are stuck.
func (d *dispatcher) watch() (stop func()) {
	timeout := d.r.e.cfg.TaskTimeout
	if timeout <= 0 {
		return func() {}
	}
	stuck := fmt.Errorf("%w: it has read, written and reported nothing for %v", errTooLong, timeout)
	return every(timeout/looksPerTimeout, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for actor, s := range d.actors {
			if s.now == nil || s.now.life.look() || s.now.life.quiet <= looksPerTimeout {
				continue
			}
			s.now.life.quiet = 0 // told once, and again if nobody listens
			d.expired(actor, stuck)
		}
	})
}

const (
	// kindAlive says that the actors Names show signs of life, each with its grant in Sums; with flagYes that one does more than wait.
	kindAlive uint8 = 50
	// kindPulse says that this rank does something in Stage; with flagYes that it now waits in a call for others.
	kindPulse uint8 = 51
)

// tellAlive tells the root which actors of this rank show signs of life.
func (m *member) tellAlive() {
	if m.pulse != nil {
		if now, calling := m.pulse(); now != m.pulsed {
			m.pulsed = now
			msg := &control.Message{Kind: kindPulse, Stage: m.key}
			if calling {
				msg.Flags = flagYes
			}
			m.job.send(msg)
		}
	}
	m.mu.Lock()
	h, giveUp := m.hand, m.giveUp
	m.mu.Unlock()
	if h == nil {
		return
	}
	msg := h.message(kindAlive, 0, 0)
	var stuck []int
	h.mu.Lock()
	for actor, s := range h.seats {
		if s.now == nil {
			continue
		}
		if s.now.life.look() {
			msg.Sums = append(msg.Sums, control.Sum{Name: strconv.Itoa(actor), N: int64(s.now.ID)})
			if s.now.life.moved() {
				msg.Flags |= flagYes
			}
		} else if s.now.life.quiet > toldPerTimeout {
			stuck = append(stuck, actor)
		}
	}
	h.mu.Unlock()
	if len(msg.Sums) > 0 {
		m.job.send(msg)
	}
	if h.sc.failed() || m.job.ctx.Err() != nil {
		// The root has no more to say, and the end waits for all actors.
		for _, actor := range stuck {
			giveUp(actor)
		}
	}
}

// alive takes note of what a rank says about its actors.
func (f *far) alive(l *link, m *control.Message) {
	for _, sum := range m.Sums {
		actor, err := strconv.Atoi(sum.Name)
		if err != nil {
			continue
		}
		a := f.actor(l, &control.Message{Actor: int64(actor), Epoch: m.Epoch})
		if a == nil {
			continue
		}
		if g := f.hand.held(actor, uint64(sum.N)); g != nil {
			g.life.sign()
		}
	}
}

// watchEntry takes ranks to be lost that do not come to a stage although all of them are needed there and their processes
// answer: something in them is stuck. has reports whether a rank has come. It looks until it is stopped.
func (j *Job) watchEntry(timeout time.Duration, stage string, has func(rank int) bool) (stop func()) {
	if timeout <= 0 {
		return func() {}
	}
	looks := make(map[*link]int)
	return every(timeout/looksPerTimeout, func() {
		j.mu.Lock()
		links := j.list()
		j.mu.Unlock()
		for _, l := range links {
			if looks[l]++; looks[l] > looksPerTimeout && !has(l.rank) {
				l.evict(fmt.Errorf("it does not come to stage %q, for %v: its program is stuck", stage, timeout))
			}
		}
	})
}

// evict breaks the connection to a rank, which is lost then for that reason.
func (l *link) evict(why error) {
	l.mu.Lock()
	if l.why == nil {
		l.why = why
	}
	l.mu.Unlock()
	l.conn.Break()
}
