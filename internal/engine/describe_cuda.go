//go:build cuda

package engine

import (
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/cuda"
)

// Describe says, in lines for people, what this build can do with GPUs here.
func Describe() (lines []string) {
	d, err := cuda.OpenDriver()
	switch {
	case errors.Is(err, cuda.ErrNoCUDA):
		lines = append(lines, "CUDA: "+err.Error())
	case err != nil:
		lines = append(lines, fmt.Sprintf("CUDA: it should work and does not: %v", err))
	default:
		devs, err := d.Devices()
		if err != nil {
			lines = append(lines, fmt.Sprintf("CUDA: it should work and does not: %v", err))
			break
		}
		kernels := "with kernels"
		if _, err := cuda.Fatbin(); err != nil {
			kernels = "but " + err.Error()
		}
		lines = append(lines, fmt.Sprintf("CUDA: a driver for CUDA up to %s, %d GPUs for --device cuda, %s", d.Version(), len(devs), kernels))
	}
	if path, err := cuda.SimulatorPath(); err != nil {
		lines = append(lines, "simulated GPUs: none: "+err.Error())
	} else {
		lines = append(lines, "simulated GPUs: --device sim, by "+path)
	}
	return lines
}
