package lsh

import "slices"

// loops are the inner loops of the sketches, the only part that an instruction set replaces. Each works on a
// block of windows of one document, so that calling through a pointer costs nothing. All sets of loops give
// the same bits; the tests run every set in availableLoops against the reference.
type loops struct {
	name string

	// decode fills dst with the code points of text from its start, as far as either goes, and returns how many it
	// wrote and how many bytes they took.
	decode func(dst []uint32, text []byte) (points, size int)

	// What windows of the sketch "fast" are made of; see fast_go.go.
	pairs       func(dst, points []uint32)
	quads       func(dst, points []uint32, quad uint32)
	folds       func(dst, left, right []uint32, multiplier uint32)
	end         func(dst, run []uint32, add uint32)
	foldEnd     func(dst, left, right []uint32, add uint32)
	foldFoldEnd func(dst, run []uint32, size int, multiplier, add uint32)

	// mapTo lowers slots[s] to the round 0 key of each hash in the slot s it is mapped to.
	mapTo func(slots, hashes []uint32)
	// mapAgain does the same for round 1.
	mapAgain func(slots, hashes []uint32, round uint32)
	// below moves the hashes h with (h*count mod 2^32) < limit to the front and returns how many there are.
	below func(hashes []uint32, count, limit uint32) int
	// largest returns the largest of the slots, of which there is at least one.
	largest func(slots []uint32) uint32
	// gatherEmpty copies allA[j] and allB[j] of every slot j that is emptySlot to the front of a and b, which have the
	// length of the others, and returns how many there are.
	gatherEmpty func(a, b, slots, allA, allB []uint32) int
	// fillEmpty sets the i-th slot that is emptySlot to 2^31 | least[i]>>1.
	fillEmpty func(slots, least []uint32)

	// affineMin32 lowers least[j] to the least h*a[j]+b[j] mod 2^32 over hashes. least, a and b have the
	// same length.
	affineMin32 func(least, a, b, hashes []uint32)
	// search64 returns the index of the first hash h with (h*a+b) & mask = 0, or len(hashes).
	search64 func(hashes []uint64, a, b, mask uint64) int
}

// portableLoops are plain Go.
var portableLoops = loops{
	name:        "generic",
	decode:      decodePoints,
	pairs:       pairsGo,
	quads:       quadsGo,
	folds:       foldsGo,
	end:         endGo,
	foldEnd:     foldEndGo,
	foldFoldEnd: foldFoldEndGo,
	mapTo:       mapGo,
	mapAgain:    mapAgainGo,
	below:       belowGo,
	largest:     slices.Max[[]uint32],
	gatherEmpty: gatherEmptyGo,
	fillEmpty:   fillEmptyGo,
	affineMin32: affineMin32Go,
	search64:    search64Go,
}
