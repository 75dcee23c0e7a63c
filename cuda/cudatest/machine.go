//go:build cuda

package cudatest

import (
	"fmt"
	"sync/atomic"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/dovetail-dedup/dovetail/cuda"
)

// Machine is a DGX A100: eight GPUs with 40 GiB each. Its methods are safe for concurrent use.
type Machine struct {
	server *server.Server
	gpus   []*gpu
}

type gpu struct {
	*server.Device
	lost      atomic.Bool
	instances []nvml.Device
}

// DGXA100 returns a machine with eight GPUs, all of which work.
func DGXA100() *Machine {
	m := &Machine{server: dgxa100.New()}
	for i, d := range m.server.Devices {
		g := &gpu{Device: d.(*server.Device)}
		g.Device.UUID = fmt.Sprintf("GPU-%08x-0000-0000-0000-%012x", 0xa0+i, i)
		g.Device.MemoryInfo.Free = g.Device.MemoryInfo.Total - 1<<30
		g.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return g.MemoryInfo, g.state() }
		g.GetPciInfoFunc = func() (info nvml.PciInfo, ret nvml.Return) {
			for at, c := range []byte(fmt.Sprintf("00000000:%02X:00.0", 0x0f+i)) {
				info.BusId[at] = asC(info.BusId[at], c)
			}
			return info, g.state()
		}
		m.gpus = append(m.gpus, g)
	}
	m.server.DeviceGetHandleByIndexFunc = func(index int) (nvml.Device, nvml.Return) {
		if index < 0 || index >= len(m.gpus) {
			return nil, nvml.ERROR_INVALID_ARGUMENT
		}
		return m.gpus[index].Device, m.gpus[index].state()
	}
	m.server.DeviceGetHandleByUUIDFunc = func(uuid string) (nvml.Device, nvml.Return) {
		for _, g := range m.gpus {
			if g.Device.UUID == uuid {
				return g.Device, g.state()
			}
			for _, in := range g.instances {
				if u, _ := in.GetUUID(); u == uuid {
					return in, g.state()
				}
			}
		}
		return nil, nvml.ERROR_NOT_FOUND
	}
	return m
}

// asC converts a byte to the type that C has for it, which is that of like.
func asC[T ~int8 | ~uint8](_ T, b byte) T { return T(b) }

func (g *gpu) state() nvml.Return {
	if g.lost.Load() {
		return nvml.ERROR_GPU_IS_LOST
	}
	return nvml.SUCCESS
}

// Open returns the machine's devices. The caller closes the system.
func (m *Machine) Open() (*cuda.System, error) { return cuda.OpenWith(m.server) }

// UUID returns that of a GPU.
func (m *Machine) UUID(index int) string { return m.gpus[index].Device.UUID }

// Lose has a GPU fall off the bus: from now on it answers nothing.
func (m *Machine) Lose(index int) { m.gpus[index].lost.Store(true) }

// Divide turns a GPU into n instances of an nth of its memory each (MIG). It must not be called once the machine is open.
func (m *Machine) Divide(index, n int) {
	g := m.gpus[index]
	g.MigMode = nvml.DEVICE_MIG_ENABLE
	for i := range n {
		g.instances = append(g.instances, &mock.Device{
			GetUUIDFunc: func() (string, nvml.Return) {
				return fmt.Sprintf("MIG-%08x-0000-0000-%04x-%012x", 0xa0+index, i, index), g.state()
			},
			GetNameFunc: func() (string, nvml.Return) {
				return fmt.Sprintf("%s MIG 1g.%dgb", g.Config.Name, g.MemoryInfo.Total>>30/uint64(n)), g.state()
			},
			GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
				return nvml.Memory{Total: g.MemoryInfo.Total / uint64(n), Free: g.MemoryInfo.Free / uint64(n)}, g.state()
			},
			GetGpuInstanceIdFunc:     func() (int, nvml.Return) { return 7 + i, g.state() },
			GetComputeInstanceIdFunc: func() (int, nvml.Return) { return 0, g.state() },
		})
	}
	const slots = 7
	g.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return slots, g.state() }
	g.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i >= len(g.instances) {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return g.instances[i], g.state()
	}
}
