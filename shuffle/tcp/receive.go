package tcp

import (
	"bufio"
	"errors"
	"io"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// readBytes is the size of a link's read buffer. What is longer than it is read past it, into the caller's
// memory.
const readBytes = 32 << 10

// read is the reader's goroutine. It never waits for the caller: what it would not have memory for, the peer may
// not send. It returns why the link ended.
func (p *peer) read() error {
	r := bufio.NewReaderSize(p.conn, readBytes)
	for {
		head, err := r.Peek(frameSize)
		if err != nil {
			return ended(err)
		}
		f, err := decodeFrame(head)
		if err != nil {
			return err
		}
		_, _ = r.Discard(frameSize) // they were peeked
		switch f.kind {
		case kindMessage:
			err = p.readMessage(r, f)
		case kindPayload:
			err = p.readPayload(r, f)
		default:
			err = p.note(f)
		}
		if err != nil {
			return err
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errEOF
	}
	return err
}

// readMessage reads the header of a message.
func (p *peer) readMessage(r *bufio.Reader, f frame) error {
	n := int(f.length)
	var header []byte
	p.t.mu.Lock()
	var err error
	switch {
	case f.number != p.received+1:
		err = protocol("message %d follows message %d", f.number, p.received)
	case f.number-p.taken > shuffle.MaxInFlight:
		err = protocol("it sends more than %d messages at once", shuffle.MaxInFlight)
	case cost(n) > p.room:
		err = protocol("it sends a header of %d bytes with credit for %d", n, p.room)
	default:
		p.room -= cost(n)
		header = p.headers.take(n)
	}
	p.t.mu.Unlock()
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(r, header); err != nil {
		return ended(err)
	}
	p.t.mu.Lock()
	p.received = f.number
	*p.in(f.number) = incoming{header: header, size: int64(f.size), complete: f.size == 0}
	news := p.advance()
	p.t.mu.Unlock()
	if news {
		p.t.signal()
	}
	return nil
}

// advance moves what it can into the inbox: messages that have arrived, in order, and one offer. It reports
// whether there was anything. The lock is held.
func (p *peer) advance() (news bool) {
	if p.t.closed {
		return false
	}
	for p.delivered < p.received && p.in(p.delivered+1).complete {
		p.delivered++
		p.t.inbox.push(note{kind: shuffle.EventMessage, peer: p.rank, number: p.delivered})
		news = true
	}
	for p.offering == 0 && p.looked < p.received {
		p.looked++
		if p.in(p.looked).size > 0 {
			p.offering = p.looked
			p.t.inbox.push(note{kind: shuffle.EventOffer, peer: p.rank, number: p.looked})
			news = true
		}
	}
	return news
}

// answer deals with OpAccept and OpRefuse. It returns drop with the buffers that are not needed. The lock is
// held.
func (p *peer) answer(op *shuffle.Op, drop []*mem.Buffer) []*mem.Buffer {
	if p.offering == 0 || op.Cookie != p.offering {
		return append(drop, op.Payload...) // the peer is gone, or the answer comes twice
	}
	m := p.in(p.offering)
	reply := frame{kind: kindRefuse, number: p.offering}
	if op.Kind == shuffle.OpAccept {
		reply.kind = kindAccept
		if n := len(p.lists); n > 0 {
			m.payload, p.lists = p.lists[n-1], p.lists[:n-1]
		}
		m.payload = append(m.payload, op.Payload...)
		m.state, m.left = accepted, m.size
	} else {
		drop = append(drop, op.Payload...)
		m.state, m.complete = refused, true
	}
	p.offering = 0
	p.answers = append(p.answers, reply)
	wake(p.work)
	if p.advance() {
		p.t.signal()
	}
	return drop
}

// readPayload reads bytes of payload into the buffers that the caller gave.
func (p *peer) readPayload(r *bufio.Reader, f frame) error {
	var err error
	p.t.mu.Lock()
	m := p.in(f.number)
	switch {
	case f.number <= p.delivered || f.number > p.received || m.state != accepted || m.left == 0:
		err = protocol("it sends payload of message %d unasked", f.number)
	case int64(f.size) != m.size-m.left || int64(f.length) > m.left:
		err = protocol("it sends bytes %d to %d of message %d, which has %d, after byte %d",
			f.size, f.size+uint64(f.length), f.number, m.size, m.size-m.left)
	}
	p.t.mu.Unlock()
	if err != nil {
		return err
	}
	for left := int(f.length); left > 0; {
		piece := m.read.next(m.payload, left)
		if _, err := io.ReadFull(r, piece); err != nil {
			return ended(err)
		}
		left -= len(piece)
	}
	news := false
	p.t.mu.Lock()
	m.left -= int64(f.length)
	if m.left == 0 {
		m.complete = true
		news = p.advance()
	}
	p.t.mu.Unlock()
	if news {
		p.t.signal()
	}
	return nil
}

// note deals with a frame that carries nothing.
func (p *peer) note(f frame) error {
	var drop []*mem.Buffer
	defer func() { releaseAll(drop) }()
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	switch f.kind {
	case kindAccept, kindRefuse:
		if p.leaving {
			return nil // it is all the same now
		}
		m := p.out(f.number)
		if f.number <= p.paying || f.number > p.announced || m.size == 0 || m.state != unanswered {
			return protocol("it answers message %d, which was not offered", f.number)
		}
		m.state = accepted
		if f.kind == kindRefuse {
			m.state = refused
			drop = append(drop, m.payload...)
			clear(m.payload)
			m.payload = m.payload[:0]
		}
		wake(p.work)
	case kindTaken:
		if f.number <= p.seen || f.number > p.announced {
			return protocol("it took message %d of %d after message %d", f.number, p.announced, p.seen)
		}
		p.seen = f.number
		if p.settle() {
			p.t.signal()
		}
	case kindLeave:
		p.leaving = true
		wake(p.work)
	case kindBye:
		if !p.t.closed && (f.number != p.received || p.delivered != p.received) {
			return protocol("it says goodbye after message %d; %d have arrived, %d of them whole",
				f.number, p.received, p.delivered)
		}
		return errBye
	}
	return nil
}
