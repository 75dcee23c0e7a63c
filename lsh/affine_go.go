package lsh

import "math/bits"

// minima32 is affineMin32 in pieces of at most half a millisecond: assembly cannot be preempted, and the longest signatures
// and windows are long.
func (l *loops) minima32(least, a, b, hashes []uint32) {
	const slots, windows = 4096, 2048
	for at := 0; at < len(least); at += slots {
		end := min(len(least), at+slots)
		for rest := hashes; len(rest) > 0; rest = rest[min(len(rest), windows):] {
			l.affineMin32(least[at:end], a[at:end], b[at:end], rest[:min(len(rest), windows)])
		}
	}
}

// affineMin32Go takes four slots at a time, so that their chains of minima overlap and a hash is loaded once
// for all.
func affineMin32Go(least, a, b, hashes []uint32) {
	a, b = a[:len(least)], b[:len(least)]
	j := 0
	for ; j+4 <= len(least); j += 4 {
		a0, a1, a2, a3 := a[j], a[j+1], a[j+2], a[j+3]
		b0, b1, b2, b3 := b[j], b[j+1], b[j+2], b[j+3]
		m0, m1, m2, m3 := least[j], least[j+1], least[j+2], least[j+3]
		for _, h := range hashes {
			m0 = min(m0, h*a0+b0)
			m1 = min(m1, h*a1+b1)
			m2 = min(m2, h*a2+b2)
			m3 = min(m3, h*a3+b3)
		}
		least[j], least[j+1], least[j+2], least[j+3] = m0, m1, m2, m3
	}
	for ; j < len(least); j++ {
		m := least[j]
		for _, h := range hashes {
			m = min(m, h*a[j]+b[j])
		}
		least[j] = m
	}
}

// affineMin64 lowers least[j] to the least (h*a[j]+b[j] mod 2^64) mod (2^61-1) over hashes. It reduces only the values
// that may lower a minimum, a handful of a thousand.
//
// With x = h*a + b mod 2^64: x mod (2^61-1) exceeds x mod 2^61 by at most 7 unless it wraps, so it can be below m only if
// x mod 2^61 is below m or is one of the 8 largest values, and (x+8) mod 2^61 < m+8 covers both. What search64 tests is a
// little less: that no bit is set at or above those of m+7.
func (l *loops) affineMin64(least, a, b, hashes []uint64) {
	if len(hashes) == 0 {
		return
	}
	a, b = a[:len(least)], b[:len(least)]
	for j, m := range least {
		m = min(m, mersenne61) // above every reduced value
		for rest := hashes; ; {
			low := uint64(1)<<bits.Len64(m+7) - 1
			i := l.search64(rest, a[j], b[j]+8, mersenne61&^low)
			if i == len(rest) {
				break
			}
			m = min(m, (rest[i]*a[j]+b[j])%mersenne61)
			rest = rest[i+1:]
		}
		least[j] = m
	}
}

func search64Go(hashes []uint64, a, b, mask uint64) int {
	i := 0
	for ; i+4 <= len(hashes); i += 4 {
		h := (*[4]uint64)(hashes[i:])
		if (h[0]*a+b)&mask == 0 {
			return i
		}
		if (h[1]*a+b)&mask == 0 {
			return i + 1
		}
		if (h[2]*a+b)&mask == 0 {
			return i + 2
		}
		if (h[3]*a+b)&mask == 0 {
			return i + 3
		}
	}
	for ; i < len(hashes); i++ {
		if (hashes[i]*a+b)&mask == 0 {
			return i
		}
	}
	return i
}
