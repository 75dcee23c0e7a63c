//go:build cuda

package cudatest

import (
	"os"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
)

// Sim begins a simulation with options (see [cuda.OpenSimulator]) and fails the test at its end if something of it was not given
// back, or still waits to be done. Tests with simulations cannot run in parallel. `make test-cuda` says where the simulated driver is;
// without it the test fails.
func Sim(t testing.TB, options string) *cuda.Driver {
	t.Helper()
	if os.Getenv(cuda.SimulatorVariable) == "" {
		t.Fatalf("the environment variable %s is not set; `make test-cuda` makes the simulated driver and sets it", cuda.SimulatorVariable)
	}
	d, err := cuda.OpenSimulator(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, what := range []string{"retained", "used", "pinned", "streams", "events", "modules", "queued"} {
			if n := cuda.SimulatorStat(what, -1); n != 0 {
				t.Errorf("at the end the simulation has %s = %d", what, n)
			}
		}
	})
	return d
}
