package tcp

import (
	"net"

	"github.com/dovetail-dedup/dovetail/internal/link"
)

const (
	// batchBytes is how much is written at once, unless a single piece is larger: enough that a system call
	// costs little, not so much that answers to the peer wait long.
	batchBytes = 1 << 20
	// batchPieces keeps a write within what one writev takes.
	batchPieces = 1000
	// stageBytes is the room for small pieces that are copied side by side.
	stageBytes = 64 << 10
	// stageOne is the largest header that is copied; a larger one is written from where it is.
	stageOne = 4 << 10
)

// batch is what one write sends. Its memory is used again.
type batch struct {
	list  [][]byte
	stage []byte
	tail  int         // where the last element of list starts in stage; -1 if it is not there
	bytes int         // of all pieces
	bufs  net.Buffers // list, for the write, which eats it
	flat  bool        // small pieces of payload are copied too, because each would be encrypted by itself
}

func (b *batch) reset() {
	clear(b.list)
	b.list, b.stage, b.tail, b.bytes = b.list[:0], b.stage[:0], -1, 0
}

// full reports whether nothing should be added.
func (b *batch) full() bool {
	return b.bytes >= batchBytes || len(b.list) >= batchPieces || len(b.stage) > stageBytes-stageOne-frameSize
}

// small adds a copy of up to stageOne bytes.
func (b *batch) small(data []byte) {
	b.staged(append(b.stage, data...), len(data))
}

func (b *batch) frame(f frame) {
	b.staged(appendFrame(b.stage, f), frameSize)
}

// staged adds the last n bytes of stage, which has grown by them within its capacity: see full.
func (b *batch) staged(stage []byte, n int) {
	if b.tail < 0 {
		b.tail = len(b.stage)
		b.list = append(b.list, nil)
	}
	b.stage = stage
	b.list[len(b.list)-1] = b.stage[b.tail:]
	b.bytes += n
}

// large adds bytes that stay where they are until the write is done.
func (b *batch) large(data []byte) {
	b.list = append(b.list, data)
	b.tail = -1
	b.bytes += len(data)
}

// write is the writer's goroutine: it collects what there is to say, says it, and sleeps. It returns nil after
// a goodbye, and when the reader has ended.
func (p *peer) write() error {
	b := &batch{stage: make([]byte, 0, stageBytes)}
	secure, _ := p.conn.(*secureConn)
	b.flat = secure != nil
	for {
		last := p.collect(b)
		if len(b.list) == 0 {
			p.flush()
			select {
			case <-p.work:
				continue
			case <-p.stop:
				return nil
			}
		}
		b.bufs = b.list
		var err error
		if secure != nil {
			err = secure.writeAll(b.bufs)
		} else {
			_, err = b.bufs.WriteTo(p.conn)
		}
		if err != nil {
			return err
		}
		p.flush()
		if last {
			return p.raw.CloseWrite()
		}
	}
}

// collect puts the next things to write into b. It reports whether a goodbye is among them, after which there is
// no more.
func (p *peer) collect(b *batch) (last bool) {
	b.reset()
	h := p.t.hub
	h.Lock()
	defer h.Unlock()
	if h.Closed() && !p.Left {
		p.Left = true
		b.frame(frame{kind: kindLeave})
	}
	if n := p.Tell(); n > 0 {
		b.frame(frame{kind: kindTaken, number: n})
	}
	for _, r := range p.Answers { // MaxInFlight at most, which fit
		f := frame{kind: kindRefuse, number: r.Number}
		if r.Accepted {
			f.kind = kindAccept
		}
		b.frame(f)
	}
	p.Answers = p.Answers[:0]
	if p.Leaving {
		p.Abandon(p.Paid + 1)
		p.Paid = p.Posted
	}
	for !b.full() {
		n := p.NextAnnounce()
		if n == 0 {
			break
		}
		m := p.Out(n)
		appendFrame(m.Frame[:0], frame{kind: kindMessage, number: n, size: uint64(m.Size), length: uint32(len(m.Frame) - frameSize)})
		*p.sent(n) = walk{left: m.Size}
		if len(m.Frame) <= stageOne {
			b.small(m.Frame)
		} else {
			b.large(m.Frame)
		}
	}
	for !b.full() && p.Paid < p.Announced && p.pay(b, p.Paid+1) {
		p.Paid++
	}
	p.writing = len(b.list) > 0
	if h.Closed() && p.Paid == p.Posted && !b.full() {
		b.frame(frame{kind: kindBye, number: p.Announced})
		return true
	}
	return false
}

// pay adds payload of message n. It reports whether none is left after that. The lock is held.
func (p *peer) pay(b *batch, n uint64) bool {
	m, w := p.Out(n), p.sent(n)
	if m.Size == 0 || m.Answer == link.Refused {
		return true
	}
	if m.Answer == link.Unanswered {
		return false
	}
	for w.left > 0 {
		if b.full() {
			return false
		}
		length := min(w.left, segment)
		b.frame(frame{kind: kindPayload, number: n, size: uint64(m.Size - w.left), length: uint32(length)})
		w.left -= length
		for length > 0 {
			data := w.next(m.Payload, int(length))
			length -= int64(len(data))
			if b.flat && len(data) <= stageOne && len(b.stage)+len(data) <= stageBytes-frameSize {
				b.small(data)
			} else {
				b.large(data)
			}
		}
	}
	p.Spend(m)
	return true
}

// flush notes that what was collected has been written, if anything was. Buffers are released before the events
// that say so.
func (p *peer) flush() {
	h := p.t.hub
	h.Lock()
	if done := p.Spent; len(done) > 0 {
		p.Spent = nil
		h.Unlock()
		link.ReleaseAll(done)
		h.Lock()
		p.Spent = done[:0] // only the writer adds to it
	}
	p.writing = false
	sent := p.settle()
	h.Unlock()
	if sent {
		h.Signal()
	}
}

// settle reports messages that the peer has taken as sent, once the writer has let go of them. The lock is held.
func (p *peer) settle() (any bool) {
	if p.writing {
		return false // flush will
	}
	return p.Settle()
}
