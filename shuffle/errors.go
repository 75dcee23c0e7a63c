package shuffle

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is. They reach the caller wrapped in one line that names the
// rank, task, partition or file.
var (
	// ErrFinished means Insert, Begin or InsertFinished was called after InsertFinished.
	ErrFinished = errors.New("inserting is finished on this rank")
	// ErrClosed means the shuffler, communicator or transport was closed.
	ErrClosed = errors.New("closed")
	// ErrAborted is wrapped by every error of a poisoned shuffle, on all ranks.
	ErrAborted = errors.New("shuffle aborted")
	// ErrLedger means that what arrived is not what was committed.
	ErrLedger = errors.New("ledger mismatch")
	// ErrCorrupt means that bytes received or read back from disk fail their checksum or make no sense.
	ErrCorrupt = errors.New("corrupted data")
	// ErrProtocol means that a rank broke the protocol, for instance by sending beyond its credit.
	ErrProtocol = errors.New("protocol violation")
	// ErrMismatch means that ranks were started with different options.
	ErrMismatch = errors.New("ranks disagree on the options")
	// ErrPeerDown means that the link to a rank broke while it was still needed.
	ErrPeerDown = errors.New("rank is unreachable")
	// ErrTaskState means a task attempt was used after Commit or Abort, or committed twice.
	ErrTaskState = errors.New("task attempt is not open")
	// ErrNotLocal means that a partition belongs to another rank or does not exist.
	ErrNotLocal = errors.New("partition is not on this rank")
	// ErrExtracted means that a partition was taken by an earlier Extract or Open.
	ErrExtracted = errors.New("partition was extracted already")
	// ErrChunkTooLarge means that a chunk's data exceeds Options.MaxChunk.
	ErrChunkTooLarge = errors.New("chunk is too large")
	// ErrSpill means that a spill file could not be written or read.
	ErrSpill = errors.New("spill file")
)

// AbortError is the reason for which a shuffle is poisoned. Rank is where the trouble was found; on that
// rank Cause is the original error, elsewhere a text of it.
type AbortError struct {
	Op    OpID
	Rank  int
	Cause error
}

// Error names the operation, the rank and the reason.
func (e *AbortError) Error() string {
	return fmt.Sprintf("shuffle: op %d aborted by rank %d: %v", e.Op, e.Rank, e.Cause)
}

// Is makes errors.Is(err, ErrAborted) true.
func (e *AbortError) Is(target error) bool { return target == ErrAborted }

// Unwrap returns the cause.
func (e *AbortError) Unwrap() error { return e.Cause }
