package bench

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/bench/process"
)

// String lists the values with their units.
func (s Sample) String() string {
	var parts []string
	for _, u := range slices.Sorted(maps.Keys(s)) {
		parts = append(parts, number(s[u])+" "+string(u))
	}
	return strings.Join(parts, ", ")
}

// rate is a sample of work on n bytes that took a time.
func rate(n int64, took time.Duration) Sample {
	return Sample{Rate: float64(n) / 1e6 / took.Seconds()}
}

// ofProgram is the sample of a program that worked on n bytes.
func ofProgram(n int64, u process.Usage) Sample {
	return Sample{
		Rate:    float64(n) / 1e6 / u.Wall.Seconds(),
		PerCPU:  float64(n) / 1e6 / u.CPU.Seconds(),
		Seconds: u.Wall.Seconds(),
		Memory:  float64(u.PeakBytes) / 1e6,
	}
}
