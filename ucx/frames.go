//go:build ucx && cgo

package ucx

import (
	"fmt"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
)

// arrived deals with an active message. What does not prove that it is of a rank of this job is dropped.
func (t *Transport) arrived(b []byte) {
	rank, token, ok := sender(b)
	if !ok || int(rank) >= len(t.peers) || t.peers[rank] == nil || token != t.peers[rank].tokenIn {
		t.strange++
		return
	}
	p := t.peers[rank]
	if p.state >= stateParting {
		return
	}
	p.heard = t.now
	f, pieces, body, err := decodeFrame(b, t.lengths)
	t.lengths = pieces[:0]
	if err == nil {
		err = p.heed(&f, pieces, body)
	}
	if err != nil {
		p.fail(err)
	}
}

// heed does what a frame says. pieces and body are valid during the call.
func (p *peer) heed(f *frame, pieces []int64, body []byte) error {
	switch {
	case f.kind == kindHello:
		return p.heardHello(body)
	case f.kind == kindNo:
		return mismatch("it says: %s", body)
	case p.state == stateMeeting:
		return link.Protocol("it says %s before hello", f.kind)
	}
	h := p.t.hub
	var drop []*mem.Buffer
	defer func() { link.ReleaseAll(drop) }()
	h.Lock()
	defer h.Unlock()
	switch f.kind {
	case kindMessage:
		return p.heardMessage(f, pieces, body)
	case kindAccept:
		var total int64
		for _, n := range pieces {
			total += n
		}
		if m := p.Out(f.number); !p.Leaving && total != m.Size {
			return link.Protocol("it accepts %d bytes of message %d, which has %d", total, f.number, m.Size)
		}
		out := p.sent(f.number)
		theirs := out.theirs
		if !p.Leaving {
			theirs = append(theirs[:0], pieces...)
		}
		if _, err := p.Answered(f.number, link.Accepted, nil); err != nil {
			return err
		}
		out.theirs = theirs
	case kindRefuse:
		var err error
		drop, err = p.Answered(f.number, link.Refused, nil)
		return err
	case kindTaken:
		if err := p.Taken(f.number); err != nil {
			return err
		}
		p.touch()
	case kindLeave:
		p.Leave()
	case kindBye:
		return p.heardBye(f.number)
	case kindDone:
		if !p.byeSaid {
			return link.Protocol("it answers a goodbye that was not said")
		}
		p.doneHeard = true
		p.touch()
	case kindBeat:
	default:
		return fmt.Errorf("ucx: a frame of kind %d", f.kind) // decodeFrame lets none pass
	}
	return nil
}

// heardMessage takes in the announcement of a message. The lock is held.
func (p *peer) heardMessage(f *frame, pieces []int64, body []byte) error {
	inline := 0
	if f.inline {
		inline = int(f.size)
	}
	memory, err := p.Arrive(f.number, int(f.length), inline)
	if err != nil {
		return err
	}
	copy(memory, body)
	in := p.got(f.number)
	in.theirs = append(in.theirs[:0], pieces...)
	if p.Enter(f.number, memory, int(f.length), int64(f.size)) {
		p.t.hub.Signal()
	}
	return nil
}

// hello is what this rank says to the peer.
func (p *peer) hello() hello {
	o := &p.t.o
	return hello{
		rank: p.t.hub.Rank(), to: p.rank, size: len(p.t.peers), epoch: o.Epoch, window: o.window(), tags: p.tagsIn, job: o.Job, spec: o.Spec,
	}
}

func (p *peer) sayHello() {
	t, h := p.t, p.hello()
	body := h.encode(t.o.Secret, &t.addr[h.rank], &t.addr[p.rank])
	p.frame(frame{kind: kindHello, length: uint32(len(body))}, nil, body)
}

// heardHello decides whether the peer is one to work with.
func (p *peer) heardHello(body []byte) error {
	t := p.t
	if p.state != stateMeeting {
		return link.Protocol("it says hello twice")
	}
	theirs, err := decodeHello(body, t.o.Secret, &t.addr[p.rank], &t.addr[t.hub.Rank()])
	if err != nil {
		return err
	}
	mine := p.hello()
	if err := compare(&mine, &theirs); err != nil {
		// It is to hear of it, so the link is not broken off.
		t.hub.Lock()
		p.work() // hello, if it was not said yet
		text := err.Error()
		text = text[:min(len(text), textMost)]
		p.frame(frame{kind: kindNo, length: uint32(len(text))}, nil, []byte(text))
		t.hub.Unlock()
		p.close(stateParting, err)
		t.gathered(fmt.Errorf("ucx: rank %d and rank %d cannot work together: %w", t.hub.Rank(), p.rank, err))
		return nil
	}
	t.hub.Lock()
	p.tagsOut, p.Credit = theirs.tags, theirs.window
	p.work() // if this rank has not said hello yet, that comes first
	p.state = stateLinked
	p.touch()
	t.hub.Unlock()
	if t.missing--; t.missing == 0 {
		t.gathered(nil)
	}
	return nil
}
