package lsh

import (
	"bytes"
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

// checkSet compares the set of a text with the definition and returns its hashes in order.
func checkSet(t tb, w *Windows, text []byte) []uint64 {
	t.Helper()
	w.Set(text)
	got := w.Hashes(nil)
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(windowSetOf(text, w.width))); !slices.Equal(got, want) || w.Len() != len(want) {
		t.Fatalf("width %d, %d bytes %.60q: %d distinct windows, want %d", w.width, len(text), text, len(got), len(want))
	}
	if int64(8*len(got)) > HashesBytes(int64(len(text))) {
		t.Fatalf("width %d: %d windows of %d bytes", w.width, len(got), len(text))
	}
	return got
}

func TestWindows(t *testing.T) {
	source := goTree(t)
	texts := [][]byte{
		nil, {}, []byte("a"), []byte("\xff"), []byte(strings.Repeat("a", 30)),
		bytes.Repeat([]byte("ab"), 30_000), []byte(strings.Repeat("漢字かな交じり文", 500)), source[:2500], source[:70_000],
	}
	for width := 1; width <= 70; width++ {
		w := mustWindows(t, width)
		for _, text := range texts {
			if len(text) < 10_000 || width%12 == 0 {
				checkSet(t, w, text)
			}
		}
	}
	if _, err := NewWindows(0); err == nil {
		t.Error("windows of no code points")
	}
}

func FuzzWindows(f *testing.F) {
	f.Add([]byte("The quick brown fox jumps over the lazy dog"), []byte("The quick brown fox leaps over the lazy dog"), uint8(5))
	f.Add([]byte("\xff\xc3 \xe2\x82"), []byte("漢字\xf0\x9f\x98"), uint8(1))
	f.Add(bytes.Repeat([]byte("ab"), 500), bytes.Repeat([]byte("abc"), 300), uint8(24))
	f.Fuzz(func(t *testing.T, a, b []byte, width uint8) {
		checkPair(t, mustWindows(t, 1+int(width)%100), a, b)
	})
}

func TestOverlap(t *testing.T) {
	w := mustWindows(t, 24)
	rapid.Check(t, func(t *rapid.T) {
		w.width = rapid.IntRange(1, 40).Draw(t, "width")
		a, b := drawText(t), drawText(t)
		if rapid.Bool().Draw(t, "alike") {
			b = append(slices.Clone(a), b...)
		}
		checkPair(t, w, a, b)
	})
	w.Free()
	if got := w.Overlap([]uint64{1, 2}); got != (Overlap{0, 2}) || w.Bytes() != 0 {
		t.Errorf("an empty set has %v in common, and %d bytes", got, w.Bytes())
	}
}

// checkPair compares Overlap with a count by map.
func checkPair(t tb, w *Windows, a, b []byte) {
	t.Helper()
	x := checkSet(t, w, a)
	y := checkSet(t, w, b)
	common := 0
	for _, h := range x {
		if _, in := slices.BinarySearch(y, h); in {
			common++
		}
	}
	if got, want := w.Overlap(x), (Overlap{uint64(common), uint64(len(x) + len(y) - common)}); got != want {
		t.Fatalf("%d and %d windows have %v, want %v", len(x), len(y), got, want)
	}
}

// TestSlots puts into a table what hashes never are as well as what they are.
func TestSlots(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	kinds := map[string]func(i int) uint64{
		"random":       func(int) uint64 { return r.Uint64() },
		"one":          func(int) uint64 { return 1 },
		"few":          func(int) uint64 { return 1 + r.Uint64N(3) },
		"one slot":     func(int) uint64 { return 1 + r.Uint64N(1000) },
		"the last one": func(int) uint64 { return ^r.Uint64N(1000) },
		"two ends":     func(i int) uint64 { return uint64(1+i%1000) ^ -uint64(i&1) },
	}
	for name, kind := range kinds {
		for _, n := range []int{0, 1, 2, 1000, 5000} {
			w := mustWindows(t, 24)
			w.Set(bytes.Repeat([]byte("a"), n+23)) // makes room for n
			w.n = 0
			clear(w.slots)
			set := make(map[uint64]bool)
			var hashes []uint64
			for i := range n {
				hashes = append(hashes, kind(i))
				set[hashes[i]] = true
			}
			w.add(slices.Clone(hashes))
			got := w.Hashes(nil)
			slices.Sort(got)
			want := slices.Sorted(maps.Keys(set))
			if !slices.Equal(got, want) || w.Len() != len(want) {
				t.Errorf("%s: %d hashes make a set of %d, want %d", name, n, w.Len(), len(want))
			}
			asked := append([]uint64{1, 1 << 40, 1<<64 - 1}, want...)
			slices.Sort(asked)
			asked = slices.Compact(asked)
			if o := w.Overlap(asked); o != (Overlap{uint64(len(want)), uint64(len(asked))}) {
				t.Errorf("%s: %d hashes have %v in common with themselves and some others", name, n, o)
			}
		}
	}
}

// TestWindowsMemory keeps the promise of WindowsBytes, and that no memory is asked for anew.
func TestWindowsMemory(t *testing.T) {
	w := mustWindows(t, 24)
	for _, n := range []int{0, 100, 20_000, 100_000, 3_000_000} {
		text := bytes.Repeat([]byte("0123456789"), n/10)
		w.Set(text)
		if int64(w.Bytes()) > max(256<<10, WindowsBytes(int64(n))) {
			t.Errorf("%d bytes for a text of %d, want at most %d", w.Bytes(), n, WindowsBytes(int64(n)))
		}
		if n := testing.AllocsPerRun(5, func() { w.Set(text) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
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
