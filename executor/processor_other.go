//go:build !unix

package executor

import "time"

// processorTime is 0: the system does not tell.
func processorTime() time.Duration { return 0 }
