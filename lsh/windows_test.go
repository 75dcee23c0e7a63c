package lsh

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustWindows(t tb, width int) *Windows {
	t.Helper()
	w, err := NewWindows(width)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// windowSetOf is the definition: the hashes of the bytes of each window.
func windowSetOf(text []byte, width int) map[uint64]bool {
	set := make(map[uint64]bool)
	for _, window := range windowsGeneric(text, width) {
		set[WindowHash(window)] = true
	}
	return set
}

func checkDistinct(t tb, w *Windows, dst []uint64, text []byte) []uint64 {
	t.Helper()
	got := w.Distinct(dst, text)
	if want := slices.Sorted(maps.Keys(windowSetOf(text, w.width))); !slices.Equal(got, want) {
		t.Fatalf("width %d, %d bytes %.60q: %d distinct windows, want %d", w.width, len(text), text, len(got), len(want))
	}
	if len(got) > len(text) || int64(8*len(got)) > MaxDistinctBytes(int64(len(text))) {
		t.Fatalf("width %d: %d windows of %d bytes", w.width, len(got), len(text))
	}
	return got
}

func TestDistinct(t *testing.T) {
	source := goTree(t)
	texts := [][]byte{
		nil, {}, []byte("a"), []byte("\xff"), []byte(strings.Repeat("a", 30)),
		bytes.Repeat([]byte("ab"), 30_000), []byte(strings.Repeat("漢字かな交じり文", 500)), source[:2500], source[:70_000],
	}
	for width := 1; width <= 70; width++ {
		w := mustWindows(t, width)
		var dst []uint64
		for _, text := range texts {
			if len(text) < 10_000 || width%12 == 0 {
				dst = checkDistinct(t, w, dst, text)
			}
		}
	}
	if _, err := NewWindows(0); err == nil {
		t.Error("windows of no code points")
	}
}

func FuzzDistinct(f *testing.F) {
	f.Add([]byte("The quick brown fox jumps over the lazy dog"), []byte("The quick brown fox leaps over the lazy dog"), uint8(5))
	f.Add([]byte("\xff\xc3 \xe2\x82"), []byte("漢字\xf0\x9f\x98"), uint8(1))
	f.Add(bytes.Repeat([]byte("ab"), 500), bytes.Repeat([]byte("abc"), 300), uint8(24))
	f.Fuzz(func(t *testing.T, a, b []byte, width uint8) {
		w := mustWindows(t, 1+int(width)%100)
		checkPair(t, checkDistinct(t, w, nil, a), checkDistinct(t, w, nil, b))
	})
}

func TestOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := mustWindows(t, rapid.IntRange(1, 40).Draw(t, "width"))
		a, b := drawText(t), drawText(t)
		if rapid.Bool().Draw(t, "alike") {
			b = append(slices.Clone(a), b...)
		}
		checkPair(t, checkDistinct(t, w, nil, a), checkDistinct(t, w, nil, b))
	})
	// Sets of numbers with long stretches on one side only.
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		var a, b []uint64
		for v := uint64(0); v < 500; v++ {
			switch from := r.IntN(4); {
			case from == 0 || v/100%3 == 1:
				a = append(a, v)
			case from == 1 || v/100%3 == 2:
				b = append(b, v)
			default:
				a, b = append(a, v), append(b, v)
			}
		}
		checkPair(t, a, b)
	}
}

// checkPair compares Intersection and AtLeast with a count by map.
func checkPair(t tb, a, b []uint64) {
	t.Helper()
	in := make(map[uint64]bool)
	for _, x := range a {
		in[x] = true
	}
	common := 0
	for _, x := range b {
		if in[x] {
			common++
		}
	}
	if got := Intersection(a, b); got != common {
		t.Fatalf("intersection of %d and %d is %d, want %d", len(a), len(b), got, common)
	}
	want := Overlap{uint64(common), uint64(len(a) + len(b) - common)}
	for _, s := range []string{"0.8", "1", "0.5", "1/3", "0.000000000000000001", "0.999999999999999999"} {
		th := mustThreshold(t, s)
		got, ok := th.AtLeast(a, b)
		if ok != th.Reached(want) {
			t.Fatalf("%d of %d: AtLeast %s says %v", want.Intersection, want.Union, s, ok)
		}
		if ok && got != want || !ok && got != (Overlap{}) {
			t.Fatalf("AtLeast %s returns %v, %v, want %v", s, got, ok, want)
		}
	}
	// The threshold that is exactly reached, and one just above.
	if common > 0 {
		exact := Threshold{want.Intersection, want.Union}
		if got, ok := exact.AtLeast(a, b); !ok || got != want {
			t.Fatalf("%v does not reach itself", want)
		}
		above := Threshold{want.Intersection*1000 + 1, want.Union * 1000}
		if _, ok := above.AtLeast(a, b); ok {
			t.Fatalf("%v reaches %v", want, above)
		}
	}
}

// TestSort sorts what hashes never are as well as what they are.
func TestSort(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	kinds := map[string]func(i int) uint64{
		"random":            func(int) uint64 { return r.Uint64() },
		"equal":             func(int) uint64 { return 7 },
		"two":               func(int) uint64 { return r.Uint64N(2) },
		"two far apart":     func(int) uint64 { return r.Uint64N(2) << 63 },
		"low bits":          func(int) uint64 { return r.Uint64N(1000) },
		"high bits":         func(int) uint64 { return r.Uint64N(1000) << 54 },
		"middle bits":       func(int) uint64 { return r.Uint64N(100)<<30 | 1<<60 },
		"ascending":         func(i int) uint64 { return uint64(i) << 20 },
		"descending":        func(i int) uint64 { return -uint64(i) },
		"mostly one":        func(int) uint64 { return r.Uint64() * (r.Uint64N(50) / 49) },
		"crowded beginning": func(int) uint64 { return r.Uint64() >> (r.Uint64N(64)) },
	}
	for _, bit := range []uint64{1, 7, 8, 40, 47, 48, 55, 56, 63} {
		kinds[fmt.Sprintf("bit %d and below", bit)] = func(int) uint64 { return r.Uint64N(2)<<bit | r.Uint64N(1<<20)&(1<<bit-1) }
	}
	w := mustWindows(t, 24)
	for name, kind := range kinds {
		for _, n := range []int{0, 1, 2, smallSort, smallSort + 1, 1000, scratchWords - 1, scratchWords, scratchWords + 1, 100_000} {
			a := make([]uint64, n)
			for i := range a {
				a[i] = kind(i)
			}
			want := slices.Sorted(slices.Values(a))
			w.sort(a)
			if !slices.Equal(a, want) {
				t.Errorf("%s: %d values are not in order", name, n)
			}
			if got := compact(a); !slices.Equal(got, slices.Compact(want)) {
				t.Errorf("%s: %d values are not compacted", name, n)
			}
		}
	}
}

func TestDistinctAllocatesNothing(t *testing.T) {
	text := goTree(t)[:20_000]
	w := mustWindows(t, 24)
	dst := w.Distinct(nil, text)
	if n := testing.AllocsPerRun(5, func() { dst = w.Distinct(dst, text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestContentHash pins the function and its seed: classes of equal texts are part of the results.
func TestContentHash(t *testing.T) {
	if got, want := WindowHash(nil), uint64(0x2d06800538d394c2); got != want {
		t.Errorf("XXH3-64 of nothing is %#x, want %#x", got, want)
	}
	for text, want := range map[string]Hash128{
		"":  {0x41c8dac850fc7cff, 0x557dde39dfd72ebc},
		"a": {0xdb7e540d9a06ff56, 0xfa8b006eb1d11e64},
	} {
		if got := ContentHash([]byte(text)); got != want {
			t.Errorf("content hash of %q is %#x, want %#x", text, got, want)
		}
	}
	if a, b := ContentHash([]byte("a")), ContentHash([]byte("b")); a == b || a.Hi == b.Hi || a.Lo == b.Lo {
		t.Errorf("hashes of a and b are %x and %x", a, b)
	}
	a, b, c := Hash128{1, 1<<64 - 1}, Hash128{0, 1}, Hash128{1<<64 - 1, 5}
	if got, want := a.Add(b), (Hash128{2, 0}); got != want {
		t.Errorf("sum with carry is %x, want %x", got, want)
	}
	if a.Add(b).Add(c) != c.Add(a).Add(b) || a.Add(c) != (Hash128{1, 4}) {
		t.Error("the sum depends on the order")
	}
	if a.Compare(b) != 1 || b.Compare(a) != -1 || a.Compare(a) != 0 || (Hash128{1, 2}).Compare(Hash128{1, 3}) != -1 {
		t.Error("order of hashes")
	}
}
