package shuffle

import (
	"github.com/dovetail-dedup/dovetail/mem"
)

const (
	// MaxInFlight is the number of sends per peer that a transport must accept before the first of them is
	// reported by [EventSent]. A [Communicator] never has more under way, so Post need not say "try again".
	MaxInFlight = 64
	// MaxHeader is the largest Op.Header, in bytes.
	MaxHeader = 64 << 10
	// MaxPieces is the largest number of buffers in Op.Payload.
	MaxPieces = 256
)

// Transport moves messages between the ranks of a job. A message is a short header (bytes in ordinary
// memory) and a payload of any length (buffers, of any tier that the transport supports).
//
// The promises of an implementation, which package transporttest checks:
//
//   - Messages from one rank to another arrive once, whole, unchanged and in the order posted, or the link
//     is reported broken by [EventPeerDown], at both ends. Nothing is promised between different pairs.
//   - Post and Poll never block. Neither waits for a peer, and none needs another rank to call anything.
//   - Ready allows its owner to sleep: an idle rank costs no processor time.
//   - Close may be called in any state and again. It releases every buffer that the transport still owns,
//     and the peers get [EventPeerDown] after all messages that were sent before.
//
// Post, Poll and Ready are called by one goroutine at a time, usually the [Communicator]'s; Alloc, Rank,
// Size, Features and Close by any.
type Transport interface {
	// Rank returns this endpoint's rank, 0 <= Rank < Size.
	Rank() int
	// Size returns the number of ranks, fixed for life.
	Size() int
	// Features says what this transport does, the same on every call.
	Features() Features
	// Alloc makes a buffer of n bytes that the transport can send from without a copy, for instance memory
	// registered with a network adapter. The error wraps [mem.ErrNoMemory] if the tier has no room, and
	// says so if the transport has no such tier.
	Alloc(tier mem.Tier, n int) (*mem.Buffer, error)
	// Post starts operations. The transport takes ownership of the payload buffers of all of them, on
	// errors too; headers are copied or sent before Post returns. An error means that the endpoint as a
	// whole no longer works; trouble with one peer is an event instead.
	Post(ops []Op) error
	// Poll stores what has happened into events, oldest first, and returns how many were stored. Headers
	// and payload slices of events are valid until the next call of Poll; the payload buffers themselves
	// belong to the caller. An error means that the endpoint no longer works.
	Poll(events []Event) (int, error)
	// Ready returns a channel that yields a value when events may have appeared since Poll last returned
	// fewer than it had room for. A value too many is allowed, one too few is not.
	Ready() <-chan struct{}
	// Close ends the endpoint.
	Close() error
}

// Features are what a [Communicator] must know about a transport.
type Features struct {
	// Offers is true if messages with a payload arrive as EventOffer, because their bytes need memory of the
	// receiving rank. It is false if the sender's buffers themselves are handed over.
	Offers bool
}

// OpKind says what an [Op] asks for.
type OpKind uint8

const (
	// OpSend sends Header and Payload to Peer. It ends in EventSent with the same Cookie, unless the peer
	// is reported down first.
	OpSend OpKind = iota + 1
	// OpAccept answers the EventOffer with the same Peer and Cookie. Payload is where the bytes go, in
	// order: their lengths add up to the offer's Size. The message then arrives as an EventMessage whose
	// Payload holds the same buffers.
	OpAccept
	// OpRefuse answers the EventOffer with the same Peer and Cookie: the message is thrown away.
	OpRefuse
)

// Op is one operation given to [Transport.Post].
type Op struct {
	Kind    OpKind
	Peer    int           // the other rank; never the endpoint's own
	Cookie  uint64        // comes back in the event; means nothing to the transport
	Header  []byte        // at most MaxHeader bytes
	Payload []*mem.Buffer // at most MaxPieces, sent as one run of bytes; none is empty
}

// EventKind says what an [Event] reports.
type EventKind uint8

const (
	// EventMessage delivers a message from Peer: Header, and Payload in the pieces in which it was posted
	// or accepted.
	EventMessage EventKind = iota + 1
	// EventOffer announces a message from Peer whose payload of Size bytes waits for memory. A transport
	// that hands buffers over, or has the bytes already, never offers. Later messages of the same peer
	// wait behind it; Header is as it will be in the EventMessage.
	EventOffer
	// EventSent says that the transport is done with the OpSend of that Cookie: the peer has it, or will
	// have it although this endpoint closes.
	EventSent
	// EventPeerDown says that Peer cannot be reached any more, and why (Err). It comes at most once per
	// peer and is the last event of that peer.
	EventPeerDown
)

// Event is one thing reported by [Transport.Poll].
type Event struct {
	Kind    EventKind
	Peer    int
	Cookie  uint64        // EventSent: the send's; EventOffer: to be used in the answer
	Size    int64         // EventOffer: bytes of payload
	Header  []byte        // EventMessage, EventOffer
	Payload []*mem.Buffer // EventMessage
	Err     error         // EventPeerDown
}
