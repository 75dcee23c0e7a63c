package lsh

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustThreshold(t tb, s string) Threshold {
	t.Helper()
	th, err := ParseThreshold(s)
	if err != nil {
		t.Fatal(err)
	}
	return th
}

func TestParseThreshold(t *testing.T) {
	for _, c := range []struct {
		in       string
		num, den uint64
		out      string
	}{
		{"0.8", 4, 5, "0.8"},
		{"4/5", 4, 5, "0.8"},
		{".5", 1, 2, "0.5"},
		{"1", 1, 1, "1"},
		{"1.0", 1, 1, "1"},
		{"1.", 1, 1, "1"},
		{"00.7500", 3, 4, "0.75"},
		{"2/3", 2, 3, "2/3"},
		{"001/003", 1, 3, "1/3"},
		{"0.000000000000000001", 1, 1e18, "0.000000000000000001"},
		{"0.999999999999999999", 999999999999999999, 1e18, "0.999999999999999999"},
		{"999999999999999998/999999999999999999", 999999999999999998, 999999999999999999, "999999999999999998/999999999999999999"},
		{"1/1024", 1, 1024, "0.0009765625"},
	} {
		th, err := ParseThreshold(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if num, den := th.Fraction(); num != c.num || den != c.den || th.String() != c.out {
			t.Errorf("%q is %d/%d, %s; want %d/%d, %s", c.in, num, den, th, c.num, c.den, c.out)
		}
	}
	for _, s := range []string{
		"", ".", "0", "0.0", "0/5", "-0.5", "+0.5", "1.1", "5/4", "1/0", "0.8.1", "1/2/3", "8e-1", "0x1", "NaN", " 0.8", "0,8", "80%", "/", "1/", "/2",
		"0.1234567890123456789", "0.0000000000000000001", "1/1234567890123456789", "0." + strings.Repeat("0", 100), "１/２", "0.٨",
	} {
		if th, err := ParseThreshold(s); !errors.Is(err, ErrThreshold) {
			t.Errorf("%q is read as %s, error %v", s, th, err)
		}
	}
}

func TestThresholdText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		den := rapid.Uint64Range(1, 1e18-1).Draw(t, "den")
		num := rapid.Uint64Range(1, den).Draw(t, "num")
		g := gcd(num, den)
		th := Threshold{num / g, den / g}
		raw, err := json.Marshal(th)
		if err != nil {
			t.Fatal(err)
		}
		var back Threshold
		if err := json.Unmarshal(raw, &back); err != nil || back != th {
			t.Fatalf("%v becomes %s and %v, %v", th, raw, back, err)
		}
	})
}

// TestThresholdExact compares every decision with arbitrary precision.
func TestThresholdExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		den := rapid.OneOf(rapid.Uint64Range(1, 1e18), rapid.Uint64Range(1, 100)).Draw(t, "den")
		num := rapid.Uint64Range(1, den).Draw(t, "num")
		g := gcd(num, den)
		th := Threshold{num / g, den / g}
		big64 := func(x uint64) *big.Int { return new(big.Int).SetUint64(x) }
		ratio := new(big.Rat).SetFrac(big64(num), big64(den))

		union := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(1, 1000)).Draw(t, "union")
		inter := rapid.Uint64Range(0, union).Draw(t, "intersection")
		// Half the time, as close to the threshold as integers come.
		if rapid.Bool().Draw(t, "close") {
			near := new(big.Rat).Mul(ratio, new(big.Rat).SetInt(big64(union)))
			inter = min(union, new(big.Int).Quo(near.Num(), near.Denom()).Uint64()+rapid.Uint64Range(0, 1).Draw(t, "step"))
		}
		want := union > 0 && new(big.Rat).SetFrac(big64(inter), big64(max(union, 1))).Cmp(ratio) >= 0
		if got := th.Reached(Overlap{inter, union}); got != want {
			t.Fatalf("%d / %d against %s: %v, want %v", inter, union, th, got, want)
		}
	})
	if mustThreshold(t, "0.8").Reached(Overlap{}) {
		t.Error("two empty sets reach a threshold")
	}
}

func TestCandidateProbability(t *testing.T) {
	// From the study that chose NeMo Curator's 20 bands of 13, to its three digits.
	for _, c := range []struct{ j, want, slack float64 }{
		{0, 0, 0}, {0.5, 0.0024, 5e-5}, {0.6, 0.0258, 5e-5}, {0.7, 0.177, 5e-4}, {0.75, 0.382, 5e-4},
		{0.8, 0.677, 5e-4}, {0.85, 0.924, 5e-4}, {0.9, 0.997, 5e-4}, {1, 1, 0},
	} {
		if got := DefaultParams().CandidateProbability(c.j); math.Abs(got-c.want) > c.slack {
			t.Errorf("P(candidate) at J = %v is %v, want %v", c.j, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		j := rapid.Float64Range(0, 1).Draw(t, "j")
		bands, rows := rapid.IntRange(1, 500).Draw(t, "bands"), rapid.IntRange(1, 100).Draw(t, "rows")
		want := 1 - math.Pow(1-math.Pow(j, float64(rows)), float64(bands))
		if got := CandidateProbability(j, bands, rows); math.Abs(got-want) > 1e-12 {
			t.Fatalf("%v, want %v", got, want)
		}
	})
	if got := ExpectedThreshold(20, 13); math.Abs(got-0.794) > 0.001 {
		t.Errorf("expected threshold of 20 bands of 13 is %v", got)
	}
}

func TestChooseBands(t *testing.T) {
	for _, c := range []struct {
		threshold, recall float64
		hashes            int
		bands, rows       int
	}{
		{0.8, 0.95, 260, 21, 9},
		{0.8, 0.99, 260, 26, 8},
		{0.5, 0.9, 128, 18, 3},
		{0.9, 0.999, 512, 30, 15},
		{0.8, 0.5, 1, 1, 1},
		{1, 0.9, 64, 1, 64},
	} {
		got, err := ChooseBands(c.threshold, c.recall, c.hashes)
		if err != nil {
			t.Fatal(err)
		}
		if got.Bands != c.bands || got.Rows != c.rows {
			t.Errorf("%+v chooses %+v", c, got)
		}
	}
	// Against a search of everything.
	rapid.Check(t, func(t *rapid.T) {
		threshold := rapid.Float64Range(0.05, 0.99).Draw(t, "threshold")
		recall := rapid.Float64Range(0.05, 0.999).Draw(t, "recall")
		hashes := rapid.IntRange(1, 24).Draw(t, "hashes")
		var best Banding
		for bands := 1; bands <= hashes; bands++ {
			for rows := 1; bands*rows <= hashes; rows++ {
				b := Banding{bands, rows, CandidateProbability(threshold, bands, rows), areaBelow(threshold, bands, rows)}
				if b.Recall >= recall && (best.Bands == 0 || b.betterThan(best)) {
					best = b
				}
			}
		}
		got, err := ChooseBands(threshold, recall, hashes)
		if (err != nil) != (best.Bands == 0) || got != best {
			t.Fatalf("chooses %+v, %v; best is %+v", got, err, best)
		}
	})
	for _, bad := range []struct {
		t, r float64
		n    int
	}{{0, 0.9, 10}, {1.1, 0.9, 10}, {math.NaN(), 0.9, 10}, {0.8, 0, 10}, {0.8, 1, 10}, {0.8, math.NaN(), 10}, {0.8, 0.9, 0}, {0.8, 0.9, MaxHashes + 1}, {0.1, 0.99, 10}} {
		if got, err := ChooseBands(bad.t, bad.r, bad.n); err == nil {
			t.Errorf("%+v chooses %+v", bad, got)
		}
	}
}
