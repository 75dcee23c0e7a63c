package link

import (
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Arrive checks the announcement of message n, whose header has length bytes and inline bytes of payload behind it, and returns
// memory for both. [Link.Enter] follows, or the end of the link.
func (l *Link) Arrive(n uint64, length, inline int) ([]byte, error) {
	c := cost(length + inline)
	switch {
	case n != l.Received+1:
		return nil, Protocol("message %d follows message %d", n, l.Received)
	case n-l.taken > shuffle.MaxInFlight:
		return nil, Protocol("it sends more than %d messages at once", shuffle.MaxInFlight)
	case length+inline > shuffle.MaxHeader:
		return nil, Protocol("it sends %d bytes of payload behind a header of %d", inline, length)
	case c > l.room:
		return nil, Protocol("it sends a header of %d bytes with credit for %d", length+inline, l.room)
	}
	l.room -= c
	return l.Headers.take(length + inline), nil
}

// Enter enters message n, whose header and payload, if it came along, are in memory. It reports whether there is something to
// poll.
func (l *Link) Enter(n uint64, memory []byte, length int, size int64) (news bool) {
	l.Received = n
	m := In{header: memory[:length], Size: size, complete: size == 0, cost: cost(len(memory))}
	if len(memory) > length {
		m.Inline = memory[length:]
	}
	*l.In(n) = m
	return l.Advance()
}

// Complete notes that the payload of message n is there. It reports whether there is something to poll.
func (l *Link) Complete(n uint64) (news bool) {
	l.In(n).complete = true
	return l.Advance()
}

// Advance moves what it can into the inbox: messages that have arrived, in order, and one offer. It reports
// whether there was anything.
func (l *Link) Advance() (news bool) {
	if l.hub.closed {
		return false
	}
	for l.Delivered < l.Received && l.In(l.Delivered+1).complete {
		l.Delivered++
		l.hub.inbox.push(note{kind: shuffle.EventMessage, peer: l.rank, number: l.Delivered})
		news = true
	}
	for l.offering == 0 && l.looked < l.Received {
		l.looked++
		if l.In(l.looked).Size > 0 {
			l.offering = l.looked
			l.hub.inbox.push(note{kind: shuffle.EventOffer, peer: l.rank, number: l.looked})
			news = true
		}
	}
	return news
}

// answer deals with OpAccept and OpRefuse. It returns drop with the buffers that are not needed.
func (l *Link) answer(op *shuffle.Op, drop []*mem.Buffer) []*mem.Buffer {
	if l.offering == 0 || op.Cookie != l.offering {
		return append(drop, op.Payload...) // the peer is gone, or the answer comes twice
	}
	n, m := l.offering, l.In(l.offering)
	l.offering = 0
	if op.Kind == shuffle.OpAccept {
		if k := len(l.lists); k > 0 {
			m.Payload, l.lists = l.lists[k-1], l.lists[:k-1]
		}
		m.Payload = append(m.Payload, op.Payload...)
		m.Answer = Accepted
	} else {
		drop = append(drop, op.Payload...)
		m.Answer, m.complete = Refused, true
	}
	switch {
	case m.Inline == nil:
		l.Answers = append(l.Answers, Reply{n, m.Answer == Accepted})
		l.work()
	case m.Answer == Accepted:
		fill(m)
	}
	if l.Advance() {
		l.hub.Signal()
	}
	return drop
}

// fill copies a payload that came with its header, a few kilobytes.
func fill(m *In) {
	from := m.Inline
	for _, b := range m.Payload {
		from = from[copy(b.Bytes(), from):]
	}
	m.complete = true
}

// Whole reports whether everything that was announced has arrived.
func (l *Link) Whole() bool { return l.Delivered == l.Received }

// Tell returns up to which message the peer is to be told that they were taken, or 0 if it knows.
func (l *Link) Tell() uint64 {
	if l.taken == l.told {
		return 0
	}
	l.told = l.taken
	return l.told
}

// Polled returns up to which message the caller has polled.
func (l *Link) Polled() uint64 { return l.taken }
