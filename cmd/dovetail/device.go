package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/engine"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// simulationVariable has more options for the driver of simulated GPUs, such as faults.
const simulationVariable = "DOVETAIL_SIM"

// deviceFlags say what computes signatures. No result depends on them.
type deviceFlags struct {
	device   string
	simGPUs  int
	poolSize string
	share    func(visible int) (from, to int) // see [engine.Options].Share
}

func (f *deviceFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.device, "device", engine.Auto, "what signs documents: cpu, cuda for NVIDIA GPUs, sim for simulated ones, or auto: cuda where there are GPUs that work, else cpu")
	fl.IntVar(&f.simGPUs, "sim-gpus", 0, "with --device sim: number of GPUs (default 1)")
	fl.StringVar(&f.poolSize, "rmm-pool-size", "auto", "memory of each GPU that is taken at once: a size, auto for 90 % of what is free, or none")
}

// options reads the flags. limit is the memory limit, 0 for none.
func (f *deviceFlags) options(limit int64) (o engine.Options, err error) {
	o = engine.Options{Device: f.device, SimGPUs: f.simGPUs, Share: f.share}
	if f.device == engine.Sim {
		o.Simulation = os.Getenv(simulationVariable)
	}
	switch f.poolSize {
	case "auto":
	case "none":
		o.PoolSize = -1
	default:
		if o.PoolSize, err = parseSizeFlag("rmm-pool-size", f.poolSize); err != nil {
			return o, err
		}
	}
	if limit > 0 {
		o.PinnedSize = max(leastPinned, min(mostPinned, limit/pinnedPart))
	}
	return o, o.Validate()
}

// Pinned memory is the host's and counts as resident: with a memory limit each GPU has a part of it.
const (
	pinnedPart  = 32
	leastPinned = 256 << 10
	mostPinned  = 64 << 20
)

// deviceUse is what a command's Exec needs to know of devices.
type deviceUse struct {
	Devices      []executor.Device
	CheckDevice  func(executor.Device) error
	DeviceMemory int64
	Backend      func(p lsh.Params, env *executor.Env) (lsh.Backend, error)
	Name         string
}

// with opens the devices, calls work, says what they did and closes them. lazy is [engine.Options].Lazy.
func (f *deviceFlags) with(limit int64, lazy bool, note func(string), work func(u deviceUse) error) error {
	o, err := f.options(limit)
	if err != nil {
		return usageError{err}
	}
	o.Lazy = lazy
	a, err := engine.Open(o)
	if err != nil {
		return err
	}
	for _, line := range a.Notes() {
		note(line)
	}
	u := deviceUse{Devices: a.Devices(), CheckDevice: a.Check, Backend: a.Backend, Name: a.Name()}
	if limit > 0 {
		u.DeviceMemory = o.PinnedSize * int64(len(u.Devices))
	}
	if len(u.Devices) > 0 {
		note(fmt.Sprintf("signatures are computed by %s", u.Name))
	}
	err = work(u)
	if line := a.Summary(); err == nil && line != "" {
		note(line)
	}
	if closing := a.Close(); closing != nil && err == nil {
		note("closing the GPUs: " + oneLine(closing))
	}
	if errors.Is(err, executor.ErrDeviceLost) {
		return fmt.Errorf("%w; the same command goes on from there on other GPUs, or with --device cpu", err)
	}
	return err
}
