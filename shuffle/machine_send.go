package shuffle

import (
	"cmp"
	"fmt"
	"slices"
)

// maxUnderWay is the number of data messages that a machine has under way to one peer. More than one keeps
// the link busy; what is not under way can still be spilled.
const maxUnderWay = 8

// fullHeader is the length at which the header of a data message is full. It fits several largest metas and
// keeps the buffers that communicators and transports reuse small.
const fullHeader = 16 << 10

// peer is the state of the traffic with one rank.
type peer struct {
	owns bool // it owns partitions
	down bool

	// To the peer.
	greeted  bool // its hello has arrived
	queue    itemQueue
	deferred []outMessage // control messages that wait for its hello
	seq      uint64       // messages sent
	spent    uint64       // cost of all data sent
	credit   uint64       // the total that it allows
	share    uint64       // what it gives unasked
	asked    uint64       // the total that was asked for
	underWay int          // data messages that the transport has
	pending  int          // messages that the transport has and that must arrive
	tasks    uint64       // commits sent to it

	// From the peer.
	seen     seqSet
	arrived  uint64 // cost of all data received
	given    uint64 // the total that it may send
	returned uint64 // cost of all data placed
	wish     uint64 // the total that it asked for
	waiting  bool   // it is in machine.wants
	finished bool
	commits  uint64 // tasks whose lines are all here
	expect   uint64 // commits that its finish announced
	known    bool
}

// itemQueue is a first-in-first-out queue.
type itemQueue struct {
	items []*item
	head  int
	cost  uint64
}

func (q *itemQueue) len() int         { return len(q.items) - q.head }
func (q *itemQueue) at(i int) *item   { return q.items[q.head+i] }
func (q *itemQueue) waiting() []*item { return q.items[q.head:] }

func (q *itemQueue) push(it *item) {
	if q.head > 64 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, it)
	q.cost += it.cost()
}

func (q *itemQueue) pop() *item {
	it := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	q.cost -= it.cost()
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return it
}

// take empties the queue.
func (q *itemQueue) take() []*item {
	items := q.waiting()
	*q = itemQueue{}
	return items
}

// removeIf removes the items for which f is true and passes them to it once.
func (q *itemQueue) removeIf(f func(*item) bool) {
	keep := q.items[:0]
	for _, it := range q.waiting() {
		if f(it) {
			q.cost -= it.cost()
		} else {
			keep = append(keep, it)
		}
	}
	clear(q.items[len(keep):])
	q.items, q.head = keep, 0
}

func (m *machine) start() {
	if m.started {
		return
	}
	m.started = true
	h := hello{
		ranks: m.cfg.size, parts: len(m.cfg.owners), owners: ownersFingerprint(m.cfg.owners), maxChunk: m.cfg.maxChunk,
	}
	for p := range m.peers {
		if p == m.cfg.rank {
			continue
		}
		if len(m.parts) > 0 {
			m.peers[p].given = m.share
			m.outstanding += m.share
		}
		h.granted = m.peers[p].given
		m.send(p, outMessage{kind: msgHello, hello: h})
	}
}

func (m *machine) begin(id attemptID) error {
	if m.finished {
		return fmt.Errorf("shuffle: task %d begun: %w", id.task, ErrFinished)
	}
	if m.attempts[id] != nil {
		return fmt.Errorf("shuffle: task %d, attempt %d begun twice: %w", id.task, id.attempt, ErrTaskState)
	}
	m.attempts[id] = &outAttempt{lines: make(map[int]Totals)}
	m.open++
	return nil
}

// opened returns the attempt if it may still be used.
func (m *machine) opened(id attemptID) (*outAttempt, error) {
	if m.finished {
		return nil, fmt.Errorf("shuffle: task %d, attempt %d: %w", id.task, id.attempt, ErrFinished)
	}
	if a := m.attempts[id]; a != nil && a.lines != nil {
		return a, nil
	}
	return nil, fmt.Errorf("shuffle: task %d, attempt %d: %w", id.task, id.attempt, ErrTaskState)
}

func (m *machine) insert(it *item) error {
	a, err := m.opened(attemptID{it.task, it.attempt})
	if err != nil {
		return err
	}
	it.seq = a.seq
	a.seq++
	old, some := a.lines[it.part]
	if !some {
		m.details++
	}
	a.lines[it.part] = old.Add(Totals{1, it.rows, it.hash})
	dest := int(m.cfg.owners[it.part])
	if dest == m.cfg.rank {
		m.accept(it)
		return nil
	}
	m.peers[dest].queue.push(it)
	m.queued += it.size
	m.pump(dest)
	return nil
}

// commit makes an attempt count: its lines go to the ranks that own the partitions.
func (m *machine) commit(id attemptID) error {
	a, err := m.opened(id)
	if err != nil {
		return err
	}
	if other, ok := m.committed[id.task]; ok {
		return fmt.Errorf("shuffle: task %d, attempt %d: attempt %d was committed: %w",
			id.task, id.attempt, other, ErrTaskState)
	}
	m.committed[id.task] = id.attempt
	m.ledger.Tasks++
	m.open--
	byRank := make(map[int][]line)
	for part, t := range a.lines {
		dest := int(m.cfg.owners[part])
		byRank[dest] = append(byRank[dest], line{part, t})
		m.ledger.SentTo[dest] = m.ledger.SentTo[dest].Add(t)
	}
	m.details -= len(a.lines)
	a.lines = nil
	for dest := range m.peers {
		lines := byRank[dest]
		if len(lines) == 0 {
			continue
		}
		slices.SortFunc(lines, func(x, y line) int { return cmp.Compare(x.part, y.part) })
		m.peers[dest].tasks++
		c := commit{task: id.task, attempt: id.attempt, total: len(lines)}
		for part := range slices.Chunk(lines, maxLines) {
			c.lines = part
			if dest == m.cfg.rank {
				m.commitFrom(dest, &c)
			} else {
				m.control(dest, outMessage{kind: msgCommit, commit: c})
			}
		}
	}
	return nil
}

// retract makes an attempt count for nothing: what is not sent is dropped, and the ranks that may have
// received something are told.
func (m *machine) retract(id attemptID) error {
	a, err := m.opened(id)
	if err != nil {
		return err
	}
	told := make([]bool, len(m.peers))
	for part := range a.lines {
		told[m.cfg.owners[part]] = true
	}
	m.details -= len(a.lines)
	a.lines = nil
	m.open--
	c := commit{task: id.task, attempt: id.attempt}
	for dest := range m.peers {
		switch {
		case !told[dest]:
		case dest == m.cfg.rank:
			m.retractFrom(dest, &c)
		default:
			pe := &m.peers[dest]
			pe.queue.removeIf(func(it *item) bool {
				if it.task != id.task || it.attempt != id.attempt {
					return false
				}
				if it.place != onDisk {
					m.queued -= it.size
				}
				m.drop(it, false)
				return true
			})
			m.control(dest, outMessage{kind: msgRetract, commit: c})
			m.pump(dest)
			m.giveBack(dest)
		}
	}
	return nil
}

// finish ends inserting on this rank.
func (m *machine) finish() error {
	if m.finished {
		return fmt.Errorf("shuffle: InsertFinished: %w", ErrFinished)
	}
	if m.open > 0 {
		for id, a := range m.attempts {
			if a.lines != nil {
				return fmt.Errorf("shuffle: InsertFinished: %d attempts are neither committed nor aborted, "+
					"for instance attempt %d of task %d: %w", m.open, id.attempt, id.task, ErrTaskState)
			}
		}
	}
	m.finished = true
	clear(m.attempts)
	for p := range m.peers {
		pe := &m.peers[p]
		if p == m.cfg.rank {
			m.finishFrom(p, pe.tasks)
			continue
		}
		if !pe.owns {
			continue
		}
		m.control(p, outMessage{kind: msgFinish, value: pe.tasks})
		// From here the order is ours to choose: partition by partition, so that the receiver completes
		// them one after another and can start on the first while the rest travels.
		slices.SortStableFunc(pe.queue.waiting(), func(x, y *item) int { return cmp.Compare(x.part, y.part) })
		m.pump(p)
	}
	return nil
}

// control sends a control message, now or after the peer's hello.
func (m *machine) control(p int, msg outMessage) {
	if !m.peers[p].greeted {
		m.peers[p].deferred = append(m.peers[p].deferred, msg)
		return
	}
	m.send(p, msg)
}

func (m *machine) send(p int, msg outMessage) {
	pe := &m.peers[p]
	if pe.down {
		return
	}
	pe.seq++
	msg.seq = pe.seq
	if msg.kind.mustArrive() {
		pe.pending++
	}
	m.act(action{kind: actSend, peer: p, msg: msg})
}

// mustArrive tells messages without which the receiver cannot complete from those that only help the
// sender or the one who is late.
func (k msgKind) mustArrive() bool { return k == msgData || k == msgCommit || k == msgFinish }

func (m *machine) sent(p int, kind msgKind) {
	pe := &m.peers[p]
	if kind.mustArrive() {
		pe.pending--
	}
	if kind == msgData {
		pe.underWay--
		m.pump(p)
	}
}

func (m *machine) helloFrom(p int, h *hello) {
	pe := &m.peers[p]
	if pe.greeted {
		m.fail(ErrProtocol, "rank %d greeted twice", p)
		return
	}
	disagree := func(what string, theirs, ours int64) {
		m.fail(ErrMismatch, "rank %d has %s %d, rank %d has %d", p, what, theirs, m.cfg.rank, ours)
	}
	switch {
	case h.ranks != m.cfg.size:
		disagree("number of ranks", int64(h.ranks), int64(m.cfg.size))
	case h.parts != len(m.cfg.owners):
		disagree("TotalParts", int64(h.parts), int64(len(m.cfg.owners)))
	case h.owners != ownersFingerprint(m.cfg.owners):
		m.fail(ErrMismatch, "rank %d and rank %d have different Owner functions", p, m.cfg.rank)
	case h.maxChunk != m.cfg.maxChunk:
		disagree("MaxChunk", h.maxChunk, m.cfg.maxChunk)
	}
	if m.err != nil {
		return
	}
	pe.greeted = true
	pe.share = h.granted
	pe.credit = max(pe.credit, h.granted)
	for _, msg := range pe.deferred {
		m.send(p, msg)
	}
	pe.deferred = nil
	m.pump(p)
}

func (m *machine) granted(p int, total uint64) {
	pe := &m.peers[p]
	if total > pe.credit {
		pe.credit = total
		m.pump(p)
		m.giveBack(p)
	}
}

// giveBack returns credit that was asked for and is not needed any more, because the chunks were
// retracted: it would be missing to others.
func (m *machine) giveBack(p int) {
	pe := &m.peers[p]
	m.keepCredit(p, max(pe.queue.cost, pe.share))
}

// keepCredit gives back all unused credit but n.
func (m *machine) keepCredit(p int, n uint64) {
	pe := &m.peers[p]
	if unused := pe.credit - pe.spent; pe.greeted && unused > n {
		pe.spent += unused - n
		m.send(p, outMessage{kind: msgSkip, value: unused - n})
	}
}

// pump sends what may be sent to a peer: as many chunks per message as fit, and a message that is not full
// only if nothing is under way. Waiting for company then costs no time, and no clock is needed.
func (m *machine) pump(p int) {
	pe := &m.peers[p]
	for pe.greeted && !pe.down && pe.underWay < maxUnderWay && pe.queue.len() > 0 {
		room := pe.credit - pe.spent
		head := pe.queue.at(0)
		if head.cost() > room {
			m.ask(p)
			return
		}
		if head.place == onDisk {
			m.act(action{kind: actLoad, peer: p})
			return
		}
		n, full := m.fit(pe, room)
		if !full && pe.underWay > 0 {
			return
		}
		from := len(m.items)
		for range n {
			it := pe.queue.pop()
			it.place = taken
			m.queued -= it.size
			pe.spent += it.cost()
			m.items = append(m.items, it)
		}
		pe.underWay++
		m.send(p, outMessage{kind: msgData, items: m.items[from:len(m.items):len(m.items)]})
	}
}

// fit returns how many chunks at the head of the queue make up the next message, and whether waiting could
// not add to it.
func (m *machine) fit(pe *peer, room uint64) (n int, full bool) {
	var cost uint64
	var size int64
	header := prefixSize
	for n < pe.queue.len() {
		it := pe.queue.at(n)
		cost += it.cost()
		size += it.size
		header += ChunkHeaderSize + it.metaLen
		if n > 0 && (cost > room || it.place == onDisk || size > m.cfg.coalesce || header > fullHeader || n == MaxPieces) {
			return n, true
		}
		n++
	}
	return n, size >= m.cfg.coalesce
}

// loadable returns the chunks at the head of a peer's queue that are on disk and would travel in one
// message.
func (m *machine) loadable(p int) []*item {
	pe := &m.peers[p]
	room := pe.credit - pe.spent
	var cost uint64
	var size int64
	for n := range pe.queue.len() {
		it := pe.queue.at(n)
		cost += it.cost()
		size += it.size
		if it.place != onDisk || cost > room || n > 0 && size > m.cfg.coalesce {
			return pe.queue.waiting()[:n]
		}
	}
	return pe.queue.waiting()
}

// ask tells a peer how much this rank would like to send: the next chunk, or a share's worth of what is
// queued, but no more than one largest chunk at a time, because the receiver grants a request as a whole.
// Whoever asks holds no more than its share: if ranks could keep part of what they need and wait for the
// rest, they could wait for each other. (They can have part of it because the head of the queue changes when
// chunks are retracted or sorted.)
func (m *machine) ask(p int) {
	pe := &m.peers[p]
	if pe.asked > pe.credit {
		return // one request at a time: the answer to this one may do, or show that more is needed
	}
	m.keepCredit(p, pe.share)
	want := pe.spent + max(pe.queue.at(0).cost(), min(pe.queue.cost, pe.share))
	pe.asked = min(want, pe.credit+maxCost(m.cfg.maxChunk))
	m.send(p, outMessage{kind: msgWant, value: pe.asked})
}
