package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// sampled is a size of sets, of how many pairs at each similarity.
type sampled struct{ union, trials int }

var (
	samples      = []sampled{{20, 4000}, {400, 1000}, {3000, 400}, {12000, 300}}
	quickSamples = []sampled{{20, 100}, {400, 20}}
	similarities = []float64{0.5, 0.7, 0.75, 0.8, 0.85, 0.9}
)

// estimatorWorkload is what the signatures of the default sketch are worth, on random sets.
func estimatorWorkload(_ context.Context, e *Env) (*Workload, error) {
	sets := samples
	if e.Quick {
		sets = quickSamples
	}
	p := lsh.DefaultParams()
	p.CharNgrams = 1 // so that a text is any set: one code point is a window
	k, err := lsh.NewCPU(p)
	if err != nil {
		return nil, err
	}
	seed := uint64(0)
	w := &Workload{Name: "estimator", Data: "random sets with unions of " + sizesOf(sets)}
	for _, s := range sets {
		// The worst standard score of all similarities, and the variances of all, weighed alike.
		run := func(ctx context.Context) (Sample, error) {
			seed++
			return estimate(ctx, k, s, rand.New(rand.NewPCG(seed, uint64(s.union))))
		}
		name := fmt.Sprintf("union-%d", s.union)
		w.Sides = append(w.Sides, Side{Name: name, Run: run})
		w.Ratios = append(w.Ratios,
			Ratio{What: fmt.Sprintf("estimator, sets of %d: variance by that of classic MinHash", s.union), Of: name, Unit: variance,
				Target: Target{AtMost: 1.05}, Note: "the target is 1, and 0.05 for sampling"},
			Ratio{What: fmt.Sprintf("estimator, sets of %d: largest standard score of the S-curve", s.union), Of: name, Unit: score,
				Target: Target{AtMost: 3}, Note: "of 6 similarities, each turn with new sets"})
	}
	return w, nil
}

func sizesOf(sets []sampled) string {
	var s []string
	for _, x := range sets {
		s = append(s, fmt.Sprint(x.union))
	}
	return strings.Join(s, ", ")
}

// leastSpread is the variance of the number of candidates from which on it is near enough to normal for a score.
const leastSpread = 2

// Units of the estimator alone.
const (
	variance Unit = "x-variance"
	score    Unit = "sigma"
	// rmse is the root of the mean square of the estimate's error, over all similarities.
	rmse Unit = "rmse"
)

func estimate(ctx context.Context, k *lsh.CPU, s sampled, rng *rand.Rand) (Sample, error) {
	p := k.Params()
	got, expected, worst, squares := 0.0, 0.0, 0.0, 0.0
	for _, j := range similarities {
		found, predicted, spread := 0.0, 0.0, 0.0
		var texts []string
		var exact []float64
		for range s.trials {
			a, b, x := randomPair(rng, s.union, j)
			texts, exact = append(texts, a, b), append(exact, x)
		}
		slots, err := signAll(ctx, k, texts)
		if err != nil {
			return nil, err
		}
		n := p.NumHashes()
		for i, x := range exact {
			a, b := slots[2*i*n:(2*i+1)*n], slots[(2*i+1)*n:(2*i+2)*n]
			d := lsh.Estimate(a, b) - x
			// Each pair counts by how far it is off in units of the classic variance.
			got += d * d / (x * (1 - x) / float64(n))
			expected++
			squares += d * d
			if candidates(p, a, b) {
				found++
			}
			c := lsh.CandidateProbability(x, p.NumBands, p.MinhashesPerBand)
			predicted += c
			spread += c * (1 - c)
		}
		if spread >= leastSpread {
			worst = max(worst, math.Abs(found-predicted)/math.Sqrt(spread))
		}
	}
	return Sample{variance: got / expected, score: worst, rmse: math.Sqrt(squares / expected)}, nil
}

// candidates says whether two signatures agree in a band.
func candidates(p lsh.Params, a, b []uint32) bool {
	for band := range p.NumBands {
		i := band * p.MinhashesPerBand
		if slices.Equal(a[i:i+p.MinhashesPerBand], b[i:i+p.MinhashesPerBand]) {
			return true
		}
	}
	return false
}

func signAll(ctx context.Context, k *lsh.CPU, texts []string) ([]uint32, error) {
	col, err := column(texts)
	if err != nil {
		return nil, err
	}
	defer col.Release()
	out, err := mem.Host().Alloc(k.Params().SignatureBytes(len(texts)))
	if err != nil {
		return nil, err
	}
	defer out.Release()
	f, err := k.Sign(ctx, col, out)
	if err == nil {
		err = f.Wait(ctx)
	}
	return slices.Clone(mem.Uint32s(out)), err
}

// randomPair draws two texts of distinct code points whose sets have a union of u and nearly the similarity j, which it
// returns exactly.
func randomPair(rng *rand.Rand, u int, j float64) (a, b string, exact float64) {
	common := int(math.Round(j * float64(u)))
	seen := make(map[rune]bool, u)
	var x, y []rune
	for len(seen) < u {
		c := rune(0x10000 + rng.IntN(0x100000))
		if seen[c] {
			continue
		}
		switch {
		case len(seen) < common:
			x, y = append(x, c), append(y, c)
		case rng.IntN(2) == 0:
			x = append(x, c)
		default:
			y = append(y, c)
		}
		seen[c] = true
	}
	return string(x), string(y), float64(common) / float64(u)
}
