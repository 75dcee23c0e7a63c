package executor

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ErrDeviceLost is wrapped when a stage cannot go on because devices are lost.
var ErrDeviceLost = errors.New("device is lost")

// DeviceCUDA is the [Device].Kind of NVIDIA's GPUs and of instances of them.
const DeviceCUDA = "cuda"

// Device is an accelerator, or a part of one, that an actor can own. The executor only deals devices out; it opens none.
type Device struct {
	// Kind says how to speak to it, such as [DeviceCUDA].
	Kind string
	// Index is its number in the tools of its maker, for people.
	Index int
	// UUID tells it apart from all others.
	UUID string
	// Name is that of the product.
	Name string
	// Memory is its size in bytes.
	Memory int64
	// NUMANode is the one it is attached to, -1 if that is not known.
	NUMANode int
}

// String names the device for people.
func (d Device) String() string { return fmt.Sprintf("device %d (%s, %s)", d.Index, d.Name, d.UUID) }

// devices are those of an executor, and which of them are lost. It is safe for concurrent use.
type devices struct {
	list     []*Device
	reserved float64
	check    func(Device) error

	mu   sync.Mutex
	lost map[*Device]error
}

func newDevices(cfg *Config) *devices {
	d := &devices{reserved: cfg.ReservedGPUs, check: cfg.CheckDevice, lost: make(map[*Device]error)}
	for _, dev := range cfg.Devices {
		d.list = append(d.list, &dev)
	}
	return d
}

// working returns the devices that are not lost.
func (d *devices) working() (list []*Device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, dev := range d.list {
		if d.lost[dev] == nil {
			list = append(list, dev)
		}
	}
	return list
}

// memories returns the sizes of devices.
func memories(list []*Device) []int64 {
	sizes := make([]int64, len(list))
	for i, dev := range list {
		sizes[i] = dev.Memory
	}
	return sizes
}

// why returns why a device is lost, and nil for one that works, and for none.
func (d *devices) why(dev *Device) error {
	if dev == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost[dev]
}

// ask finds out whether a device still works, and returns why not. news says that this was not known before.
func (d *devices) ask(stage string, dev *Device) (why error, news bool) {
	if dev == nil || d.check == nil {
		return nil, false
	}
	if why = d.why(dev); why != nil {
		return why, false
	}
	// Without the lock: a device that is about to be lost may take its time to answer.
	if why = guard(stage, "", "CheckDevice", nil, func() error { return d.check(*dev) }); why == nil {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.lost[dev]; known != nil {
		return known, false
	}
	d.lost[dev] = why
	return why, true
}

// lostDevices returns how many there are.
func (d *devices) lostDevices() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.lost)
}

// deviceError is the end of an actor whose device is lost. It is not the error that the actor saw, which follows from it.
type deviceError struct {
	dev  Device
	why  error
	seen error
}

// Error is one line: the device, why it is lost, and what the actor saw of it.
func (e *deviceError) Error() string {
	return fmt.Sprintf("%v is lost: %v; its actor saw: %v", e.dev, e.why, e.seen)
}

// Is makes errors.Is(err, ErrDeviceLost) true.
func (e *deviceError) Is(target error) bool { return target == ErrDeviceLost }

// Unwrap returns what [Config].CheckDevice said.
func (e *deviceError) Unwrap() error { return e.why }

// blame is told that an actor failed with err. If its device is lost it returns an error that says so, otherwise err. The first
// to find out tells the others, and ends the stage if no device is left for it.
func (r *stageRun) blame(env *Env, err error) error {
	if env.Device == nil || r.failed() {
		return err
	}
	why, news := r.e.devices.ask(r.name, env.Device)
	if why == nil {
		return err
	}
	if news {
		r.event(levelDeviceLost, "device lost", why, deviceAttrs(env)...)
		r.note(fmt.Sprintf("%v is lost: %v; it gets no actor any more", env.Device, why))
	}
	working := r.e.devices.working()
	if !slices.ContainsFunc(deviceRoom(r.stage.Resources(), memories(working), 0), func(n int) bool { return n > 0 }) {
		r.fail(fmt.Errorf("executor: stage %q: no device is left that it could use, of %d there were: %w",
			r.name, len(r.e.devices.list), &deviceError{*env.Device, why, err}))
	}
	return &deviceError{*env.Device, why, err}
}

// gone reports whether the device of an actor is known to be lost.
func (r *stageRun) gone(env *Env) bool { return r.e.devices.why(env.Device) != nil }
