package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/engine"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// simulationVariable has more options for the driver of simulated GPUs, such as faults.
const simulationVariable = "DOVETAIL_SIM"

// deviceFlags say what computes signatures. No result depends on them.
type deviceFlags struct {
	device     string
	simGPUs    int
	poolSize   string
	spillLimit string
	bind       string
	share      func(visible int) (from, to int) // see [engine.Options].Share
}

func (f *deviceFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.device, "device", engine.Auto, "what signs documents and compares candidates: cpu, cuda for NVIDIA GPUs, sim for simulated ones, or auto: cuda where there are GPUs that work, else cpu")
	fl.IntVar(&f.simGPUs, "sim-gpus", 0, "with --device sim: number of GPUs (default 1)")
	f.addBind(fl)
	fl.StringVar(&f.poolSize, "rmm-pool-size", "auto", "memory of each GPU that is taken at once: a size, auto for 90 % of what is free, or none")
	fl.StringVar(&f.spillLimit, "spill-memory-limit", "auto", "memory of each GPU that may hold texts for later passes, which is less for as long as work needs it; what is more is moved to pinned memory, memory and disk: a size, auto for 80 % of its pool, or off for no limit")
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
	switch f.spillLimit {
	case "auto":
	case "off":
		o.SpillMemoryLimit = -1
	default:
		if o.SpillMemoryLimit, err = parseSizeFlag("spill-memory-limit", f.spillLimit); err != nil {
			return o, err
		}
		if o.SpillMemoryLimit == 0 {
			return o, fmt.Errorf("--spill-memory-limit %q: must be above 0; off means no limit", f.spillLimit)
		}
	}
	o.HostHeld = mostHeld
	if limit > 0 {
		o.HostHeld = max(leastPinned, min(mostHeld, limit/pinnedPart))
		o.PinnedSize = max(leastPinned, min(mostPinned, limit/pinnedPart))
	}
	return o, o.Validate()
}

// Pinned memory is the host's and counts as resident: with a memory limit each GPU has a part of it.
const (
	pinnedPart  = 32
	leastPinned = 256 << 10
	mostPinned  = 64 << 20
	mostHeld    = 256 << 20 // of what GPUs held, in ordinary memory, for each
)

// deviceUse is what a command's Exec needs to know of devices.
type deviceUse struct {
	Devices      []executor.Device
	CheckDevice  func(executor.Device) error
	DeviceMemory int64
	DeviceBatch  int64
	Backend      func(p lsh.Params, env *executor.Env) (lsh.Backend, error)
	Pairs        func(charNgrams int, env *executor.Env) (lsh.PairBackend, error)
	Use          func() *dedup.DeviceUse // nil without devices
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
		u.DeviceMemory = (o.PinnedSize + o.HostHeld) * int64(len(u.Devices))
	}
	if len(u.Devices) > 0 {
		u.DeviceBatch, u.Pairs, u.Use = a.BatchBytes(), a.Pairs, func() *dedup.DeviceUse { return deviceUseOf(a.Use()) }
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

// deviceUseOf is what devices did, for the record of a run.
func deviceUseOf(u engine.Use) *dedup.DeviceUse {
	d := &dedup.DeviceUse{
		Devices: u.Devices, Documents: u.Documents - u.Processor, Batches: u.Batches, Shrunk: u.Shrunk, Uploaded: u.Uploaded, Pinned: u.Pinned,
		Pairs: u.Pairs, Launches: u.Launches,
	}
	for t := mem.Tier(0); t < mem.NumTiers && u.Held.Peak != [mem.NumTiers]int64{}; t++ {
		use := dedup.TierUse{Tier: t.String(), Peak: u.Held.Peak[t], Reads: u.Held.Reads[t].Items, ReadBytes: u.Held.Reads[t].Bytes}
		for other := range mem.Tier(mem.NumTiers) {
			if other < t {
				use.Spills += u.Held.Moves[other][t].Items
				use.SpilledBytes += u.Held.Moves[other][t].Bytes
				use.Returned += u.Held.Moves[t][other].Bytes
			}
		}
		d.Tiers = append(d.Tiers, use)
	}
	return d
}
