//go:build cuda

package cuda_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
)

// unset is an environment without anything.
func unset(string) (string, bool) { return "", false }

func open(t *testing.T, m *cudatest.Machine) *cuda.System {
	t.Helper()
	s, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// On a machine without a driver there is no device, and on any other Open works or says what is wrong.
func TestOpen(t *testing.T) {
	s, err := cuda.Open()
	if errors.Is(err, cuda.ErrNoDriver) {
		return
	}
	if err != nil {
		t.Skipf("a driver that does not work: %v", err)
	}
	defer s.Close()
	inv, err := s.Devices(cuda.Options{LookupEnv: unset})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range inv.Devices {
		if err := s.Check(d.UUID); err != nil || d.MemoryTotal == 0 || d.Major == 0 || d.PCIBusID == "" {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

func TestEightGPUs(t *testing.T) {
	s := open(t, cudatest.DGXA100())
	sys := fstest.MapFS{"bus/pci/devices/0000:11:00.0/numa_node": &fstest.MapFile{Data: []byte("3\n")}}
	inv, err := s.Devices(cuda.Options{LookupEnv: unset, Sys: sys})
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Devices) != 8 || inv.Driver != "550.54.15" || inv.CUDA != "12.4" || len(inv.Notes) != 0 {
		t.Fatalf("%+v", inv)
	}
	want := cuda.Device{
		Index: 2, UUID: "GPU-000000a2-0000-0000-0000-000000000002", Name: inv.Devices[2].Name, MemoryTotal: 40 << 30,
		MemoryFree: 39 << 30, Major: 8, PCIBusID: "00000000:11:00.0", NUMANode: 3,
	}
	if got := inv.Devices[2]; got != want || !strings.Contains(got.Name, "A100") {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if inv.Devices[3].NUMANode != -1 {
		t.Errorf("%+v", inv.Devices[3])
	}
	set := func(string) (string, bool) { return "5,GPU-000000a1", true }
	if inv, err = s.Devices(cuda.Options{LookupEnv: set}); err != nil || len(inv.Devices) != 1 || inv.Devices[0].Index != 5 || len(inv.Notes) != 1 {
		t.Errorf("%+v, %v", inv, err)
	}
}

// A GPU that is divided is listed by its instances.
func TestInstances(t *testing.T) {
	m := cudatest.DGXA100()
	m.Divide(1, 4)
	m.Divide(6, 0)
	s := open(t, m)
	inv, err := s.Devices(cuda.Options{LookupEnv: unset})
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Devices) != 6+4 {
		t.Fatalf("%+v", inv)
	}
	for i, d := range inv.Devices[1:5] {
		if d.Index != 1 || d.MIG == nil || d.MIG.Parent != m.UUID(1) || d.MIG.GPUInstance != 7+i || d.MemoryTotal != 10<<30 ||
			!strings.HasPrefix(d.UUID, "MIG-") || !strings.Contains(d.Name, "1g.10gb") || d.Major != 8 || d.PCIBusID != "00000000:10:00.0" {
			t.Errorf("%+v, %+v", d, d.MIG)
		}
		if err := s.Check(d.UUID); err != nil {
			t.Error(err)
		}
	}
	m.Lose(1)
	if err := s.Check(inv.Devices[2].UUID); !errors.Is(err, cuda.ErrLost) {
		t.Errorf("got %v", err)
	}
}

// A GPU that is lost fails its check, and is left out of the next list, whose other indexes stay.
func TestLost(t *testing.T) {
	m := cudatest.DGXA100()
	s := open(t, m)
	for i := range 8 {
		if err := s.Check(m.UUID(i)); err != nil {
			t.Fatal(err)
		}
	}
	m.Lose(3)
	err := s.Check(m.UUID(3))
	if !errors.Is(err, cuda.ErrLost) || !strings.Contains(strings.ToLower(err.Error()), "gpu_is_lost") {
		t.Errorf("got %v", err)
	}
	if err := s.Check(m.UUID(4)); err != nil {
		t.Error(err)
	}
	if err := s.Check("GPU-of-another-machine"); !errors.Is(err, cuda.ErrLost) {
		t.Errorf("got %v", err)
	}
	inv, err := s.Devices(cuda.Options{LookupEnv: unset})
	if err != nil || len(inv.Devices) != 7 || inv.Devices[3].Index != 4 || len(inv.Notes) != 1 ||
		!strings.HasPrefix(inv.Notes[0], "device 3 is left out: ") {
		t.Errorf("%+v, %v", inv, err)
	}
}
