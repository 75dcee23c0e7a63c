package lsh

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestFastPoint checks what is said of fastPoint where it is declared, by looking for differences of code
// points whose sum vanishes.
func TestFastPoint(t *testing.T) {
	k := uint32(fastPoint)
	const pairs, triples, quadruples = 60280, 1395, 195
	for d := uint32(1); d < pairs; d++ {
		if e := int32(d * k); -pairs < e && e < pairs {
			t.Fatalf("pairs of code points that differ by %d and %d collide", d, e)
		}
	}
	collides := func(highs, lows []uint32) bool {
		slices.Sort(lows)
		for _, h := range highs {
			if _, found := slices.BinarySearch(lows, -h); found && h != 0 {
				return true
			}
		}
		return false
	}
	sums := func(limit int, high bool) (s []uint32) {
		scale := uint32(1)
		if high {
			scale = k * k
		}
		for d := -limit + 1; d < limit; d++ {
			for e := -limit + 1; e < limit; e++ {
				s = append(s, (uint32(d)*k+uint32(e))*scale)
			}
		}
		return s
	}
	if collides(sums(quadruples, true), sums(quadruples, false)) {
		t.Errorf("quadruples of code points below %d collide", quadruples)
	}
	var first []uint32
	for d := 1 - triples; d < triples; d++ {
		first = append(first, uint32(d)*k*k)
	}
	if collides(sums(triples, false), first) {
		t.Errorf("triples of code points below %d collide", triples)
	}
}

// windowSet is a way to make distinct windows.
type windowSet struct {
	name string
	make func(yield func(window []uint32))
}

func pointsOf(s string) []uint32 {
	var points []uint32
	for _, r := range s {
		points = append(points, uint32(r))
	}
	return points
}

// varied yields base with the letters of alphabet at the given places, in every combination.
func varied(base, alphabet string, places ...int) func(func([]uint32)) {
	return func(yield func([]uint32)) {
		window, letters := pointsOf(base), pointsOf(alphabet)
		var at func(int)
		at = func(i int) {
			if i == len(places) {
				yield(window)
				return
			}
			for _, c := range letters {
				window[places[i]] = c
				at(i + 1)
			}
		}
		at(0)
	}
}

// every returns n places, step apart.
func every(first, step, n int) (places []int) {
	for i := range n {
		places = append(places, first+step*i)
	}
	return places
}

func sourceWindows(t *testing.T, width int) windowSet {
	return windowSet{fmt.Sprintf("Go source, width %d", width), func(yield func([]uint32)) {
		points := make([]uint32, 1<<20)
		n, _ := decodePoints(points, goTree(t))
		seen := make(map[uint64]bool)
		for i := range n - width + 1 {
			window := points[i : i+width]
			h := uint64(0)
			for _, c := range window {
				h = (h ^ uint64(c)) * 0x9e3779b97f4a7c15
				h ^= h >> 29
			}
			if !seen[h] {
				seen[h] = true
				yield(window)
			}
		}
	}}
}

// TestFastCollisions counts windows that share a hash among sets that weak hashes mistreat, and compares with
// an ideal 32-bit hash. Polynomials mod 2^32 without the shifts between levels exceed it by factors of a
// hundred to a million on half of these sets.
func TestFastCollisions(t *testing.T) {
	const letters24 = "aaaaaaaaaaaaaaaaaaaaaaaa"
	seeds := trials(1)
	// A quarter of a million windows each are enough to see what a weak hash does; a longer study takes
	// a million.
	bits, words, count := 18, 5, uint32(500)
	if seeds > 1 {
		bits, words, count = 20, 6, 1000
	}
	sets := []windowSet{
		{"two letters at the start", varied(letters24, "ab", every(0, 1, bits)...)},
		{"two letters at the end", varied(letters24, "ab", every(24-bits, 1, bits)...)},
		{"two letters, every other place", varied(strings.Repeat("01", 20), "01", every(0, 2, bits)...)},
		{"DNA, short", varied("AAAAAAAAAA"[:bits/2], "ACGT", every(0, 1, bits/2)...)},
		{"DNA, width 25", varied("ACGTACGTACGTACGTACGTACGTA", "ACGT", append(every(0, 3, bits/2-1), 23)...)},
		{"digits in a sentence", varied("entry number 000000 of it", "0123456789", every(13, 1, words)...)},
		{"words of four", func(yield func([]uint32)) {
			four := []string{"aaaa", "bbbb", "abab", "the ", "tion", " of ", "ing ", "0000", "1111", "and ", "ment", "1010"}
			window := make([]uint32, 4*words)
			varied("012345"[:words], "ABCDEFGHIJKL", every(0, 1, words)...)(func(choice []uint32) {
				for i, c := range choice {
					for k, letter := range []byte(four[c-'A']) {
						window[4*i+k] = uint32(letter)
					}
				}
				yield(window)
			})
		}},
		{"arithmetic progressions", func(yield func([]uint32)) {
			window := make([]uint32, 24)
			for start := range 100 * count {
				for step := range uint32(10) {
					for i := range window {
						window[i] = start + step*uint32(i)
					}
					yield(window)
				}
			}
		}},
		{"two ideographs", func(yield func([]uint32)) {
			window := pointsOf("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏")
			for a := range count {
				for b := range count {
					window[5], window[13] = 0x4e00+a*3, 0x4e00+b*5
					yield(window)
				}
			}
		}},
		{"two places of 24", func(yield func([]uint32)) {
			alphabet := "bcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[:count/1000*31+30]
			for first := range 24 {
				for second := range first {
					varied(letters24, alphabet, first, second)(yield)
				}
			}
		}},
		sourceWindows(t, 5), sourceWindows(t, 24),
	}
	if seeds > 1 {
		sets = append(sets, sourceWindows(t, 13), sourceWindows(t, 25))
	}
	r := rand.New(rand.NewPCG(5, 5))
	for _, set := range sets {
		constants := make([]FastConstants, seeds)
		for i := range constants {
			constants[i] = Params{Fast, 1, 1, 1, r.Uint64()}.FastConstants()
		}
		hashes := make([][]uint32, seeds)
		set.make(func(window []uint32) {
			for i := range constants {
				hashes[i] = append(hashes[i], fastWindow(window, &constants[i]))
			}
		})
		for i := range hashes {
			n := float64(len(hashes[i]))
			expected := n * (n - 1) / 2 / (1 << 32)
			got := equalPairs(hashes[i])
			z := (float64(got) - expected) / math.Sqrt(expected)
			t.Logf("%-32s %8.0f windows, %5d collisions, ideal %7.1f (z %+.1f)", set.name, n, got, expected, z)
			// A collision between short runs repeats in every window that continues them alike, so the
			// spread is wider than that of independent events where windows are built from few runs.
			if math.Abs(z) > 2*tolerance || n < 90_000 {
				t.Errorf("%s: %d collisions among %.0f windows, ideal %.1f", set.name, got, n, expected)
			}
		}
	}
}

func equalPairs(hashes []uint32) int {
	slices.Sort(hashes)
	pairs, run := 0, 0
	for i := 1; i < len(hashes); i++ {
		if hashes[i] == hashes[i-1] {
			run++
			pairs += run
		} else {
			run = 0
		}
	}
	return pairs
}

// TestWindowHashCollisions checks the same sets' worth for the 64-bit hashes of exact comparison: there must
// be none. It also looks at the halves, which would show a weakness long before the whole does.
func TestWindowHashCollisions(t *testing.T) {
	sets := []windowSet{
		{"two letters", varied("aaaaaaaaaaaaaaaaaaaaaaaa", "ab", every(0, 1, 18)...)},
		{"digits", varied("entry number 000000 of it", "0123456789", every(13, 1, 6)...)},
		sourceWindows(t, 24),
	}
	if slow() {
		sets = sets[:1]
	}
	for _, set := range sets {
		var whole []uint64
		var low, high []uint32
		set.make(func(window []uint32) {
			var text []byte
			for _, c := range window {
				text = append(text, string(rune(c))...)
			}
			h := WindowHash(text)
			whole, low, high = append(whole, h), append(low, uint32(h)), append(high, uint32(h>>32))
		})
		slices.Sort(whole)
		if distinct := len(slices.Compact(whole)); distinct != len(low) {
			t.Errorf("%s: %d windows have %d hashes", set.name, len(low), distinct)
		}
		n := float64(len(low))
		expected := n * (n - 1) / 2 / (1 << 32)
		for _, half := range [][]uint32{low, high} {
			if z := (float64(equalPairs(half)) - expected) / math.Sqrt(expected); math.Abs(z) > tolerance {
				t.Errorf("%s: half of the hash is %.1f standard deviations from ideal", set.name, z)
			}
		}
	}
}
