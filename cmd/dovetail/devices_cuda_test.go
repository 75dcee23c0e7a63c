//go:build cuda

package main

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
)

func TestInfoDevices(t *testing.T) {
	m := cudatest.DGXA100()
	m.Divide(1, 4)
	m.Lose(6)
	env, set := "", false
	o := cuda.Options{LookupEnv: func(string) (string, bool) { return env, set }, Sys: fstest.MapFS{
		"bus/pci/devices/0000:11:00.0/numa_node": &fstest.MapFile{Data: []byte("3\n")},
	}}
	lines := gpus(m.Open, o)
	if len(lines) != 6+4+1+1 { // without the lost one; driver, note
		t.Fatalf("%q", lines)
	}
	want := "GPU 2: NVIDIA A100-SXM4-40GB, GPU-000000a2-0000-0000-0000-000000000002, 39 GiB of 40 GiB free, compute capability 8.0, " +
		"PCI 00000000:11:00.0, NUMA node 3"
	if got := strings.Replace(lines[5], "Mock ", "", 1); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !strings.Contains(lines[1], "instance 7/0 of "+m.UUID(1)) || !strings.Contains(lines[10], "driver 550.54.15, for CUDA up to 12.4") ||
		!strings.Contains(lines[11], "device 6 is left out") {
		t.Errorf("%q", lines)
	}
	for value, why := range map[string]string{"": "CUDA_VISIBLE_DEVICES is empty", "9": `"9" is no device of this machine`} {
		env, set = value, true
		healthy := cudatest.DGXA100()
		if lines := gpus(healthy.Open, o); len(lines) != 1 || !strings.HasPrefix(lines[0], "no GPUs: ") || !strings.Contains(lines[0], why) {
			t.Errorf("%q: %q", value, lines)
		}
	}
	for err, want := range map[error]string{
		cuda.ErrNoDriver:               "no GPUs: no NVIDIA driver is installed",
		errors.New("cuda: a mismatch"): "no GPUs, though there should be: a mismatch",
	} {
		lines := gpus(func() (*cuda.System, error) { return nil, err }, o)
		if len(lines) != 1 || !strings.HasPrefix(lines[0], want) {
			t.Errorf("%v: %q", err, lines)
		}
	}
}
