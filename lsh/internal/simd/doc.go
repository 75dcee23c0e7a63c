// Package simd has the inner loops of package lsh in vector instructions, for AVX-512 and for AVX2. A function's name ends
// in the instruction set that it needs; whoever calls it has asked [HasAVX512] or [HasAVX2]. FORMAT.md of package lsh
// says what they compute, and lsh's plain Go does the same.
//
// Every function reads and writes exactly the values that its arguments hold, so that a text may end where memory ends,
// and aligned or not makes no difference. None can be preempted, so that lsh calls them for a block at a time. The
// assembly is made by the program in gen; see docs/design/20261127-simd.md for why.
package simd

//go:generate go -C gen run . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg simd
