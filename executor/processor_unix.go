//go:build unix

package executor

import (
	"syscall"
	"time"
)

// processorTime is the processor time that this process has used, in all its threads, or 0 where the system does not tell.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
