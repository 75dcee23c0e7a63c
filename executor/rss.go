package executor

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// rssInterval is how often the memory of a stage is looked at. A peak that is shorter can be missed.
const rssInterval = 100 * time.Millisecond

// rssWatch remembers the largest resident set while a stage runs.
type rssWatch struct {
	resident func() int64
	peak     atomic.Int64
	stop     func()
}

func watchRSS(resident func() int64) *rssWatch {
	w := &rssWatch{resident: resident}
	w.look()
	w.stop = every(rssInterval, w.look)
	return w
}

func (w *rssWatch) look() { w.peak.Store(max(w.peak.Load(), w.resident())) }

// end stops watching and returns the peak in bytes, or 0 where the system does not tell or nothing was watched.
func (w *rssWatch) end() int64 {
	if w == nil {
		return 0
	}
	w.stop()
	return w.peak.Load()
}

// resident is the resident set of this process and of those that it has started for its actors, in bytes, or 0 where the system does
// not tell.
func (j *Job) resident() int64 {
	if j == nil {
		return residentBytes()
	}
	return j.children.resident()
}

// PeakMemory is the largest sum of the resident sets of this process and of those of its actors that was seen since they were started, in
// bytes. It is 0 for a job without such processes, and where the system does not tell. What processes share counts for each.
func (j *Job) PeakMemory() int64 {
	if j == nil || j.children == nil {
		return 0
	}
	j.children.look() // a short job may have had no other
	return j.children.peak.Load()
}

// residentBytes is the resident set of this process now, or 0 where the system does not tell.
func residentBytes() int64 { return residentOf(os.Getpid()) }

// residentOf is that of any process.
func residentOf(pid int) int64 {
	if runtime.GOOS != "linux" {
		return 0
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
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
