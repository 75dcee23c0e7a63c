//go:build !purego

package lsh

import "github.com/dovetail-dedup/dovetail/lsh/internal/simd"

// avx2Loops have 8 lanes of 32 bits. What is not replaced is no faster with AVX2, which has no product of 64 bits.
func avx2Loops() *loops {
	l := portableLoops
	l.name = "avx2"
	l.decode = decodeAVX2
	l.pairs = simd.PairsAVX2
	l.quads = simd.QuadsAVX2
	l.folds = simd.FoldsAVX2
	l.end = simd.EndAVX2
	l.foldEnd = simd.FoldEndAVX2
	l.foldFoldEnd = simd.FoldFoldEndAVX2
	l.mapTo = simd.MapAVX2
	l.mapAgain = simd.MapAgainAVX2
	l.openAgain = simd.OpenAgainAVX2
	l.below = simd.BelowAVX2
	l.largest = simd.MaxAVX2
	l.words = func(dst []uint32, text []byte) {
		n := simd.WordsAVX2(dst, text)
		wordsGo(dst[n:], text[n:])
	}
	l.mixWords = simd.MixWordsAVX2
	l.murmur = simd.MurmurAVX2
	l.grams = simd.GramsAVX2
	l.lower = simd.LowerAVX2
	l.turns = simd.TurnsAVX2
	l.same64 = simd.Same64AVX2
	l.affineMin32 = simd.AffineMin32AVX2
	return &l
}

// avx512Loops have 16 lanes, masks, and 64-bit products.
func avx512Loops() *loops {
	l := portableLoops
	l.name = "avx512"
	l.decode = decodeAVX512
	l.pairs = simd.PairsAVX512
	l.quads = simd.QuadsAVX512
	l.folds = simd.FoldsAVX512
	l.end = simd.EndAVX512
	l.foldEnd = simd.FoldEndAVX512
	l.foldFoldEnd = simd.FoldFoldEndAVX512
	l.mapTo = simd.MapAVX2
	l.mapAgain = simd.MapAgainAVX2
	l.openAgain = simd.OpenAgainAVX512
	l.below = simd.BelowAVX512
	l.largest = simd.MaxAVX512
	l.gatherEmpty = simd.GatherEmptyAVX512
	l.fillEmpty = simd.FillEmptyAVX512
	l.words = simd.WordsAVX512
	l.mixWords = simd.MixWordsAVX512
	l.murmur = simd.MurmurAVX512
	l.murmurPoints = simd.MurmurPointsAVX512
	l.grams = simd.GramsAVX512
	l.lower = simd.LowerAVX512
	l.turns = simd.TurnsAVX512
	l.same64 = simd.Same64AVX512
	l.affineMin32 = simd.AffineMin32AVX512
	l.search64 = simd.Search64AVX512
	return &l
}

// availableLoops returns the sets of loops that this processor and its operating system can run, the best first.
func availableLoops() []*loops {
	var all []*loops
	if simd.HasAVX512() {
		all = append(all, avx512Loops())
	}
	if simd.HasAVX2() {
		all = append(all, avx2Loops())
	}
	return append(all, &portableLoops)
}
