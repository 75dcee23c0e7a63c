package locality

import (
	"fmt"
	"math/bits"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Allowed returns the processors that this process may run on, in order.
func Allowed() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("locality: asking for the processors of this process: %w", err)
	}
	var cpus []int
	for n := range len(set) * bits.UintSize {
		if set.IsSet(n) {
			cpus = append(cpus, n)
		}
	}
	return cpus, nil
}

// Bind has all threads of this process run on some processors only, and so those that they start. Threads of libraries that bind themselves can
// undo it.
func Bind(cpus []int) error {
	var set unix.CPUSet
	for _, n := range cpus {
		set.Set(n)
	}
	if set.Count() != len(cpus) || len(cpus) == 0 {
		return fmt.Errorf("locality: processors %v cannot be bound to", cpus)
	}
	// A thread that starts meanwhile has what its parent had: so until none is new.
	bound := make(map[int]bool)
	for news := true; news; {
		news = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("locality: listing threads: %w", err)
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil || bound[id] {
				continue
			}
			switch err := unix.SchedSetaffinity(id, &set); err {
			case nil:
				bound[id], news = true, true
			case unix.ESRCH: // it has ended
			default:
				return fmt.Errorf("locality: binding to processors %v: %w", cpus, err)
			}
		}
	}
	return nil
}
