package transporttest

import (
	"testing"
	"time"
	"fmt"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

func TestDbg(t *testing.T) {
	mk := func(t *testing.T, size int) []shuffle.Transport { return inproc.New(size, inproc.Options{Copy: true}) }
	for seed := range uint64(3) {
		for _, spec := range []string{"", "duplicate=10%", "reorder=25%", "delay=3%:200us", harmless} {
			t.Run(fmt.Sprint(seed, spec), func(t *testing.T) {
				start := time.Now()
				testTinyBudget(t, withFaults(mk, spec, seed), 2, shuffle.Options{TotalParts: 8}, 0)
				fmt.Println(spec, time.Since(start))
			})
		}
	}
}
