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
	// openAgain copies the hashes that round 1 maps to slots of 2^30 or more, those that round 0 left open, to dst, which is
	// as long as hashes, and returns how many there are.
	openAgain func(dst, slots, hashes []uint32, round uint32) int
	// mapAgain does for round 1 what mapTo does for round 0.
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

	// What MurmurHash3_x86_32 of windows is made of. words sets dst[i] to the little-endian word at text[i:], as if zeros
	// followed text, and mixWords to murmurWord(words[i] & mask). murmur sets dst[i] to the hash, 1 instead of 0, of length
	// bytes whose words are words[i], words[i+4] and so on, full of them, and tails[i+4*full] unless there are no tails.
	words    func(dst []uint32, text []byte)
	mixWords func(dst, words []uint32, mask uint32)
	murmur   func(dst, words, tails []uint32, full int, seed, length uint32)
	// murmurPoints is the same for the bytes from starts[i] to starts[i+width]; it takes words as they are before and after
	// mixWords, for every byte of a block. It may be nil: then it is faster to hash one window after another.
	murmurPoints func(dst, mixed, words []uint32, starts []int32, width int, seed uint32)

	// What finds the anchors of windows; see anchors.go. grams sets dst[i] to what gram i of a text is ordered by, given
	// the words of its bytes. lower sets dst[i] to the lesser of src[i] and src[i+ahead] + ahead; dst may be the front of
	// src. turns writes those i to dst, which has one less than least, for which least[i+1] is not least[i] - 1, and returns how many there are.
	grams func(dst, words []uint32, first, second, third uint32)
	lower func(dst, src []uint32, ahead uint32)
	turns func(dst, least []uint32) int
	// same64 returns a bit for each byte of x that is the same in y. It may be nil.
	same64 func(x, y *[64]byte) uint64

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
	openAgain:   openAgainGo,
	mapAgain:    mapAgainGo,
	below:       belowGo,
	largest:     slices.Max[[]uint32],
	gatherEmpty: gatherEmptyGo,
	fillEmpty:   fillEmptyGo,
	words:       wordsGo,
	mixWords:    mixWordsGo,
	murmur:      murmurGo,
	grams:       gramsGo,
	lower:       lowerGo,
	turns:       turnsGo,
	affineMin32: affineMin32Go,
	search64:    search64Go,
}
