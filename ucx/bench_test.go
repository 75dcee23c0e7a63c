//go:build ucx && cgo

package ucx

import (
	"sync"
	"testing"
	"time"
)

// BenchmarkMeeting is what a round of a job costs before and after its data.
func BenchmarkMeeting(b *testing.B) {
	for _, way := range []string{"shm", "tcp"} {
		b.Run(way, func(b *testing.B) {
			var closing time.Duration
			for range b.N {
				ts := connectRanks(b, way, 2, nil)
				start := time.Now()
				var wg sync.WaitGroup
				for _, tr := range ts {
					wg.Go(func() { _ = tr.Close() })
				}
				wg.Wait()
				closing += time.Since(start)
			}
			b.ReportMetric(float64(closing.Microseconds())/float64(b.N), "close-us/op")
		})
	}
}
