package link

import (
	"fmt"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Link is the state of the link to one rank. Transports read the exported fields and write those of which it is said.
type Link struct {
	hub  *Hub
	rank int
	work func() // has the transport look at the link soon; it must not wait, and is called with the lock held

	gone bool // EventPeerDown is in the inbox, or was, or is about to be
	err  error

	// Sending: reported <= Acked <= Paid <= Announced <= Posted.
	out       [shuffle.MaxInFlight]Out
	Posted    uint64 // by the caller
	batch     uint64 // of those, in the call of Post that runs
	Announced uint64 // whose header was given to NextAnnounce
	Paid      uint64 // up to which no payload is left to be sent; written by the transport
	seen      uint64 // that the peer says its caller took
	Acked     uint64 // for which EventSent is in the inbox, or was
	reported  uint64 // for which EventSent was polled
	Credit    int    // bytes of headers that the peer has room for; set once the peer has said how many
	Leaving   bool   // the peer takes no more messages
	Left      bool   // the peer knows that this rank takes no more; written by the transport
	// Spent are buffers of payloads that were sent, to be released without the lock; the transport takes them from here.
	Spent []*mem.Buffer

	// Receiving: taken <= Delivered <= Received.
	in        [shuffle.MaxInFlight]In
	Received  uint64 // whose header has arrived
	looked    uint64 // up to which no payload waits to be offered
	offering  uint64 // offered and not answered; 0 if none
	Delivered uint64 // in the inbox, or polled
	taken     uint64 // polled
	told      uint64 // of which the peer knows that they were taken
	room      int    // bytes of headers that the peer may still send
	// Answers of the caller to offers, to be told to the peer by the transport, which takes them from here.
	Answers []Reply
	Headers HeaderPool      // memory of headers
	lists   [][]*mem.Buffer // memory of lists of buffers
}

// Reply is an answer of the caller.
type Reply struct {
	Number   uint64
	Accepted bool
}

// Answer is what was answered to an offer.
type Answer uint8

// What can be answered.
const (
	Unanswered Answer = iota
	Accepted
	Refused
)

// Out is a message that this rank sends.
type Out struct {
	cookie uint64
	// Frame has Config.Prefix bytes for the transport, and the header.
	Frame   []byte
	Payload []*mem.Buffer // until the last byte of it is sent
	Size    int64         // of the payload
	Inline  bool          // the payload is announced with the header
	Answer  Answer        // of the peer
	cost    int
}

// In is a message that this rank receives.
type In struct {
	header   []byte
	Size     int64         // of the payload
	Inline   []byte        // the payload, if it came with the header
	Payload  []*mem.Buffer // once accepted; the transport fills it without the lock
	Answer   Answer        // of the caller
	complete bool
	cost     int
}

// Add makes the link to a rank. work, called with the lock held, has the transport look at the link soon. credit is how many
// bytes of headers the peer has room for.
func (h *Hub) Add(rank, credit int, work func()) *Link {
	l := &Link{hub: h, rank: rank, work: work, Credit: credit, room: h.cfg.Window}
	l.Headers.limit = 2 * l.room
	h.links[rank] = l
	return l
}

// Out returns message n of those that this rank sends.
func (l *Link) Out(n uint64) *Out { return &l.out[n%shuffle.MaxInFlight] }

// In returns message n of those that this rank receives.
func (l *Link) In(n uint64) *In { return &l.in[n%shuffle.MaxInFlight] }

// Gone reports whether the link has ended.
func (l *Link) Gone() bool { return l.gone }

// Drain ends the link: it adds to drop all buffers that it still holds. The transport uses none of them any more. [Link.Down] follows,
// when they have been released.
func (l *Link) Drain(drop []*mem.Buffer) []*mem.Buffer {
	for i := range l.out {
		m := &l.out[i]
		drop = append(drop, m.Payload...)
		m.Payload = nil
	}
	drop = append(drop, l.Spent...)
	l.Spent = nil
	for n := l.Delivered + 1; n <= l.Received; n++ {
		m := l.In(n)
		drop = append(drop, m.Payload...)
		m.Payload = nil
	}
	l.gone, l.offering, l.Answers = true, 0, nil
	return drop
}

// Down reports that the peer is down, and why.
func (l *Link) Down(err error) {
	l.err = err
	if !l.hub.closed {
		l.hub.inbox.push(note{kind: shuffle.EventPeerDown, peer: l.rank})
	}
	l.hub.Signal()
}

// Protocol returns an error that wraps [shuffle.ErrProtocol].
func Protocol(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{shuffle.ErrProtocol}, args...)...)
}
