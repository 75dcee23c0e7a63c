package shuffle

import (
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Options says what a [Shuffler] does. Op, Run, Epoch, TotalParts, Owner and MaxChunk must be the same on
// all ranks, which is checked when the ranks meet.
type Options struct {
	// Comm is this rank's communicator. Required.
	Comm *Communicator
	// Run tells runs apart that meet on one network; messages of another run are ignored.
	Run uint64
	// Op is the id of the operation, less than MaxOps.
	Op OpID
	// Epoch counts changes of membership. Messages of an older epoch are ignored.
	Epoch uint32
	// TotalParts is the number of partitions over all ranks (RapidsMPF's total_nparts), at least 1.
	TotalParts int
	// Owner says which rank holds a partition. Default [RoundRobin].
	Owner OwnerFunc

	// Budget is what the data of chunks is charged to. When it is short, chunks received and chunks that
	// wait to be sent are moved to disk. Ranks that exchange buffers without a copy (package inproc) must
	// share one budget, because the charge travels with the buffer. Nil means no bound.
	Budget *mem.Budget
	// Purpose is what the budget counts the bytes under. Default "shuffle".
	Purpose mem.Purpose
	// Alloc makes the buffers of [Shuffler.Alloc], of received chunks and of chunks read back from disk. It
	// must be of an addressable tier and must not charge a budget itself. Default: the transport's Alloc.
	Alloc mem.Allocator

	// SpillDir is an existing folder for spill files. Default os.TempDir().
	SpillDir string
	// SpillMemoryLimit bounds the bytes of chunk data that this shuffler keeps in memory; what is beyond
	// it goes to disk. It may be exceeded for a moment by what is being received (ReceiveWindow). 0 leaves
	// it to the budget.
	SpillMemoryLimit int64

	// MaxChunk bounds the data of one chunk, in bytes, and with it the memory that progress needs in the
	// worst case. Default: a quarter of the budget's limit, at most 1 GiB.
	MaxChunk int64
	// OutgoingLimit bounds the bytes that wait in memory to be sent, with about 300 for each chunk that waits, be it
	// on disk; Insert blocks above it. Default: an
	// eighth of the budget's limit, at most 64 MiB.
	OutgoingLimit int64
	// ReceiveWindow bounds the bytes that peers may have under way to this rank unasked, all together; one
	// chunk of MaxChunk bytes may come in addition. Default: an eighth of the budget's limit, at most 64
	// MiB. With a transport that needs memory to receive, New reserves both.
	ReceiveWindow int64
	// Coalesce is the size at which a message of several chunks is full, in bytes. Default 256 KiB.
	Coalesce int64
}

// EnsureDefaults fills in what is zero and has a default.
func (o *Options) EnsureDefaults() {
	limit := int64(mem.Unlimited)
	if o.Budget != nil {
		limit = o.Budget.Limit()
	}
	if o.Owner == nil {
		o.Owner = RoundRobin
	}
	if o.Purpose == "" {
		o.Purpose = "shuffle"
	}
	if o.Alloc == nil && o.Comm != nil {
		o.Alloc = transportAlloc{o.Comm.t}
	}
	if o.SpillDir == "" {
		o.SpillDir = os.TempDir()
	}
	if o.MaxChunk == 0 {
		o.MaxChunk = max(1, min(limit/4, 1<<30))
	}
	if o.OutgoingLimit == 0 {
		o.OutgoingLimit = max(1, min(limit/8, 64<<20))
	}
	if o.ReceiveWindow == 0 {
		o.ReceiveWindow = max(1, min(limit/8, 64<<20))
	}
	if o.Coalesce == 0 {
		o.Coalesce = min(256<<10, o.MaxChunk)
	}
}

// Validate returns every fault in one error, or nil. Defaults must have been filled in.
func (o *Options) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("shuffle: Options."+format, args...))
		}
	}
	fault(o.Comm == nil, "Comm is missing")
	fault(o.Op >= MaxOps, "Op is %d, must be less than %d", o.Op, MaxOps)
	fault(o.TotalParts < 1 || o.TotalParts > math.MaxInt32, "TotalParts is %d, must be at least 1", o.TotalParts)
	fault(o.Owner == nil, "Owner is missing")
	fault(o.Alloc != nil && !o.Alloc.Tier().Addressable(),
		"Alloc makes buffers in %s memory, which this transport cannot checksum", tierOf(o.Alloc))
	fault(o.SpillMemoryLimit < 0, "SpillMemoryLimit is %d, must not be negative", o.SpillMemoryLimit)
	fault(o.MaxChunk < 1 || o.MaxChunk > 1<<40, "MaxChunk is %d, must be in [1, 2^40]", o.MaxChunk)
	fault(o.OutgoingLimit < 1, "OutgoingLimit is %d, must be positive", o.OutgoingLimit)
	fault(o.ReceiveWindow < 1 || o.ReceiveWindow > 1<<40, "ReceiveWindow is %d, must be in [1, 2^40]", o.ReceiveWindow)
	fault(o.Coalesce < 1, "Coalesce is %d, must be positive", o.Coalesce)
	if o.Budget != nil {
		fault(o.MaxChunk > o.Budget.Limit(), "MaxChunk is %d, more than the budget's limit of %d",
			o.MaxChunk, o.Budget.Limit())
	}
	if info, err := os.Stat(o.SpillDir); err != nil {
		fault(true, "SpillDir: %w", err)
	} else {
		fault(!info.IsDir(), "SpillDir %s is not a folder", o.SpillDir)
	}
	return errors.Join(faults...)
}

func tierOf(a mem.Allocator) mem.Tier {
	if a == nil {
		return mem.TierHost
	}
	return a.Tier()
}

// transportAlloc is a transport's host memory as an allocator.
type transportAlloc struct{ t Transport }

func (a transportAlloc) Alloc(n int) (*mem.Buffer, error) { return a.t.Alloc(mem.TierHost, n) }
func (a transportAlloc) Tier() mem.Tier                   { return mem.TierHost }
