package ucx

import (
	"runtime"
	"time"
)

// defaultSpin is how long a rank tries before it sleeps. On a machine with few processors whoever spins takes the time of those it
// waits for.
func defaultSpin() time.Duration {
	if runtime.GOMAXPROCS(0) > 2 {
		return 20 * time.Microsecond
	}
	return -1
}
