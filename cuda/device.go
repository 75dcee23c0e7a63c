package cuda

import (
	"errors"
	"io/fs"
	"os"

	"github.com/dovetail-dedup/dovetail/internal/locality"
)

// Errors to compare with errors.Is.
var (
	// ErrNotBuilt is what [Open] returns in a build without the tag "cuda".
	ErrNotBuilt = errors.New("built without CUDA; a binary with it is made by `make build-cuda`")
	// ErrNoDriver is what [Open] wraps when NVIDIA's driver is not installed, which is no fault of the machine.
	ErrNoDriver = errors.New("no NVIDIA driver is installed (NVML, libnvidia-ml.so.1, was not found)")
	// ErrLost is wrapped when a device that was there does not answer any more.
	ErrLost = errors.New("the GPU does not answer")
)

// Device is a GPU, or one instance of a GPU that is divided (MIG).
type Device struct {
	// Index is that of the GPU in nvidia-smi, which counts in the order of PCI bus ids. Instances have that of their GPU.
	Index int
	// UUID is what CUDA_VISIBLE_DEVICES takes: "GPU-" or "MIG-" and 36 digits and dashes.
	UUID string
	// Name is that of the product, and of an instance its profile too.
	Name string
	// MemoryTotal and MemoryFree are in bytes, as of when the devices were listed.
	MemoryTotal, MemoryFree int64
	// Major and Minor are the compute capability.
	Major, Minor int
	// PCIBusID is domain, bus, device and function, as in "00000000:0f:00.0".
	PCIBusID string
	// NUMANode is the one the GPU is attached to, -1 if that is not known.
	NUMANode int
	// MIG says which instance of its GPU the device is; nil for a whole GPU.
	MIG *Instance
}

// Instance is a part of a GPU that is a device of its own.
type Instance struct {
	Parent          string // UUID of the GPU
	GPUInstance     int
	ComputeInstance int
}

// Inventory is what a machine has.
type Inventory struct {
	// Devices are those that the program may use, in the order in which CUDA_VISIBLE_DEVICES names them.
	Devices []Device
	// Driver is the version of NVIDIA's driver, and CUDA the newest version of CUDA that it serves.
	Driver, CUDA string
	// Notes are lines worth showing, such as that a device was left out and why.
	Notes []string
}

// Options says where to look. The zero value is this process and this machine.
type Options struct {
	// LookupEnv reads the environment; nil means [os.LookupEnv].
	LookupEnv func(name string) (value string, set bool)
	// Sys is the tree of /sys; nil means the machine's.
	Sys fs.FS
}

// Lookup reads a variable of the environment.
func (o Options) Lookup(name string) (value string, set bool) {
	if o.LookupEnv == nil {
		return os.LookupEnv(name)
	}
	return o.LookupEnv(name)
}

// library is what answers for the devices of a machine.
type library interface {
	// list returns all devices by their index, and notes about those that do not answer.
	list() (Inventory, error)
	// check asks whether a device still works.
	check(uuid string) error
	close() error
}

// System is the devices of this machine, for as long as it is open. Its methods are safe for concurrent use.
type System struct{ lib library }

// Open loads NVML. It fails with [ErrNotBuilt] or [ErrNoDriver] where there can be no devices, and with another error, which
// says what is wrong, where there should be. The caller closes the system.
func Open() (*System, error) {
	lib, err := open()
	if err != nil {
		return nil, err
	}
	return &System{lib}, nil
}

// Devices lists the devices that this process may use. A device that does not answer is left out with a note. None is no error.
func (s *System) Devices(o Options) (Inventory, error) {
	if o.Sys == nil {
		o.Sys = locality.System()
	}
	inv, err := s.lib.list()
	if err != nil {
		return Inventory{}, err
	}
	for i := range inv.Devices {
		inv.Devices[i].NUMANode = locality.NUMANode(o.Sys, inv.Devices[i].PCIBusID)
	}
	if list, set := o.Lookup(VisibleDevices); set {
		all := inv.Devices
		var note string
		inv.Devices, note = Visible(all, list)
		if note != "" {
			inv.Notes = append(inv.Notes, note)
		}
	}
	return inv, nil
}

// Check asks whether the device with that UUID still works. If not, the error wraps [ErrLost] and says what NVML said; who asks
// knows which device it is about.
func (s *System) Check(uuid string) error { return s.lib.check(uuid) }

// Close unloads NVML.
func (s *System) Close() error { return s.lib.close() }
