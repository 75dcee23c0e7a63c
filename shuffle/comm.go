package shuffle

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Communicator owns one rank's endpoint and lets any number of shuffles use it at once. One goroutine does
// all posting and polling, and sleeps when there is nothing to do. All methods are safe for concurrent use.
type Communicator struct {
	t          Transport
	rank, size int

	mu    sync.Mutex
	ops   map[opKey]*Shuffler
	uses  map[opUse]opCount
	early map[opKey][]earlyMessage // hellos and poison for operations that this rank has not started
	held  int                      // messages in early
	boxes []outbox                 // by peer
	slots []*outgoing              // by cookie; nil if free
	free  []uint64                 // free cookies
	down  []error                  // by peer
	bent  error                    // a message could not be read, see check
	err   error                    // why the endpoint works no more

	wake    chan struct{} // there is something to post
	quit    chan struct{} // Close was called
	stopped chan struct{} // the goroutine is gone
	once    sync.Once

	// Used by the goroutine only.
	fatal   error // too many early messages
	ready   []Op  // what to post next
	events  [64]Event
	scratch message
}

type opUse struct {
	run uint64
	op  OpID
}

// opCount is the newest epoch in which an op id was used, and how often.
type opCount struct{ epoch, instances uint32 }

type earlyMessage struct {
	from   int
	header []byte
}

// maxEarly bounds the messages held for operations that this rank has not started. A peer sends at most
// two per operation, so more means that ranks do not run the same program.
const maxEarly = 1 << 16

// outbox is what waits to be posted to one peer, control messages first.
type outbox struct {
	control, data []*outgoing
	underWay      int
}

// outgoing is a message on its way to the transport.
type outgoing struct {
	op      *Shuffler
	peer    int
	kind    msgKind
	header  []byte
	payload []*mem.Buffer
}

var outgoingPool = sync.Pool{New: func() any { return new(outgoing) }}

func (o *outgoing) recycle() {
	clear(o.payload)
	o.op, o.header, o.payload = nil, o.header[:0], o.payload[:0]
	if cap(o.header) <= 2*fullHeader {
		outgoingPool.Put(o)
	}
}

// discard recycles a message that will not be sent.
func (o *outgoing) discard() {
	for _, b := range o.payload {
		b.Release()
	}
	o.recycle()
}

// NewCommunicator starts a communicator on t, which it owns from then on.
func NewCommunicator(t Transport) (*Communicator, error) {
	if t == nil {
		return nil, fmt.Errorf("shuffle: communicator without a transport")
	}
	if r, n := t.Rank(), t.Size(); n < 1 || r < 0 || r >= n {
		return nil, fmt.Errorf("shuffle: transport says rank %d of %d", r, n)
	}
	c := newCommunicator(t)
	go c.run()
	return c, nil
}

func newCommunicator(t Transport) *Communicator {
	return &Communicator{
		t: t, rank: t.Rank(), size: t.Size(),
		ops:     make(map[opKey]*Shuffler),
		uses:    make(map[opUse]opCount),
		early:   make(map[opKey][]earlyMessage),
		boxes:   make([]outbox, t.Size()),
		down:    make([]error, t.Size()),
		wake:    make(chan struct{}, 1),
		quit:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
}

// Rank returns this rank, 0 <= Rank < Size.
func (c *Communicator) Rank() int { return c.rank }

// Size returns the number of ranks.
func (c *Communicator) Size() int { return c.size }

// Close aborts the operations that are not complete, tells the peers, and closes the transport. It may be
// called in any state and again.
func (c *Communicator) Close() error {
	c.once.Do(func() { close(c.quit) })
	<-c.stopped
	return nil
}

// past is what a new operation must know of what happened before it was started.
type past struct {
	early []earlyMessage
	down  []error // by peer
	bent  error
}

// register enters a new operation and gives it its key.
func (c *Communicator) register(s *Shuffler, run uint64, op OpID, epoch uint32) (past, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return past{}, c.err
	}
	use := opUse{run, op}
	n, used := c.uses[use]
	if used && epoch < n.epoch {
		return past{}, fmt.Errorf("shuffle: op %d in epoch %d: epoch %d has begun", op, epoch, n.epoch)
	}
	if epoch > n.epoch {
		n = opCount{epoch: epoch}
	}
	n.instances++
	c.uses[use] = n
	s.key = opKey{run: run, op: op, epoch: epoch, instance: n.instances}
	c.ops[s.key] = s
	early := c.early[s.key]
	for k, msgs := range c.early {
		if k.run == run && k.op == op && (k.epoch < epoch || k == s.key) {
			c.held -= len(msgs)
			delete(c.early, k)
		}
	}
	return past{early: early, down: slices.Clone(c.down), bent: c.bent}, nil
}

func (c *Communicator) unregister(s *Shuffler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ops, s.key)
}

// enqueue takes over a message to be sent.
func (c *Communicator) enqueue(o *outgoing) {
	c.mu.Lock()
	if c.err != nil || c.down[o.peer] != nil {
		c.mu.Unlock()
		o.discard()
		return
	}
	box := &c.boxes[o.peer]
	if o.kind == msgData {
		box.data = append(box.data, o)
	} else {
		box.control = append(box.control, o)
	}
	c.mu.Unlock()
	c.signal()
}

func (c *Communicator) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run is the communicator's goroutine.
func (c *Communicator) run() {
	defer close(c.stopped)
	for {
		posted, err := c.post()
		n := 0
		if err == nil {
			n, err = c.t.Poll(c.events[:])
		}
		for i := range c.events[:n] {
			c.handle(&c.events[i])
		}
		if err == nil {
			err = c.fatal
		}
		if err != nil {
			c.shutDown(fmt.Errorf("shuffle: rank %d: transport: %w", c.rank, err))
			return
		}
		if posted || n > 0 {
			select {
			case <-c.quit:
				c.farewell()
				return
			default:
				continue
			}
		}
		select {
		case <-c.t.Ready():
		case <-c.wake:
		case <-c.quit:
			c.farewell()
			return
		}
	}
}

// farewell ends the communicator on request. What the operations still want to say, most of all that they
// are aborted, gets a moment to leave.
func (c *Communicator) farewell() {
	err := fmt.Errorf("shuffle: rank %d: communicator %w", c.rank, ErrClosed)
	c.mu.Lock()
	ops := c.active()
	c.mu.Unlock()
	for _, s := range ops {
		s.abortUnlessDone(err)
	}
	deadline := time.Now().Add(farewellTime)
	for c.busy() && time.Now().Before(deadline) {
		if _, err := c.post(); err != nil {
			break
		}
		n, err := c.t.Poll(c.events[:])
		for i := range c.events[:n] {
			c.handle(&c.events[i])
		}
		if err != nil {
			break
		}
		if n == 0 {
			select {
			case <-c.t.Ready():
			case <-time.After(time.Until(deadline)):
			}
		}
	}
	c.shutDown(err)
}

// farewellTime bounds how long Close waits for peers that do not take their messages.
const farewellTime = 500 * time.Millisecond

// busy reports whether messages wait or are under way.
func (c *Communicator) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.boxes {
		if b := &c.boxes[i]; b.underWay > 0 || len(b.control) > 0 || len(b.data) > 0 {
			return true
		}
	}
	return false
}

// active lists the operations. The lock is held.
func (c *Communicator) active() []*Shuffler {
	ops := make([]*Shuffler, 0, len(c.ops))
	for _, s := range c.ops {
		ops = append(ops, s)
	}
	return ops
}

// shutDown closes the transport and tells every operation.
func (c *Communicator) shutDown(err error) {
	c.mu.Lock()
	c.err = err
	ops := c.active()
	var drop []*outgoing
	for i := range c.boxes {
		drop = append(append(drop, c.boxes[i].control...), c.boxes[i].data...)
		c.boxes[i] = outbox{}
	}
	c.mu.Unlock()
	for _, o := range drop {
		o.discard()
	}
	_ = c.t.Close() // the error that matters is err
	for _, s := range ops {
		s.abortUnlessDone(err)
	}
}

// post hands waiting messages to the transport, at most MaxInFlight per peer.
func (c *Communicator) post() (posted bool, err error) {
	ops := c.ready
	c.mu.Lock()
	for p := range c.boxes {
		box := &c.boxes[p]
		for box.underWay < MaxInFlight {
			var o *outgoing
			switch {
			case len(box.control) > 0:
				o, box.control = pop(box.control)
			case len(box.data) > 0:
				o, box.data = pop(box.data)
			}
			if o == nil {
				break
			}
			box.underWay++
			ops = append(ops, Op{Kind: OpSend, Peer: p, Cookie: c.slot(o), Header: o.header, Payload: o.payload})
		}
	}
	c.mu.Unlock()
	if len(ops) == 0 {
		return false, nil
	}
	err = c.t.Post(ops)
	for i := range ops {
		// The transport owns the buffers now, whether or not it failed.
		clear(ops[i].Payload)
	}
	clear(ops)
	c.ready = ops[:0]
	return true, err
}

// pop takes the first element of a queue; an empty queue gives its memory back to be filled anew.
func pop(q []*outgoing) (*outgoing, []*outgoing) {
	o := q[0]
	q[0] = nil
	if len(q) == 1 {
		return o, q[:0]
	}
	return o, q[1:]
}

// slot gives a message a cookie. The lock is held.
func (c *Communicator) slot(o *outgoing) uint64 {
	if n := len(c.free); n > 0 {
		i := c.free[n-1]
		c.free = c.free[:n-1]
		c.slots[i] = o
		return i
	}
	c.slots = append(c.slots, o)
	return uint64(len(c.slots) - 1)
}

// unslot ends a message under way and returns it, or nil if there is none. The lock is held.
func (c *Communicator) unslot(i uint64) *outgoing {
	if i >= uint64(len(c.slots)) || c.slots[i] == nil {
		return nil
	}
	o := c.slots[i]
	c.slots[i] = nil
	c.free = append(c.free, i)
	c.boxes[o.peer].underWay--
	return o
}

// handle deals with one event of the transport.
func (c *Communicator) handle(ev *Event) {
	switch ev.Kind {
	case EventSent:
		c.mu.Lock()
		o := c.unslot(ev.Cookie)
		c.mu.Unlock()
		if o != nil {
			o.op.sent(o.peer, o.kind)
			o.recycle()
		}
	case EventMessage:
		c.message(ev)
	case EventOffer:
		c.offer(ev)
	case EventPeerDown:
		c.peerDown(ev.Peer, ev.Err)
	}
}

func (c *Communicator) peerDown(p int, cause error) {
	if cause == nil {
		cause = ErrClosed
	}
	c.mu.Lock()
	c.down[p] = cause
	drop := append(c.boxes[p].control, c.boxes[p].data...)
	c.boxes[p].control, c.boxes[p].data = nil, nil
	for i, o := range c.slots {
		if o != nil && o.peer == p {
			c.unslot(uint64(i)).recycle()
		}
	}
	ops := c.active()
	c.mu.Unlock()
	for _, o := range drop {
		o.discard()
	}
	for _, s := range ops {
		s.linkDown(p, cause)
	}
}

// find returns the operation that a message is for, or nil. A message for an operation that this rank has
// not started is kept if it is one that a peer may send that early.
func (c *Communicator) find(from int, p *prefix, header []byte) *Shuffler {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.ops[p.opKey]; s != nil {
		return s
	}
	if n := c.uses[opUse{p.run, p.op}]; p.epoch < n.epoch || p.epoch == n.epoch && p.instance <= n.instances {
		return nil
	}
	if p.kind != msgHello && p.kind != msgPoison {
		return nil
	}
	if c.held == maxEarly {
		c.fatal = fmt.Errorf("%w: %d messages for operations that rank %d has not started, the last for op %d "+
			"from rank %d", ErrProtocol, maxEarly, c.rank, p.op, from)
		return nil
	}
	c.early[p.opKey] = append(c.early[p.opKey], earlyMessage{from, slices.Clone(header)})
	c.held++
	return nil
}

// check decodes the start of a message. A message that fails its checksum could have been for any operation,
// also one that this rank has yet to start, so all of them end: those that run now, and every later one.
func (c *Communicator) check(ev *Event) (p prefix, body []byte, ok bool) {
	p, body, err := decodePrefix(ev.Header)
	if err == nil && (p.source != ev.Peer || p.dest != c.rank) {
		err = corrupt("it says it is from rank %d to rank %d", p.source, p.dest)
	}
	if err == nil {
		return p, body, true
	}
	err = fmt.Errorf("message from rank %d to rank %d: %w", ev.Peer, c.rank, err)
	c.mu.Lock()
	if c.bent == nil {
		c.bent = err
	}
	ops := c.active()
	c.mu.Unlock()
	for _, s := range ops {
		s.Abort(err)
	}
	return p, body, false
}

func (c *Communicator) message(ev *Event) {
	p, body, ok := c.check(ev)
	if ok {
		if s := c.find(ev.Peer, &p, ev.Header); s != nil {
			s.deliver(&c.scratch, p, body, ev.Payload)
			return
		}
	}
	for _, b := range ev.Payload {
		b.Release()
	}
}

// offer answers the offer of a message: with memory, or not at all if nobody wants it.
func (c *Communicator) offer(ev *Event) {
	answer := Op{Kind: OpRefuse, Peer: ev.Peer, Cookie: ev.Cookie}
	if p, body, ok := c.check(ev); ok {
		if s := c.find(ev.Peer, &p, ev.Header); s != nil {
			if bufs := s.accept(p, body, ev.Size); bufs != nil {
				answer.Kind, answer.Payload = OpAccept, bufs
			}
		}
	}
	c.ready = append(c.ready, answer)
}
