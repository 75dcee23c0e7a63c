//go:build unix

package lsh

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// kernel runs one inner loop on arguments of a size and returns all that it may write, with the arguments at the end or
// at the start of memory that it must not leave.
type kernel struct {
	name string
	run  func(l *loops, in *inputs, n int) []any
}

// inputs draws the same arguments again for every set of loops, and puts each in guarded memory of its own.
type inputs struct {
	rand   *rand.Rand
	memory []*guarded
	used   int
	front  bool
}

func (in *inputs) place(s []uint32) []uint32 {
	in.used++
	return guardedCopy(in.memory[in.used-1], s, in.front)
}

// values returns n numbers, many of which are next to where something changes.
func (in *inputs) values(n int) []uint32 {
	s := make([]uint32, n)
	for i := range s {
		switch s[i] = in.rand.Uint32(); in.rand.IntN(8) {
		case 0:
			s[i] >>= in.rand.IntN(32)
		case 1:
			s[i] = math.MaxUint32 - s[i]>>29
		case 2:
			s[i] = 0
		}
	}
	return in.place(s)
}

// slots returns n slots, some of them empty, some of each kind of key.
func (in *inputs) slots(n int) []uint32 {
	s := make([]uint32, n)
	for i := range s {
		switch s[i] = in.rand.Uint32() >> 2; in.rand.IntN(3) {
		case 0:
			s[i] = emptySlot
		case 1:
			s[i] |= 1 << 30
		}
	}
	return in.place(s)
}

// edges are next to where UTF-8 ends: too long, a surrogate, too large, cut off, continued without end; and just right.
var edges = []string{
	"\xc0\x80", "\xc1\xbf", "\xc2\x80", "\xdf\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xed\xa0\x80",
	"\xed\xbf\xbf", "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80",
	"\xf7\xbf\xbf\xbf", "\xf8\x88\x80\x80\x80", "\xe4\xb8", "\xf0\x9f\x98", "a" + strings.Repeat("\x80", 16), "\xe4\xb8\xad" + strings.Repeat("\xbf", 17),
}

// text returns n bytes of text of all kinds.
func (in *inputs) text(n int) []byte {
	var b []byte
	alphabets := [][]rune{[]rune("abc 12"), []rune("жуки"), []rune("漢字仮名"), []rune("😀😃🤣"), []rune("a é漢😀")}
	for len(b) < n {
		alphabet := alphabets[in.rand.IntN(len(alphabets))]
		for range 1 + in.rand.IntN(100) {
			switch in.rand.IntN(100) {
			case 0:
				b = append(b, byte(in.rand.Uint32()))
			case 1:
				b = append(b, edges[in.rand.IntN(len(edges))]...)
			}
			b = append(b, string(alphabet[in.rand.IntN(len(alphabet))])...)
		}
	}
	in.used++
	return in.memory[in.used-1].bytes(b[:n])
}

var kernels = []kernel{
	{"decode", func(l *loops, in *inputs, n int) []any {
		text, dst := in.text(n), in.values(1+in.rand.IntN(n+1))
		points, size := l.decode(dst, text)
		return []any{dst[:points], size}
	}},
	{"pairs", func(l *loops, in *inputs, n int) []any {
		dst := in.values(n)
		l.pairs(dst, in.values(n+1))
		return []any{dst}
	}},
	{"quads", func(l *loops, in *inputs, n int) []any {
		dst := in.values(n)
		l.quads(dst, in.values(n+3), in.rand.Uint32())
		return []any{dst}
	}},
	{"folds", func(l *loops, in *inputs, n int) []any {
		dst := in.values(n)
		l.folds(dst, in.values(n), in.values(n), in.rand.Uint32())
		return []any{dst}
	}},
	{"folds in place", func(l *loops, in *inputs, n int) []any {
		size := in.rand.IntN(40)
		left := in.values(n + size)
		l.folds(left[:n], left, left[size:], in.rand.Uint32())
		return []any{left}
	}},
	{"end", func(l *loops, in *inputs, n int) []any {
		dst := in.values(n)
		l.end(dst, in.values(n), in.rand.Uint32())
		return []any{dst}
	}},
	{"foldEnd", func(l *loops, in *inputs, n int) []any {
		dst := in.values(n)
		l.foldEnd(dst, dst, in.values(n), in.rand.Uint32())
		return []any{dst}
	}},
	{"foldFoldEnd", func(l *loops, in *inputs, n int) []any {
		size := 1 + in.rand.IntN(40)
		dst := in.values(n)
		l.foldFoldEnd(dst, in.values(n+2*size), size, in.rand.Uint32(), in.rand.Uint32())
		return []any{dst}
	}},
	{"mapTo", func(l *loops, in *inputs, n int) []any {
		slots := in.slots(1 + in.rand.IntN(300))
		l.mapTo(slots, in.values(n))
		return []any{slots}
	}},
	{"openAgain", func(l *loops, in *inputs, n int) []any {
		slots, dst, hashes := in.slots(1+in.rand.IntN(300)), in.values(n), in.values(n)
		kept := l.openAgain(dst, slots, hashes, in.rand.Uint32())
		return []any{dst[:kept], slots, hashes}
	}},
	{"mapAgain", func(l *loops, in *inputs, n int) []any {
		slots := in.slots(1 + in.rand.IntN(300))
		l.mapAgain(slots, in.values(n), in.rand.Uint32())
		return []any{slots}
	}},
	{"below", func(l *loops, in *inputs, n int) []any {
		hashes, count := in.values(n), 1+in.rand.Uint32N(300)
		limit := in.rand.Uint32() >> in.rand.IntN(32)
		return []any{hashes[:l.below(hashes, count, limit)]}
	}},
	{"largest", func(l *loops, in *inputs, n int) []any { return []any{l.largest(in.values(n + 1))} }},
	{"gatherEmpty", func(l *loops, in *inputs, n int) []any {
		a, b, slots := in.values(n), in.values(n), in.slots(n)
		empty := l.gatherEmpty(a, b, slots, in.values(n), in.values(n))
		return []any{a[:empty], b[:empty]}
	}},
	{"fillEmpty", func(l *loops, in *inputs, n int) []any {
		slots := in.slots(n)
		empty := 0
		for _, v := range slots {
			if v == emptySlot {
				empty++
			}
		}
		l.fillEmpty(slots, in.values(empty))
		return []any{slots}
	}},
	{"words", func(l *loops, in *inputs, n int) []any {
		text := in.text(n)
		dst := in.values(max(0, n-in.rand.IntN(5)))
		l.words(dst, text)
		return []any{dst}
	}},
	{"mixWords", func(l *loops, in *inputs, n int) []any {
		dst := in.values(n)
		l.mixWords(dst, dst, in.rand.Uint32())
		return []any{dst}
	}},
	{"murmur", func(l *loops, in *inputs, n int) []any {
		full := in.rand.IntN(9)
		dst, words, tails := in.values(n), in.values(max(0, n+4*full-4)), in.values((n+4*full)*in.rand.IntN(2))
		l.murmur(dst, words, tails, full, in.rand.Uint32(), in.rand.Uint32N(40))
		return []any{dst}
	}},
	{"murmurPoints", func(l *loops, in *inputs, n int) []any {
		text, width := in.text(n), 1+in.rand.IntN(30)
		points := make([]uint32, n)
		count, _ := decodePoints(points, text)
		starts := pointStarts(make([]int32, n+1), points[:count])
		m := murmurBlocks{loops: l, seed: in.rand.Uint32()}
		dst := in.values(max(0, count-width+1))
		m.points(dst, text, starts, width)
		return []any{dst}
	}},
	{"grams", func(l *loops, in *inputs, n int) []any {
		dst := in.values(n)
		l.grams(dst, in.values(n+8), in.rand.Uint32(), in.rand.Uint32(), in.rand.Uint32())
		return []any{dst}
	}},
	{"lower", func(l *loops, in *inputs, n int) []any {
		ahead := 1 + in.rand.IntN(31)
		dst, src := in.values(n), in.values(n+ahead)
		l.lower(dst, src, uint32(ahead))
		l.lower(src[:n], src, uint32(ahead))
		return []any{dst, src}
	}},
	{"turns", func(l *loops, in *inputs, n int) []any {
		least := make([]uint32, n+1)
		for i := 1; i <= n; i++ {
			if least[i] = least[i-1] - 1; in.rand.IntN(4) == 0 {
				least[i] = in.rand.Uint32()
			}
		}
		dst := in.values(n)
		return []any{dst[:l.turns(dst, in.place(least))]}
	}},
	{"same64", func(l *loops, in *inputs, n int) []any {
		x, y := in.text(64), in.text(64)
		for i := range x {
			if in.rand.IntN(1+n) > 0 {
				y[i] = x[i]
			}
		}
		if l.same64 != nil {
			return []any{l.same64((*[64]byte)(x), (*[64]byte)(y))}
		}
		same := uint64(0)
		for i := range x {
			if x[i] == y[i] {
				same |= 1 << i
			}
		}
		return []any{same}
	}},
	{"affineMin32", func(l *loops, in *inputs, n int) []any {
		// Either may be the long one.
		slots, hashes := n, in.rand.IntN(100)
		if in.rand.IntN(2) == 0 {
			slots, hashes = hashes, slots
		}
		least := in.values(slots)
		l.affineMin32(least, in.values(slots), in.values(slots), in.values(hashes))
		return []any{least}
	}},
	{"search64", func(l *loops, in *inputs, n int) []any {
		hashes := make([]uint64, n)
		for i := range hashes {
			hashes[i] = in.rand.Uint64() >> in.rand.IntN(64)
		}
		in.used++
		hashes = guardedCopy(in.memory[in.used-1], hashes, in.front)
		return []any{l.search64(hashes, in.rand.Uint64(), in.rand.Uint64(), mersenne61&^(1<<in.rand.IntN(62)-1))}
	}},
}

const (
	guardedSize  = 64 << 10
	guardedCount = 6 // arguments of a kernel that are slices
)

// sameKernels runs a kernel with every set of loops and compares what it wrote with plain Go's.
func sameKernels(t *testing.T, k kernel, memory []*guarded, seed uint64, n int, front bool) {
	t.Helper()
	var want string
	all := availableLoops()
	for i := range all {
		l := all[len(all)-1-i] // plain Go first
		in := &inputs{rand: rand.New(rand.NewPCG(seed, uint64(n))), memory: memory, front: front}
		got := fmt.Sprint(k.run(l, in, n)...)
		if i == 0 {
			want = got
		} else if got != want {
			t.Fatalf("%s of %d with seed %d: %s gives\n%.300s, not\n%.300s", k.name, n, seed, l.name, got, want)
		}
	}
}

func guardedMemory(t testing.TB) []*guarded {
	var memory []*guarded
	for range guardedCount {
		memory = append(memory, newGuarded(t, guardedSize))
	}
	return memory
}

// TestKernels compares every inner loop on its own, for every number of values up to a few vectors and some more.
func TestKernels(t *testing.T) {
	memory := guardedMemory(t)
	var sizes []int
	for n := range 140 {
		sizes = append(sizes, n)
	}
	sizes = append(sizes, 511, 512, 513, 2048, 2071)
	for _, k := range kernels {
		t.Run(k.name, func(t *testing.T) {
			for seed := range uint64(4) {
				for _, n := range sizes {
					sameKernels(t, k, memory, seed, n, seed%2 == 1)
				}
			}
		})
	}
}

func FuzzKernels(f *testing.F) {
	for i := range kernels {
		f.Add(uint8(i), uint64(i), uint16(100))
	}
	memory := guardedMemory(f)
	f.Fuzz(func(t *testing.T, which uint8, seed uint64, n uint16) {
		sameKernels(t, kernels[int(which)%len(kernels)], memory, seed, int(n)%3000, seed%2 == 1)
	})
}

// FuzzDecode compares what every set of loops makes of a text that ends where memory ends with one code point at a time.
func FuzzDecode(f *testing.F) {
	in := &inputs{rand: rand.New(rand.NewPCG(7, 7)), memory: guardedMemory(f)}
	for _, n := range []int{0, 1, 63, 64, 65, 200, 300, 1000} {
		in.used = 0
		f.Add(slices.Clone(in.text(n)), uint16(n))
	}
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyzé0123456789abcdefghijklmnopqrstuvwxyz\xed\xa0\x80\xf4\x90\x80\x80\xc0\x80漢漢漢"), uint16(50))
	memory := guardedMemory(f)
	f.Fuzz(func(t *testing.T, text []byte, room uint16) {
		if len(text) > guardedSize/4 {
			return
		}
		text = memory[0].bytes(text)
		var want []uint32
		ends := []int{0}
		for at := 0; at < len(text); {
			p, size := nextPoint(text[at:])
			want = append(want, p)
			at += size
			ends = append(ends, at)
		}
		n := min(len(want), int(room))
		for _, l := range availableLoops() {
			dst := guardedCopy(memory[1], make([]uint32, room), false)
			points, size := l.decode(dst, text)
			if points != n || size != ends[n] || !slices.Equal(dst[:points], want[:n]) {
				t.Fatalf("%s: %d code points of %d bytes %x, want %d of %d %x", l.name, points, size, dst[:points], n, ends[n], want[:n])
			}
		}
	})
}

// TestWidths signs texts of all lengths up to a few windows, and longer ones, with windows of every width up to 64, from
// memory that ends with the text.
func TestWidths(t *testing.T) {
	in := &inputs{rand: rand.New(rand.NewPCG(11, 11)), memory: guardedMemory(t)}
	memory := newGuarded(t, guardedSize)
	for width := 1; width <= 64; width++ {
		for _, sketch := range Sketches() {
			p := Params{Sketch: sketch, NumBands: 1 + in.rand.IntN(40), MinhashesPerBand: 1, CharNgrams: width, Seed: 5}
			for trial := range 12 {
				n := in.rand.IntN(4 * width)
				if trial == 0 {
					n = in.rand.IntN(3000)
				}
				in.used = 0
				checkSign(t, p, memory.bytes(in.text(n)))
			}
		}
	}
}
