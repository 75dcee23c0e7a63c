//go:build cuda

package cuda

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

func open() (library, error) {
	lib := nvml.New()
	switch ret := lib.Init(); ret {
	case nvml.SUCCESS:
		return nvmlLibrary{lib}, nil
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return nil, ErrNoDriver
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return nil, errors.New("cuda: NVIDIA's driver is installed but not loaded; see dmesg, or load the kernel module nvidia")
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return nil, errors.New("cuda: NVIDIA's library and the kernel's driver have different versions; restart the machine after an update")
	default:
		return nil, fmt.Errorf("cuda: NVML does not start: %v", ret)
	}
}

// OpenWith returns the system that lib describes, such as one of go-nvml's mocks. It exists only in builds with the tag "cuda".
func OpenWith(lib nvml.Interface) (*System, error) {
	if ret := lib.Init(); ret != nvml.SUCCESS {
		return nil, fmt.Errorf("cuda: NVML does not start: %v", ret)
	}
	return &System{nvmlLibrary{lib}}, nil
}

// nvmlLibrary is NVML once it was started.
type nvmlLibrary struct{ lib nvml.Interface }

func (l nvmlLibrary) close() error {
	if ret := l.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("cuda: NVML does not stop: %v", ret)
	}
	return nil
}

func (l nvmlLibrary) list() (inv Inventory, err error) {
	inv.Driver, _ = l.lib.SystemGetDriverVersion()
	if v, ret := l.lib.SystemGetCudaDriverVersion(); ret == nvml.SUCCESS {
		inv.CUDA = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
	}
	n, ret := l.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return Inventory{}, fmt.Errorf("cuda: counting the devices: %v", ret)
	}
	for i := range n {
		devs, err := l.device(i)
		if err != nil {
			inv.Notes = append(inv.Notes, fmt.Sprintf("device %d is left out: %v", i, err))
			continue
		}
		inv.Devices = append(inv.Devices, devs...)
	}
	slices.SortStableFunc(inv.Devices, byIndex)
	return inv, nil
}

// device returns the GPU with an index, or its instances if it is divided.
func (l nvmlLibrary) device(index int) ([]Device, error) {
	h, ret := l.lib.DeviceGetHandleByIndex(index)
	if ret != nvml.SUCCESS {
		return nil, ret
	}
	d := Device{Index: index, NUMANode: -1}
	pci, ret := h.GetPciInfo()
	if ret != nvml.SUCCESS {
		return nil, ret
	}
	d.PCIBusID = strings.ToLower(text(pci.BusId[:]))
	if d.Major, d.Minor, ret = h.GetCudaComputeCapability(); ret != nvml.SUCCESS {
		return nil, ret
	}
	if err := describe(h, &d); err != nil {
		return nil, err
	}
	// Not every GPU can be divided, and not every driver knows.
	if mode, _, ret := h.GetMigMode(); ret != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
		return []Device{d}, nil
	}
	return instances(h, d)
}

// instances returns those of a GPU that is divided, which as a whole cannot be used. There may be none.
func instances(gpu nvml.Device, whole Device) (devs []Device, err error) {
	most, ret := gpu.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return nil, ret
	}
	for i := range most {
		h, ret := gpu.GetMigDeviceHandleByIndex(i)
		if ret == nvml.ERROR_NOT_FOUND || ret == nvml.ERROR_INVALID_ARGUMENT {
			continue // not in use
		}
		if ret != nvml.SUCCESS {
			return nil, ret
		}
		d := whole
		d.MIG = &Instance{Parent: whole.UUID}
		if d.MIG.GPUInstance, ret = h.GetGpuInstanceId(); ret != nvml.SUCCESS {
			return nil, ret
		}
		if d.MIG.ComputeInstance, ret = h.GetComputeInstanceId(); ret != nvml.SUCCESS {
			return nil, ret
		}
		if err := describe(h, &d); err != nil {
			return nil, err
		}
		devs = append(devs, d)
	}
	return devs, nil
}

// describe fills in what GPUs and instances have in common.
func describe(h nvml.Device, d *Device) error {
	var ret nvml.Return
	if d.UUID, ret = h.GetUUID(); ret != nvml.SUCCESS {
		return ret
	}
	if d.Name, ret = h.GetName(); ret != nvml.SUCCESS {
		return ret
	}
	memory, ret := h.GetMemoryInfo()
	if ret != nvml.SUCCESS {
		return ret
	}
	d.MemoryTotal, d.MemoryFree = int64(memory.Total), int64(memory.Free)
	return nil
}

// check asks for something that only the device itself can answer.
func (l nvmlLibrary) check(uuid string) error {
	h, ret := l.lib.DeviceGetHandleByUUID(uuid)
	if ret == nvml.SUCCESS {
		_, ret = h.GetMemoryInfo()
	}
	if ret != nvml.SUCCESS {
		return fmt.Errorf("%w (NVML says %v)", ErrLost, ret)
	}
	return nil
}

// text is a C string.
func text[T ~int8 | ~uint8](c []T) string {
	var b []byte
	for _, x := range c {
		if x == 0 {
			break
		}
		b = append(b, byte(x))
	}
	return string(b)
}

// byIndex orders devices as nvidia-smi does.
func byIndex(a, b Device) int {
	c := cmp.Compare(a.Index, b.Index)
	if c == 0 && a.MIG != nil && b.MIG != nil {
		c = cmp.Or(cmp.Compare(a.MIG.GPUInstance, b.MIG.GPUInstance), cmp.Compare(a.MIG.ComputeInstance, b.MIG.ComputeInstance))
	}
	return c
}
