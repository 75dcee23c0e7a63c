//go:build ucx && cgo

package ucx

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

const (
	// sendsMost is how many fragments of one link are given to UCX at a time.
	sendsMost = 64
	// receivesMost is how many receives of one link wait at a time, or those of one message if they are more.
	receivesMost = 512
	// lingerTime is how long a link that ends waits for UCX to be done with it.
	lingerTime = time.Second
)

// state is how far a link has come.
type state uint8

const (
	stateMeeting state = iota // the peer has not said hello
	stateLinked
	stateParting // goodbyes are said; what is said last is on the way
	stateFailing // it is broken; what is under way is being ended
	stateEnded
)

// peer is the link to one rank. All of it belongs to the goroutine of the transport; the Link in it is guarded by the Hub.
type peer struct {
	*link.Link
	t     *Transport
	rank  int
	state state
	dirty bool // it is in Transport.dirty; guarded by the Hub

	tokenIn, tokenOut uint64 // begin all frames
	tagsIn, tagsOut   uint32 // and tags

	cause     error // why the link ends
	deadline  time.Time
	heard     time.Time // when something last came from the peer
	said      time.Time // when this rank last said something
	slots     int       // operations under way in UCX
	gone      bool      // UCX has closed the endpoint
	broken    bool      // it was not closed in good order
	greeted   bool      // hello is said
	byeSaid   bool
	byeHeard  bool
	doneHeard bool
	doneSaid  bool

	sending   [shuffle.MaxInFlight]outgoing
	receiving [shuffle.MaxInFlight]incoming
	packing   uint64 // the round of the last active message
	last      int    // which is this one of Transport.ops
	submitted uint64 // messages of which nothing more is to be given to UCX
	sends     int    // fragments under way
	receives  int    // receives that wait
}

// outgoing is what UCX does with the payload of Out(n).
type outgoing struct {
	theirs []int64 // lengths of the receiver's buffers
	cuts   []int64 // lengths of fragments
	next   int     // of cuts, to be given to UCX
	left   int     // fragments under way
	at     place
	pins   runtime.Pinner
}

// incoming is what UCX does with the payload of In(n).
type incoming struct {
	theirs []int64 // lengths of the sender's buffers
	cuts   []int64
	left   int
	pins   runtime.Pinner
}

func (t *Transport) newPeer(r int) error {
	p := &peer{t: t, rank: r}
	var b [4]byte
	for unique := false; !unique; {
		if _, err := rand.Read(b[:]); err != nil {
			return fmt.Errorf("ucx: %w", err)
		}
		p.tagsIn, unique = binary.LittleEndian.Uint32(b[:]), true
		for _, q := range t.peers {
			unique = unique && (q == nil || q.tagsIn != p.tagsIn)
		}
	}
	me := t.hub.Rank()
	p.tokenIn = token(t.o.Secret, r, me, &t.addr[r], &t.addr[me])
	p.tokenOut = token(t.o.Secret, me, r, &t.addr[me], &t.addr[r])
	t.hub.Lock()
	defer t.hub.Unlock()
	p.Link = t.hub.Add(r, 0, p.touch)
	t.peers[r] = p
	p.touch()
	return nil
}

// touch has the peer's work be done soon. The lock is held.
func (p *peer) touch() {
	if !p.dirty {
		p.dirty = true
		p.t.dirty = append(p.t.dirty, p)
	}
	p.t.wake()
}

func (p *peer) sent(n uint64) *outgoing { return &p.sending[n%shuffle.MaxInFlight] }
func (p *peer) got(n uint64) *incoming  { return &p.receiving[n%shuffle.MaxInFlight] }

// slot makes room for what an operation is for.
func (t *Transport) slot(s slot) uint64 {
	s.p.slots++
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		t.slots[i] = s
		return i
	}
	t.slots = append(t.slots, s)
	return uint64(len(t.slots) - 1)
}

// packMost is up to which length, together, frames that are said at one time are one active message.
const packMost = 4 << 10

// frame says something to the peer: a frame, the lengths of bufs, and bytes.
func (p *peer) frame(f frame, bufs []*mem.Buffer, parts ...[]byte) {
	t := p.t
	f.rank, f.token, f.pieces = t.hub.Rank(), p.tokenOut, uint32(len(bufs))
	n := f.whole()
	b := p.room(n)
	at := frameHead
	for _, buf := range bufs {
		binary.LittleEndian.PutUint64(b[at:], uint64(buf.Len()))
		at += 8
	}
	for _, part := range parts {
		at += copy(b[at:], part)
	}
	f.encode(b)
	p.said = t.now
}

// room returns n bytes of an active message for the next round: behind the frames of the last one, if it is of that round and they
// fit, or of another.
func (p *peer) room(n int) []byte {
	t := p.t
	if p.packing == t.rounds && p.last < len(t.ops) {
		o := &t.ops[p.last]
		if end := int(o.len) + n; end <= packMost {
			b := t.slots[o.slot].block.bytes[o.len:end]
			o.len = uint64(end)
			return b
		}
	}
	k := t.blocks.take(max(n, packMost))
	p.packing, p.last = t.rounds, len(t.ops)
	t.ops = append(t.ops, op{
		kind: opMessage, link: uint64(p.rank), addr: addressOf(k.bytes), len: uint64(n), slot: t.slot(slot{p: p, kind: opMessage, block: k}),
	})
	return k.bytes[:n]
}

// work gives UCX what there is to do. The lock is held.
func (p *peer) work() {
	h := p.t.hub
	switch p.state {
	case stateMeeting:
		if !p.greeted {
			p.greeted = true
			p.sayHello()
		}
		return
	case stateLinked:
	default:
		return
	}
	if h.Closed() && !p.Left {
		p.Left = true
		p.frame(frame{kind: kindLeave}, nil)
	}
	if n := p.Tell(); n > 0 {
		p.frame(frame{kind: kindTaken, number: n}, nil)
	}
	p.sayAnswers()
	if p.Leaving {
		p.abandon()
	}
	p.announce()
	p.send()
	p.pay()
	if h.Closed() && p.Paid == p.Posted && p.Announced == p.Posted && !p.byeSaid {
		p.byeSaid = true
		p.frame(frame{kind: kindBye, number: p.Announced}, nil)
	}
	p.part()
}

// sayAnswers tells the peer what the caller said to offers. Receives are given to UCX before the peer is told to send.
func (p *peer) sayAnswers() {
	said := 0
	for _, r := range p.Answers {
		if !r.Accepted {
			p.frame(frame{kind: kindRefuse, number: r.Number}, nil)
			said++
			continue
		}
		in, m := p.got(r.Number), p.In(r.Number)
		p.t.lengths = lengthsOf(p.t.lengths[:0], m.Payload)
		in.cuts = cut(in.cuts[:0], in.theirs, p.t.lengths, longest(m.Size))
		if p.receives > 0 && p.receives+len(in.cuts) > receivesMost {
			break
		}
		pin(&in.pins, m.Payload)
		in.left = len(in.cuts)
		var at place
		for i, n := range in.cuts {
			addr, memory, mapping := at.next(m.Payload, n)
			o := op{
				kind: opReceive, link: uint64(p.rank), addr: addr, len: uint64(n), tag: tag(p.tagsIn, r.Number, i), owner: memory,
			}
			s := slot{p: p, kind: opReceive, number: r.Number, want: uint64(n)}
			p.t.register(&o, &s, mapping)
			o.slot = p.t.slot(s)
			p.t.ops = append(p.t.ops, o)
			p.receives++
		}
		p.frame(frame{kind: kindAccept, number: r.Number}, m.Payload)
		said++
	}
	p.Answers = p.Answers[:copy(p.Answers, p.Answers[said:])]
}

// pin keeps memory of the Go heap where it is while UCX uses it; other memory is there anyway.
func pin(pins *runtime.Pinner, bufs []*mem.Buffer) {
	for _, b := range bufs {
		if data := b.Bytes(); len(data) > 0 {
			pins.Pin(&data[0])
		}
	}
}

// announce tells the peer of messages, with their payloads if they are short.
func (p *peer) announce() {
	for n := p.NextAnnounce(); n > 0; n = p.NextAnnounce() {
		m, out := p.Out(n), p.sent(n)
		out.cuts, out.next, out.left, out.at = out.cuts[:0], 0, 0, place{}
		f := frame{kind: kindMessage, number: n, size: uint64(m.Size), length: uint32(len(m.Frame)), inline: m.Inline}
		if !m.Inline {
			p.frame(f, m.Payload, m.Frame)
			continue
		}
		parts := append(p.t.parts[:0], m.Frame)
		for _, b := range m.Payload {
			parts = append(parts, b.Bytes())
		}
		p.frame(f, nil, parts...)
		clear(parts)
		p.t.parts = parts
		p.Spend(m)
	}
}

// send gives UCX the payloads that the peer has made room for.
func (p *peer) send() {
	for p.submitted < p.Announced {
		n := p.submitted + 1
		m, out := p.Out(n), p.sent(n)
		if m.Size == 0 || m.Inline || m.Answer == link.Refused {
			p.submitted++
			continue
		}
		if m.Answer == link.Unanswered {
			return
		}
		if len(out.cuts) == 0 {
			p.t.lengths = lengthsOf(p.t.lengths[:0], m.Payload)
			out.cuts = cut(out.cuts, p.t.lengths, out.theirs, longest(m.Size))
			pin(&out.pins, m.Payload)
		}
		for ; out.next < len(out.cuts); out.next++ {
			if p.sends == sendsMost {
				return
			}
			length := out.cuts[out.next]
			addr, memory, mapping := out.at.next(m.Payload, length)
			o := op{
				kind: opSend, link: uint64(p.rank), addr: addr, len: uint64(length), tag: tag(p.tagsOut, n, out.next), owner: memory,
			}
			s := slot{p: p, kind: opSend, number: n, want: uint64(length)}
			p.t.register(&o, &s, mapping)
			o.slot = p.t.slot(s)
			p.t.ops = append(p.t.ops, o)
			p.sends++
			out.left++
		}
		p.submitted++
	}
}

// abandon forgets what a peer that leaves will not take. What UCX has begun with is waited for.
func (p *peer) abandon() {
	first := p.submitted + 1
	if first <= p.Announced && p.sent(first).next > 0 {
		p.sent(first).next = len(p.sent(first).cuts)
		first++
	}
	p.Abandon(first)
	p.submitted = p.Posted
}

// pay releases payloads that UCX is done with, in order, and has what the peer has taken be reported.
func (p *peer) pay() {
	for p.Paid < p.submitted && p.sent(p.Paid+1).left == 0 {
		p.Paid++
		p.sent(p.Paid).pins.Unpin()
		p.Spend(p.Out(p.Paid))
	}
	p.t.spent = append(p.t.spent, p.Spent...)
	clear(p.Spent)
	p.Spent = p.Spent[:0]
	p.t.settling = append(p.t.settling, p)
}
