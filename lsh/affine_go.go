package lsh

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

// affineMin64Go reduces only the values that lower a minimum: a handful of a thousand.
func affineMin64Go(least, a, b, hashes []uint64) {
	if len(hashes) == 0 {
		return
	}
	a, b = a[:len(least)], b[:len(least)]
	for j, m := range least {
		m = min(m, mersenne61) // above every reduced value, and m+8 does not wrap
		for rest := hashes; ; {
			i := nextBelow64(rest, a[j], b[j]+8, m+8)
			if i == len(rest) {
				break
			}
			m = min(m, (rest[i]*a[j]+b[j])%mersenne61)
			rest = rest[i+1:]
		}
		least[j] = m
	}
}

// nextBelow64 returns the index of the first hash for which (h*a + b8) mod 2^61 < limit, or len(hashes). With
// x = h*a + b mod 2^64, b8 = b+8 and limit = m+8 that holds for every hash whose x mod (2^61-1) is below m
// and for a few others: x mod (2^61-1) exceeds x mod 2^61 by at most 7 unless it wraps, so it can be below m
// only if x mod 2^61 is below m or is one of the 8 largest values, and one comparison covers both.
func nextBelow64(hashes []uint64, a, b8, limit uint64) int {
	i := 0
	for ; i+4 <= len(hashes); i += 4 {
		h := (*[4]uint64)(hashes[i:])
		if (h[0]*a+b8)&mersenne61 < limit {
			return i
		}
		if (h[1]*a+b8)&mersenne61 < limit {
			return i + 1
		}
		if (h[2]*a+b8)&mersenne61 < limit {
			return i + 2
		}
		if (h[3]*a+b8)&mersenne61 < limit {
			return i + 3
		}
	}
	for ; i < len(hashes); i++ {
		if (hashes[i]*a+b8)&mersenne61 < limit {
			return i
		}
	}
	return i
}
