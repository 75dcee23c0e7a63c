package bench

import (
	"fmt"
	"math"
	"slices"
)

// Summary is the spread of some values.
type Summary struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// Summarize returns the spread of values; of none it is all zero. The median of an even number is the mean of the two in
// the middle.
func Summarize(values []float64) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	v := slices.Sorted(slices.Values(values))
	mid := len(v) / 2
	s := Summary{Min: v[0], Median: v[mid], Max: v[len(v)-1], N: len(v)}
	if len(v)%2 == 0 {
		s.Median = (v[mid-1] + v[mid]) / 2
	}
	return s
}

// String returns min / median / max, with about three digits each.
func (s Summary) String() string {
	switch s.N {
	case 0:
		return "-"
	case 1:
		return number(s.Median)
	}
	return number(s.Min) + " / " + number(s.Median) + " / " + number(s.Max)
}

// number writes a figure with three significant digits, and with none behind the point from 100 on.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	case a == 0:
		return "0"
	}
	return fmt.Sprintf("%.3g", v)
}

// ratios divides values one by one. A pair with a value that is not positive, or missing, is left out.
func ratios(of, by []float64) []float64 {
	var out []float64
	for i := range min(len(of), len(by)) {
		if r := of[i] / by[i]; of[i] > 0 && by[i] > 0 && !math.IsInf(r, 0) {
			out = append(out, r)
		}
	}
	return out
}
