package main

import (
	"fmt"
	"io/fs"
	"runtime"
	"slices"

	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/internal/bootstrap"
	"github.com/dovetail-dedup/dovetail/internal/engine"
	"github.com/dovetail-dedup/dovetail/internal/locality"
)

// Ranks with GPUs are best near them: on the processors of their NUMA node, and with the network interface that is next to them.

const (
	bindAuto     = "auto"
	bindNone     = "none"
	bindVariable = "DOVETAIL_BIND"
)

func (f *deviceFlags) addBind(fl *pflag.FlagSet) {
	fl.StringVar(&f.bind, "bind", bindAuto, "where ranks run that a launcher lets run everywhere: auto, on the processors near their GPUs if there are enough for each, or none, where the system likes ($"+bindVariable+")")
}

// stay has a rank be near its GPUs, if a launcher has started several and these are known, and says which of several network interfaces to take.
func (f *deviceFlags) stay(fl *pflag.FlagSet, p *bootstrap.Place) (near func(interfaces []string) []string, err error) {
	if v := given(fl, "bind", bindVariable); v != "" {
		f.bind = v
	}
	if f.bind != bindAuto && f.bind != bindNone {
		return nil, fmt.Errorf("--bind %q: must be %s or %s", f.bind, bindAuto, bindNone)
	}
	if p == nil || p.Size <= 1 || f.device == engine.CPU || f.device == engine.Sim {
		return nil, nil
	}
	gpus := engine.Addresses(engine.Options{Device: f.device, Share: p.GPUs})
	if len(gpus) == 0 {
		return nil, nil
	}
	sys := locality.System()
	if f.bind == bindAuto {
		bindNear(sys, gpus, p)
	}
	return func(interfaces []string) []string { return locality.Nearest(sys, gpus[0], interfaces) }, nil
}

// bindNear binds this process to the processors near its GPUs. That it cannot is worth a note and no more.
func bindNear(sys fs.FS, gpus []string, p *bootstrap.Place) {
	allowed, err := locality.Allowed()
	if err != nil {
		return // only Linux knows
	}
	cpus := nearCPUs(sys, gpus, allowed, runtime.GOMAXPROCS(0))
	if cpus == nil {
		return
	}
	if err := locality.Bind(cpus); err != nil {
		p.Notes = append(p.Notes, fmt.Sprintf("this rank runs on any processor: %v", err))
		return
	}
	p.Notes = append(p.Notes, fmt.Sprintf("this rank runs on the %d processors near its GPU %s; --bind none lets it run everywhere", len(cpus), gpus[0]))
}

// nearCPUs returns which of the processors that a rank may run on are near its GPUs, nil if it is to stay on all. Several ranks can be
// near the same processors, one for each share of the GPUs there, and all of them must have as many as they have workers: where a machine says
// that all GPUs are at one node, the others' processors would do nothing.
func nearCPUs(sys fs.FS, gpus []string, allowed []int, workers int) []int {
	near := locality.CPUs(sys, gpus[0])
	for _, g := range gpus[1:] {
		if !slices.Equal(locality.CPUs(sys, g), near) {
			return nil
		}
	}
	near = slices.DeleteFunc(near, func(n int) bool { return !slices.Contains(allowed, n) })
	ranks := (locality.GPUsNear(sys, gpus[0]) + len(gpus) - 1) / len(gpus)
	if len(near) == len(allowed) || len(near) < workers*max(1, ranks) {
		return nil
	}
	return near
}
