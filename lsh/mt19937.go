package lsh

// mt19937 is the Mersenne Twister of Matsumoto and Nishimura (1998) as numpy's legacy RandomState drives it,
// which is where NeMo Curator takes its permutations from.
type mt19937 struct {
	state [624]uint32
	next  int
}

// newMT19937 seeds with the recurrence of init_genrand, not with init_by_array: numpy does the same for an
// integer seed.
func newMT19937(seed uint32) *mt19937 {
	m := &mt19937{next: len(mt19937{}.state)}
	m.state[0] = seed
	for i := 1; i < len(m.state); i++ {
		prev := m.state[i-1]
		m.state[i] = 1812433253*(prev^prev>>30) + uint32(i)
	}
	return m
}

func (m *mt19937) uint32() uint32 {
	const n, far = 624, 397
	if m.next == n {
		for i := range n {
			y := m.state[i]&0x80000000 | m.state[(i+1)%n]&0x7fffffff
			v := m.state[(i+far)%n] ^ y>>1
			if y&1 != 0 {
				v ^= 0x9908b0df
			}
			m.state[i] = v
		}
		m.next = 0
	}
	y := m.state[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// uint64 puts the first of two outputs in the high word, as numpy does.
func (m *mt19937) uint64() uint64 {
	high := uint64(m.uint32())
	return high<<32 | uint64(m.uint32())
}

// upTo32 draws uniformly from [0, limit] by masked rejection; mask is the smallest 2^k-1 >= limit.
func (m *mt19937) upTo32(limit, mask uint32) uint32 {
	for {
		if v := m.uint32() & mask; v <= limit {
			return v
		}
	}
}

// upTo64 is upTo32 over 64 bits.
func (m *mt19937) upTo64(limit, mask uint64) uint64 {
	for {
		if v := m.uint64() & mask; v <= limit {
			return v
		}
	}
}
