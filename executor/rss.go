package executor

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// rssInterval is how often the memory of a stage is looked at. A peak that is shorter can be missed.
const rssInterval = 100 * time.Millisecond

// rssWatch remembers the largest resident set of the process while a stage runs.
type rssWatch struct {
	peak atomic.Int64
	stop func()
}

func watchRSS() *rssWatch {
	w := &rssWatch{}
	w.look()
	w.stop = every(rssInterval, w.look)
	return w
}

func (w *rssWatch) look() { w.peak.Store(max(w.peak.Load(), residentBytes())) }

// end stops watching and returns the peak in bytes, or 0 where the system does not tell or nothing was watched.
func (w *rssWatch) end() int64 {
	if w == nil {
		return 0
	}
	w.stop()
	return w.peak.Load()
}

// residentBytes is the resident set of this process now, or 0 where the system does not tell.
func residentBytes() int64 {
	if runtime.GOOS != "linux" {
		return 0
	}
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	// Pages: all, resident, and more.
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
