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
// nanoseconds. Who else uses the machine makes times longer, never shorter. A quick function is called several times at a
// time: reading the clock takes time itself, and so does waking the 512-bit units of a processor.
func interleaved(repeats int, fs ...func()) []float64 {
	const enough = 150 * time.Microsecond
	best, calls := make([]float64, len(fs)), make([]int, len(fs))
	for i, f := range fs {
		f()
		start := threadTime()
		f()
		calls[i] = 1 + int(enough/max(threadTime()-start, 1))
		best[i] = math.MaxFloat64
	}
	for range repeats {
		for i, f := range fs {
			start := threadTime()
			for range calls[i] {
				f()
			}
			best[i] = min(best[i], float64((threadTime()-start).Nanoseconds())/float64(calls[i]))
		}
	}
	return best
}
