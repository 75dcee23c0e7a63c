package ucx

import (
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-dedup/dovetail/internal/link"
	"github.com/dovetail-dedup/dovetail/mem"
)

// LibraryVariable is the environment variable that names UCX's library, libucp.so.0, or its folder.
const LibraryVariable = "DOVETAIL_UCX_LIB"

var (
	// ErrNotBuilt says that this program was built without UCX: that takes the build tag ucx, cgo, and `make ucx-tools`.
	ErrNotBuilt = errors.New("UCX is not in this build")
	// ErrNoLibrary says that UCX is not installed, or was not found; the error has where it was looked for.
	ErrNoLibrary = errors.New("there is no UCX")
)

const (
	maxJob    = 255
	maxSpec   = 4 << 10
	maxSecret = 4 << 10
	minSecret = 16
)

// Config says how UCX is set up in this process.
type Config struct {
	// Library is the path of libucp.so.0 or its folder. If it is empty the environment and then the usual places are
	// looked at; see the documentation of the package.
	Library string
	// Set has options of UCX without UCX_, such as TLS or NET_DEVICES. Environment variables of the user win.
	Set map[string]string
	// LinkTimeout is what keepalives of UCX and of the system are set for. Default 10 s.
	LinkTimeout time.Duration

	// Register says whether the memory of payloads is registered with UCX ahead. $DOVETAIL_UCX_REGISTER, auto, always or never, says it
	// where this is RegisterAuto.
	Register Register
	// RegisterLimit bounds the memory that is registered at one time, in bytes; what is in use counts. Default 4 GiB.
	RegisterLimit int64
}

// RegisterVariable is the environment variable that says whether memory is registered: auto, always or never.
const RegisterVariable = "DOVETAIL_UCX_REGISTER"

// Register is whether the memory of payloads is registered with UCX once and for all, and not by UCX for each message.
type Register uint8

const (
	// RegisterAuto registers if one of the transports that UCX has found needs it; TCP and shared memory do not.
	RegisterAuto Register = iota
	// RegisterAlways registers whatever the transports are.
	RegisterAlways
	// RegisterNever leaves it to UCX, which keeps registrations of memory that was given back to the system; see the package's
	// documentation.
	RegisterNever
)

// Registrations counts what was registered on a [Context].
type Registrations struct {
	On       bool  // memory is registered
	Made     int64 // registrations that were made
	Kept     int64 // of those, there now
	InUse    int64 // of those, used by an operation
	Bytes    int64 // of those that are kept
	Unmapped int64 // ended because the memory went back to the system
	Evicted  int64 // ended because there was no room for another
	Failed   int64 // could not be made
	Used     int64 // operations in registered memory
	Bare     int64 // operations in memory that was not registered: of the Go heap, or when there was no room
	Late     int64 // registrations that were in use when their memory went: a mistake
}

// Options says which job a rank belongs to and how it meets the others. Job, Addrs, Epoch, Spec and Secret must be the same on
// all ranks, which is checked when two ranks meet.
type Options struct {
	// Job tells jobs apart: at most 255 bytes.
	Job string
	// Rank is this rank's number, an index of Addrs.
	Rank int
	// Addrs are what Port.Addr returned on each rank, by rank. They must come from a source that can be trusted: who is at them
	// has to prove that it is in the job, but UCX connects with them first.
	Addrs []string
	// Epoch counts changes of membership: ranks of different epochs do not talk.
	Epoch uint32
	// Spec is what else must be the same on all ranks, for instance a fingerprint of the options that decide the
	// job's result: at most 4 KiB. It appears in errors.
	Spec string
	// Secret is shared by the ranks of the job and nobody else: 16 to 4096 random bytes. Without it whoever was told Addrs can be
	// a rank. Nothing is encrypted either way.
	Secret []byte

	// ReceiveBudget bounds the memory for headers, and payloads that came with them, of messages that have arrived and were not
	// polled, of all peers together, in bytes: at least 128 KiB for each peer. Default 16 MiB, or that.
	ReceiveBudget int64
	// LinkTimeout is how long a peer may be silent before it is lost. A peer may be slow to poll and to accept for any time, but one
	// whose process is stopped for longer counts as lost. Default 10 s.
	LinkTimeout time.Duration
	// CloseTimeout bounds how long Close waits for peers to take what was posted. Default 2 s.
	CloseTimeout time.Duration
	// Spin is how long progress is tried before the rank sleeps; less than 0 means not at all. Default 20 µs where there are more
	// than 2 processors, else none.
	Spin time.Duration

	// Alloc makes the buffers of Transport.Alloc. Default mem.Host().
	Alloc mem.Allocator
}

func (o *Options) leastBudget() int64 { return link.LeastBudget(len(o.Addrs)) }

// EnsureDefaults fills in what is zero and has a default.
func (o *Options) EnsureDefaults() {
	if o.ReceiveBudget == 0 {
		o.ReceiveBudget = max(16<<20, o.leastBudget())
	}
	if o.LinkTimeout == 0 {
		o.LinkTimeout = 10 * time.Second
	}
	if o.CloseTimeout == 0 {
		o.CloseTimeout = 2 * time.Second
	}
	if o.Spin == 0 {
		o.Spin = defaultSpin()
	}
	if o.Alloc == nil {
		o.Alloc = mem.Host()
	}
}

// Validate returns every fault in one error, or nil. Defaults must have been filled in.
func (o *Options) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("ucx: Options."+format, args...))
		}
	}
	size := len(o.Addrs)
	fault(len(o.Job) > maxJob, "Job has %d bytes, at most %d are possible", len(o.Job), maxJob)
	fault(len(o.Spec) > maxSpec, "Spec has %d bytes, at most %d are possible; give a fingerprint", len(o.Spec), maxSpec)
	fault(size == 0, "Addrs is empty; give what Port.Addr returned on every rank")
	fault(size > 0 && (o.Rank < 0 || o.Rank >= size), "Rank is %d, but Addrs has ranks 0 to %d", o.Rank, size-1)
	fault(o.ReceiveBudget < o.leastBudget(), "ReceiveBudget is %d, too small for %d ranks; give at least %d",
		o.ReceiveBudget, size, o.leastBudget())
	fault(o.LinkTimeout < 0, "LinkTimeout is %s, must be positive", o.LinkTimeout)
	fault(o.CloseTimeout < 0, "CloseTimeout is %s, must be positive", o.CloseTimeout)
	fault(o.Alloc == nil || !o.Alloc.Tier().Addressable(), "Alloc must make buffers that the processor can read")
	if n := len(o.Secret); n > 0 {
		fault(n < minSecret || n > maxSecret, "Secret has %d bytes, must be %d to %d random ones, the same on all ranks",
			n, minSecret, maxSecret)
	}
	return errors.Join(faults...)
}
