// Package locality tells what of a machine is near a GPU, or any other PCI device: processors and network interfaces. It asks /sys, which every
// Linux has; elsewhere, and in machines that do not say, nothing is near anything. Functions take the tree of /sys as an [fs.FS] that can read
// links, such as [System].
package locality

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// System is the /sys of this machine.
func System() fs.FS { return os.DirFS("/sys") }

// folder returns where the kernel has a PCI device, by its address in any spelling, such as 00000000:3B:00.0. It is empty if that is no address.
func folder(address string) string {
	// NVML writes domains with 8 digits and the kernel with 4, or more if it has to.
	domain, rest, ok := strings.Cut(strings.ToLower(address), ":")
	n, err := strconv.ParseUint(domain, 16, 32)
	if !ok || err != nil || strings.ContainsAny(rest, "/\\") {
		return ""
	}
	return fmt.Sprintf("bus/pci/devices/%04x:%s", n, rest)
}

// NUMANode returns the NUMA node of the PCI device at an address, or -1: machines with one node say that too.
func NUMANode(sys fs.FS, address string) int { return node(sys, folder(address)) }

func node(sys fs.FS, device string) int {
	n, err := strconv.Atoi(line(sys, device+"/numa_node"))
	if device == "" || err != nil {
		return -1
	}
	return max(n, -1)
}

// CPUs returns the processors near the PCI device at an address, in order; none if that is not known.
func CPUs(sys fs.FS, address string) []int {
	device := folder(address)
	if device == "" {
		return nil
	}
	return ParseCPUs(line(sys, device+"/local_cpulist"))
}

// GPUsNear returns how many of NVIDIA's GPUs are near the same processors as the PCI device at an address, itself included if it is one.
func GPUsNear(sys fs.FS, address string) (n int) {
	const all = "bus/pci/devices"
	own := line(sys, folder(address)+"/local_cpulist")
	devices, err := fs.ReadDir(sys, all)
	if err != nil || own == "" {
		return 0
	}
	for _, d := range devices {
		device := all + "/" + d.Name()
		// Controllers of displays, with one and without: GPUs of servers are the latter.
		class := line(sys, device+"/class")
		if line(sys, device+"/vendor") == "0x10de" && (strings.HasPrefix(class, "0x0300") || strings.HasPrefix(class, "0x0302")) &&
			line(sys, device+"/local_cpulist") == own {
			n++
		}
	}
	return n
}

// Nearest returns those of the network interfaces that are nearest to the PCI device at an address: those with which it shares most of the way to
// the processor, and of equal ones those at its NUMA node. If nothing is known of any it returns all.
func Nearest(sys fs.FS, address string, interfaces []string) []string {
	device := folder(address)
	own, at := way(sys, device), node(sys, device)
	var near []string
	most := 0
	for _, name := range interfaces {
		if name == "" || strings.Contains(name, "/") {
			continue
		}
		score := 2 * shared(own, way(sys, "class/net/"+name))
		if at >= 0 && node(sys, "class/net/"+name+"/device") == at {
			score++
		}
		if score > most {
			near, most = nil, score
		}
		if score == most {
			near = append(near, name)
		}
	}
	if most == 0 {
		return interfaces
	}
	return near
}

// way is the way from the processor to a device: bridges and the device, as the link that stands for it in /sys names them.
func way(sys fs.FS, device string) []string {
	if device == "" {
		return nil
	}
	link, err := fs.ReadLink(sys, device)
	if err != nil {
		return nil
	}
	_, steps, ok := strings.Cut(link, "devices/")
	if !ok || !strings.HasPrefix(steps, "pci") {
		return nil // it is virtual, or of another bus
	}
	return strings.Split(steps, "/")
}

// shared returns how many steps two ways have in common.
func shared(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// line returns what a file of /sys says, "" if it cannot be read.
func line(sys fs.FS, name string) string {
	b, err := fs.ReadFile(sys, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// mostCPUs is above what the kernel can have.
const mostCPUs = 1 << 16

// ParseCPUs returns the processors of a list such as 0-3,8 in the kernel's notation, in order; none if it is not one.
func ParseCPUs(list string) (cpus []int) {
	for r := range strings.SplitSeq(list, ",") {
		from, to, ok := strings.Cut(r, "-")
		if !ok {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || first < 0 || last < first || last >= mostCPUs {
			return nil
		}
		for n := first; n <= last; n++ {
			cpus = append(cpus, n)
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus)
}
