// Command gen writes the vector instructions of package rowloops: loops_amd64.s, and the Go declarations of its functions.
// `go generate` in the folder above runs it.
//
// It is a module of its own, so that nobody who builds Dovetail needs the assembler it is written in.
package main

import (
	"strings"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// function begins a function. None calls another, and none has a frame.
func function(name, signature, doc string) {
	TEXT(name, attr.NOSPLIT, signature)
	Doc(strings.Split(doc, "\n")...)
	Pragma("noescape")
}

func base(name string) reg.Register    { return Load(Param(name).Base(), GP64()) }
func length(name string) reg.Register  { return Load(Param(name).Len(), GP64()) }
func pointer(name string) reg.Register { return Load(Param(name), GP64()) }

func main() {
	ConstraintExpr("amd64,!purego")
	murmur8()
	fold8()
	foldEnd()
	scatter(1)
	scatter(2)
	recordSum2()
	Generate()
}

// all returns a vector with a number of 64 bits in every lane.
func all(value uint64) reg.VecVirtual {
	r, x := GP64(), ZMM()
	MOVQ(U64(value), r)
	VPBROADCASTQ(r, x)
	return x
}
