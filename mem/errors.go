package mem

import (
	"errors"
	"fmt"
)

// ErrNoMemory is wrapped by every error that means "not enough memory of this tier, or not within this
// budget". errors.As with [NoMemoryError] tells how much was asked for.
var ErrNoMemory = errors.New("out of memory")

// NoMemoryError reports a request that cannot be met.
type NoMemoryError struct {
	Purpose Purpose // what the memory was for, if known
	Need    int64   // bytes asked for
	Limit   int64   // the budget's limit, or 0 where the system refused
	Cause   error   // the system's error, if it refused
}

// Error says how much was needed, for what, and what the limit is.
func (e *NoMemoryError) Error() string {
	s := fmt.Sprintf("out of memory: %d bytes needed", e.Need)
	if e.Purpose != "" {
		s += " for " + string(e.Purpose)
	}
	if e.Limit > 0 {
		s += fmt.Sprintf(", the limit is %d", e.Limit)
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Is makes errors.Is(err, ErrNoMemory) true.
func (e *NoMemoryError) Is(target error) bool { return target == ErrNoMemory }

// Unwrap returns the system's error, if any.
func (e *NoMemoryError) Unwrap() error { return e.Cause }
