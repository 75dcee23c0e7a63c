package dedup

import "math"

// upperBound returns the Clopper-Pearson upper limit of a proportion, one-sided: the largest share of bad ones
// under which seeing at most k bad ones in a sample of n still has probability 1 - confidence. Clopper, Pearson:
// The use of confidence or fiducial limits illustrated in the case of the binomial, 1934.
func upperBound(k, n int64, confidence float64) float64 {
	if k >= n {
		return 1
	}
	lo, hi := float64(k)/float64(n), 1.0
	for range 100 {
		if p := (lo + hi) / 2; atMost(k, n, p) > 1-confidence {
			lo = p
		} else {
			hi = p
		}
	}
	return hi
}

// atMost returns the probability of at most k successes in n trials with probability p, in (0, 1), each.
func atMost(k, n int64, p float64) float64 {
	sum := 0.0
	for i := range k + 1 {
		logChoose := lgamma(n+1) - lgamma(i+1) - lgamma(n-i+1)
		sum += math.Exp(logChoose + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return sum
}

func lgamma(n int64) float64 {
	v, _ := math.Lgamma(float64(n))
	return v
}
