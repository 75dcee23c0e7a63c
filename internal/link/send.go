package link

import (
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// keepFrame is the largest frame that is kept for a later message that needs less.
const keepFrame = 4 << 10

// post takes over a message. It returns drop with the buffers that are not needed.
func (l *Link) post(op *shuffle.Op, drop []*mem.Buffer) []*mem.Buffer {
	if l.gone || l.Leaving {
		return append(drop, op.Payload...)
	}
	l.Posted++
	m := l.Out(l.Posted)
	size := Total(op.Payload)
	*m = Out{cookie: op.Cookie, Frame: m.Frame[:0], Payload: m.Payload[:0], Size: size, cost: cost(len(op.Header))}
	if n := len(op.Header) + int(min(size, shuffle.MaxHeader)); size > 0 && n <= l.hub.cfg.Inline && addressable(op.Payload) {
		m.Inline, m.cost = true, cost(n)
	}
	prefix := l.hub.cfg.Prefix
	if cap(m.Frame) > keepFrame && prefix+len(op.Header) <= keepFrame {
		m.Frame = nil
	}
	for range prefix {
		m.Frame = append(m.Frame, 0)
	}
	m.Frame = append(m.Frame, op.Header...)
	if size == 0 {
		drop = append(drop, op.Payload...)
	} else {
		m.Payload = append(m.Payload, op.Payload...)
	}
	l.work()
	return drop
}

// NextAnnounce returns the number of the next message to be announced, if there is one and credit for it, else 0.
func (l *Link) NextAnnounce() uint64 {
	if l.Announced == l.Posted || l.Out(l.Announced+1).cost > l.Credit {
		return 0
	}
	l.Announced++
	l.Credit -= l.Out(l.Announced).cost
	return l.Announced
}

// Answered notes what the peer says to an offer. It returns drop with the buffers that are not needed.
func (l *Link) Answered(n uint64, a Answer, drop []*mem.Buffer) ([]*mem.Buffer, error) {
	if l.Leaving {
		return drop, nil // it is all the same now
	}
	m := l.Out(n)
	if n <= l.Paid || n > l.Announced || m.Size == 0 || m.Inline || m.Answer != Unanswered {
		return drop, Protocol("it answers message %d, which was not offered", n)
	}
	m.Answer = a
	if a == Refused {
		drop = append(drop, m.Payload...)
		clear(m.Payload)
		m.Payload = m.Payload[:0]
	}
	l.work()
	return drop, nil
}

// Spend puts the buffers of a message into Spent.
func (l *Link) Spend(m *Out) {
	l.Spent = append(l.Spent, m.Payload...)
	clear(m.Payload)
	m.Payload = m.Payload[:0]
}

// Taken notes that the peer's caller has taken messages up to n.
func (l *Link) Taken(n uint64) error {
	if n <= l.seen || n > l.Announced {
		return Protocol("it took message %d of %d after message %d", n, l.Announced, l.seen)
	}
	l.seen = n
	return nil
}

// Leave notes that the peer takes no more messages.
func (l *Link) Leave() {
	l.Leaving = true
	l.work()
}

// Abandon forgets what a peer that leaves will not take any more: messages from first on, of which the transport uses nothing.
// Their buffers are in Spent.
func (l *Link) Abandon(first uint64) {
	for n := first; n <= l.Posted; n++ {
		m := l.Out(n)
		l.Spend(m)
		m.Answer = Refused
	}
	l.Posted = l.Announced // nobody will ask for the rest
}

// Settle reports messages that the peer has taken and that are paid as sent. It reports whether there were any. Nothing of them
// may be in Spent.
func (l *Link) Settle() (any bool) {
	for l.Acked < min(l.seen, l.Paid) {
		l.Acked++
		l.Credit += l.Out(l.Acked).cost
		if !l.hub.closed {
			l.hub.inbox.push(note{kind: shuffle.EventSent, peer: l.rank, number: l.Acked})
		}
		any = true
	}
	if any {
		l.work() // there is credit
	}
	return any
}
