package process

import (
	"fmt"
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

// watch looks at a tree of processes until stop. The largest resident set is the kernel's VmHWM: ru_maxrss, which comes for
// nothing at the end, begins at what the process that started the program had.
func watch(root int, stop <-chan struct{}) (s seen) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		<-stop
		return s
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	used := make(map[int]float64) // seconds, by process
	for look := 0; ; look++ {
		select {
		case <-stop:
			sum := 0.0
			for _, t := range used {
				sum += t
			}
			s.cpu = time.Duration(sum * float64(time.Second))
			return s
		case <-tick.C:
			s.peak = max(s.peak, largestResident(fs, root))
			if look%treeEvery > 0 {
				continue
			}
			tree := descendants(fs, root, used)
			if len(tree) > 1 {
				s.peak = max(s.peak, proportional(fs, tree))
			}
		}
	}
}

// largestResident is the largest resident set that a process has had, 0 if it has ended.
func largestResident(fs procfs.FS, pid int) int64 {
	p, err := fs.Proc(pid)
	if err != nil {
		return 0
	}
	status, err := p.NewStatus()
	if err != nil {
		return 0
	}
	return int64(status.VmHWM)
}

// descendants returns a process and all that descend from it, and notes the processor time that each has used itself.
func descendants(fs procfs.FS, root int, used map[int]float64) []int {
	all, err := fs.AllProcs()
	if err != nil {
		return nil
	}
	children, now := make(map[int][]int, len(all)), make(map[int]float64, len(all))
	for _, p := range all {
		if s, err := p.Stat(); err == nil {
			children[s.PPID], now[p.PID] = append(children[s.PPID], p.PID), s.CPUTime()
		}
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		used[tree[i]] = max(used[tree[i]], now[tree[i]])
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
