package lsh

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// The tests in this file reach what no text reaches in a lifetime: hashes of 0, and products next to a
// multiple of 2^61-1.

func TestAffineMin(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	edges := []uint64{0, 1, 2, 7, 8, 9, math.MaxUint64, math.MaxUint32, 1 << 32}
	for k := uint64(1); k <= 7; k++ {
		for d := range uint64(20) {
			edges = append(edges, k<<61-10+d, k*mersenne61-10+d)
		}
	}
	draw := func() uint64 {
		if r.IntN(2) == 0 {
			return edges[r.IntN(len(edges))]
		}
		return r.Uint64()
	}
	for trial := range 3000 {
		slots, n := 1+r.IntN(9), r.IntN(40)
		a64, b64, least64 := make([]uint64, slots), make([]uint64, slots), make([]uint64, slots)
		a32, b32, least32 := make([]uint32, slots), make([]uint32, slots), make([]uint32, slots)
		h64, h32 := make([]uint64, n), make([]uint32, n)
		for j := range slots {
			a64[j], b64[j], least64[j] = draw(), draw(), math.MaxUint64
			if trial%2 == 0 {
				a64[j], b64[j] = 1, 0
			}
			a32[j], b32[j], least32[j] = uint32(a64[j]), uint32(b64[j]), math.MaxUint32
			if trial%3 == 0 {
				least64[j], least32[j] = draw()%mersenne61, uint32(draw())
			}
		}
		for i := range n {
			h64[i] = draw()
			h32[i] = uint32(h64[i])
		}
		want64, want32 := make([]uint64, slots), make([]uint32, slots)
		for j := range slots {
			want64[j], want32[j] = least64[j], least32[j]
			for i := range n {
				want64[j] = min(want64[j], (h64[i]*a64[j]+b64[j])%mersenne61)
				want32[j] = min(want32[j], h32[i]*a32[j]+b32[j])
			}
		}
		for _, l := range availableLoops() {
			got64, got32 := append([]uint64(nil), least64...), append([]uint32(nil), least32...)
			l.affineMin64(got64, a64, b64, h64)
			l.affineMin32(got32, a32, b32, h32)
			for j := range slots {
				if got64[j] != want64[j] {
					t.Fatalf("%s: 64-bit minimum %d of %d hashes is %d, want %d", l.name, j, n, got64[j], want64[j])
				}
				if got32[j] != want32[j] {
					t.Fatalf("%s: 32-bit minimum %d of %d hashes is %d, want %d", l.name, j, n, got32[j], want32[j])
				}
			}
		}
	}
}

// TestRepeats checks that no value is lost, 0 included, and that runs of repeats go.
func TestRepeats(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	var filter repeats[uint32]
	for range 200 {
		filter.reset()
		values := make([]uint32, r.IntN(5000))
		want := make(map[uint32]bool)
		for i := range values {
			values[i] = r.Uint32N(6) << (11 * r.Uint32N(3)) // many fall in place 0
			want[values[i]] = true
		}
		kept := filter.drop(values)
		got := make(map[uint32]bool)
		for _, v := range kept {
			got[v] = true
		}
		if len(got) != len(want) {
			t.Fatalf("%d different values become %d", len(want), len(got))
		}
	}
	same := make([]uint32, 100)
	filter.reset()
	if n := len(filter.drop(same)); n != 1 {
		t.Errorf("100 zeros become %d", n)
	}
}

// TestCuratorZeroHash signs texts whose window hash is 0, which cuDF replaces by 1. MurmurHash3 is a bijection
// of its last block, so they can be computed.
func TestCuratorZeroHash(t *testing.T) {
	inverse := func(x uint64) uint64 { // of an odd number mod 2^64, by Newton's iteration
		y := x
		for range 6 {
			y *= 2 - x*y
		}
		return y
	}
	p := DefaultParams()
	p.Sketch = Curator32
	a, b := p.Permutations()
	// murmurFinal32 maps only 0 to 0, so the state before it is the length, 4.
	h := uint32(4) // after ^ length it is 0
	h = (h - murmurH) * uint32(inverse(5))
	h = bits.RotateLeft32(h, -13) ^ uint32(a[0])
	h = bits.RotateLeft32(h*uint32(inverse(murmurC2)), -15) * uint32(inverse(murmurC1))
	text := binary.LittleEndian.AppendUint32(nil, h)
	if got := murmur32(text, uint32(a[0])); got != 0 {
		t.Fatalf("the text was meant to have hash 0 and has %#x", got)
	}
	for _, got := range everySignature(t, p, text) {
		for j, v := range got {
			if want := uint64(uint32(a[j] + b[j])); v != want {
				t.Fatalf("slot %d of a text with hash 0 is %d, want %d", j, v, want)
			}
		}
	}

	p.Sketch = Curator64
	a, b = p.Permutations()
	unfinal := func(x uint64) uint64 { // the inverse of murmurFinal64; x ^ x>>33 is its own
		x ^= x >> 33
		x *= inverse(0xc4ceb9fe1a85ec53)
		x ^= x >> 33
		x *= inverse(0xff51afd7ed558ccd)
		return x ^ x>>33
	}
	const c1, c2 = 0x87c37b91114253d5, 0x4cf5ad432745937f
	x := uint64(12345)                  // h1 before its last mixing
	y := unfinal(-murmurFinal64(x))     // h2 likewise: their mixed sum is 0
	h2 := y - x                         // undo h2 += h1
	h1 := x - h2                        // undo h1 += h2
	h1, h2 = h1^16, h2^16               // the length
	h2 = (h2 - 0x38495ab5) * inverse(5) // the block, last step first
	h2 = bits.RotateLeft64(h2-h1, -31) ^ a[0]
	k2 := bits.RotateLeft64(h2*inverse(c1), -33) * inverse(c2)
	h1 = (h1 - 0x52dce729) * inverse(5)
	h1 = bits.RotateLeft64(h1-a[0], -27) ^ a[0]
	k1 := bits.RotateLeft64(h1*inverse(c2), -31) * inverse(c1)
	text = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, k1), k2)
	if got := murmur64(text, a[0]); got != 0 {
		t.Fatalf("the text was meant to have hash 0 and has %#x", got)
	}
	for _, got := range everySignature(t, p, text) {
		for j, v := range got {
			if want := (a[j] + b[j]) % mersenne61; v != want {
				t.Fatalf("slot %d of a text with hash 0 is %d, want %d", j, v, want)
			}
		}
	}
}

// everySignature returns the signature of a text by the reference and with every set of loops.
func everySignature(t *testing.T, p Params, text []byte) [][]uint64 {
	t.Helper()
	all := [][]uint64{mustReference(t, p).Sign(text)}
	for _, l := range availableLoops() {
		all = append(all, signCPU(t, mustCPU(t, p, l), text))
	}
	return all
}
