// Package lsh says what a shingle, a signature, a band and a candidate are, and computes them.
//
// A document is seen as the set of its shingles (or windows): every run of CharNgrams code points. Two
// documents are alike as far as their sets overlap: J(A, B) = |A ∩ B| / |A ∪ B|, the Jaccard similarity.
// The package has three steps, each usable alone:
//
//   - A sketch turns a document into a signature of NumHashes slots such that two signatures agree in a
//     slot with probability J. There are three: [Fast], this project's own, and [Curator32] and
//     [Curator64], which are bit for bit those of NeMo Curator on cuDF.
//   - Bands cut a signature into NumBands groups of MinhashesPerBand slots. Documents whose band keys agree
//     in any band become candidates, with probability 1-(1-J^r)^b: see [CandidateProbability] and
//     [ChooseBands].
//   - [Comparer], or by hashes [Windows], and [Threshold] compute J itself for a candidate, without floating point.
//
// FORMAT.md in this folder defines every value that the package produces to the last bit.
//
// # Code points
//
// Text is bytes, meant to be UTF-8 but not trusted to be. It is cut into code points exactly as
// [unicode/utf8.DecodeRune] does: where the bytes are no valid encoding, one byte is one code point of its
// own, distinct from every valid code point and from the other 127 such bytes. So no text is refused, and two
// windows are equal if and only if their bytes are. A text shorter than CharNgrams code points has one
// window, the whole text; an empty text has none.
//
// # Implementations
//
// The files named *_generic.go are the specification: short, slow, one document at a time, exported as
// [Reference]. [CPU] computes the same for whole columns: with AVX-512 or AVX2 where the processor has it ([Path]), in plain
// Go elsewhere and with the build tag purego. Anything else that implements [Kernels] proves
// itself with the suite in the package kernelstest, and so does whatever compares many texts at a time, a [PairBackend].
//
// The package imports nothing of the project but mem, and no C.
package lsh
