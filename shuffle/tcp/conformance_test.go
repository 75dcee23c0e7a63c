package tcp

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/dovetail-dedup/dovetail/shuffle/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The suite includes the fault-injecting wrapper.
func TestConformance(t *testing.T) { transporttest.Run(t, makeRanks(nil)) }

func TestConformanceTLS(t *testing.T) {
	transporttest.RunTransport(t, makeRanks(func(o *Options) { o.ForceTLS, o.Secret = true, testSecret }), 2, 5)
}

// With the smallest budget a single largest header fills the window.
func TestConformanceSmallestBudget(t *testing.T) {
	transporttest.RunTransport(t, makeRanks(func(o *Options) { o.ReceiveBudget = o.leastBudget() }), 2, 3)
}
