package engine

import (
	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/executor"
)

// Devices describes GPUs to an executor, for [executor.Config].Devices.
func Devices(inv cuda.Inventory) []executor.Device {
	devs := make([]executor.Device, len(inv.Devices))
	for i, d := range inv.Devices {
		devs[i] = executor.Device{
			Kind: executor.DeviceCUDA, Index: d.Index, UUID: d.UUID, Name: d.Name, Memory: d.MemoryTotal, NUMANode: d.NUMANode,
		}
	}
	return devs
}

// CheckDevice returns what [executor.Config].CheckDevice is for the devices of s, which must stay open as long as the executor.
func CheckDevice(s *cuda.System) func(executor.Device) error {
	return func(d executor.Device) error { return s.Check(d.UUID) }
}
