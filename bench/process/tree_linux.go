package process

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// ownGroup makes a program the head of a group of processes that ends with it when it is stopped.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// watch returns the largest memory of a tree of processes until stop, or 0 if it never was more than one process.
func watch(root int, stop <-chan struct{}) (peak int64) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		<-stop
		return 0
	}
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return peak
		case <-tick.C:
			if tree := descendants(fs, root); len(tree) > 1 {
				peak = max(peak, proportional(fs, tree))
			}
		}
	}
}

// descendants returns a process and all that descend from it.
func descendants(fs procfs.FS, root int) []int {
	all, err := fs.AllProcs()
	if err != nil {
		return nil
	}
	children := make(map[int][]int, len(all))
	for _, p := range all {
		if s, err := p.Stat(); err == nil {
			children[s.PPID] = append(children[s.PPID], p.PID)
		}
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}

// proportional adds up the proportional set sizes of processes. Those that have ended meanwhile count nothing.
func proportional(fs procfs.FS, tree []int) (sum int64) {
	for _, pid := range tree {
		if n, err := proportionalOf(fs, pid); err == nil {
			sum += n
		}
	}
	return sum
}

func proportionalOf(fs procfs.FS, pid int) (int64, error) {
	p, err := fs.Proc(pid)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errGone, err)
	}
	m, err := p.ProcSMapsRollup()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errGone, err)
	}
	return int64(m.Pss), nil
}

// largestResident is the kernel's count of the largest resident set of the program or one that it waited for.
func largestResident(s *os.ProcessState) int64 {
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}

func machineBusy() busy {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return busy{}
	}
	s, err := fs.Stat()
	if err != nil {
		return busy{}
	}
	c := s.CPUTotal
	return busy{seconds: c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal, cores: len(s.CPU), known: true}
}
