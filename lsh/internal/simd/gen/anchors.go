package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// anchors writes what finds the least gram that the windows of a block hold.
func anchors(v *isa) {
	function("Grams"+v.suffix, "func(dst, words []uint32, first, second, third uint32)",
		"Grams"+v.suffix+" sets dst[i] to words[i]*first + words[i+4]*second + words[i+8]*third mod 2^32, without its last 5 bits. words\n"+
			"has eight more than dst.")
	dst, words, n := base("dst"), base("words"), length("dst")
	first, second, third, order := v.argument("first"), v.argument("second"), v.argument("third"), v.all(^uint32(31))
	v.each(n, func(at reg.Register) {
		h := v.mul(v.load(values(words, at)), first)
		h = v.add(h, v.mul(v.load(values(words, at).Offset(16)), second))
		h = v.add(h, v.mul(v.load(values(words, at).Offset(32)), third))
		v.store(v.and(h, order), values(dst, at))
	})
	end()

	function("Lower"+v.suffix, "func(dst, src []uint32, ahead uint32)",
		"Lower"+v.suffix+" sets dst[i] to the lesser of src[i] and src[i+ahead] + ahead. src has at least so many more than dst, which may\n"+
			"be its front.")
	dst, src, n := base("dst"), base("src"), length("dst")
	ahead := GP64()
	Load(Param("ahead"), ahead.As32())
	add := v.allOf(ahead.As32())
	next := GP64()
	LEAQ(Mem{Base: src, Index: ahead, Scale: 4}, next)
	v.each(n, func(at reg.Register) {
		x := v.add(v.load(values(next, at)), add)
		VPMINUD(v.load(values(src, at)), x, x)
		v.store(x, values(dst, at))
	})
	end()

	function("Turns"+v.suffix, "func(dst, least []uint32) int",
		"Turns"+v.suffix+" writes those i to dst, in order, for which least[i+1] is not least[i] - 1, and returns how many there are. least\n"+
			"has one more than dst.")
	dst, least, n := base("dst"), base("least"), length("dst")
	lanes, one, index := GP64(), v.all(1), v.vec()
	LEAQ(numbersData(), lanes)
	v.copyTo(v.load(Mem{Base: lanes}), index)
	step := v.all(uint32(v.lanes))
	c := v.compressor(dst, n)
	v.each(n, func(at reg.Register) {
		x, y := v.load(values(least, at)), v.add(v.load(values(least, at).Offset(4)), one)
		if v.wide() {
			c.keep(index, v.compare(VPCMPUD, U8(4), x, y)) // not equal
		} else {
			same := v.vec()
			VPCMPEQD(x, y, same)
			c.keep2(index, same)
		}
		VPADDD(step, index, index)
	})
	Store(c.to, ReturnIndex(0))
	end()
}

// same writes what compares 64 bytes.
func same(v *isa) {
	function("Same64"+v.suffix, "func(x, y *[64]byte) uint64",
		"Same64"+v.suffix+" returns a bit for each byte of x that is the same in y.")
	x, y, bits := Load(Param("x"), GP64()), Load(Param("y"), GP64()), GP64()
	if v.wide() {
		a, k := ZMM(), K()
		VMOVDQU64(Mem{Base: x}, a)
		VPCMPEQB(Mem{Base: y}, a, k)
		KMOVQ(k, bits)
	} else {
		high := GP64()
		for i, to := range []reg.Register{bits, high} {
			a := YMM()
			VMOVDQU(Mem{Base: x, Disp: 32 * i}, a)
			VPCMPEQB(Mem{Base: y, Disp: 32 * i}, a, a)
			VPMOVMSKB(a, to.(reg.GPVirtual).As32())
		}
		SHLQ(U8(32), high)
		ORQ(high, bits)
	}
	Store(bits, ReturnIndex(0))
	end()
}

var numbersMem *Mem

// numbersData is the numbers of 16 lanes.
func numbersData() Mem {
	if numbersMem == nil {
		m := GLOBL("numbers", 8|16) // RODATA, NOPTR
		for i := range 16 {
			DATA(4*i, U32(i))
		}
		numbersMem = &m
	}
	return *numbersMem
}
