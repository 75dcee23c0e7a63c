package flow

import "github.com/dovetail-dedup/dovetail/executor"

// Signing is what an actor occupies that signs documents: a worker, and if there are devices so much of one that all workers, of
// whom there are at least as many, share them evenly.
func Signing(workers, devices int) executor.Resources {
	r := executor.Resources{CPUs: 1}
	if devices > 0 {
		sharers := (workers + devices - 1) / devices
		r.GPUs = 1 / float64(max(1, sharers))
	}
	return r
}
