package cuda

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// VisibleDevices is the environment variable that says which devices a program may use, and in which order.
const VisibleDevices = "CUDA_VISIBLE_DEVICES"

// Visible returns the devices that a value of CUDA_VISIBLE_DEVICES leaves of all, in its order, and a line about what in it
// was not followed. It reads it as CUDA does:
//
//   - Entries are indexes, or UUIDs of GPUs ("GPU-8932f937"), or of instances ("MIG-…"). The beginning of a UUID is enough
//     if no other begins with it. The older form of an instance is MIG-<UUID of the GPU>/<GPU instance>/<compute instance>.
//   - The first entry says which of the three all are. At the first one that is of another kind, or names no device, or more
//     than one, the list ends. So "0,2,-1,1" is 0 and 2, and an empty value is none.
//   - If a device is named twice there are none.
//   - Of an index, only the leading digits count.
//
// A GPU that is divided stands for all of its instances; a process that opens it gets the first. Indexes are nvidia-smi's:
// CUDA counts that way too if CUDA_DEVICE_ORDER is PCI_BUS_ID or all GPUs are alike. [os.LookupEnv] tells an empty value from
// none, which leaves all devices.
func Visible(all []Device, list string) (visible []Device, note string) {
	if strings.TrimSpace(list) == "" {
		return nil, ""
	}
	entries := strings.Split(list, ",")
	kind := kindOf(entries[0])
	var seen []string // the GPU or instance that each entry names
	for _, e := range entries {
		e = strings.TrimSpace(e)
		if kindOf(e) != kind {
			return visible, ends(e, len(seen), "is not of the kind of the first")
		}
		found := named(all, kind, e)
		var names []string
		for _, d := range found {
			names = append(names, target(d, kind))
		}
		names = slices.Compact(names)
		switch {
		case len(names) == 0:
			return visible, ends(e, len(seen), "is no device of this machine")
		case len(names) > 1:
			return visible, ends(e, len(seen), "is the beginning of more than one device's UUID")
		case slices.Contains(seen, names[0]):
			return nil, fmt.Sprintf("%s names a device twice, at %q, so there are none", VisibleDevices, e)
		}
		seen = append(seen, names[0])
		visible = append(visible, found...)
	}
	return visible, ""
}

func ends(entry string, n int, why string) string {
	return fmt.Sprintf("%s: %q %s, so only the %d before it count", VisibleDevices, entry, why, n)
}

// Kinds of entries.
const (
	ofIndex = iota
	ofGPU
	ofInstance
)

func kindOf(entry string) int {
	switch entry = strings.TrimSpace(entry); {
	case strings.HasPrefix(entry, "GPU-"):
		return ofGPU
	case strings.HasPrefix(entry, "MIG-"):
		return ofInstance
	}
	return ofIndex
}

// target is what an entry of that kind names of a device: its GPU, or itself.
func target(d Device, kind int) string {
	if d.MIG != nil && kind != ofInstance {
		return d.MIG.Parent
	}
	return d.UUID
}

// named returns the devices an entry may mean.
func named(all []Device, kind int, entry string) (found []Device) {
	index := -1
	if kind == ofIndex {
		index = leadingNumber(entry)
	}
	for _, d := range all {
		var ok bool
		switch kind {
		case ofIndex:
			ok = d.Index == index
		case ofGPU:
			ok = strings.HasPrefix(target(d, kind), entry)
		case ofInstance:
			ok = d.MIG != nil && (strings.HasPrefix(d.UUID, entry) ||
				entry == fmt.Sprintf("MIG-%s/%d/%d", d.MIG.Parent, d.MIG.GPUInstance, d.MIG.ComputeInstance))
		}
		if ok {
			found = append(found, d)
		}
	}
	return found
}

// leadingNumber reads a number as strtol does, to the first character that is no digit. It returns -1 if there is none.
func leadingNumber(s string) int {
	s = strings.TrimPrefix(s, "+")
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return -1
	}
	return n
}
