package lsh

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// referenceOverlap is the definition: sets of the bytes of windows.
func referenceOverlap(a, b []byte, width int) (distinct int, o Overlap) {
	x, y := make(map[string]bool), make(map[string]bool)
	for _, w := range windowsGeneric(a, width) {
		x[string(w)] = true
	}
	for _, w := range windowsGeneric(b, width) {
		y[string(w)] = true
	}
	for w := range y {
		if x[w] {
			o.Intersection++
		}
	}
	o.Union = uint64(len(x)+len(y)) - o.Intersection
	return len(x), o
}

// checkComparer compares a with each of the others with every set of loops. The index is used again, and so is its memory.
func checkComparer(t tb, width int, x *Index, a []byte, others ...[]byte) {
	t.Helper()
	for _, l := range availableLoops() {
		c := newComparer(width, l)
		c.Index(x, a)
		for _, b := range others {
			distinct, want := referenceOverlap(a, b, width)
			if x.Len() != distinct {
				t.Fatalf("%s, width %d: %d distinct windows in %.300q, want %d", l.name, width, x.Len(), a, distinct)
			}
			if got := c.Overlap(x, b); got != want {
				t.Fatalf("%s, width %d: %v, want %v, for\n%.300q and\n%.300q", l.name, width, got, want, a, b)
			}
		}
	}
}

// drawHard draws a text that repeats itself in many ways: characters, periods, phrases in different surroundings, and what
// is no UTF-8.
func drawHard(r *rand.Rand, length int) []byte {
	parts := []string{"a", "b", " ", "the ", "é", "漢", "字", "\xff", "\xe2\x82", "\x80", "🙂", "return err\n", "        ", "\n", "if err != nil {", "Д"}
	from := r.IntN(len(parts))
	parts = parts[from : from+1+r.IntN(len(parts)-from)]
	part := func() string { return parts[r.IntN(len(parts))] }
	var b []byte
	for range r.IntN(length + 1) {
		switch r.IntN(25) {
		case 0:
			if len(b) > 0 { // again, perhaps from the middle of a code point
				i := r.IntN(len(b))
				b = append(b, b[i:min(len(b), i+r.IntN(200))]...)
			}
		case 1:
			b = append(b, strings.Repeat(part(), r.IntN(60))...)
		case 2:
			b = append(b, strings.Repeat(part()+part()+part(), r.IntN(20))...)
		case 3:
			b = append(b, fmt.Sprint(r.IntN(1000))...)
		default:
			b = append(b, part()...)
		}
	}
	return b
}

// edited returns a copy of a text with some changes.
func edited(r *rand.Rand, text []byte, changes int) []byte {
	b := bytes.Clone(text)
	for range changes {
		i := r.IntN(len(b) + 1)
		j := min(len(b), i+r.IntN(20))
		b = append(append(append([]byte(nil), b[:i]...), drawHard(r, 5)...), b[j:]...)
	}
	return b
}

func TestComparer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var x Index
	widths := []int{1, 2, 5, 8, 11, 12, 13, 16, 19, 20, 21, 24, 24, 24, 25, 28, 29, 31, 32, 42, 43, 60, 100}
	trials := 1500
	if testing.Short() {
		trials = 100
	}
	for range trials {
		a := drawHard(r, 1+r.IntN(400))
		b := edited(r, a, r.IntN(8))
		checkComparer(t, widths[r.IntN(len(widths))], &x, a, b, drawHard(r, 300), a, nil, bytes.Repeat(b, 2))
	}
}

// TestComparerWidths has every width that has ways of its own, and a text that is one window more or less.
func TestComparerWidths(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var x Index
	for width := 1; width <= 70; width++ {
		for _, n := range []int{1, width - 1, width, width + 1, 4 * width} {
			a := bytes.Repeat([]byte("abcdefghij漢klmnopqrstuvwxyz"), 20)[:n]
			checkComparer(t, width, &x, a, a, append(bytes.Clone(a), 'x'), a[:n/2], edited(r, a, 1))
		}
	}
	checkComparer(t, MaxCharNgrams, &x, bytes.Repeat([]byte("0123456789"), 500), bytes.Repeat([]byte("1234567890"), 500), []byte("0"))
	if _, err := NewComparer(0); err == nil {
		t.Error("windows of no code points")
	}
	if _, err := NewComparer(MaxCharNgrams + 1); err == nil {
		t.Error("windows that are too wide")
	}
}

// TestComparerCrowded has grams in more surroundings than a slot takes, more anchors than there is room for, and more
// copies than are remembered.
func TestComparerCrowded(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	phrases := func(n int) []byte {
		var b []byte
		for range n {
			b = append(b, "the same phrase"[r.IntN(3):]...)
			for range r.IntN(14) {
				b = append(b, byte('a'+r.IntN(26)))
			}
		}
		return b
	}
	steps := func(n int) []byte { // every window is an anchor of its own
		var b []byte
		for i := range n {
			b = append(b, bytes.Repeat([]byte{byte('a' + i%23)}, 20+i%17)...)
		}
		return b
	}
	mosaic := func(n int) []byte { // nothing but short copies
		pool := phrases(6)
		var b []byte
		for range n {
			i := r.IntN(len(pool) - 40)
			b = append(b, pool[i:i+26+r.IntN(14)]...)
		}
		return b
	}
	random := func(n int) []byte { // narrow windows have many anchors
		b := make([]byte, 20*n)
		for i := range b {
			b[i] = byte('a' + r.IntN(26))
		}
		return b
	}
	tables, anchors, copies := false, false, false
	for _, text := range []func(int) []byte{phrases, steps, mosaic, random} {
		a := text(700)
		for _, width := range []int{5, 12, 16, 24, 40} {
			var x Index
			checkComparer(t, width, &x, a, a, text(500), edited(r, a, 20), append(text(100), a...))
			tables = tables || width == 24 && len(x.singles) > x.n
			anchors = anchors || x.full(0)
			copies = copies || len(x.copies) == x.n/mostCopies+1
		}
	}
	if !tables || !anchors || !copies {
		t.Errorf("the texts do not do what they are for: large tables %v, no room for anchors %v, for copies %v", tables, anchors, copies)
	}
}

// TestComparerFolds has code points that become the same byte, so that only they themselves differ.
func TestComparerFolds(t *testing.T) {
	var alike []string
	fold := func(p rune) (b [1]byte) {
		foldPoints(b[:], []uint32{uint32(p)})
		return b
	}
	for p := rune(0x80); len(alike) < 40; p++ {
		if fold(p) == fold(0x80) && (p < 0xd800 || p > 0xdfff) {
			alike = append(alike, string(p))
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	var x Index
	for _, width := range []int{3, 12, 24, 30} {
		for _, kinds := range []int{1, 2, 40} {
			var b []byte
			for range 600 {
				b = append(b, alike[r.IntN(kinds)]...)
				b = append(b, "plain text "[:r.IntN(12)]...)
			}
			var only []byte
			for range 600 {
				only = append(only, alike[r.IntN(kinds)]...)
			}
			checkComparer(t, width, &x, b, b, only, edited(r, b, 3))
			checkComparer(t, width, &x, only, b, only, edited(r, only, 3))
		}
	}
}

func FuzzComparer(f *testing.F) {
	f.Add([]byte("The quick brown fox jumps over the lazy dog"), []byte("The quick brown fox leaps over the lazy dog"), uint8(5))
	f.Add([]byte("\xff\xc3 \xe2\x82"), []byte("漢字\xf0\x9f\x98"), uint8(1))
	f.Add(bytes.Repeat([]byte("ab"), 500), bytes.Repeat([]byte("abc"), 300), uint8(24))
	f.Fuzz(func(t *testing.T, a, b []byte, width uint8) {
		var x Index
		checkComparer(t, 1+int(width)%100, &x, a, b, append(bytes.Clone(a), b...))
	})
}

// TestIndexMemory keeps the promise of IndexBytes, and that no memory is asked for anew.
func TestIndexMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	random := make([]byte, 300_000)
	for i := range random {
		random[i] = byte('a' + r.IntN(26))
	}
	for _, width := range []int{5, 12, 24, MaxCharNgrams} {
		c := mustComparer(t, width)
		var x Index
		for _, text := range [][]byte{nil, random[:100], bytes.Repeat([]byte("0123456789"), 10_000), random, append([]byte("é"), random...)} {
			c.Index(&x, text)
			c.Overlap(&x, text)
			if most := 24<<10 + IndexBytes(int64(len(text))); int64(x.Bytes()) > most || int64(c.Bytes()) > most {
				t.Errorf("width %d: %d and %d bytes for a text of %d, want at most %d", width, x.Bytes(), c.Bytes(), len(text), most)
			}
			if n := testing.AllocsPerRun(3, func() { c.Index(&x, text); c.Overlap(&x, text) }); n != 0 {
				t.Errorf("width %d: %v allocations for %d bytes", width, n, len(text))
			}
		}
		if c.Free(); c.Bytes() != 0 {
			t.Errorf("%d bytes are left", c.Bytes())
		}
	}
}

// TestBitSets compares what moves and counts bits with one bit at a time.
func TestBitSets(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	get := func(set []uint64, i int) bool { return set[i>>6]>>(i&63)&1 == 1 }
	for range 20_000 {
		set := []uint64{r.Uint64(), r.Uint64(), r.Uint64() | r.Uint64(), ^uint64(0), r.Uint64(), 0}
		at := 1 + r.IntN(200)
		n, back := 1+r.IntN(100), 1+r.IntN(at)
		want := make([]bool, 384)
		for i := range want {
			want[i] = get(set, i)
		}
		what := r.IntN(4)
		switch what {
		case 0:
			ones := 0
			for ones < n && want[at+ones] {
				ones++
			}
			if got := onesFrom(set, at, n); got != ones {
				t.Fatalf("%x: %d ones from %d, want %d of %d", set, got, at, ones, n)
			}
		case 1:
			setBits(set, at, at+n)
		case 2:
			clearBits(set, at, at+n)
		case 3:
			moveBits(set, at, n, back)
		}
		for i := at + n - 1; i >= at; i-- {
			switch what {
			case 1, 2:
				want[i] = what == 1
			case 3:
				want[i-back] = want[i-back] || want[i]
				want[i] = false
			}
		}
		for i := range want {
			if get(set, i) != want[i] {
				t.Fatalf("case %d, at %d, n %d, back %d: bit %d", what, at, n, back, i)
			}
		}
	}
}

func mustComparer(t tb, width int) *Comparer {
	t.Helper()
	c, err := NewComparer(width)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func BenchmarkComparer(b *testing.B) {
	for _, size := range []int{300, 2500, 50_000, 1_000_000} {
		docs := goSource(b, 2<<20, size)
		r := rand.New(rand.NewPCG(1, 2))
		var like [][]byte
		for _, d := range docs {
			like = append(like, edited(r, d, 1+size/1500))
		}
		for _, kind := range []string{"similar", "dissimilar", "index only", "similar, by hashes"} {
			b.Run(byteCount(size)+" "+kind, func(b *testing.B) {
				c, w := mustComparer(b, 24), mustWindows(b, 24)
				var x Index
				var hashes []uint64
				b.SetBytes(int64(size))
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					i := n % len(docs)
					switch kind {
					case "similar":
						c.Index(&x, docs[i])
						c.Overlap(&x, like[i])
					case "dissimilar":
						c.Index(&x, docs[i])
						c.Overlap(&x, docs[(i+1)%len(docs)])
					case "index only":
						c.Index(&x, docs[i])
					default:
						w.Set(docs[i])
						hashes = w.Hashes(hashes[:0])
						w.Set(like[i])
						w.Overlap(hashes)
					}
					n++
				}
			})
		}
	}
}
