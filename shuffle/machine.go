package shuffle

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dovetail-dedup/dovetail/mem"
)

// The protocol of one operation on one rank, as a state machine: events go in, actions come out, and
// nothing in it starts a goroutine, reads a clock or does I/O. The [Shuffler] drives it in production; a
// simulator can drive any number of them under one seed.
//
// # What a rank tells a peer
//
// hello first: the options that must agree, and the first credit. Everything else waits for the peer's
// hello, so a rank that has not started the operation yet receives nothing that needs memory. Then data,
// within the credit; for every committed task one commit with a ledger line per partition of that peer;
// retract for an attempt that does not count; and, once, finish with the number of commits. Control
// messages do not wait behind data: a receiver knows early what to expect, and each partition is complete
// when its own chunks are there.
//
// # Why order and repetition do not matter
//
// Every message carries a number; a number seen before is ignored. Whatever remains commutes: credit and
// wants are running totals of which the largest counts, chunks are added to sums per (task, attempt,
// partition), commits and retracts say which sums count, and a late retract or chunk finds the task decided.
// So a transport that repeats or reorders does no harm. One that loses messages must say so (evLinkDown),
// which poisons the operation on both sides.
//
// # When a partition is complete
//
// A source is known when its finish and as many commits as the finish says have arrived. A line is settled
// when as many chunks of its task, attempt and partition have arrived as it says, and then rows and hash
// must agree. A partition is complete when all sources are known and all its lines are settled. Chunks of
// attempts that were not committed are dropped at the latest then.
type machine struct {
	cfg   machineConfig
	peers []peer // by rank; the own entry counts what the rank sends itself

	// Inserting.
	attempts  map[attemptID]*outAttempt
	committed map[uint64]uint32 // task -> the attempt that this rank committed
	open      int               // attempts neither committed nor retracted
	finished  bool              // evFinish was accepted
	queued    int64             // bytes of data in memory in all queues
	details   int               // ledger lines that are kept of attempts and tasks that are not settled

	// Receiving.
	parts    []partition // the local ones, ascending
	local    map[int]int // partition -> index in parts
	tasks    map[uint64]*inTask
	known    int // sources known, see above
	complete int // partitions complete

	// Credit given to peers.
	share       uint64 // what a peer may have under way unasked
	outstanding uint64 // given and not yet given back, over all peers
	wants       []int  // peers whose want cannot be met yet, oldest first

	started bool
	done    bool
	err     error // poisoned
	ledger  Ledger

	acts  []action
	items []*item // backing store of actions' items, reused like acts
}

// machineConfig is what a machine must know.
type machineConfig struct {
	key      opKey
	rank     int
	size     int
	owners   []int32 // by partition
	maxChunk int64
	window   int64 // credit that peers hold unasked, all together
	coalesce int64 // a message is full at this many bytes of data
}

type attemptID struct {
	task    uint64
	attempt uint32
}

// outAttempt is an attempt that inserts on this rank.
type outAttempt struct {
	seq   uint64
	lines map[int]Totals // by partition; nil once committed or retracted
}

// attemptKey names an attempt of a known task at a receiver. The source is part of it: two ranks may
// believe that they run the same attempt.
type attemptKey struct {
	attempt uint32
	source  int
}

// inTask is what a receiver knows about a task.
type inTask struct {
	got       map[attemptKey]map[int]Totals // received so far, by partition; nil once all is settled
	retracted []attemptKey
	committed bool
	key       attemptKey     // the attempt that counts, if committed
	total     int            // lines announced
	lines     int            // lines received
	want      map[int]Totals // lines received, by partition
	unsettled int            // of those
}

// partition is a local partition.
type partition struct {
	id        int
	items     []*item
	unsettled int
	complete  bool
	totals    Totals
}

// eventKind says what happened.
type eventKind uint8

const (
	evStart    eventKind = iota + 1
	evBegin              // task, attempt: start to insert
	evInsert             // item
	evCommit             // task, attempt
	evRetract            // task, attempt
	evFinish             // no more inserts on this rank
	evMessage            // msg, from peer
	evSent               // peer, sent: the transport is done with a message
	evPlaced             // peer, cost: received chunks no longer occupy memory set aside for receiving
	evReady              // peer: chunks at the head of its queue are in memory (again)
	evLinkDown           // peer, err
	evAbort              // err
)

// event is the input of Step. Which fields count depends on the kind.
type event struct {
	kind    eventKind
	peer    int
	task    uint64
	attempt uint32
	item    *item
	msg     *message
	sent    msgKind
	cost    uint64
	err     error
}

// actionKind says what the machine wants done.
type actionKind uint8

const (
	actSend     actionKind = iota + 1 // msg to peer
	actKeep                           // item arrived and stays in its partition; evPlaced is owed if it came from a peer
	actDrop                           // item is not needed: free it; evPlaced is owed if it came from a peer just now
	actLoad                           // the head of peer's queue can be sent but is on disk
	actComplete                       // partition part is complete
	actDone                           // everything is complete, here and to the peers
	actPoisoned                       // err: the operation failed
)

// action is the output of Step. It and the slices in it are valid until the next Step.
type action struct {
	kind actionKind
	peer int
	part int
	item *item
	msg  outMessage
	err  error
	// arrived marks a drop of a chunk that came with the message being processed.
	arrived bool
}

// outMessage is a message to send. Which fields count depends on the kind.
type outMessage struct {
	kind   msgKind
	seq    uint64
	hello  hello
	value  uint64
	commit commit
	items  []*item
	poison poison
}

// message is a received message, decoded. Data items own their buffers.
type message struct {
	prefix
	hello  hello
	value  uint64
	commit commit
	items  []*item
	poison poison
}

// item is a chunk inside the shuffle. The machine reads the header and the place; the rest is the runtime's.
type item struct {
	chunkHeader
	meta    []byte
	data    *mem.Buffer
	place   place
	summed  bool // checksum is valid
	pooled  bool // data lies in memory set aside for receiving, not yet charged
	owed    bool // credit is due to the source once the data has left that memory
	held    bool // data is counted in Shuffler.held
	loading bool // being read back; whoever reads frees ref
	entered bool // counted in Shuffler.entries
	fresh   bool // meta is not shared with other items, and counted in Shuffler.metas while in memory
	inRun   bool // a run has taken its place
	ref     diskRef
}

// place says where an item's data is.
type place uint8

const (
	inMemory place = iota
	spilling       // being written; still in memory too
	onDisk
	taken // by a consumer, a message or the dustbin
)

// cost is what an item takes of the credit.
func (it *item) cost() uint64 { return uint64(ChunkHeaderSize + it.metaLen + int(it.size)) }

// maxCost bounds the cost of a chunk of at most maxChunk bytes.
func maxCost(maxChunk int64) uint64 { return uint64(maxChunk) + ChunkHeaderSize + MaxMeta }

// implicitTask is the task of [Shuffler.Insert]. Tasks of programs have the highest bit clear.
func implicitTask(rank int) uint64 { return 1<<63 | uint64(rank) }

func newMachine(cfg machineConfig) *machine {
	m := &machine{
		cfg:       cfg,
		peers:     make([]peer, cfg.size),
		attempts:  make(map[attemptID]*outAttempt),
		committed: make(map[uint64]uint32),
		local:     make(map[int]int),
		tasks:     make(map[uint64]*inTask),
	}
	m.ledger.SentTo = make([]Totals, cfg.size)
	m.ledger.ReceivedFrom = make([]Totals, cfg.size)
	for p, owner := range cfg.owners {
		m.peers[owner].owns = true
		if int(owner) == cfg.rank {
			m.local[p] = len(m.parts)
			m.parts = append(m.parts, partition{id: p})
		}
	}
	if cfg.size > 1 {
		m.share = uint64(cfg.window) / uint64(cfg.size-1)
	}
	if m.share < 4<<10 {
		m.share = 0 // not worth a message; such a peer asks
	}
	return m
}

// Step changes the state by one event and returns what is to be done about it. An error means that the
// event was a misuse by the caller and changed nothing; failures of the operation are actPoisoned.
func (m *machine) Step(ev event) ([]action, error) {
	m.acts, m.items = m.acts[:0], m.items[:0]
	if err := m.step(&ev); err != nil {
		return nil, err
	}
	m.checkDone()
	return m.acts, nil
}

func (m *machine) step(ev *event) error {
	if m.err != nil {
		return m.stepPoisoned(ev)
	}
	switch ev.kind {
	case evStart:
		m.start()
	case evBegin:
		return m.begin(attemptID{ev.task, ev.attempt})
	case evInsert:
		return m.insert(ev.item)
	case evCommit:
		return m.commit(attemptID{ev.task, ev.attempt})
	case evRetract:
		return m.retract(attemptID{ev.task, ev.attempt})
	case evFinish:
		return m.finish()
	case evMessage:
		m.message(ev.peer, ev.msg)
	case evSent:
		m.sent(ev.peer, ev.sent)
	case evPlaced:
		m.placed(ev.peer, ev.cost)
	case evReady:
		m.pump(ev.peer)
	case evLinkDown:
		m.linkDown(ev.peer, ev.err)
	case evAbort:
		m.poison(m.cfg.rank, ev.err)
	}
	return nil
}

// stepPoisoned handles events after the end: callers get the reason, what arrives is dropped.
func (m *machine) stepPoisoned(ev *event) error {
	switch ev.kind {
	case evBegin, evInsert, evCommit, evRetract, evFinish:
		return m.err
	case evMessage:
		for _, it := range ev.msg.items {
			m.drop(it, true)
		}
	}
	return nil
}

func (m *machine) act(a action) { m.acts = append(m.acts, a) }

func (m *machine) drop(it *item, arrived bool) {
	m.act(action{kind: actDrop, item: it, peer: it.source, arrived: arrived})
}

// poison ends the operation with a reason found at rank, tells the peers, and lets go of every chunk. Every
// rank passes the news on once, so it reaches those whose link to where it happened is the one that broke.
func (m *machine) poison(rank int, cause error) {
	if m.err != nil {
		return
	}
	m.err = &AbortError{Op: m.cfg.key.op, Rank: rank, Cause: cause}
	for p := range m.peers {
		pe := &m.peers[p]
		for _, it := range pe.queue.take() {
			m.drop(it, false)
		}
		pe.deferred = nil
		if p != m.cfg.rank && p != rank {
			m.send(p, outMessage{kind: msgPoison, poison: poison{rank: rank, text: fmt.Sprint(cause)}})
		}
	}
	for i := range m.parts {
		for _, it := range m.parts[i].items {
			m.drop(it, false)
		}
		m.parts[i].items = nil
	}
	m.queued = 0
	clear(m.attempts)
	clear(m.tasks)
	m.details = 0
	m.act(action{kind: actPoisoned, err: m.err})
}

// fail poisons the operation with a reason found on this rank.
func (m *machine) fail(sentinel error, format string, args ...any) {
	m.poison(m.cfg.rank, fmt.Errorf("%w: "+format, append([]any{sentinel}, args...)...))
}

// message handles one message from a peer.
func (m *machine) message(from int, msg *message) {
	pe := &m.peers[from]
	fresh, ok := pe.seen.add(msg.seq)
	if !ok {
		m.fail(ErrProtocol, "rank %d lost or skipped thousands of messages to rank %d", from, m.cfg.rank)
	}
	if !fresh || m.err != nil {
		for _, it := range msg.items {
			m.act(action{kind: actDrop, item: it, peer: from})
		}
		return
	}
	switch msg.kind {
	case msgHello:
		m.helloFrom(from, &msg.hello)
	case msgGrant:
		m.granted(from, msg.value)
	case msgWant:
		m.wanted(from, msg.value)
	case msgSkip:
		m.skipped(from, msg.value)
	case msgData:
		m.data(from, msg.items)
	case msgCommit:
		m.commitFrom(from, &msg.commit)
	case msgRetract:
		m.retractFrom(from, &msg.commit)
	case msgFinish:
		m.finishFrom(from, msg.value)
	case msgPoison:
		m.poison(msg.poison.rank, errors.New(msg.poison.text))
	}
}

// checkDone finds out whether nothing is left to receive or to deliver.
func (m *machine) checkDone() {
	if m.done || m.err != nil || !m.finished || m.complete < len(m.parts) {
		return
	}
	for p := range m.peers {
		pe := &m.peers[p]
		if pe.pending > 0 || pe.queue.len() > 0 || len(pe.deferred) > 0 {
			return
		}
	}
	m.done = true
	m.act(action{kind: actDone})
}

// linkDown handles the loss of a peer, which matters only if something is still to come or to go.
func (m *machine) linkDown(from int, cause error) {
	pe := &m.peers[from]
	if pe.down {
		return
	}
	pe.down = true
	incoming := m.complete < len(m.parts) && (!pe.known || m.awaits(from))
	outgoing := pe.pending > 0 || pe.queue.len() > 0 || len(pe.deferred) > 0 || pe.owns && !m.finished
	if m.done || !incoming && !outgoing {
		return
	}
	m.poison(m.cfg.rank, fmt.Errorf("%w: link from rank %d to rank %d: %w", ErrPeerDown, from, m.cfg.rank, cause))
}

// awaits reports whether chunks of a committed task are missing from a source.
func (m *machine) awaits(from int) bool {
	for _, t := range m.tasks {
		if t.committed && t.key.source == from && (t.lines < t.total || t.unsettled > 0) {
			return true
		}
	}
	return false
}

// take removes a complete partition's chunks, in (task, attempt, sequence) order.
func (m *machine) take(i int) []*item {
	items := m.parts[i].items
	m.parts[i].items = nil
	slices.SortFunc(items, compareItems)
	return items
}
