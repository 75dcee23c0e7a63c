//go:build ucx && cgo

package ucx

import (
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

var (
	// errBye is the reason for which a link ends when the peer has closed its endpoint.
	errBye         = fmt.Errorf("it closed its endpoint: %w", shuffle.ErrClosed)
	errTimeout     = fmt.Errorf("this rank closes and has waited long enough: %w", shuffle.ErrClosed)
	errClosedEarly = errors.New("ucx: closed before all ranks were there")
)

// heardBye notes that the peer has said all that it will say.
func (p *peer) heardBye(number uint64) error {
	if p.byeHeard {
		return link.Protocol("it says goodbye twice")
	}
	if p.t.hub.Closed() {
		p.byeHeard = true
		p.touch()
		return nil
	}
	if number != p.Received {
		return link.Protocol("it says goodbye after message %d; %d have arrived", number, p.Received)
	}
	for n := p.Delivered + 1; n <= p.Received; n++ {
		if m := p.In(n); m.Size > 0 && m.Inline == nil && m.Answer == link.Unanswered {
			return link.Protocol("it says goodbye with message %d on offer", n)
		}
	}
	p.byeHeard = true
	p.touch()
	return nil
}

// part ends a link whose both ends have said what they had to say, or need not hear more. The lock is held.
func (p *peer) part() {
	closed := p.t.hub.Closed()
	if p.byeHeard && !p.doneSaid && (closed || p.receives == 0 && len(p.Answers) == 0) {
		p.doneSaid = true
		p.frame(frame{kind: kindDone}, nil)
	}
	if p.doneSaid || closed && p.doneHeard {
		p.close(stateParting, errBye)
	}
}

// close ends what UCX does for a link. What was said before still leaves, unless the link is broken.
func (p *peer) close(s state, cause error) {
	p.cause = cause
	p.state, p.deadline = s, p.t.now.Add(lingerTime)
	o := op{kind: opClose, link: uint64(p.rank)}
	if s == stateFailing {
		o.owner, p.broken = 1, true
	}
	p.t.ops = append(p.t.ops, o)
	p.cancel()
}

// fail ends a link that is broken. The first reason counts.
func (p *peer) fail(cause error) {
	t := p.t
	if p.state >= stateParting {
		if t.cut.Load() && p.state != stateEnded {
			p.deadline = t.now
			p.conclude()
		}
		return
	}
	if p.byeHeard && p.receives == 0 {
		cause = errBye // it may go
	}
	met := p.state != stateMeeting
	p.close(stateFailing, cause)
	if !met {
		t.gathered(fmt.Errorf("ucx: rank %d does not reach rank %d: %w", t.hub.Rank(), p.rank, cause))
	}
}

// cancel ends the receives of a link.
func (p *peer) cancel() {
	for i := range p.t.slots {
		if s := &p.t.slots[i]; s.p == p && s.kind == opReceive {
			p.t.ops = append(p.t.ops, op{kind: opCancel, slot: uint64(i)})
		}
	}
}

// conclude reports that a link has ended when UCX is done with it, or after a while.
func (p *peer) conclude() {
	t := p.t
	late := !t.now.Before(p.deadline)
	if p.state != stateParting && p.state != stateFailing || !late && (!p.gone || p.slots > 0) {
		return
	}
	h := t.hub
	h.Lock()
	if p.byeHeard && p.cause == errBye && !h.Closed() && !p.Whole() {
		h.Unlock() // all has come, and the caller has yet to make room for it
		return
	}
	p.state = stateEnded
	t.alive--
	drop := p.Drain(nil)
	h.Unlock()
	if p.slots > 0 {
		t.orphans = append(t.orphans, drop...)
	} else {
		p.unpin()
		link.ReleaseAll(drop) // before the event that says so
	}
	h.Lock()
	p.Down(fmt.Errorf("ucx: rank %d lost rank %d: %w", h.Rank(), p.rank, p.cause))
	h.Unlock()
}

// unpin lets the Go heap have its memory back.
func (p *peer) unpin() {
	for i := range p.sending {
		p.sending[i].pins.Unpin()
		p.receiving[i].pins.Unpin()
	}
}
