package lsh

import (
	"fmt"
	"math"
)

// The arithmetic here decides how many bands a run has, so it must come out the same on every machine. It
// uses only operations that IEEE 754 defines exactly; the conversions to float64 around products keep the
// compiler from fusing them with an addition.

// CandidateProbability returns 1-(1-j^r)^b: the probability that two documents with Jaccard similarity j,
// from 0 to 1, agree in at least one of bands bands of rows slots and so become candidates (the "S-curve" of
// Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4).
func CandidateProbability(j float64, bands, rows int) float64 {
	return 1 - power(1-power(j, rows), bands)
}

// CandidateProbability returns the probability that two documents with Jaccard similarity j become candidates.
func (p Params) CandidateProbability(j float64) float64 {
	return CandidateProbability(j, p.NumBands, p.MinhashesPerBand)
}

// ExpectedThreshold returns (1/b)^(1/r), the similarity around which the S-curve rises: a pair that similar
// is caught with probability about 1-1/e. It is for display; nothing is chosen by it.
func ExpectedThreshold(bands, rows int) float64 {
	return math.Pow(1/float64(bands), 1/float64(rows))
}

// power returns x^n by repeated squaring.
func power(x float64, n int) float64 {
	result := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = float64(result * x)
		}
		x = float64(x * x)
	}
	return result
}

// Banding is a choice of bands and rows per band.
type Banding struct {
	Bands, Rows int
	Recall      float64 // probability of a candidate at the threshold
	// FalsePositives is the area under the S-curve below the threshold: the share of pairs that become
	// candidates for nothing if similarities below the threshold were evenly spread.
	FalsePositives float64
}

// ChooseBands returns the banding with the fewest false positives among those of at most maxHashes slots that
// catch a pair at the threshold with at least the wanted probability. Of two that are equal it takes the one
// with fewer slots, and then the one with fewer bands. threshold and recall lie strictly between 0 and 1,
// except that threshold may be 1.
//
// For every number of rows only the least number of bands that reaches the recall is considered, because
// more bands only add false positives. The area is summed over 1,024 steps at their midpoints. The choice is
// part of a run's Spec through the numbers it returns, and is the same on every machine.
func ChooseBands(threshold, recall float64, maxHashes int) (Banding, error) {
	if !(threshold > 0 && threshold <= 1) || !(recall > 0 && recall < 1) {
		return Banding{}, fmt.Errorf("lsh: threshold %v and recall %v must lie between 0 and 1", threshold, recall)
	}
	if maxHashes < 1 || maxHashes > MaxHashes {
		return Banding{}, fmt.Errorf("lsh: %d hashes: must be from 1 to %d", maxHashes, MaxHashes)
	}
	var best Banding
	for rows := 1; rows <= maxHashes; rows++ {
		bands, ok := leastBands(threshold, recall, rows, maxHashes/rows)
		if !ok {
			break // more rows would need still more bands
		}
		c := Banding{Bands: bands, Rows: rows, Recall: CandidateProbability(threshold, bands, rows)}
		c.FalsePositives = areaBelow(threshold, bands, rows)
		if best.Bands == 0 || c.betterThan(best) {
			best = c
		}
		if threshold == 1 && rows >= 64 {
			break // one band always reaches the recall, and more rows change nothing that matters
		}
	}
	if best.Bands == 0 {
		most := CandidateProbability(threshold, maxHashes, 1)
		return Banding{}, fmt.Errorf("lsh: recall %v at threshold %v needs more than %d hashes: they reach %.4f",
			recall, threshold, maxHashes, most)
	}
	return best, nil
}

func (c Banding) betterThan(d Banding) bool {
	if c.FalsePositives != d.FalsePositives {
		return c.FalsePositives < d.FalsePositives
	}
	if c.Bands*c.Rows != d.Bands*d.Rows {
		return c.Bands*c.Rows < d.Bands*d.Rows
	}
	return c.Bands < d.Bands
}

// leastBands returns the least number of bands, up to limit, that reaches the recall.
func leastBands(threshold, recall float64, rows, limit int) (int, bool) {
	if limit < 1 || CandidateProbability(threshold, limit, rows) < recall {
		return 0, false
	}
	low, high := 1, limit // high reaches it
	for low < high {
		middle := (low + high) / 2
		if CandidateProbability(threshold, middle, rows) >= recall {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, true
}

// areaBelow integrates the S-curve from 0 to threshold.
func areaBelow(threshold float64, bands, rows int) float64 {
	const steps = 1024
	sum := 0.0
	for i := range steps {
		j := float64(threshold * ((float64(i) + 0.5) / steps))
		sum += CandidateProbability(j, bands, rows)
	}
	return sum * threshold / steps
}
