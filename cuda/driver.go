//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"gorgonia.org/cu"

	"github.com/dovetail-dedup/dovetail/internal/locality"
)

const (
	// LibraryVariable is the environment variable that names the library of NVIDIA's driver, if it is not the usual one.
	LibraryVariable = "DOVETAIL_LIBCUDA"
	// SimulatorVariable is the one that names the library of the simulated driver.
	SimulatorVariable = "DOVETAIL_CUDASIM"

	driverLibrary    = "libcuda.so.1"
	simulatorLibrary = "libdovetail_cudasim.so"
)

// Driver is a CUDA driver: NVIDIA's, or the simulated one. A process has one at a time. Its methods are safe for concurrent use.
type Driver struct {
	simulated bool
	version   int
}

// driver is the one that is open.
var driver struct {
	sync.Mutex
	opened *Driver
	users  int
	count  uint64 // contexts ever made
}

// OpenDriver loads NVIDIA's driver: libcuda.so.1, or what the environment variable DOVETAIL_LIBCUDA names. It fails with
// [ErrNoCUDA] where there is none, and with another error, which says what is wrong, where it does not work.
func OpenDriver() (*Driver, error) {
	path := os.Getenv(LibraryVariable)
	if path == "" {
		path = driverLibrary
	}
	err := loadLibrary(path)
	if err != nil && path == driverLibrary && strings.Contains(err.Error(), "No such file") {
		return nil, ErrNoCUDA
	}
	if err != nil {
		return nil, fmt.Errorf("cuda: loading the driver: %w", err)
	}
	return startDriver(false)
}

// OpenSimulator loads the simulated driver. options are NAME=VALUE with commas between, such as gpus=2,memory=1000000,seed=7;
// internal/cudasim/sim.h lists them. It is looked for where DOVETAIL_CUDASIM says, else in the folder of this program, else in
// .build/cuda beside that folder. It fails while a context of a simulation before is in use.
func OpenSimulator(options string) (*Driver, error) {
	path, err := SimulatorPath()
	if err != nil {
		return nil, err
	}
	if err := loadLibrary(path); err != nil {
		return nil, fmt.Errorf("cuda: loading the simulated driver: %w", err)
	}
	if err := simulate(options); err != nil {
		return nil, fmt.Errorf("cuda: the simulated driver: %w", err)
	}
	return startDriver(true)
}

// SimulatorPath returns where the library of the simulated driver is; the error says where it was looked for.
func SimulatorPath() (string, error) {
	if path := os.Getenv(SimulatorVariable); path != "" {
		return path, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cuda: the simulated driver: %w", err)
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	dir := filepath.Dir(exe)
	for _, path := range []string{filepath.Join(dir, simulatorLibrary), filepath.Join(dir, "..", ".build", "cuda", simulatorLibrary)} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("cuda: the simulated driver, %s, is not in %s: `make cudasim` makes it, and %s says where it is",
		simulatorLibrary, dir, SimulatorVariable)
}

func startDriver(simulated bool) (*Driver, error) {
	driver.Lock()
	defer driver.Unlock()
	if d := driver.opened; d != nil && driver.users > 0 && d.simulated != simulated {
		return nil, errors.New("cuda: another driver is in use in this process")
	}
	if err := initDriver(); err != nil {
		return nil, wrap("cuInit", err)
	}
	driver.opened = &Driver{simulated: simulated, version: cu.Version()}
	return driver.opened, nil
}

// Simulated reports whether GPUs are simulated.
func (d *Driver) Simulated() bool { return d.simulated }

// Version returns the newest version of CUDA that the driver serves, as 13.0.
func (d *Driver) Version() string { return fmt.Sprintf("%d.%d", d.version/1000, d.version%1000/10) }

// Devices lists the GPUs that the driver lets this process use: those that CUDA_VISIBLE_DEVICES names. MemoryFree is 0: it is not
// known without a context.
func (d *Driver) Devices() ([]Device, error) {
	n, err := cu.NumDevices()
	if err != nil {
		return nil, wrap("cuDeviceGetCount", err)
	}
	devs := make([]Device, n)
	for i := range devs {
		if devs[i], err = d.describe(i); err != nil {
			return nil, err
		}
	}
	return devs, nil
}

func (d *Driver) describe(ordinal int) (Device, error) {
	dev, err := cu.GetDevice(ordinal)
	if err != nil {
		return Device{}, wrap("cuDeviceGet", err)
	}
	out := Device{Index: ordinal, NUMANode: -1}
	if out.Name, err = dev.Name(); err != nil {
		return Device{}, wrap("cuDeviceGetName", err)
	}
	id, err := dev.UUID()
	if err != nil {
		return Device{}, wrap("cuDeviceGetUuid", err)
	}
	out.UUID = "GPU-" + id.String()
	if out.MemoryTotal, err = dev.TotalMem(); err != nil {
		return Device{}, wrap("cuDeviceTotalMem", err)
	}
	for attribute, v := range map[cu.DeviceAttribute]*int{cu.ComputeCapabilityMajor: &out.Major, cu.ComputeCapabilityMinor: &out.Minor} {
		if *v, err = dev.Attribute(attribute); err != nil {
			return Device{}, wrap("cuDeviceGetAttribute", err)
		}
	}
	if out.PCIBusID, err = pciBusID(dev); err != nil {
		return Device{}, wrap("cuDeviceGetPCIBusId", err)
	}
	out.PCIBusID = strings.ToLower(out.PCIBusID)
	out.NUMANode = locality.NUMANode(locality.System(), out.PCIBusID)
	return out, nil
}

// SimulatorStat returns a number about the simulation, such as "used", "peak", "pinned", "streams", "events", "launches" or
// "queued", of one GPU or with -1 of all; -1 if the driver is not the simulated one.
func SimulatorStat(name string, gpu int) int64 { return simulateStat(name, gpu) }
