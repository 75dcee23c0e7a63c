package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/dovetail-dedup/dovetail/cuda"
)

// gpus returns lines about the GPUs of this machine: one for each that may be used, or one that says why there are none.
// open is [cuda.Open].
func gpus(open func() (*cuda.System, error), o cuda.Options) (lines []string) {
	s, err := open()
	if errors.Is(err, cuda.ErrNotBuilt) || errors.Is(err, cuda.ErrNoDriver) {
		return []string{"no GPUs: " + err.Error()}
	}
	if err != nil {
		return []string{"no GPUs, though there should be: " + oneLine(err)}
	}
	defer func() {
		if err := s.Close(); err != nil {
			lines = append(lines, oneLine(err))
		}
	}()
	inv, err := s.Devices(o)
	if err != nil {
		return []string{"no GPUs, though there should be: " + oneLine(err)}
	}
	for _, d := range inv.Devices {
		line := fmt.Sprintf("GPU %d: %s, %s, %s of %s free, compute capability %d.%d, PCI %s", d.Index, d.Name, d.UUID,
			humanize.IBytes(uint64(max(0, d.MemoryFree))), humanize.IBytes(uint64(max(0, d.MemoryTotal))), d.Major, d.Minor, d.PCIBusID)
		if d.MIG != nil {
			line += fmt.Sprintf(", instance %d/%d of %s", d.MIG.GPUInstance, d.MIG.ComputeInstance, d.MIG.Parent)
		}
		if d.NUMANode >= 0 {
			line += fmt.Sprintf(", NUMA node %d", d.NUMANode)
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		why := "the driver lists none"
		switch notes := strings.Join(inv.Notes, "; "); {
		case notes != "":
			why = notes
		case envSet(o, cuda.VisibleDevices):
			why = cuda.VisibleDevices + " is empty or names none that can be used"
		}
		return []string{"no GPUs: " + why}
	}
	lines = append(lines, fmt.Sprintf("driver %s, for CUDA up to %s", inv.Driver, inv.CUDA))
	return append(lines, inv.Notes...)
}

func envSet(o cuda.Options, name string) bool {
	_, set := o.Lookup(name)
	return set
}
