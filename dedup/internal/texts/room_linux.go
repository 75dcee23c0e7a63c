package texts

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// HalfOfMemory is a room as long as half of the machine's memory, or of the least that a control group of this process is
// given, stays available to other programs, and to files that the system holds in memory. Several processes that all go by
// it stop together. It looks again after every 64 MiB.
func HalfOfMemory() func(held, more int64) bool {
	const again = 64 << 20
	next, room := int64(0), true
	return func(held, more int64) bool {
		if held+more >= next {
			free, total := memory()
			room, next = free-more > total/2, held+again
		}
		return room
	}
}

// memory returns how much memory is available and how much there is, in bytes; 0, 0 if that is not known.
func memory() (free, total int64) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, 0
	}
	info, err := fs.Meminfo()
	if err != nil || info.MemAvailableBytes == nil || info.MemTotalBytes == nil {
		return 0, 0
	}
	free, total = int64(*info.MemAvailableBytes), int64(*info.MemTotalBytes)
	self, err := fs.Self()
	if err != nil {
		return free, total
	}
	groups, err := self.Cgroups()
	if err != nil {
		return free, total
	}
	for _, g := range groups {
		if g.HierarchyID == 0 { // version 2
			for dir := g.Path; ; dir = filepath.Dir(dir) {
				if f, t, ok := groupMemory(filepath.Join("/sys/fs/cgroup", dir)); ok && f*2-t < free*2-total {
					free, total = f, t
				}
				if dir == "/" || dir == "." {
					break
				}
			}
		}
	}
	return free, total
}

// groupMemory returns what a control group has and may have; pages of files that it can give back are not counted.
func groupMemory(dir string) (free, total int64, ok bool) {
	number := func(file string) int64 {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return -1
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil {
			return -1 // "max"
		}
		return n
	}
	most, used := number("memory.max"), number("memory.current")
	if most <= 0 || used < 0 {
		return 0, math.MaxInt64, false
	}
	stat, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(stat)) {
		if rest, found := strings.CutPrefix(line, "inactive_file "); found {
			if n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err == nil {
				used -= min(n, used)
			}
		}
	}
	return most - used, most, true
}
