package executor

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Resources says what one actor of a stage occupies. The zero value means one CPU.
type Resources struct {
	// CPUs is the number of CPU slots; fractions are allowed. 0 means 1 unless GPUs or GPUMemoryGB is set;
	// less than 0 means that CPUs do not limit the number of actors.
	CPUs float64
	// GPUs is the part of a device one actor owns, at most 1: 0.5 lets two actors share one.
	GPUs float64
	// GPUMemoryGB asks for the part of a device that holds so many GB (10^9 bytes). It excludes GPUs.
	GPUMemoryGB float64
	// Memory is the largest number of bytes of the budget one actor holds at a time; 0 if it does not matter.
	// It limits the number of actors, and is not reserved for them.
	Memory int64
}

// Validate reports all faults at once.
func (r Resources) Validate() error {
	var errs []error
	bad := func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }
	if bad(r.CPUs) {
		errs = append(errs, fmt.Errorf("field CPUs is %v, want a number", r.CPUs))
	}
	if bad(r.GPUs) || r.GPUs < 0 || r.GPUs > 1 {
		errs = append(errs, fmt.Errorf("field GPUs is %v, want 0 to 1: an actor owns one device at most", r.GPUs))
	}
	if bad(r.GPUMemoryGB) || r.GPUMemoryGB < 0 {
		errs = append(errs, fmt.Errorf("field GPUMemoryGB is %v, want 0 or more", r.GPUMemoryGB))
	}
	if r.GPUs > 0 && r.GPUMemoryGB > 0 {
		errs = append(errs, fmt.Errorf("fields GPUs and GPUMemoryGB are %v and %v, set one of them", r.GPUs, r.GPUMemoryGB))
	}
	if r.Memory < 0 {
		errs = append(errs, fmt.Errorf("field Memory is %d, want 0 or more", r.Memory))
	}
	return errors.Join(errs...)
}

// cpus returns the CPU slots one actor takes, 0 for none.
func (r Resources) cpus() float64 {
	switch {
	case r.CPUs < 0:
		return 0
	case r.CPUs == 0 && r.GPUs == 0 && r.GPUMemoryGB == 0:
		return 1
	}
	return r.CPUs
}

// device reports whether an actor owns a device, or a part of one.
func (r Resources) device() bool { return r.GPUs > 0 || r.GPUMemoryGB > 0 }

// Capacity is what there is to share among the actors of a stage.
type Capacity struct {
	// CPUs is the number of CPU slots, of which ReservedCPUs are not for actors.
	CPUs, ReservedCPUs float64
	// Devices has the memory in bytes of each device. ReservedGPUs of them, the last ones, are not for actors.
	Devices      []int64
	ReservedGPUs float64
	// Memory is the limit of the budget in bytes; 0 or less means [mem.Unlimited].
	Memory int64
}

// unlimited stands for "as many actors as there are batches" (_LARGE_INT in NeMo Curator).
const unlimited = math.MaxInt32

// deviceRoom returns how many actors each device has room for, which share a device but do not span two.
func deviceRoom(need Resources, memory []int64, reserved float64) []int {
	room := make([]int, len(memory))
	for i := len(memory) - 1; i >= 0; i-- {
		taken := min(max(reserved, 0), 1)
		reserved -= taken
		part := need.GPUs
		if need.GPUMemoryGB > 0 {
			part = need.GPUMemoryGB * 1e9 / float64(memory[i])
		}
		room[i] = fits(1-taken, part)
	}
	return room
}

// fits returns how often a whole number of parts is in have, which may be off by what fractions cannot express.
func fits(have, part float64) int {
	const rounding = 1e-9
	return int(min(math.Floor(have/part+rounding), unlimited))
}

// ActorCount returns how many actors a stage gets: the fewest of batches, CPUs, devices and memory allow, as
// NeMo Curator's calculate_optimal_actors_for_stage does. numWorkers > 0 asks for that number whatever the
// batches are, capped to what there is with a warning. Capacity for less than one actor is an error that
// wraps [ErrNoResources] and says what there is. batches < 0 means unknown.
func ActorCount(stage string, need Resources, have Capacity, batches, numWorkers int) (n int, warning string, err error) {
	if err := need.Validate(); err != nil {
		return 0, "", fmt.Errorf("executor: resources of stage %q: %w", stage, err)
	}
	memory := have.Memory
	if memory <= 0 {
		memory = mem.Unlimited
	}
	most := unlimited
	for _, r := range []struct {
		what                 string
		need, have, reserved float64
	}{
		{"CPUs", need.cpus(), have.CPUs, have.ReservedCPUs},
		{"bytes of memory", float64(need.Memory), float64(memory), 0},
	} {
		if r.need <= 0 {
			continue
		}
		n := fits(max(r.have-r.reserved, 0), r.need)
		if n == 0 {
			return 0, "", tooLittle(stage, r.what, r.need, r.have, r.reserved)
		}
		most = min(most, n)
	}
	if need.device() {
		n := 0
		for _, room := range deviceRoom(need, have.Devices, have.ReservedGPUs) {
			n = min(n+room, unlimited)
		}
		switch {
		case n == 0 && need.GPUMemoryGB > 0 && len(have.Devices) > 0 && need.GPUMemoryGB*1e9 > float64(slices.Max(have.Devices)):
			return 0, "", fmt.Errorf("executor: %w: an actor of stage %q needs %.10g GB of device memory and the largest device has %.4g",
				ErrNoResources, stage, need.GPUMemoryGB, float64(slices.Max(have.Devices))/1e9)
		case n == 0 && need.GPUMemoryGB > 0:
			return 0, "", tooLittle(stage, "GB of device memory", need.GPUMemoryGB, float64(len(have.Devices)), have.ReservedGPUs)
		case n == 0:
			return 0, "", tooLittle(stage, "GPUs", need.GPUs, float64(len(have.Devices)), have.ReservedGPUs)
		}
		most = min(most, n)
	}
	switch {
	case numWorkers > most:
		return most, fmt.Sprintf("stage %q asks for %d actors and there is room for %d: using %d",
			stage, numWorkers, most, most), nil
	case numWorkers > 0:
		return numWorkers, "", nil
	case batches < 0:
		// Nothing bounds a stage that needs no CPU and whose batches are not known: one actor per CPU then.
		if most == unlimited {
			most = max(1, int(have.CPUs-have.ReservedCPUs))
		}
		return most, "", nil
	}
	return min(batches, most), "", nil
}

// tooLittle says what an actor needs and what there is.
func tooLittle(stage, what string, need, have, reserved float64) error {
	there := fmt.Sprintf("%.10g", max(have-reserved, 0))
	if reserved > 0 {
		there += fmt.Sprintf(" (%.10g less %.10g reserved)", have, reserved)
	}
	if strings.HasPrefix(what, "GB") {
		there += " devices"
	}
	return fmt.Errorf("executor: %w: an actor of stage %q needs %.10g %s and there are %s", ErrNoResources, stage, need, what, there)
}

// Batches splits tasks into consecutive batches, either by size (the last may be shorter) or into parts
// batches whose lengths differ by at most one, the longer ones first and empty ones left out. Exactly one of
// size and parts must be greater than 0 and the other 0. The batches share tasks' memory.
func Batches(tasks []Task, size, parts int) ([][]Task, error) {
	switch {
	case size > 0 && parts == 0:
		out := make([][]Task, 0, (len(tasks)+size-1)/size)
		for len(tasks) > 0 {
			n := min(size, len(tasks))
			out = append(out, tasks[:n:n])
			tasks = tasks[n:]
		}
		return out, nil
	case parts > 0 && size == 0:
		var out [][]Task
		for i := range min(parts, len(tasks)) {
			n := len(tasks) / (parts - i)
			if len(tasks)%(parts-i) > 0 {
				n++
			}
			out = append(out, tasks[:n:n])
			tasks = tasks[n:]
		}
		return out, nil
	}
	return nil, fmt.Errorf("executor: batches of %d tasks or %d batches: give exactly one of the two", size, parts)
}
