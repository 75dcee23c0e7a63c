//go:build unix

package dedup

import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// BenchmarkBands is finding the pairs of a million documents, or of as many as DOVETAIL_BENCH_DOCS says, from their sign
// files to the pair files, in processor time of the process. A quarter of the documents has half of its band keys from
// another; 20 bands.
func BenchmarkBands(b *testing.B) {
	docs := 1_000_000
	if n, err := strconv.Atoi(os.Getenv("DOVETAIL_BENCH_DOCS")); err == nil {
		docs = n
	}
	d := bandDocs{docs: docs, bands: 20, splits: 16, same: func(rng *rand.Rand) bool { return rng.IntN(4) == 0 }}
	used := func() (user, system int64) {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano(), u.Stime.Nano()
	}
	var user, system int64
	for range b.N {
		b.StopTimer()
		r := d.prepare(b, Exec{})
		u, s := used()
		b.StartTimer()
		if _, err := r.findPairs(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		u2, s2 := used()
		user, system = user+u2-u, system+s2-s
		if want := int64(docs); r.steps.BandPairs < want {
			b.Fatalf("%d pairs of %d documents", r.steps.BandPairs, want)
		}
		r.closeAll(b)
		if err := os.RemoveAll(r.work.Dir()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	records := float64(b.N * docs * d.bands)
	b.ReportMetric(float64(user+system)/records, "cpu-ns/record")
	b.ReportMetric(float64(system)/records, "sys-ns/record")
}
