package rowloops

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func randomWords(rng *rand.Rand, n int) []uint64 {
	w := make([]uint64, n)
	for i := range w {
		w[i] = rng.Uint64() >> rng.IntN(64)
	}
	return w
}

// FuzzLoops compares all loops with plain Go, for every remainder of a vector and every place in memory.
func FuzzLoops(f *testing.F) {
	for n := range uint16(40) {
		f.Add(uint64(n), n, uint8(n))
	}
	f.Add(uint64(1), uint16(9000), uint8(3))
	f.Add(uint64(2), uint16(60000), uint8(200))
	f.Fuzz(func(t *testing.T, seed uint64, rows uint16, partitions uint8) {
		rng := rand.New(rand.NewPCG(seed, 7))
		n, parts := int(rows), 1+int(partitions)
		values := randomBytes(rng, 8*n+8)[rng.IntN(8):][:8*n]
		got, want := make([]uint32, n), make([]uint32, n)
		Murmur8(got, values, uint32(seed))
		murmur8Go(want, values, uint32(seed))
		if !slices.Equal(got, want) {
			t.Errorf("Murmur8 of %d values", n)
		}
		a, b := randomWords(rng, n), randomWords(rng, n)
		a2, b2 := slices.Clone(a), slices.Clone(b)
		Fold8(a, b, values)
		fold8Go(a2, b2, values)
		if !slices.Equal(a, a2) || !slices.Equal(b, b2) {
			t.Errorf("Fold8 of %d values", n)
		}
		x, y := FoldEnd(a, b)
		if x2, y2 := foldEndGo(a, b); x != x2 || y != y2 {
			t.Errorf("FoldEnd of %d rows", n)
		}
		x, y = RecordSum2(a)
		if x2, y2 := recordSum2Go(a); x != x2 || y != y2 {
			t.Errorf("RecordSum2 of %d words", n)
		}
		counts := make([]int, parts)
		for i := range got {
			got[i] %= uint32(parts)
			counts[got[i]]++
		}
		next, all, ok := Places(counts)
		if !ok {
			t.Fatal("too many")
		}
		others := randomBytes(rng, 8*n)
		for columns := range 3 {
			if columns == 0 || !combines {
				continue
			}
			in := [][]byte{values, others}[:columns]
			var out, plain [][]byte
			for range in {
				out, plain = append(out, Aligned(nil, 8*all)), append(plain, make([]byte, 8*all))
			}
			ends := slices.Clone(next)
			combine(out, in, ends, got, nil)
			for i := range in {
				ends2 := slices.Clone(next)
				Scatter(plain[i], in[i], 8, ends2, got)
				if !slices.Equal(ends, ends2) {
					t.Error("the partitions end elsewhere")
				}
				for p := range next {
					if !bytes.Equal(out[i][8*next[p]:8*ends[p]], plain[i][8*next[p]:8*ends2[p]]) {
						t.Errorf("column %d of %d, partition %d of %d", i, columns, p, parts)
					}
				}
			}
		}
	})
}

// TestScatter puts every value where counting says, at every width, with and without lines.
func TestScatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, parts := range []int{1, 3, 256, MaxLines, MaxLines + 1} {
		for _, n := range []int{0, 1, 1000, 200_000} {
			at, counts := make([]uint32, n), make([]int, parts)
			for i := range at {
				at[i] = rng.Uint32N(uint32(parts))
				counts[at[i]]++
			}
			for _, width := range []int{1, 2, 4, 8} {
				values := randomBytes(rng, n*width)
				want := make([][]byte, parts)
				for i, p := range at {
					want[p] = append(want[p], values[width*i:][:width]...)
				}
				next, all, _ := Places(counts)
				begin := slices.Clone(next)
				dst := Aligned(nil, all*width)
				if width == 8 {
					Scatter8([][]byte{dst}, [][]byte{values}, next, at, nil)
				} else {
					Scatter(dst, values, width, next, at)
				}
				for p := range want {
					if got := dst[width*int(begin[p]) : width*int(next[p])]; !bytes.Equal(got, want[p]) {
						t.Fatalf("%d values of %d bytes, partition %d of %d", n, width, p, parts)
					}
				}
			}
		}
	}
}

func TestPlacesRefusesTooMany(t *testing.T) {
	if _, _, ok := Places([]int{math.MaxUint32 - 8, 9}); ok {
		t.Error("places of 32 bits for more than 2^32 values")
	}
	if next, all, ok := Places([]int{0, 9, 8, 1}); !ok || all != 32 || !slices.Equal(next, []uint32{0, 0, 16, 24}) {
		t.Error(next, all, ok)
	}
}

// BenchmarkLoops gives the time for a row of the loops, and of plain Go, when nobody disturbs.
func BenchmarkLoops(b *testing.B) {
	const n, parts = 512 << 10, 256
	rng := rand.New(rand.NewPCG(1, 1))
	x, y := randomBytes(rng, 8*n), randomBytes(rng, 8*n)
	at, counts := make([]uint32, n), make([]int, parts)
	for i := range at {
		at[i] = binary.LittleEndian.Uint32(x[8*i:]) % parts
		counts[at[i]]++
	}
	next, all, _ := Places(counts)
	dst := [][]byte{Aligned(nil, 8*all), Aligned(nil, 8*all)}
	u, v, hashes := make([]uint64, 512), make([]uint64, 512), make([]uint32, n)
	run := func(name string, rows int, f func()) {
		b.Run(name, func(b *testing.B) {
			best := time.Duration(math.MaxInt64)
			for b.Loop() {
				start := time.Now()
				f()
				best = min(best, time.Since(start))
			}
			b.ReportMetric(float64(best.Nanoseconds())/float64(rows), "best-ns/row")
		})
	}
	var lines []byte
	run("murmur", n, func() { Murmur8(hashes, x, 0) })
	run("murmur plain", n, func() { murmur8Go(hashes, x, 0) })
	run("fold", 512, func() { Fold8(u, v, x[:8*512]) })
	run("fold plain", 512, func() { fold8Go(u, v, x[:8*512]) })
	run("fold end", 512, func() { FoldEnd(u, v) })
	run("record sum", 256, func() { RecordSum2(u) })
	run("record sum plain", 256, func() { recordSum2Go(u) })
	run("scatter one", n, func() { lines = Scatter8(dst[:1], [][]byte{x}, slices.Clone(next), at, lines) })
	run("scatter two", n, func() { lines = Scatter8(dst, [][]byte{x, y}, slices.Clone(next), at, lines) })
	run("scatter one plain", n, func() { Scatter(dst[0], x, 8, slices.Clone(next), at) })
	run("memcpy of one", n, func() { copy(dst[0], x) })
}
