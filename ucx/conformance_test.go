//go:build ucx && cgo

package ucx

import (
	"testing"

	"github.com/dovetail-dedup/dovetail/shuffle/transporttest"
)

// The suite includes the fault-injecting wrapper.
func TestConformance(t *testing.T) {
	forWays(t, func(t *testing.T, way string) { transporttest.Run(t, makeRanks(way, nil)) })
}

// With the smallest budget a single largest header fills the window.
func TestConformanceSmallestBudget(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		transporttest.RunTransport(t, makeRanks(way, func(o *Options) { o.ReceiveBudget = o.leastBudget() }), 2, 3)
	})
}
