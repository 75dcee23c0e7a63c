package main

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the processor time that this thread has had.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// interleaved runs every function again and again, one after the other, and returns the least processor time of each in
// nanoseconds. Who else uses the machine makes times longer, never shorter.
func interleaved(repeats int, fs ...func()) []float64 {
	best := make([]float64, len(fs))
	for i := range best {
		best[i] = math.MaxFloat64
	}
	for range repeats {
		for i, f := range fs {
			start := threadTime()
			f()
			best[i] = min(best[i], float64((threadTime() - start).Nanoseconds()))
		}
	}
	return best
}
