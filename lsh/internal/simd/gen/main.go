// Command gen writes the vector instructions of package simd: kernels_amd64.s, and the Go declarations of its functions.
// `go generate` in the folder above runs it.
//
// It is a module of its own, so that nobody who builds Dovetail needs the assembler it is written in.
package main

import (
	"strings"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
)

// function begins a function. None calls another, and none has a frame of more than a few hundred bytes, so that
// none needs to look whether the stack must grow.
func function(name, signature, doc string) {
	TEXT(name, attr.NOSPLIT, signature)
	Doc(strings.Split(doc, "\n")...)
	Pragma("noescape")
}
func main() {
	ConstraintExpr("amd64,!purego")
	for _, v := range isas() {
		affineMin32(v)
		affineBound(v)
		windows(v)
		slots(v)
		widen(v)
		anchors(v)
		same(v)
		murmur(v)
		if v.wide() {
			empty(v)
			decode(v)
		}
	}
	mapped(false)
	mapped(true)
	search64()
	Generate()
}
