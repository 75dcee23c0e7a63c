package lsh

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Threshold is a similarity above 0 and up to 1, held as a fraction so that no comparison rounds: J >= t is
// Intersection*Den >= Num*Union in integers. The zero Threshold is not valid; see [ParseThreshold].
type Threshold struct {
	num, den uint64 // in lowest terms, 0 < num <= den <= 10^18
}

// maxThresholdDigits bounds numerator and denominator below 10^18, so that num+den fits 64 bits with room.
const maxThresholdDigits = 18

// ErrThreshold is wrapped by the errors of [ParseThreshold].
var ErrThreshold = errors.New("invalid threshold")

// ParseThreshold reads a decimal such as "0.8" or a fraction such as "4/5", each with at most 18 digits a
// number, exactly.
func ParseThreshold(s string) (Threshold, error) {
	fail := func(why string) (Threshold, error) {
		return Threshold{}, fmt.Errorf("lsh: %w %q: %s", ErrThreshold, s, why)
	}
	const form = `want a decimal such as "0.8" or a fraction such as "4/5", above 0 and up to 1, of at most 18 digits`
	var num, den uint64
	if top, bottom, ok := strings.Cut(s, "/"); ok {
		var okTop, okBottom bool
		num, okTop = parseDigits(top)
		den, okBottom = parseDigits(bottom)
		if !okTop || !okBottom {
			return fail(form)
		}
	} else {
		whole, part, _ := strings.Cut(s, ".")
		den = 1
		for range part {
			if den *= 10; den > 1e18 {
				return fail(form)
			}
		}
		var ok bool
		if num, ok = parseDigits(whole + part); !ok {
			return fail(form)
		}
	}
	switch {
	case den == 0:
		return fail("its denominator is 0")
	case num == 0:
		return fail("must be above 0, or every pair would count as alike")
	case num > den:
		return fail("must not be above 1")
	}
	g := gcd(num, den)
	return Threshold{num / g, den / g}, nil
}

// parseDigits reads up to 18 decimal digits and nothing else.
func parseDigits(s string) (uint64, bool) {
	if trimmed := strings.TrimLeft(s, "0"); trimmed != "" {
		s = trimmed
	}
	if len(s) > maxThresholdDigits {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Fraction returns the threshold in lowest terms.
func (t Threshold) Fraction() (num, den uint64) { return t.num, t.den }

// Float returns the nearest float64, for display and for [CandidateProbability]. Nothing is decided by it.
func (t Threshold) Float() float64 { return float64(t.num) / float64(t.den) }

// String returns the shortest decimal that is exactly t, or a fraction if there is none of 18 digits. It
// parses to the same threshold.
func (t Threshold) String() string {
	scaled, den := t.num, t.den
	for digits := range maxThresholdDigits + 1 {
		if den == 1 {
			s := fmt.Sprintf("%0*d", digits+1, scaled)
			if digits == 0 {
				return s
			}
			return s[:len(s)-digits] + "." + s[len(s)-digits:]
		}
		// Multiply the fraction by ten and keep it in lowest terms.
		g := gcd(den, 10)
		den /= g
		high, low := bits.Mul64(scaled, 10/g)
		if high != 0 {
			break
		}
		scaled = low
	}
	return strconv.FormatUint(t.num, 10) + "/" + strconv.FormatUint(t.den, 10)
}

// MarshalText makes a Threshold a string in JSON.
func (t Threshold) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what [ParseThreshold] does.
func (t *Threshold) UnmarshalText(text []byte) error {
	parsed, err := ParseThreshold(string(text))
	if err == nil {
		*t = parsed
	}
	return err
}

// Overlap says how far two sets of windows have windows in common.
type Overlap struct {
	Intersection, Union uint64
}

// Jaccard returns Intersection / Union rounded to a float64, and 0 for two empty sets.
func (o Overlap) Jaccard() float64 {
	if o.Union == 0 {
		return 0
	}
	return float64(o.Intersection) / float64(o.Union)
}

// Reached reports whether the Jaccard similarity of o is at least t. Two empty sets have none.
func (t Threshold) Reached(o Overlap) bool {
	if o.Union == 0 {
		return false
	}
	left, leftLow := bits.Mul64(o.Intersection, t.den)
	right, rightLow := bits.Mul64(t.num, o.Union)
	return left > right || left == right && leftLow >= rightLow
}
