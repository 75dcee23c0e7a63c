package bench

import (
	"runtime"
	"time"
)

// onThread returns the processor time that f takes on one thread, which stands still while other programs have the
// processor. What f has others do does not count.
func onThread(f func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return spent(threadTime, f)
}

// processorTime returns the processor time that this process takes, in all threads, while f runs.
func processorTime(f func() error) (time.Duration, error) { return spent(usedTime, f) }

// spent is how far a clock goes on while f runs.
func spent(clock func() (time.Duration, error), f func() error) (time.Duration, error) {
	start, err := clock()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	end, err := clock()
	return end - start, err
}
