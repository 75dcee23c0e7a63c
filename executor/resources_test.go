package executor

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// gpus is a machine with 8 CPUs and n devices of so many GB.
func gpus(n int, gb float64) Capacity {
	c := Capacity{CPUs: 8}
	for range n {
		c.Devices = append(c.Devices, int64(gb*1e9))
	}
	return c
}

// less returns c with something reserved.
func less(c Capacity, cpus, gpus float64) Capacity {
	c.ReservedCPUs, c.ReservedGPUs = cpus, gpus
	return c
}

func TestActorCount(t *testing.T) {
	eight := Capacity{CPUs: 8}
	for _, tc := range []struct {
		name             string
		need             Resources
		have             Capacity
		batches, workers int
		want             int
		warning, err     string
	}{
		{name: "the zero value is one CPU", have: eight, batches: 100, want: 8},
		{name: "fewer batches than CPUs", have: eight, batches: 3, want: 3},
		{name: "no batches", have: eight, batches: 0, want: 0},
		{name: "batches not known", have: eight, batches: -1, want: 8},
		{name: "several CPUs each", need: Resources{CPUs: 3}, have: eight, batches: 100, want: 2},
		{name: "half a CPU each", need: Resources{CPUs: 0.5}, have: eight, batches: 100, want: 16},
		{name: "CPUs do not matter", need: Resources{CPUs: -1}, have: eight, batches: 100, want: 100},
		{name: "nothing matters and batches not known", need: Resources{CPUs: -1}, have: eight, batches: -1, want: 8},
		{name: "no CPU for one", need: Resources{CPUs: 9}, have: eight, batches: 1,
			err: `not enough resources: an actor of stage "s" needs 9 CPUs and there are 8`},
		{name: "no CPUs at all", batches: 1, err: "needs 1 CPUs and there are 0"},
		{name: "no CPUs and no batches", batches: 0, err: "there are 0"},
		{name: "negative capacity", have: Capacity{CPUs: -3}, batches: 1, err: "there are 0"},
		{name: "GPUs", need: Resources{GPUs: 1}, have: gpus(4, 80), batches: 100, want: 4},
		{name: "two actors per GPU", need: Resources{GPUs: 0.5}, have: gpus(4, 80), batches: 100, want: 8},
		{name: "CPUs and GPUs, CPUs decide", need: Resources{CPUs: 4, GPUs: 1}, have: gpus(4, 80), batches: 100, want: 2},
		{name: "CPUs and GPUs, GPUs decide", need: Resources{CPUs: 1, GPUs: 1}, have: gpus(4, 80), batches: 100, want: 4},
		{name: "no GPU", need: Resources{GPUs: 1}, have: eight, batches: 1, err: "needs 1 GPUs and there are 0"},
		{name: "device memory", need: Resources{GPUMemoryGB: 20}, have: gpus(2, 80), batches: 100, want: 8},
		{name: "little device memory is not rounded to none", need: Resources{GPUMemoryGB: 1},
			have: gpus(1, 80), batches: 100, want: 80},
		{name: "more than a device has", need: Resources{GPUMemoryGB: 90}, have: gpus(2, 80), batches: 1,
			err: "needs 90 GB of device memory and the largest device has 80"},
		{name: "device memory without a device", need: Resources{GPUMemoryGB: 1}, have: eight, batches: 1, err: "needs 1 GB of device memory and there are 0 devices"},
		{name: "both kinds of GPU", need: Resources{GPUs: 1, GPUMemoryGB: 1}, have: gpus(2, 80), batches: 1,
			err: "set one of them"},
		{name: "an actor does not span devices", need: Resources{GPUs: 0.4}, have: gpus(4, 80), batches: 100, want: 8},
		{name: "tenths come out even", need: Resources{GPUs: 0.1}, have: gpus(3, 80), batches: 100, want: 30},
		{name: "more than one device each", need: Resources{GPUs: 2}, have: gpus(4, 80), batches: 100, err: "an actor owns one device at most"},
		{name: "devices that differ", need: Resources{GPUMemoryGB: 20}, have: Capacity{Devices: []int64{80e9, 16e9, 40e9}}, batches: 100, want: 6},
		{name: "a device without memory", need: Resources{GPUMemoryGB: 1}, have: gpus(1, 0), batches: 1, err: "the largest device has 0"},
		{name: "reserved CPUs", have: less(eight, 3, 0), batches: 100, want: 5},
		{name: "half a CPU reserved", have: less(eight, 0.5, 0), batches: 100, want: 7},
		{name: "all CPUs reserved", have: less(eight, 8, 0), batches: 1, err: "needs 1 CPUs and there are 0 (8 less 8 reserved)"},
		{name: "more CPUs reserved than there are", have: less(eight, 80, 0), batches: 1, err: "there are 0 (8 less 80 reserved)"},
		{name: "reserved GPUs", need: Resources{GPUs: 1}, have: less(gpus(4, 80), 0, 1), batches: 100, want: 3},
		{name: "half a GPU reserved", need: Resources{GPUs: 1}, have: less(gpus(4, 80), 0, 0.5), batches: 100, want: 3},
		{name: "half a GPU reserved, halves asked for", need: Resources{GPUs: 0.5}, have: less(gpus(4, 80), 0, 0.5), batches: 100, want: 7},
		{name: "half a GPU reserved, memory asked for", need: Resources{GPUMemoryGB: 40}, have: less(gpus(4, 80), 0, 0.5), batches: 100, want: 7},
		{name: "all GPUs reserved", need: Resources{GPUs: 1}, have: less(gpus(2, 80), 0, 2), batches: 1,
			err: "needs 1 GPUs and there are 0 (2 less 2 reserved)"},
		{name: "too little of a GPU left", need: Resources{GPUs: 0.5}, have: less(gpus(1, 80), 0, 0.75), batches: 1,
			err: "needs 0.5 GPUs and there are 0.25 (1 less 0.75 reserved)"},
		{name: "reserved GPUs, memory asked for", need: Resources{GPUMemoryGB: 1}, have: less(gpus(2, 80), 0, 2), batches: 1,
			err: "needs 1 GB of device memory and there are 0 (2 less 2 reserved) devices"},
		{name: "num_workers capped by GPUs", need: Resources{GPUs: 1}, have: gpus(4, 80), batches: 1, workers: 9, want: 4,
			warning: `stage "s" asks for 9 actors and there is room for 4: using 4`},
		{name: "memory", need: Resources{Memory: 100}, have: Capacity{CPUs: 8, Memory: 350}, batches: 100, want: 3},
		{name: "no memory", need: Resources{Memory: 100}, have: Capacity{CPUs: 8, Memory: 99}, batches: 100, err: "bytes of memory"},
		{name: "memory without a limit", need: Resources{Memory: 100}, have: eight, batches: 100, want: 8},
		{name: "num_workers", have: eight, batches: 100, workers: 5, want: 5},
		{name: "num_workers whatever the batches", have: eight, batches: 2, workers: 5, want: 5},
		{name: "num_workers capped", have: eight, batches: 2, workers: 12, want: 8,
			warning: `stage "s" asks for 12 actors and there is room for 8: using 8`},
		{name: "num_workers 0 is unset", have: eight, batches: 2, workers: 0, want: 2},
		{name: "num_workers negative is unset", have: eight, batches: 2, workers: -4, want: 2},
		{name: "num_workers without a limit", need: Resources{CPUs: -1}, have: eight, batches: 2, workers: 1000, want: 1000},
		{name: "num_workers and no capacity", batches: 2, workers: 3, err: "there are 0"},
		{name: "not a number", need: Resources{CPUs: math.NaN(), GPUs: -1, Memory: -1}, have: eight, err: "CPUs is NaN"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, warning, err := ActorCount("s", tc.need, tc.have, tc.batches, tc.workers)
			if n != tc.want || warning != tc.warning {
				t.Errorf("got %d, %q, want %d, %q", n, warning, tc.want, tc.warning)
			}
			if (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got error %v, want %q", err, tc.err)
			}
			if strings.Contains(tc.err, "there are") && !errors.Is(err, ErrNoResources) {
				t.Errorf("%v is not ErrNoResources", err)
			}
		})
	}
}

func TestResourcesAllFaults(t *testing.T) {
	err := Resources{CPUs: math.Inf(1), GPUs: -1, GPUMemoryGB: math.NaN(), Memory: -1}.Validate()
	for _, want := range []string{"CPUs", "GPUs is -1", "GPUMemoryGB", "Memory"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestConfigAllFaults(t *testing.T) {
	_, err := New(Config{
		Ranks: -1, Workers: -2, ProgressInterval: -3, MaxAttempts: -4, InFlight: -5, SpillMemoryLimit: -6,
		ReservedCPUs: -7, ReservedGPUs: math.NaN(), Devices: []Device{{UUID: "a"}, {UUID: "a"}, {}, {UUID: "b", Memory: -1}},
	})
	for _, want := range []string{
		"Ranks", "Workers", "ProgressInterval", "MaxAttempts", "InFlight", "SpillMemoryLimit", "ReservedCPUs", "ReservedGPUs",
		`device 1 of Devices has the UUID "a"`, "device 2 of Devices has no UUID", "device 3 of Devices has -1 bytes",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestBatches(t *testing.T) {
	lens := func(bs [][]Task) (out []int) {
		for _, b := range bs {
			out = append(out, len(b))
		}
		return out
	}
	for _, tc := range []struct {
		tasks, size, parts int
		want               []int
	}{
		{10, 4, 0, []int{4, 4, 2}}, {8, 4, 0, []int{4, 4}}, {3, 4, 0, []int{3}}, {0, 4, 0, nil},
		{10, 0, 3, []int{4, 3, 3}}, {11, 0, 3, []int{4, 4, 3}}, {9, 0, 3, []int{3, 3, 3}}, {2, 0, 5, []int{1, 1}}, {0, 0, 5, nil},
	} {
		got, err := Batches(makeTasks(tc.tasks), tc.size, tc.parts)
		if err != nil || len(got) != len(tc.want) {
			t.Fatalf("%+v: got %v, %v", tc, lens(got), err)
		}
		for i, n := range lens(got) {
			if n != tc.want[i] {
				t.Errorf("%+v: got %v", tc, lens(got))
			}
		}
	}
	for _, bad := range [][2]int{{0, 0}, {1, 1}, {-1, 0}, {0, -1}, {2, -1}} {
		if _, err := Batches(makeTasks(3), bad[0], bad[1]); err == nil {
			t.Errorf("size %d and parts %d were taken", bad[0], bad[1])
		}
	}
}

// Batches keep every task, in order.
func TestBatchesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks := makeTasks(rapid.IntRange(0, 50).Draw(t, "tasks"))
		size, parts := rapid.IntRange(1, 60).Draw(t, "n"), 0
		if rapid.Bool().Draw(t, "parts") {
			size, parts = parts, size
		}
		bs, err := Batches(tasks, size, parts)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i, b := range bs {
			if len(b) == 0 || size > 0 && len(b) > size || parts > 0 && (len(bs) > parts || len(bs[0])-len(b) > 1) {
				t.Fatalf("batch %d has %d tasks", i, len(b))
			}
			for _, task := range b {
				if task.ID != tasks[n].ID {
					t.Fatalf("task %d is %s", n, task.ID)
				}
				n++
			}
		}
		if n != len(tasks) {
			t.Fatalf("%d of %d tasks", n, len(tasks))
		}
	})
}
