package shuffle

import (
	"cmp"
	"slices"
)

// data takes in the chunks of one message.
func (m *machine) data(from int, items []*item) {
	pe := &m.peers[from]
	for i, it := range items {
		pe.arrived += it.cost()
		switch _, here := m.local[it.part]; {
		case pe.arrived > pe.given:
			m.fail(ErrProtocol, "rank %d sent rank %d %d bytes beyond its credit", from, m.cfg.rank, pe.arrived-pe.given)
		case it.opKey != m.cfg.key || it.source != from:
			m.fail(ErrProtocol, "chunk of task %d from rank %d claims another origin", it.task, from)
		case !here:
			m.fail(ErrProtocol, "rank %d sent partition %d, which rank %d does not own", from, it.part, m.cfg.rank)
		default:
			m.accept(it)
		}
		if m.err != nil {
			for _, rest := range items[i:] {
				if rest != it || !m.dropped(it) {
					m.drop(rest, true)
				}
			}
			return
		}
	}
}

// dropped reports whether an action of this step drops the item.
func (m *machine) dropped(it *item) bool {
	return slices.ContainsFunc(m.acts, func(a action) bool { return a.kind == actDrop && a.item == it })
}

func (m *machine) task(id uint64) *inTask {
	t := m.tasks[id]
	if t == nil {
		t = &inTask{got: make(map[attemptKey]map[int]Totals)}
		m.tasks[id] = t
	}
	return t
}

// accept adds a chunk to its partition, or drops it if its attempt does not count.
func (m *machine) accept(it *item) {
	t := m.task(it.task)
	key := attemptKey{it.attempt, it.source}
	p := &m.parts[m.local[it.part]]
	if t.committed && key == t.key && t.got == nil {
		m.drop(it, it.source != m.cfg.rank)
		m.fail(ErrLedger, "from rank %d to rank %d, task %d, partition %d: a chunk more than was committed",
			it.source, m.cfg.rank, it.task, it.part)
		return
	}
	if t.committed && key != t.key || slices.Contains(t.retracted, key) || !t.committed && p.complete {
		m.drop(it, it.source != m.cfg.rank)
		return
	}
	p.items = append(p.items, it)
	m.act(action{kind: actKeep, item: it, peer: it.source})
	got := t.got[key]
	if got == nil {
		got = make(map[int]Totals)
		t.got[key] = got
	}
	old, some := got[it.part]
	if !some {
		m.details++
	}
	got[it.part] = old.Add(Totals{1, it.rows, it.hash})
	if t.committed {
		m.settle(it.task, t, it.part)
	}
}

// commitFrom takes in ledger lines of a committed task.
func (m *machine) commitFrom(from int, c *commit) {
	if m.peers[from].known || len(c.lines) == 0 {
		m.fail(ErrProtocol, "rank %d sent rank %d a commit of task %d without lines or after its last",
			from, m.cfg.rank, c.task)
		return
	}
	t := m.task(c.task)
	key := attemptKey{c.attempt, from}
	if t.committed && t.key != key {
		m.fail(ErrProtocol, "task %d was committed twice: attempt %d by rank %d and attempt %d by rank %d",
			c.task, t.key.attempt, t.key.source, c.attempt, from)
		return
	}
	if !t.committed {
		t.committed, t.key, t.total, t.want = true, key, c.total, make(map[int]Totals)
		for other, got := range t.got {
			if other != key {
				m.forget(c.task, other, got)
				m.details -= len(got)
				delete(t.got, other)
			}
		}
	}
	t.lines += len(c.lines)
	if c.total != t.total || t.lines > t.total || slices.Contains(t.retracted, key) {
		m.fail(ErrProtocol, "rank %d sent contradictory commits of task %d to rank %d", from, c.task, m.cfg.rank)
		return
	}
	for _, l := range c.lines {
		i, here := m.local[l.part]
		if _, twice := t.want[l.part]; !here || twice {
			m.fail(ErrProtocol, "rank %d sent rank %d a wrong or second line for task %d, partition %d",
				from, m.cfg.rank, c.task, l.part)
			return
		}
		t.want[l.part] = l.Totals
		m.details++
		t.unsettled++
		m.parts[i].unsettled++
	}
	if t.lines == t.total {
		m.peers[from].commits++
	}
	for _, l := range c.lines {
		if _, some := t.got[key][l.part]; some {
			m.settle(c.task, t, l.part)
		}
	}
	m.settleTask(c.task, t)
	m.checkSource(from)
}

// settle compares a line with what has arrived, if both are there.
func (m *machine) settle(task uint64, t *inTask, part int) {
	got := t.got[t.key][part]
	want, ok := t.want[part]
	switch {
	case !ok && t.lines < t.total:
		return // the line may be in a message to come
	case !ok || got.Chunks > want.Chunks || got.Chunks == want.Chunks && got != want:
		m.fail(ErrLedger, "from rank %d to rank %d, task %d, partition %d: "+
			"committed %d rows in %d chunks with hash %016x%016x, received %d rows in %d chunks with hash %016x%016x",
			t.key.source, m.cfg.rank, task, part, want.Rows, want.Chunks, want.Hash.A, want.Hash.B,
			got.Rows, got.Chunks, got.Hash.A, got.Hash.B)
		return
	case got.Chunks < want.Chunks:
		return
	}
	t.unsettled--
	p := &m.parts[m.local[part]]
	p.unsettled--
	p.totals = p.totals.Add(got)
	m.ledger.ReceivedFrom[t.key.source] = m.ledger.ReceivedFrom[t.key.source].Add(got)
	m.settleTask(task, t)
	if p.unsettled == 0 && m.known == m.cfg.size {
		m.completePart(p)
	}
}

// settleTask forgets the details of a task of which everything has arrived, and looks for chunks without
// a line.
func (m *machine) settleTask(task uint64, t *inTask) {
	if m.err != nil || t.lines < t.total || t.unsettled > 0 || len(t.got) == 0 {
		return
	}
	if got := t.got[t.key]; len(got) > t.total {
		m.fail(ErrLedger, "from rank %d to rank %d, task %d: chunks of %d partitions arrived, %d were committed",
			t.key.source, m.cfg.rank, task, len(got), t.total)
		return
	}
	m.details -= len(t.got[t.key]) + len(t.want)
	t.got, t.want = nil, nil
}

// forget drops the chunks of an attempt that does not count.
func (m *machine) forget(task uint64, key attemptKey, got map[int]Totals) {
	for part := range got {
		p := &m.parts[m.local[part]]
		p.items = slices.DeleteFunc(p.items, func(it *item) bool {
			if it.task != task || it.attempt != key.attempt || it.source != key.source {
				return false
			}
			m.drop(it, false)
			return true
		})
	}
}

func (m *machine) retractFrom(from int, c *commit) {
	t := m.task(c.task)
	key := attemptKey{c.attempt, from}
	if t.committed && t.key == key {
		m.fail(ErrProtocol, "rank %d committed and retracted attempt %d of task %d", from, c.attempt, c.task)
		return
	}
	if t.committed {
		return // whatever arrives of another attempt is dropped anyway
	}
	t.retracted = append(t.retracted, key)
	m.forget(c.task, key, t.got[key])
	m.details -= len(t.got[key])
	delete(t.got, key)
}

func (m *machine) finishFrom(from int, tasks uint64) {
	pe := &m.peers[from]
	if pe.finished {
		m.fail(ErrProtocol, "rank %d finished twice", from)
		return
	}
	pe.finished, pe.expect = true, tasks
	m.checkSource(from)
}

// checkSource finds out whether everything that a source committed is known.
func (m *machine) checkSource(from int) {
	pe := &m.peers[from]
	if m.err != nil || pe.known || !pe.finished || pe.commits < pe.expect {
		return
	}
	if pe.commits > pe.expect {
		m.fail(ErrLedger, "rank %d committed %d tasks to rank %d and finished with %d",
			from, pe.commits, m.cfg.rank, pe.expect)
		return
	}
	pe.known = true
	m.known++
	if m.known < m.cfg.size {
		return
	}
	for i := range m.parts {
		if m.parts[i].unsettled == 0 {
			m.completePart(&m.parts[i])
		}
	}
}

// completePart hands a partition over to its consumers, without the chunks of attempts that nobody
// committed.
func (m *machine) completePart(p *partition) {
	p.complete = true
	m.complete++
	p.items = slices.DeleteFunc(p.items, func(it *item) bool {
		if m.tasks[it.task].committed {
			return false
		}
		m.drop(it, false)
		return true
	})
	m.act(action{kind: actComplete, part: p.id})
}

// compareItems is the order of extraction.
func compareItems(x, y *item) int {
	return cmp.Or(cmp.Compare(x.task, y.task), cmp.Compare(x.attempt, y.attempt), cmp.Compare(x.seq, y.seq))
}

// placed returns the credit for chunks that no longer occupy receiving memory.
func (m *machine) placed(p int, cost uint64) {
	m.peers[p].returned += cost
	m.outstanding -= cost
	if len(m.wants) == 0 {
		m.topUp(p)
		return
	}
	m.serveWants()
}

func (m *machine) wanted(p int, total uint64) {
	pe := &m.peers[p]
	if total <= pe.wish {
		return
	}
	if total > pe.given+maxCost(m.cfg.maxChunk) {
		m.fail(ErrProtocol, "rank %d asks rank %d for more credit than a chunk can need", p, m.cfg.rank)
		return
	}
	pe.wish = total
	if total > pe.given && !pe.waiting {
		pe.waiting = true
		m.wants = append(m.wants, p)
	}
	m.serveWants()
}

// serveWants grants requests in the order they came, each as a whole. The first in line always gets its
// turn: peers keep at most window bytes of credit unused (what they do not need beyond their share they
// give back, see giveBack), the pool is window plus one largest chunk, and no request is larger than a
// largest chunk. So it suffices that what is under way arrives and is placed.
func (m *machine) serveWants() {
	served := false
	for len(m.wants) > 0 {
		pe := &m.peers[m.wants[0]]
		if pe.wish > pe.given {
			need := pe.wish - pe.given
			if m.outstanding+need > receivePool(m.cfg.window, m.cfg.maxChunk) {
				return
			}
			m.give(m.wants[0], need)
		}
		pe.waiting = false
		m.wants = m.wants[1:]
		served = true
	}
	if served {
		for p := range m.peers {
			m.topUp(p)
		}
	}
}

// receivePool is the credit that may be out in total, and so the memory that received chunks can need
// before they are placed.
func receivePool(window, maxChunk int64) uint64 { return uint64(window) + maxCost(maxChunk) }

// topUp renews a peer's share before it is used up, so that a steady stream rarely has to ask. While others
// use what they asked for there may be no room; then the peer asks in its turn.
func (m *machine) topUp(p int) {
	pe := &m.peers[p]
	if p == m.cfg.rank || m.share == 0 || pe.down || m.complete == len(m.parts) || pe.given-pe.returned > m.share/2 {
		return
	}
	if n := pe.returned + m.share - pe.given; m.outstanding+n <= receivePool(m.cfg.window, m.cfg.maxChunk) {
		m.give(p, n)
	}
}

// skipped takes back credit that a peer has no use for.
func (m *machine) skipped(p int, cost uint64) {
	pe := &m.peers[p]
	if cost > pe.given-pe.arrived {
		m.fail(ErrProtocol, "rank %d gave back credit that rank %d had not given", p, m.cfg.rank)
		return
	}
	pe.arrived += cost
	m.placed(p, cost)
}

func (m *machine) give(p int, n uint64) {
	pe := &m.peers[p]
	pe.given += n
	m.outstanding += n
	m.send(p, outMessage{kind: msgGrant, value: pe.given})
}
