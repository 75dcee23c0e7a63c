package shuffle

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/dovetail-dedup/dovetail/internal/invariants"
	"github.com/dovetail-dedup/dovetail/mem"
)

// Shuffler is one operation on one rank. All methods are safe for concurrent use.
type Shuffler struct {
	opts  Options
	comm  *Communicator
	key   opKey
	store *spillStore
	pool  *receivePoolMemory // nil unless the transport offers

	ctx    context.Context // ends with the operation
	cancel context.CancelCauseFunc
	unhook func() // from the budget
	jobs   sync.WaitGroup
	once   sync.Once // Close

	expanding sync.Mutex // held by expandRuns, before mu

	mu       sync.Mutex
	m        *machine
	implicit *Inserter
	parts    []localPart // like m.parts
	order    []int       // complete partitions that WaitAny has not returned, ascending
	unread   int         // local partitions that WaitAny has not returned
	held     int64       // bytes of data in memory, received and queued
	tiny     int64       // chunks among those that are smaller than tinyChunk
	entries  int64       // items, see index.go
	metas    int64       // bytes of metas in memory that are not shared
	runBytes int64       // what runs take in memory
	charged  int64       // what the budget counts for all this
	owed     []uint64    // credit withheld per peer because held exceeds SpillMemoryLimit
	placed   []uint64    // credit to return per peer at the end of the step
	err      error       // poisoned or closed
	closed   bool
	isDone   bool
	done     chan struct{}
	room     notifier // the outgoing queue has shrunk
	news     notifier // a partition is complete, or nothing more will be
	load     loader
	spiller  spiller
	stats    Statistics
}

// localPart is the runtime's side of a local partition.
type localPart struct {
	held  int64 // bytes of its data in memory and not being spilled
	taken bool  // extracted, or open as a Partition
	read  bool  // extracted, or its Partition was closed
	open  bool
	runs  []run // chunks on disk that are not among the machine's items
	whole bool  // no more runs are made
}

// notifier wakes all who wait for a change. Its methods are called with the shuffler's lock held.
type notifier struct{ c chan struct{} }

func (n *notifier) wait() <-chan struct{} {
	if n.c == nil {
		n.c = make(chan struct{})
	}
	return n.c
}

func (n *notifier) fire() {
	if n.c != nil {
		close(n.c)
		n.c = nil
	}
}

// New starts an operation on this rank. The same operation must be started on every rank; none waits for
// another here, but a rank that has not started takes no data yet, so inserting on the others stops at
// OutgoingLimit until it has. The error names every fault in the options.
func New(o Options) (*Shuffler, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	owners, err := ownerTable(o.Owner, o.TotalParts, o.Comm.size)
	if err != nil {
		return nil, err
	}
	s := &Shuffler{
		opts:   o,
		comm:   o.Comm,
		owed:   make([]uint64, o.Comm.size),
		placed: make([]uint64, o.Comm.size),
		done:   make(chan struct{}),
	}
	if o.Comm.t.Features().Offers && o.Comm.size > 1 {
		if s.pool, err = newReceivePoolMemory(&s.opts); err != nil {
			return nil, err
		}
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	past, err := s.comm.register(s, o.Run, o.Op, o.Epoch)
	if err != nil {
		s.pool.release()
		return nil, err
	}
	s.m = newMachine(machineConfig{
		key: s.key, rank: s.comm.rank, size: s.comm.size, owners: owners,
		maxChunk: o.MaxChunk, window: o.ReceiveWindow, coalesce: o.Coalesce,
	})
	s.store = newSpillStore(o.SpillDir, fmt.Sprintf("shuffle-rank%d-op%d-", s.comm.rank, o.Op))
	s.parts = make([]localPart, len(s.m.parts))
	s.unread = len(s.m.parts)
	_ = s.step(event{kind: evStart})
	var msg message
	for _, e := range past.early {
		if p, body, err := decodePrefix(e.header); err == nil { // it was decoded before
			_ = s.step(s.decoded(&msg, p, body, nil))
		}
	}
	for p, cause := range past.down {
		if cause != nil {
			_ = s.step(event{kind: evLinkDown, peer: p, err: cause})
		}
	}
	if past.bent != nil {
		_ = s.step(event{kind: evAbort, err: past.bent}) // not an error of New: the other ranks must hear of it
	}
	if o.Budget != nil {
		s.unhook = o.Budget.OnPressure(0, s.pressed)
	}
	return s, nil
}

// Rank returns the communicator's rank.
func (s *Shuffler) Rank() int { return s.comm.rank }

// Size returns the number of ranks.
func (s *Shuffler) Size() int { return s.comm.size }

// LocalPartitions returns the partitions that this rank owns, ascending.
func (s *Shuffler) LocalPartitions() []int {
	parts := make([]int, len(s.parts))
	for i := range parts {
		parts[i] = s.m.parts[i].id
	}
	return parts
}

// OwnerOf returns the rank that owns a partition, or -1 if there is no such partition.
func (s *Shuffler) OwnerOf(part int) int {
	if part < 0 || part >= s.opts.TotalParts {
		return -1
	}
	return int(s.m.cfg.owners[part])
}

// MaxChunk returns the largest Chunk.Data that Insert takes, in bytes.
func (s *Shuffler) MaxChunk() int64 { return s.opts.MaxChunk }

// InsertFinished says that this rank will insert no more. It is called exactly once, after all inserts;
// every task attempt must have been committed or aborted. A second call fails with [ErrFinished].
func (s *Shuffler) InsertFinished(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("shuffle: InsertFinished: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failed(); err != nil {
		return err
	}
	if in := s.implicit; in != nil && !s.m.finished {
		if err := s.step(event{kind: evCommit, task: in.task, attempt: in.attempt}); err != nil {
			return err
		}
		s.implicit = nil
	}
	return s.step(event{kind: evFinish})
}

// Done returns a channel that is closed when the operation is complete on this rank, or poisoned; Err
// then tells which.
func (s *Shuffler) Done() <-chan struct{} { return s.done }

// Err returns why the operation failed, or nil. The error wraps [ErrAborted], or [ErrClosed] after Close.
func (s *Shuffler) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed()
}

// Wait blocks until every local partition is complete, the ledger has been found right for every task and
// partition, and everything that this rank sent has left. It returns the reason if the operation fails
// before, and an error that wraps ctx's if ctx ends before; the operation then goes on and Wait may be
// called again, by any number of goroutines. Once it has returned nil, the op id may be used anew.
func (s *Shuffler) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return s.Err()
	default:
	}
	select {
	case <-s.done:
		return s.Err()
	case <-ctx.Done():
		return fmt.Errorf("shuffle: op %d: waiting for all partitions: %w", s.opts.Op, context.Cause(ctx))
	}
}

// WaitOn blocks until one local partition is complete. Errors are those of Wait, or [ErrNotLocal].
func (s *Shuffler) WaitOn(ctx context.Context, part int) error {
	i, err := s.localIndex(part)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.await(ctx, func() bool { return s.m.parts[i].complete },
		func() string { return fmt.Sprintf("waiting for partition %d", part) })
}

// WaitAny blocks until a local partition is complete that no call of WaitAny has returned yet, and returns
// the lowest one. When all were returned, the error is [io.EOF].
func (s *Shuffler) WaitAny(ctx context.Context) (part int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.await(ctx, func() bool { return len(s.order) > 0 || s.unread == 0 },
		func() string { return "waiting for any partition" })
	if err != nil {
		return 0, err
	}
	if s.unread == 0 {
		return 0, io.EOF
	}
	part = s.order[0]
	s.order = s.order[1:]
	s.unread--
	if s.unread == 0 {
		s.news.fire()
	}
	return part, nil
}

// await waits, with the lock held on entry and exit, until cond is true.
func (s *Shuffler) await(ctx context.Context, cond func() bool, what func() string) error {
	for {
		if err := s.failed(); err != nil {
			return err
		}
		if cond() {
			return nil
		}
		c := s.news.wait()
		s.mu.Unlock()
		var err error
		select {
		case <-c:
		case <-ctx.Done():
			err = fmt.Errorf("shuffle: op %d: %s: %w", s.opts.Op, what(), context.Cause(ctx))
		}
		s.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// Finished reports whether the operation is complete and every local partition has been extracted, or
// opened and closed.
func (s *Shuffler) Finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isDone && s.err == nil && !slices.ContainsFunc(s.parts, func(p localPart) bool { return !p.read })
}

// Ledger returns what went where so far.
func (s *Shuffler) Ledger() Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := Ledger{
		Tasks:        s.m.ledger.Tasks,
		SentTo:       slices.Clone(s.m.ledger.SentTo),
		ReceivedFrom: slices.Clone(s.m.ledger.ReceivedFrom),
		Partitions:   make([]PartitionTotals, len(s.m.parts)),
	}
	for i := range s.m.parts {
		l.Partitions[i] = PartitionTotals{s.m.parts[i].id, s.m.parts[i].totals}
	}
	return l
}

// Statistics returns what the shuffler has done so far.
func (s *Shuffler) Statistics() Statistics {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Abort poisons the operation on all ranks: every call that waits returns an error that wraps
// [ErrAborted] and names err, which should say what to do. Chunks are released. Later calls do nothing.
func (s *Shuffler) Abort(err error) {
	if err == nil {
		err = fmt.Errorf("no reason given")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.step(event{kind: evAbort, err: err})
}

// abortUnlessDone is Abort for reasons that do no harm to an operation that is complete here.
func (s *Shuffler) abortUnlessDone(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isDone {
		_ = s.step(event{kind: evAbort, err: err})
	}
}

// Close ends the operation on this rank, in any state, and releases every buffer and spill file it still
// has; chunks handed out stay with their owners. Closing before the operation is complete aborts it on all
// ranks. It may be called again and by several goroutines; all return when everything is released.
func (s *Shuffler) Close() error {
	s.once.Do(s.close)
	return nil
}

func (s *Shuffler) close() {
	s.abortUnlessDone(fmt.Errorf("rank %d closed the shuffle before it was complete", s.comm.rank))
	s.mu.Lock()
	s.closed = true
	for i := range s.m.parts {
		for _, it := range s.m.parts[i].items {
			s.free(it)
		}
		s.m.parts[i].items = nil
	}
	s.recharge()
	s.news.fire()
	s.room.fire()
	s.mu.Unlock()
	s.cancel(ErrClosed)
	s.comm.unregister(s)
	if s.unhook != nil {
		s.unhook()
	}
	s.jobs.Wait()
	s.checkCredit()
	s.store.close()
	s.pool.release()
}

// checkCredit panics, in builds with invariants, if an operation that is done has not given back the credit for all that
// arrived: on a longer way, or with less memory, a peer would have waited for it for ever. An operation may be done here
// and then poisoned by a peer; credit no longer counts then, and the machine forgets it.
func (s *Shuffler) checkCredit() {
	if !invariants.Enabled {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isDone || s.err != nil {
		return
	}
	for p := range s.m.peers {
		pe := &s.m.peers[p]
		if due := pe.arrived - pe.returned; !pe.down && due != s.placed[p]+s.owed[p] {
			panic(fmt.Sprintf("shuffle: rank %d has not given back %d bytes of credit to rank %d, but has %d to give", s.comm.rank, due, p, s.placed[p]+s.owed[p]))
		}
	}
}

// failed returns why nothing more can be done. The lock is held.
func (s *Shuffler) failed() error {
	if s.closed && (s.err == nil || s.isDone) {
		return fmt.Errorf("shuffle: op %d: %w", s.opts.Op, ErrClosed)
	}
	return s.err
}

func (s *Shuffler) localIndex(part int) (int, error) {
	i, ok := s.m.local[part]
	if !ok {
		return 0, fmt.Errorf("shuffle: partition %d on rank %d of %d (owner: rank %d): %w",
			part, s.comm.rank, s.comm.size, s.OwnerOf(part), ErrNotLocal)
	}
	return i, nil
}

// Alloc makes a buffer of n bytes for the data of a chunk, charged to the budget. It asks holders to spill
// and waits for room until ctx or the operation ends; see [mem.Budget.Reserve].
func (s *Shuffler) Alloc(ctx context.Context, n int) (*mem.Buffer, error) {
	res, err := s.reserve(ctx, int64(n))
	if err != nil {
		return nil, fmt.Errorf("shuffle: op %d: memory for a chunk: %w", s.opts.Op, err)
	}
	return s.allocFrom(res, n)
}
