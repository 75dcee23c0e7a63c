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
	start, err := threadTime()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	end, err := threadTime()
	return end - start, err
}

// processorTime returns the processor time that this process takes, in all threads, while f runs.
func processorTime(f func() error) (time.Duration, error) {
	start, err := usedTime()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	end, err := usedTime()
	return end - start, err
}
