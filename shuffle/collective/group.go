package collective

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

var (
	// ErrDisagree is wrapped when the ranks do not make the same call. It is found on all ranks.
	ErrDisagree = errors.New("the ranks do not make the same call")
	// ErrBusy is wrapped when a rank makes a call while another of the same group is under way.
	ErrBusy = errors.New("another call of the group is under way; make one after the other, or use two groups")
	// ErrClosed is wrapped by calls after [Group.Close].
	ErrClosed = errors.New("closed")
)

// Options sets up a [Group]. Run, Op, Epoch and MaxChunk must be the same on all ranks.
type Options struct {
	// Comm is this rank's communicator. Required.
	Comm *shuffle.Communicator
	// Run, Op and Epoch are as in [shuffle.Options]. No other operation may use Op while the group is open, nor later in
	// the same epoch if one of its calls has failed.
	Run   uint64
	Op    shuffle.OpID
	Epoch uint32
	// Budget is what data under way and results are charged to; nil means no bound. Ranks that exchange buffers without
	// a copy must share one.
	Budget *mem.Budget
	// Purpose is what the budget counts the bytes under. Default "collective".
	Purpose mem.Purpose
	// Alloc makes buffers, as in [shuffle.Options]. Default: the transport's.
	Alloc mem.Allocator
	// SpillDir is an existing folder for spill files. Default os.TempDir().
	SpillDir string
	// MaxChunk is the largest piece in which data travels, in bytes, a multiple of 8. Default 256 KiB, or less if the
	// budget's limit is less than 16 of them or 4 for each rank: a rank holds on to one piece while it waits for
	// another that is still in the call before, and that one needs memory for pieces too.
	MaxChunk int64
	// MemoryWait is how long a call waits for memory before it fails. Whoever holds it may be a rank of this process that
	// waits for this one. Default 30 seconds.
	MemoryWait time.Duration
}

const (
	defaultChunk = 256 << 10
	// window is what peers may send unasked, in chunks.
	window = 4
)

// Group is one rank's end of a group of all ranks. Calls are made by one goroutine at a time, in the same order on all
// ranks; Abort, Err, Rank, Size, Session, Statistics and Progress may be called by any at any time.
type Group struct {
	opts       Options
	rank, size int

	mu      sync.Mutex
	calls   int               // begun on this rank
	busy    bool              // a call is under way
	current *shuffle.Shuffler // of the call under way
	err     error             // why no call can be made any more
	left    bool              // the other ranks know, or need not
	stats   shuffle.Statistics
}

// New makes this rank's end of a group. It waits for nobody. The error names what is wrong with the options.
func New(o Options) (*Group, error) {
	if o.Comm == nil {
		return nil, errors.New("collective: Options.Comm is missing")
	}
	if o.Purpose == "" {
		o.Purpose = "collective"
	}
	if o.MemoryWait <= 0 {
		o.MemoryWait = 30 * time.Second
	}
	if o.MaxChunk == 0 {
		o.MaxChunk = defaultChunk
		if o.Budget != nil {
			o.MaxChunk = ChunkFor(o.Budget.Limit(), o.Comm.Size())
		}
	}
	if o.MaxChunk < 8 || o.MaxChunk%8 != 0 {
		return nil, fmt.Errorf("collective: Options.MaxChunk is %d, must be a positive multiple of 8", o.MaxChunk)
	}
	g := &Group{opts: o, rank: o.Comm.Rank(), size: o.Comm.Size()}
	so := g.shuffleOptions()
	so.EnsureDefaults()
	if err := so.Validate(); err != nil {
		return nil, fmt.Errorf("collective: %w", err)
	}
	return g, nil
}

// ChunkFor is the default of [Options].MaxChunk for ranks whose budgets have this limit, in bytes. Ranks with different budgets
// agree on that of the smallest.
func ChunkFor(limit int64, ranks int) int64 {
	return min(defaultChunk, max(8, limit/int64(max(16, 4*ranks))&^7))
}

func (g *Group) shuffleOptions() shuffle.Options {
	o := &g.opts
	return shuffle.Options{
		Comm: o.Comm, Run: o.Run, Op: o.Op, Epoch: o.Epoch, TotalParts: g.size,
		Budget: o.Budget, Purpose: o.Purpose, Alloc: o.Alloc, SpillDir: o.SpillDir,
		MaxChunk: o.MaxChunk, ReceiveWindow: window * o.MaxChunk,
		OutgoingLimit: window*o.MaxChunk + 512*int64(g.size), // so that a message for everybody can wait, see shuffle
	}
}

// Rank returns this rank, 0 <= Rank < Size.
func (g *Group) Rank() int { return g.rank }

// Size returns the number of ranks.
func (g *Group) Size() int { return g.size }

// Session returns a name of the group that is the same on all ranks: its run, epoch and operation id.
func (g *Group) Session() (id [16]byte) {
	binary.LittleEndian.PutUint64(id[:], g.opts.Run)
	binary.LittleEndian.PutUint32(id[8:], g.opts.Epoch)
	binary.LittleEndian.PutUint32(id[12:], uint32(g.opts.Op))
	return id
}

// Statistics returns what this rank's calls have moved so far.
func (g *Group) Statistics() shuffle.Statistics {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stats
}

// Progress returns what this rank's calls have moved so far, that which is under way included, how many were begun, and whether one is
// under way: whoever looks twice sees whether anything happens, and who makes others wait.
func (g *Group) Progress() (moved shuffle.Statistics, begun int, calling bool) {
	g.mu.Lock()
	s := g.current
	moved, begun, calling = g.stats, g.calls, g.busy
	g.mu.Unlock()
	if s != nil {
		moved = moved.Add(s.Statistics())
	}
	return moved, begun, calling
}

// Err returns why no further call can be made, or nil. It wraps what happened as the error of the call does in which it was found.
func (g *Group) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Abort ends the group on all ranks: calls under way, and those still to come, fail with err.
func (g *Group) Abort(err error) {
	if err == nil {
		err = errors.New("no reason given")
	}
	g.end(fmt.Errorf("collective: rank %d gave up: %w", g.rank, err))
}

// Close ends the group on this rank. Ranks that make another call get an error. It may be called again. A call that is
// under way is aborted.
func (g *Group) Close() error {
	g.end(fmt.Errorf("collective: rank %d left the group: %w", g.rank, ErrClosed))
	return nil
}

// end makes err the reason why no further call can be made, and sees to it that the other ranks hear of it.
func (g *Group) end(err error) {
	g.mu.Lock()
	if g.err == nil {
		g.err = err
	}
	err = g.err
	busy, s := g.busy, g.current
	g.mu.Unlock()
	if s != nil {
		s.Abort(err)
	}
	if !busy { // otherwise the call does it when it ends
		g.leave(err)
	}
}

// farewell begins the reason that a rank gives which is not in a call.
const farewell = "no further call: "

// leave tells the other ranks why this one makes no further call: it aborts what would be the next. Ranks that are
// still in an earlier one can finish it. Every rank of a group leaves, so that what the others say is heard.
func (g *Group) leave(err error) {
	g.mu.Lock()
	left := g.left
	g.left = true
	g.mu.Unlock()
	if left {
		return
	}
	o := g.shuffleOptions()
	o.Budget, o.SpillDir = nil, "" // nothing is moved, and nothing may be missing
	s, err2 := shuffle.New(o)
	if err2 != nil {
		return // the communicator is closed, or its transport broken, which peers notice by themselves
	}
	s.Abort(fmt.Errorf("%s%w", farewell, err))
	_ = s.Close() // never fails
}

// begin starts the operation of a call. The caller ends it with finish if there is no error.
func (g *Group) begin(d *descriptor) (*shuffle.Shuffler, error) {
	g.mu.Lock()
	switch {
	case g.busy:
		g.mu.Unlock()
		err := fmt.Errorf("collective: rank %d, %s: %w", g.rank, d, ErrBusy)
		g.end(err)
		return nil, err
	case g.err != nil:
		err := g.err
		g.mu.Unlock()
		return nil, err
	}
	g.calls++
	g.busy = true
	g.mu.Unlock()
	s, err := shuffle.New(g.shuffleOptions())
	if err != nil {
		return nil, g.finish(nil, d, err)
	}
	g.mu.Lock()
	g.current = s
	err = g.err // it may have ended meanwhile
	g.mu.Unlock()
	if err != nil {
		return nil, g.finish(s, d, err)
	}
	return s, nil
}

// finish ends a call, with err if it has failed, and returns the error for the caller.
func (g *Group) finish(s *shuffle.Shuffler, d *descriptor, err error) error {
	g.mu.Lock()
	if err != nil {
		if g.err == nil {
			g.err = fmt.Errorf("collective: rank %d, call %d, %s: %w", g.rank, g.calls, d, err)
		}
		// If another rank left in this call, there is no next one that somebody waits in.
		if a := (*shuffle.AbortError)(nil); errors.As(err, &a) && strings.HasPrefix(a.Cause.Error(), farewell) {
			g.left = true
		}
		err = g.err
	}
	g.current = nil
	g.mu.Unlock()
	if s != nil {
		if err != nil && !errors.Is(err, ErrDisagree) { // that, every rank finds by itself
			s.Abort(err)
		}
		_ = s.Close() // never fails
	}
	g.mu.Lock()
	g.busy = false
	if s != nil {
		g.stats = g.stats.Add(s.Statistics())
	}
	over := g.err
	g.mu.Unlock()
	if over != nil {
		g.leave(over)
	}
	return err
}
