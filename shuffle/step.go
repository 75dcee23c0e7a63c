package shuffle

import (
	"fmt"
	"slices"

	"github.com/dovetail-dedup/dovetail/mem"
)

// step drives the machine with one event and does what it asks. The lock is held.
func (s *Shuffler) step(ev event) error {
	queued := s.m.outgoing()
	acts, err := s.m.Step(ev)
	if err != nil {
		return err
	}
	for s.perform(acts) {
		acts, _ = s.m.Step(s.nextPlaced())
	}
	if s.m.outgoing() < queued || s.err != nil {
		s.room.fire()
	}
	s.recharge()
	return nil
}

// nextPlaced turns credit that is due into an event.
func (s *Shuffler) nextPlaced() event {
	for p, cost := range s.placed {
		if cost > 0 {
			s.placed[p] = 0
			return event{kind: evPlaced, peer: p, cost: cost}
		}
	}
	return event{}
}

// perform does what the machine asks and reports whether credit is due to a peer.
func (s *Shuffler) perform(acts []action) (due bool) {
	for i := range acts {
		a := &acts[i]
		switch a.kind {
		case actSend:
			s.send(a.peer, &a.msg)
		case actKeep:
			s.keep(a.item)
		case actDrop:
			if a.arrived {
				s.placed[a.peer] += a.item.cost()
			}
			s.stats.Dropped.add(a.item.size)
			s.free(a.item)
		case actLoad:
			s.startLoad(a.peer)
		case actComplete:
			at, _ := slices.BinarySearch(s.order, a.part)
			s.order = slices.Insert(s.order, at, a.part)
			s.news.fire()
		case actDone:
			s.isDone = true
			s.markDone()
		case actPoisoned:
			s.err = a.err
			s.cancel(a.err)
			s.markDone()
		}
	}
	return slices.ContainsFunc(s.placed, func(n uint64) bool { return n > 0 })
}

// markDone wakes everybody.
func (s *Shuffler) markDone() {
	select {
	case <-s.done:
	default:
		close(s.done)
	}
	s.news.fire()
	s.room.fire()
}

// keep accounts for a chunk that now belongs to a local partition.
func (s *Shuffler) keep(it *item) {
	fromPeer := it.source != s.comm.rank
	s.enter(it)
	if it.pooled {
		it.owed = true
		s.spiller.pooled = append(s.spiller.pooled, it)
		s.startSpiller()
		return
	}
	s.hold(it)
	if !fromPeer {
		return
	}
	if s.overLimit() {
		s.owed[it.source] += it.cost()
		s.startSpiller()
		return
	}
	s.placed[it.source] += it.cost()
}

// hold counts an item's data as held in memory by this shuffler.
func (s *Shuffler) hold(it *item) {
	if it.data == nil || it.held {
		return
	}
	it.held = true
	s.held += it.size
	if it.size < tinyChunk {
		s.tiny++
	}
	if it.fresh {
		s.metas += int64(it.metaLen)
	}
	if i, ok := s.m.local[it.part]; ok {
		s.parts[i].held += it.size
	}
}

// unhold is the opposite of hold.
func (s *Shuffler) unhold(it *item) {
	if !it.held {
		return
	}
	it.held = false
	s.held -= it.size
	if it.size < tinyChunk {
		s.tiny--
	}
	if it.fresh {
		s.metas -= int64(it.metaLen)
	}
	if i, ok := s.m.local[it.part]; ok {
		s.parts[i].held -= it.size
	}
}

// free lets go of an item's data, wherever it is. What is being written or read is left to whoever does it.
func (s *Shuffler) free(it *item) {
	was := it.place
	it.place = taken
	s.unhold(it)
	s.leave(it)
	switch was {
	case inMemory, spilling:
		it.data.Release()
		it.data = nil
		s.leavePool(it)
	case onDisk:
		if !it.loading {
			s.store.free(it.ref)
		}
	}
}

// leavePool returns the credit that is owed for an item because it was in the receive pool.
func (s *Shuffler) leavePool(it *item) {
	it.pooled = false
	if it.owed {
		it.owed = false
		s.placed[it.source] += it.cost()
	}
}

// overLimit reports whether more is in memory than this shuffler may keep. The lock is held.
func (s *Shuffler) overLimit() bool {
	limit := s.opts.SpillMemoryLimit
	return limit > 0 && s.held > limit || s.heavy()
}

// settleOwed returns withheld credit once memory is within the limit again, or by force when nothing more
// can be spilled.
func (s *Shuffler) settleOwed(force bool) {
	if !force && s.overLimit() {
		return
	}
	for p, cost := range s.owed {
		s.placed[p] += cost
		s.owed[p] = 0
	}
}

// returnCredit tells the machine about credit that is due. The lock is held.
func (s *Shuffler) returnCredit() {
	for ev := s.nextPlaced(); ev.kind != 0; ev = s.nextPlaced() {
		_ = s.step(ev)
	}
}

// send encodes a message and hands it to the communicator.
func (s *Shuffler) send(p int, msg *outMessage) {
	o := outgoingPool.Get().(*outgoing)
	o.op, o.peer, o.kind = s, p, msg.kind
	b := append(o.header[:0], zeroPrefix[:]...)
	count := 0
	switch msg.kind {
	case msgHello:
		b = appendHello(b, &msg.hello)
	case msgGrant, msgWant, msgSkip, msgFinish:
		b = appendValue(b, msg.value)
		if msg.kind == msgWant {
			s.stats.Wants++
		}
	case msgCommit, msgRetract:
		b = appendCommit(b, &msg.commit)
		count = len(msg.commit.lines)
	case msgPoison:
		b = appendPoison(b, &msg.poison)
	case msgData:
		count = len(msg.items)
		for _, it := range msg.items {
			b = appendChunkHeader(b, &it.chunkHeader)
			b = append(b, it.meta...)
			s.unhold(it)
			s.leave(it)
			if it.data != nil {
				o.payload = append(o.payload, it.data)
				it.data = nil
			}
			s.stats.Sent.add(it.size)
		}
	}
	o.header = b
	finishMessage(b, &prefix{
		opKey: s.key, kind: msg.kind, source: s.comm.rank, dest: p, seq: msg.seq, count: count,
	})
	s.stats.Messages++
	s.comm.enqueue(o)
}

var zeroPrefix [prefixSize]byte

// sent is called by the communicator when the transport is done with a message.
func (s *Shuffler) sent(p int, kind msgKind) {
	if !kind.mustArrive() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.step(event{kind: evSent, peer: p, sent: kind})
}

// linkDown is called by the communicator when a peer is lost.
func (s *Shuffler) linkDown(p int, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.step(event{kind: evLinkDown, peer: p, err: cause})
}

// deliver is called by the communicator with a message of this operation. It takes ownership of the
// payload; msg is room to decode into.
func (s *Shuffler) deliver(msg *message, p prefix, body []byte, payload []*mem.Buffer) {
	ev := s.decoded(msg, p, body, payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		for _, it := range msg.items {
			it.data.Release()
		}
		return
	}
	if ev.kind == evMessage && p.kind == msgData {
		for _, it := range msg.items {
			s.stats.Received.add(it.size)
		}
	}
	_ = s.step(ev)
	if len(msg.items) > 0 {
		s.spillable()
	}
}

// decoded turns a message into an event: evMessage, or evAbort if it makes no sense. It needs no lock.
// Whatever is in payload and not in an item of msg is released.
func (s *Shuffler) decoded(msg *message, p prefix, body []byte, payload []*mem.Buffer) event {
	clear(msg.items)
	*msg = message{prefix: p, items: msg.items[:0]}
	var err error
	switch p.kind {
	case msgHello:
		msg.hello, err = decodeHello(body)
	case msgGrant, msgWant, msgSkip, msgFinish:
		msg.value, err = decodeValue(body)
	case msgCommit, msgRetract:
		msg.commit, err = decodeCommit(body, p.count)
	case msgPoison:
		msg.poison, err = decodePoison(body)
	case msgData:
		payload, err = s.decodeChunks(msg, body, payload)
	}
	if err == nil && len(payload) > 0 {
		err = corrupt("a payload that no chunk claims")
	}
	for _, b := range payload {
		b.Release()
	}
	if err == nil {
		return event{kind: evMessage, peer: p.source, msg: msg}
	}
	for _, it := range msg.items {
		it.data.Release()
	}
	clear(msg.items)
	msg.items = msg.items[:0]
	return event{kind: evAbort, err: fmt.Errorf("%s from rank %d to rank %d: %w", p.kind, p.source, s.comm.rank, err)}
}

// decodeChunks reads the chunks of a data message and verifies their checksums. It returns the payload that
// it did not use.
func (s *Shuffler) decodeChunks(msg *message, body []byte, payload []*mem.Buffer) ([]*mem.Buffer, error) {
	var last []byte
	for range msg.count {
		it := new(item)
		if err := decodeChunkHeader(body, &it.chunkHeader); err != nil {
			return payload, err
		}
		body = body[ChunkHeaderSize:]
		if it.metaLen > len(body) || it.size > 0 && (len(payload) == 0 || int64(payload[0].Len()) != it.size) {
			return payload, corrupt("task %d, partition %d: data or meta is cut off", it.task, it.part)
		}
		meta := body[:it.metaLen]
		body = body[it.metaLen:]
		if it.size > 0 {
			it.data, payload = payload[0], payload[1:]
		}
		msg.items = append(msg.items, it)
		var data []byte
		if it.data != nil {
			data = it.data.Bytes()
		}
		if sum := chunkSum(data, meta); sum != it.checksum {
			return payload, corrupt("task %d, attempt %d, partition %d, chunk %d: checksum is %#08x, should be %#08x",
				it.task, it.attempt, it.part, it.seq, sum, it.checksum)
		}
		it.summed = true
		// Chunks of one task mostly share their meta; one copy then serves them all.
		if last == nil || string(last) != string(meta) {
			last = slices.Clone(meta)
			it.fresh = true
		}
		it.meta = last
		if it.data != nil {
			s.pool.received(it)
		}
	}
	if len(body) > 0 {
		return payload, corrupt("%d bytes behind the last chunk", len(body))
	}
	return payload, nil
}
