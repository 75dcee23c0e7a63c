package lsh

import (
	"math"
	"math/bits"
)

// FastVersion is the version of the sketch [Fast] that this package computes. Another version would give
// other signatures for the same text.
const FastVersion = 1

// The sketch [Fast] is a shortened form of Fast Similarity Sketching (Dahlgaard, Knudsen and Thorup, FOCS
// 2017). A window x has a key for each slot that depends on x alone,
//
//	round 0:  x is mapped to one slot of n; its key there is below 2^30
//	round 1:  x is mapped to one slot again, by other bits; its key there is in [2^30, 2^31)
//	else:     the key is a classic MinHash value in [2^31, 2^32)
//
// and slot j of a document is the least key for j among its windows. The window with the least key of the
// union of two documents is equally likely to be any of the union, so that P[slots equal] = J for sets of any
// size. All but short documents fill every slot in the two mapped rounds, at a cost per window that does
// not depend on n. The number of rounds is part of the definition.

// Multipliers of the window hash. FORMAT.md says how each was chosen and what is tested about it.
const (
	// fastPoint joins code points linearly: no two pairs of code points below 60,280, no two triples below
	// 1,395 and no two quadruples below 195 have the same sum.
	fastPoint = 0x2055cd73
	fastMix   = 0x2c1b3c6d
	fastJoin  = 0x9e3779b1
	fastLen   = 0x9e3779b9
	fastEnd1  = 0x7feb352d
	fastEnd2  = 0x846ca68b
)

// fastLevel holds the multipliers that join two runs of 4, 8, 16, 32, 64 ... code points, in turn.
var fastLevel = [4]uint32{0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f, 0x165667b1}

// FastConstants are the numbers that the sketch [Fast] draws from its seed. Kernels of other devices take
// them from here.
type FastConstants struct {
	Quad  uint32   // added to every run of four code points
	Final uint32   // added to a window before its last mixing
	Round uint32   // added in the mapping of round 1
	A, B  []uint32 // multiplier, odd, and addend of each slot's classic hash
}

// FastConstants returns the constants of p, whatever its sketch is.
func (p Params) FastConstants() FastConstants {
	state := p.Seed
	next := func() (low, high uint32) { // SplitMix64 (Steele, Lea and Flood 2014)
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
		return uint32(z), uint32(z >> 32)
	}
	var c FastConstants
	c.Quad, c.Final = next()
	c.Round, _ = next()
	c.A, c.B = make([]uint32, p.NumHashes()), make([]uint32, p.NumHashes())
	for j := range c.A {
		a, b := next()
		c.A[j], c.B[j] = a|1, b
	}
	return c
}

// fastGeneric returns the slots of a text under the sketch [Fast].
func fastGeneric(text []byte, width int, c *FastConstants) []uint64 {
	var points []uint32
	for len(text) > 0 {
		p, size := nextPoint(text)
		points = append(points, p)
		text = text[size:]
	}
	slots := make([]uint64, len(c.A))
	if len(points) == 0 {
		return slots
	}
	width = min(width, len(points))
	var hashes []uint32
	for i := range len(points) - width + 1 {
		hashes = append(hashes, fastWindow(points[i:i+width], c))
	}
	for j := range slots {
		slots[j] = math.MaxUint32
		for _, h := range hashes {
			slots[j] = min(slots[j], uint64(fastKey(h, j, c)))
		}
	}
	return slots
}

// fastKey returns the key for slot j of a window whose hash is h.
func fastKey(h uint32, j int, c *FastConstants) uint32 {
	n := uint64(len(c.A))
	if p := uint64(h) * n; int(p>>32) == j {
		return uint32(p) >> 2
	}
	if p := uint64(h*fastPoint+c.Round) * n; int(p>>32) == j {
		return 1<<30 | uint32(p)>>2
	}
	return 1<<31 | (h*c.A[j]+c.B[j])>>1
}

// fastWindow returns the hash of a window of any length from 1: the window is cut into runs whose lengths are
// the powers of two of its binary representation, longest first, and their hashes are joined.
func fastWindow(window []uint32, c *FastConstants) uint32 {
	length := uint32(len(window))
	var h uint32
	for first := true; len(window) > 0; first = false {
		size := 1 << (bits.Len(uint(len(window))) - 1)
		run := fastRun(window[:size], c)
		if first {
			h = run
		} else {
			h = fastFold(h, run, fastJoin)
		}
		window = window[size:]
	}
	h += c.Final + length*fastLen
	h = (h ^ h>>16) * fastEnd1
	h = (h ^ h>>15) * fastEnd2
	return h ^ h>>16
}

// fastRun returns the hash of a run whose length is a power of two.
func fastRun(run []uint32, c *FastConstants) uint32 {
	switch n := len(run); n {
	case 1:
		return run[0]
	case 2:
		return run[0]*fastPoint + run[1]
	case 4:
		h := ((run[0]*fastPoint+run[1])*fastPoint+run[2])*fastPoint + run[3] + c.Quad
		h = (h ^ h>>15) * fastMix
		return h ^ h>>13
	default:
		level := bits.Len(uint(n)) - 4 // 0 for two runs of 4, 1 for two of 8 ...
		return fastFold(fastRun(run[:n/2], c), fastRun(run[n/2:], c), fastLevel[level%len(fastLevel)])
	}
}

// fastFold joins the hashes of two adjoining runs. The shift matters: without it the hash would be a
// polynomial mod 2^32, whose low bits cancel on periodic text.
func fastFold(left, right, multiplier uint32) uint32 {
	h := left*multiplier + right
	return h ^ h>>15
}
