//go:build ucx && cgo

package ucx

import (
	"fmt"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
)

// run owns the worker. It ends when the transport is closed and all links have ended, or nothing is waited for any more.
func (t *Transport) run() {
	t.now = time.Now()
	t.ticked = t.now
	for _, p := range t.peers {
		if p != nil {
			p.heard, p.said = t.now, t.now
		}
	}
	if t.missing == 0 {
		t.gathered(nil)
	}
	pause := max(t.o.LinkTimeout/8, time.Millisecond)
	for !t.over() {
		t.w.awake()
		t.collect()
		n, err := t.w.round(t.ops, t.events, t.o.Spin)
		t.now = time.Now()
		if err != nil {
			t.failAll(err)
		}
		idle := n == 0 && len(t.ops) == 0
		t.results()
		for i := range t.events[:n] {
			t.handle(&t.events[i])
		}
		if idle {
			wait := pause
			if t.lingers() {
				wait = min(wait, lingerTime/20)
			}
			t.w.sleep(wait)
			t.now = time.Now()
		}
		t.tick(pause)
	}
	t.shut()
}

// over reports whether there is nothing left to do.
func (t *Transport) over() bool {
	t.hub.Lock()
	defer t.hub.Unlock()
	return (t.hub.Closed() || t.meetErr != nil) && t.alive == 0
}

// shut ends the worker, and releases what UCX could have used until now.
func (t *Transport) shut() {
	if t.meeting {
		t.gathered(errClosedEarly)
	}
	defer close(t.done)
	t.hub.Lock()
	t.ended = true // from here on nobody wakes the worker
	t.hub.Unlock()
	if t.whole() {
		t.port.c.keep(t.w)
	} else {
		t.w.close()
	}
	for i := range t.slots {
		s := &t.slots[i]
		if s.block.bytes != nil {
			t.blocks.give(s.block)
		}
		t.unregister(s)
	}
	t.blocks.close()
	for _, p := range t.peers {
		if p != nil {
			p.unpin()
		}
	}
	link.ReleaseAll(t.orphans)
	_ = t.port.c.use(-1)
}

// whole reports whether the worker can serve another round: all links ended in good order, at both ends, UCX is done with everything, and nobody but
// the ranks has said anything.
func (t *Transport) whole() bool {
	for _, p := range t.peers {
		if p != nil && (p.broken || !p.gone || p.slots > 0 || p.cause != errBye) {
			return false
		}
	}
	return t.strange == 0 && t.meetErr == nil
}

// collect has all links with something to do give it to UCX.
func (t *Transport) collect() {
	t.hub.Lock()
	for len(t.dirty) > 0 {
		p := t.dirty[len(t.dirty)-1]
		t.dirty = t.dirty[:len(t.dirty)-1]
		p.dirty = false
		p.work()
	}
	t.hub.Unlock()
	if len(t.settling) == 0 {
		return
	}
	link.ReleaseAll(t.spent) // before the events that say so
	t.spent = t.spent[:0]
	t.hub.Lock()
	news := false
	for _, p := range t.settling {
		news = p.Settle() || news
	}
	t.hub.Unlock()
	t.settling = t.settling[:0]
	if news {
		t.hub.Signal()
	}
}

// results deals with operations that were done, or failed, at once.
func (t *Transport) results() {
	done := t.ops
	t.rounds++
	t.ops = t.spare[:0] // what follows from the results is for the next round
	for i := range done {
		o := &done[i]
		if o.kind == opMessage || o.kind == opSend || o.kind == opReceive {
			if o.result <= 0 {
				t.finish(o.slot, o.result, o.len)
			}
		}
	}
	t.spare = done
}

// handle deals with an event of UCX.
func (t *Transport) handle(e *event) {
	switch e.kind {
	case evMessage:
		t.arrived(bytesAt(e.addr, e.len))
		t.ops = append(t.ops, op{kind: opRelease, addr: e.addr, owner: e.owner})
	case evDone:
		t.finish(e.slot, e.status, e.len)
	case evFailed:
		p := t.peers[e.link]
		if p.state == stateParting {
			return // what was to be said is said
		}
		p.fail(fmt.Errorf("its process or the link to it has ended: %w", statusError(e.status)))
	case evClosed:
		p := t.peers[e.link]
		p.gone = true
		p.conclude()
	}
}

// finish ends what a slot is for. n is the number of bytes that were received.
func (t *Transport) finish(i uint64, status int64, n uint64) {
	s := t.slots[i]
	t.unregister(&s)
	t.slots[i] = slot{}
	t.free = append(t.free, i)
	p := s.p
	p.slots--
	switch s.kind {
	case opMessage:
		t.blocks.give(s.block)
	case opSend:
		p.sends--
		p.sent(s.number).left--
	case opReceive:
		p.receives--
		if status == 0 && n != s.want {
			status = 0
			p.fail(link.Protocol("it sends %d bytes of message %d where %d were to come", n, s.number, s.want))
			break
		}
		if status == 0 {
			p.heard = t.now
			p.filled(s.number)
		}
	}
	if status < 0 && p.state == stateLinked || status < 0 && p.state == stateMeeting {
		p.fail(fmt.Errorf("its process or the link to it has ended: %w", statusError(status)))
		return
	}
	switch p.state {
	case stateLinked:
		if s.kind != opMessage {
			t.hub.Lock()
			p.touch()
			t.hub.Unlock()
		}
	case stateParting, stateFailing:
		p.conclude()
	}
}

// filled notes that a fragment of a message has come.
func (p *peer) filled(n uint64) {
	in := p.got(n)
	if in.left--; in.left > 0 || p.state != stateLinked {
		return
	}
	in.pins.Unpin()
	h := p.t.hub
	h.Lock()
	news := p.Complete(n)
	h.Unlock()
	if news {
		h.Signal()
	}
}

// tick does what has to be done from time to time.
func (t *Transport) tick(pause time.Duration) {
	if t.leave.Load() && t.meeting {
		t.absent = t.misses()
		t.gathered(errAbsent)
	}
	if t.cut.Load() {
		for _, p := range t.peers {
			if p != nil {
				p.fail(errTimeout)
			}
		}
	}
	if since := t.now.Sub(t.ticked); since < pause && !t.lingers() {
		return
	} else if since > t.o.LinkTimeout/2 {
		// This process did not run. What the others said meanwhile is still to be read.
		for _, p := range t.peers {
			if p != nil {
				p.heard = t.now
			}
		}
	}
	t.ticked = t.now
	for _, p := range t.peers {
		if p == nil {
			continue
		}
		switch p.state {
		case stateLinked:
			if silent := t.now.Sub(p.heard); silent > t.o.LinkTimeout {
				p.fail(fmt.Errorf("it has said nothing for %v: it is stopped, or cut off", silent.Round(time.Millisecond)))
			} else if t.now.Sub(p.said) >= t.o.LinkTimeout/4 {
				p.frame(frame{kind: kindBeat}, nil)
			}
		case stateParting, stateFailing:
			p.conclude()
		}
	}
}

// lingers reports whether some link waits for UCX to be done with it.
func (t *Transport) lingers() bool {
	for _, p := range t.peers {
		if p != nil && (p.state == stateParting || p.state == stateFailing) {
			return true
		}
	}
	return false
}

func (t *Transport) failAll(err error) {
	for _, p := range t.peers {
		if p != nil {
			p.fail(err)
		}
	}
}
