package tcp

import (
	"net"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
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

// post takes over a message. It returns drop with the buffers that are not needed. The lock is held.
func (p *peer) post(op *shuffle.Op, drop []*mem.Buffer) []*mem.Buffer {
	if p.gone || p.leaving {
		return append(drop, op.Payload...)
	}
	p.posted++
	m := p.out(p.posted)
	size := total(op.Payload)
	*m = outgoing{cookie: op.Cookie, frame: m.frame[:0], cost: cost(len(op.Header)), payload: m.payload[:0], size: size, left: size}
	if cap(m.frame) > stageOne && frameSize+len(op.Header) <= stageOne {
		m.frame = nil // keep little for later
	}
	m.frame = appendFrame(m.frame, frame{
		kind: kindMessage, number: p.posted, size: uint64(size), length: uint32(len(op.Header)),
	})
	m.frame = append(m.frame, op.Header...)
	if size == 0 {
		drop = append(drop, op.Payload...)
	} else {
		m.payload = append(m.payload, op.Payload...)
	}
	wake(p.work)
	return drop
}

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
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	if p.t.closed && !p.left {
		p.left = true
		b.frame(frame{kind: kindLeave})
	}
	if p.taken > p.told {
		p.told = p.taken
		b.frame(frame{kind: kindTaken, number: p.told})
	}
	for _, f := range p.answers { // MaxInFlight at most, which fit
		b.frame(f)
	}
	p.answers = p.answers[:0]
	if p.leaving {
		p.abandon()
	}
	for !b.full() && p.announced < p.posted && p.out(p.announced+1).cost <= p.credit {
		p.announced++
		m := p.out(p.announced)
		p.credit -= m.cost
		if len(m.frame) <= stageOne {
			b.small(m.frame)
		} else {
			b.large(m.frame)
		}
	}
	for !b.full() && p.paying < p.announced && p.pay(b, p.paying+1) {
		p.paying++
	}
	p.writing = len(b.list) > 0
	if p.t.closed && p.paying == p.posted && !b.full() {
		b.frame(frame{kind: kindBye, number: p.announced})
		return true
	}
	return false
}

// pay adds payload of message n. It reports whether none is left after that. The lock is held.
func (p *peer) pay(b *batch, n uint64) bool {
	m := p.out(n)
	if m.size == 0 || m.state == refused {
		return true
	}
	if m.state == unanswered {
		return false
	}
	for m.left > 0 {
		if b.full() {
			return false
		}
		length := min(m.left, segment)
		b.frame(frame{kind: kindPayload, number: n, size: uint64(m.size - m.left), length: uint32(length)})
		m.left -= length
		for length > 0 {
			data := m.written.next(m.payload, int(length))
			length -= int64(len(data))
			if b.flat && len(data) <= stageOne && len(b.stage)+len(data) <= stageBytes-frameSize {
				b.small(data)
			} else {
				b.large(data)
			}
		}
	}
	p.paid = append(p.paid, m.payload...)
	clear(m.payload)
	m.payload = m.payload[:0]
	return true
}

// abandon forgets what the peer will not take any more. The lock is held, and nothing is being written.
func (p *peer) abandon() {
	for n := p.paying + 1; n <= p.posted; n++ {
		m := p.out(n)
		p.paid = append(p.paid, m.payload...)
		clear(m.payload)
		m.payload, m.state = m.payload[:0], refused
	}
	p.posted = p.announced // nobody will ask for the rest
	p.paying = p.posted
}

// flush notes that what was collected has been written, if anything was. Buffers are released before the events
// that say so.
func (p *peer) flush() {
	p.t.mu.Lock()
	if done := p.paid; len(done) > 0 {
		p.paid = nil
		p.t.mu.Unlock()
		releaseAll(done)
		p.t.mu.Lock()
		p.paid = done[:0] // only the writer adds to it
	}
	p.writing = false
	sent := p.settle()
	p.t.mu.Unlock()
	if sent {
		p.t.signal()
	}
}

// settle reports messages that the peer has taken as sent, once the writer has let go of them. It reports
// whether there were any. The lock is held.
func (p *peer) settle() (any bool) {
	if p.writing {
		return false // flush will
	}
	for p.acked < min(p.seen, p.paying) {
		p.acked++
		p.credit += p.out(p.acked).cost
		if !p.t.closed {
			p.t.inbox.push(note{kind: shuffle.EventSent, peer: p.rank, number: p.acked})
		}
		any = true
	}
	if any {
		wake(p.work) // there is credit
	}
	return any
}
