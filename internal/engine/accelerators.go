package engine

import (
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// Values of [Options].Device.
const (
	Auto = "auto" // GPUs if there are any that work, else the processor
	CPU  = "cpu"
	CUDA = "cuda"
	Sim  = "sim" // GPUs that are simulated, slowly, to try out what happens with GPUs where there are none
)

// Options say what computes signatures. No field changes a result.
type Options struct {
	// Device is Auto, CPU, CUDA or Sim; "" means CPU.
	Device string
	// SimGPUs is the number of simulated GPUs; 0 means 1.
	SimGPUs int
	// Simulation has more options of the simulated driver, NAME=VALUE with commas between.
	Simulation string
	// PoolSize and PinnedSize are those of [cuda.GPUOptions].
	PoolSize, PinnedSize int64
	// SpillMemoryLimit bounds what is held on a device, as in [cuda.StoreOptions], and HostHeld, in bytes, what of it is in ordinary
	// memory when it was moved down, for each device.
	SpillMemoryLimit, HostHeld int64
	// Lazy has devices opened and tried when an actor needs one, and their links not be tried: for processes that deal them out to
	// others, and for those others.
	Lazy bool
	// Share says which of the devices that this process sees are for it, those from from to, not including, to: ranks on one machine may
	// all see the same. nil means all.
	Share func(visible int) (from, to int)
}

// Validate reports all faults at once.
func (o *Options) Validate() error {
	var errs []error
	switch o.Device {
	case "", Auto, CPU, CUDA, Sim:
	default:
		errs = append(errs, fmt.Errorf("--device %q: must be auto, cpu, cuda or sim", o.Device))
	}
	if o.SimGPUs < 0 || o.SimGPUs > 64 {
		errs = append(errs, fmt.Errorf("--sim-gpus %d: must be from 1 to 64", o.SimGPUs))
	}
	if o.Device != Sim && (o.SimGPUs > 0 || o.Simulation != "") {
		errs = append(errs, errors.New("--sim-gpus has a meaning only with --device sim"))
	}
	return errors.Join(errs...)
}

// Accelerators are the devices of this process that are open, or none: then the processor computes. Its methods are safe for
// concurrent use.
type Accelerators struct {
	kind    string
	devices []executor.Device
	notes   []string
	gpus    gpus
}

// gpus are devices of one kind.
type gpus interface {
	backend(p lsh.Params, env *executor.Env) (lsh.Backend, error)
	pairs(charNgrams int, env *executor.Env) (lsh.PairBackend, error)
	use() Use
	batchBytes() int64
	check(executor.Device) error
	summary() string
	close() error
}

// Open finds the devices that o asks for. The caller closes them when the executor is done that they were given to.
func Open(o Options) (*Accelerators, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Device == "" || o.Device == CPU {
		return &Accelerators{kind: CPU}, nil
	}
	a := &Accelerators{kind: o.Device}
	err := a.open(o)
	if err == nil && len(a.devices) > 0 {
		return a, nil
	}
	if err == nil {
		err = errNone
	}
	if o.Device != Auto {
		return nil, fmt.Errorf("--device %s: %w", o.Device, err)
	}
	none := &Accelerators{kind: CPU, notes: a.notes}
	if !usual(err) {
		none.notes = append(none.notes, fmt.Sprintf("no GPU is used: %v", err))
	}
	return none, nil
}

var errNone = errors.New("there is no GPU that this process may use")

// Kind returns CPU, CUDA or Sim: what computes.
func (a *Accelerators) Kind() string { return a.kind }

// Devices returns the devices for [executor.Config].Devices; none if the processor computes.
func (a *Accelerators) Devices() []executor.Device { return a.devices }

// Notes are lines worth showing, such as that a device was left out and why.
func (a *Accelerators) Notes() []string { return a.notes }

// Name says in a few words what computes, for the record of a run.
func (a *Accelerators) Name() string {
	if len(a.devices) == 0 {
		return CPU
	}
	return fmt.Sprintf("%s: %d x %s", a.kind, len(a.devices), a.devices[0].Name)
}

// Backend makes the backend of an actor: on its device, or on the processor if it has none. An error that may not happen again is
// an [executor.Transient] one.
func (a *Accelerators) Backend(p lsh.Params, env *executor.Env) (lsh.Backend, error) {
	if env.Device == nil || a.gpus == nil {
		return lsh.NewCPUBackend(p, env.Alloc)
	}
	return a.gpus.backend(p, env)
}

// Pairs makes what compares texts for an actor: on its device, or on the processor if it has none. Errors are those of Backend.
func (a *Accelerators) Pairs(charNgrams int, env *executor.Env) (lsh.PairBackend, error) {
	if env.Device == nil || a.gpus == nil {
		return lsh.NewCPUPairs(charNgrams)
	}
	return a.gpus.pairs(charNgrams, env)
}

// BatchBytes is how much text, in bytes, suits each device for all batches that are under way on it; 0 if it is not known.
func (a *Accelerators) BatchBytes() int64 {
	if a.gpus == nil {
		return 0
	}
	return a.gpus.batchBytes()
}

// Use says what devices did, all of them together unless it says otherwise. Sizes are in bytes.
type Use struct {
	Devices                                        int
	Batches, Documents, Shrunk, Processor, NotHeld int64
	Uploaded, Pinned, PoolPeak                     int64          // PoolPeak is the most in one
	Texts, Pairs, Launches                         int64          // compared
	Held                                           mem.StoreStats // Peak is the most in one
}

// Use returns what the devices of this process did.
func (a *Accelerators) Use() Use {
	if a.gpus == nil {
		return Use{}
	}
	return a.gpus.use()
}

// Check is [executor.Config].CheckDevice.
func (a *Accelerators) Check(d executor.Device) error {
	if a.gpus == nil {
		return nil
	}
	return a.gpus.check(d)
}

// Summary says what the devices did, in a line; it is empty if there are none, or they did nothing here.
func (a *Accelerators) Summary() string {
	if a.gpus == nil {
		return ""
	}
	return a.gpus.summary()
}

// Close gives the devices back. It fails if something of them is in use.
func (a *Accelerators) Close() error {
	if a == nil || a.gpus == nil {
		return nil
	}
	return a.gpus.close()
}
