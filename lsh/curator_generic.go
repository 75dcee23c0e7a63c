package lsh

// curatorVersion counts changes of the definition; there is one, NeMo Curator's.
const curatorVersion = 1

const (
	mersenne31 = 1<<31 - 1
	mersenne61 = 1<<61 - 1
)

// Permutations returns the pairs (a, b) of the permutations of the Curator sketches, NumHashes of each, a[0]
// being also the seed of the window hash: what numpy.random.RandomState(seed) yields when NeMo Curator draws a
// from [1, P-1] and then b from [0, P-1], permutation after permutation, with P = 2^31-1 or 2^61-1. The
// values for Curator32 fit 32 bits. It returns nil for other sketches.
func (p Params) Permutations() (a, b []uint64) {
	if p.Sketch != Curator32 && p.Sketch != Curator64 {
		return nil, nil
	}
	n := p.NumHashes()
	a, b = make([]uint64, n), make([]uint64, n)
	mt := newMT19937(uint32(p.Seed))
	for i := range n {
		if p.Sketch == Curator64 {
			a[i] = 1 + mt.upTo64(mersenne61-2, mersenne61)
			b[i] = mt.upTo64(mersenne61-1, mersenne61)
		} else {
			a[i] = 1 + uint64(mt.upTo32(mersenne31-2, mersenne31))
			b[i] = uint64(mt.upTo32(mersenne31-1, mersenne31))
		}
	}
	return a, b
}

// curator32Generic returns the slots of a text under the sketch [Curator32].
//
// cuDF's documentation has (h*a + b) mod (2^61-1) mod 2^32, but every operand in its kernel is a uint32, so
// the sum wraps at 2^32 and the Mersenne prime does nothing.
func curator32Generic(text []byte, width int, a, b []uint64) []uint64 {
	slots := make([]uint64, len(a))
	for i, window := range windowsGeneric(text, width) {
		h := max(murmur32(window, uint32(a[0])), 1)
		for j := range slots {
			v := uint64(h*uint32(a[j]) + uint32(b[j]))
			if i == 0 || v < slots[j] {
				slots[j] = v
			}
		}
	}
	return slots
}

// curator64Generic returns the slots of a text under the sketch [Curator64]. The product wraps at 2^64
// before it is reduced.
func curator64Generic(text []byte, width int, a, b []uint64) []uint64 {
	slots := make([]uint64, len(a))
	for i, window := range windowsGeneric(text, width) {
		h := max(murmur64(window, a[0]), 1)
		for j := range slots {
			v := (h*a[j] + b[j]) % mersenne61
			if i == 0 || v < slots[j] {
				slots[j] = v
			}
		}
	}
	return slots
}

// windowsGeneric returns the bytes of every window of text, in order of their starts.
func windowsGeneric(text []byte, width int) [][]byte {
	var starts []int
	for i := 0; i < len(text); {
		_, size := nextPoint(text[i:])
		starts = append(starts, i)
		i += size
	}
	if len(starts) == 0 {
		return nil
	}
	if len(starts) <= width {
		return [][]byte{text}
	}
	starts = append(starts, len(text))
	windows := make([][]byte, 0, len(starts)-width)
	for i := range len(starts) - width {
		windows = append(windows, text[starts[i]:starts[i+width]])
	}
	return windows
}
