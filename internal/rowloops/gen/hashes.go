package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// all32 returns a vector with a number of 32 bits in every lane.
func all32(value uint32) reg.VecVirtual {
	r, x := GP32(), ZMM()
	MOVL(U32(value), r)
	VPBROADCASTD(r, x)
	return x
}

// murmur8 hashes 16 values at a time: their lower halves are one vector, their upper halves another.
func murmur8() {
	halves := GLOBL("halves", 8) // 8 is RODATA
	for i := range 32 {
		DATA(4*i, U32(uint32(2*i%32+i/16)))
	}
	function("murmur8AVX512", "func(dst []uint32, values *byte, seed uint32)",
		"murmur8AVX512 is Murmur8 for a multiple of 16 values.")
	dst, n, values := base("dst"), length("dst"), pointer("values")
	seed := ZMM()
	VPBROADCASTD(Load(Param("seed"), GP32()), seed)
	c1, c2, add, eight := all32(0xcc9e2d51), all32(0x1b873593), all32(0xe6546b64), all32(8)
	f1, f2 := all32(0x85ebca6b), all32(0xc2b2ae35)
	lower, upper := ZMM(), ZMM()
	VMOVDQU64(halves, lower)
	VMOVDQU64(halves.Offset(64), upper)
	at := GP64()
	XORQ(at, at)
	JMP(LabelRef("more"))
	Label("vector")
	lo, hi, t, h := ZMM(), ZMM(), ZMM(), ZMM()
	next := Mem{Base: values, Disp: 64}
	VMOVDQU64(Mem{Base: values}, t)
	VMOVDQA64(lower, lo)
	VPERMI2D(next, t, lo)
	VMOVDQA64(upper, hi)
	VPERMI2D(next, t, hi)
	ADDQ(U8(128), values)
	VMOVDQA64(seed, h)
	for _, k := range []reg.VecVirtual{lo, hi} {
		VPMULLD(c1, k, k)
		VPROLD(U8(15), k, k)
		VPMULLD(c2, k, k)
		VPXORD(k, h, h)
		VPROLD(U8(13), h, h)
		VPSLLD(U8(2), h, t)
		VPADDD(t, h, h)
		VPADDD(add, h, h)
	}
	VPXORD(eight, h, h)
	mix := func(bits uint8) {
		VPSRLD(U8(bits), h, t)
		VPXORD(t, h, h)
	}
	mix(16)
	VPMULLD(f1, h, h)
	mix(13)
	VPMULLD(f2, h, h)
	mix(16)
	VMOVDQU32(h, Mem{Base: dst, Index: at, Scale: 4})
	ADDQ(U8(16), at)
	Label("more")
	CMPQ(at, n)
	JB(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

// half is one of the two halves of a row's hash: h becomes mix(h*times + next), where mix is
// x ^= x >> s0, x *= m0, x ^= x >> s1, x *= m1, x ^= x >> s2.
type half struct {
	times, m0, m1 reg.VecVirtual
	s0, s1, s2    uint8
}

func halvesOfRows() [2]half {
	return [2]half{
		{all(0x9fb21c651e98df25), all(0xff51afd7ed558ccd), all(0xc4ceb9fe1a85ec53), 33, 33, 33},
		{all(0xa24baed4963ee407), all(0xbf58476d1ce4e5b9), all(0x94d049bb133111eb), 30, 27, 31},
	}
}

// fold takes a vector into hashes.
func (f half) fold(h, next reg.VecVirtual) {
	t := ZMM()
	mix := func(bits uint8) {
		VPSRLQ(U8(bits), h, t)
		VPXORQ(t, h, h)
	}
	VPMULLQ(f.times, h, h)
	VPADDQ(next, h, h)
	mix(f.s0)
	VPMULLQ(f.m0, h, h)
	mix(f.s1)
	VPMULLQ(f.m1, h, h)
	mix(f.s2)
}

func fold8() {
	function("fold8AVX512", "func(a, b []uint64, values *byte)", "fold8AVX512 is Fold8 for a multiple of 8 values.")
	hashes, n := [2]reg.Register{base("a"), base("b")}, length("a")
	values := pointer("values")
	of := halvesOfRows()
	at := GP64()
	XORQ(at, at)
	JMP(LabelRef("more"))
	Label("vector")
	v := ZMM()
	VMOVDQU64(Mem{Base: values, Index: at, Scale: 8}, v)
	for i, f := range of {
		h := ZMM()
		VMOVDQU64(Mem{Base: hashes[i], Index: at, Scale: 8}, h)
		f.fold(h, v)
		VMOVDQU64(h, Mem{Base: hashes[i], Index: at, Scale: 8})
	}
	ADDQ(U8(8), at)
	Label("more")
	CMPQ(at, n)
	JB(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

func foldEnd() {
	function("foldEndAVX512", "func(a, b []uint64) (sumA, sumB uint64)", "foldEndAVX512 is FoldEnd for a multiple of 8 rows.")
	hashes, n := [2]reg.Register{base("a"), base("b")}, length("a")
	of := halvesOfRows()
	one := all(1)
	sums := [2]reg.VecVirtual{ZMM(), ZMM()}
	for _, s := range sums {
		VPXORQ(s, s, s)
	}
	at := GP64()
	XORQ(at, at)
	JMP(LabelRef("more"))
	Label("vector")
	for i, f := range of {
		h := ZMM()
		VMOVDQU64(Mem{Base: hashes[i], Index: at, Scale: 8}, h)
		f.fold(h, one)
		VPADDQ(h, sums[i], sums[i])
	}
	ADDQ(U8(8), at)
	Label("more")
	CMPQ(at, n)
	JB(LabelRef("vector"))
	for i, s := range sums {
		t := ZMM()
		VEXTRACTI64X4(U8(1), s, t.AsY())
		VPADDQ(t.AsY(), s.AsY(), s.AsY())
		VEXTRACTI128(U8(1), s.AsY(), t.AsX())
		VPADDQ(t.AsX(), s.AsX(), s.AsX())
		VPSHUFD(U8(0b01_00_11_10), s.AsX(), t.AsX())
		VPADDQ(t.AsX(), s.AsX(), s.AsX())
		r := GP64()
		VMOVQ(s.AsX(), r)
		Store(r, ReturnIndex(i))
	}
	VZEROUPPER()
	RET()
}

// recordSum2 has no vectors: a product of 64 by 64 bits takes one instruction for one record and seventeen for eight.
func recordSum2() {
	const a0, b0, m, of = 0xa0761d6478bd642f, 0xe7037ed1a0b428db, 0x8ebc6af09c88c6e3, 0x589965cc75374cc3
	function("recordSum2BMI2", "func(words []uint64) (sumA, sumB uint64)", "recordSum2BMI2 is RecordSum2 for an even number of words.")
	words, n := base("words"), length("words")
	constant := func(v uint64) reg.Register {
		r := GP64()
		MOVQ(U64(v), r)
		return r
	}
	mulA, mulB, mulOf := constant(m), constant(b0), constant(of)
	turned := constant(a0<<29&(1<<64-1) | a0>>35) // of the first word, a turns before it is known
	turnedB := constant(b0<<31&(1<<64-1) | b0>>33)
	beginA, beginB := constant(a0), constant(b0^of)
	sumA, sumB := GP64(), GP64()
	XORQ(sumA, sumA)
	XORQ(sumB, sumB)
	end := GP64()
	LEAQ(Mem{Base: words, Index: n, Scale: 8}, end)
	JMP(LabelRef("more"))
	Label("record")
	a, b, lo, hi := GP64(), GP64(), GP64(), GP64()
	times := func(by reg.Register) { MULXQ(by, lo, hi) } // of RDX
	MOVQ(Mem{Base: words}, reg.RDX)
	XORQ(beginA, reg.RDX)
	times(mulA)
	XORQ(hi, lo)
	MOVQ(turned, a)
	XORQ(lo, a)
	MOVQ(Mem{Base: words}, reg.RDX)
	XORQ(beginB, reg.RDX)
	times(mulB)
	XORQ(hi, lo)
	LEAQ(Mem{Base: turnedB, Index: lo, Scale: 1}, b)
	// The second word.
	MOVQ(Mem{Base: words, Disp: 8}, reg.RDX)
	XORQ(a, reg.RDX)
	times(mulA)
	XORQ(hi, lo)
	RORXQ(U8(64-29), a, a)
	XORQ(lo, a)
	MOVQ(Mem{Base: words, Disp: 8}, reg.RDX)
	XORQ(mulOf, reg.RDX)
	XORQ(b, reg.RDX)
	times(mulB)
	XORQ(hi, lo)
	RORXQ(U8(64-31), b, b)
	ADDQ(lo, b)
	// The end.
	MOVQ(a, reg.RDX)
	XORQ(b, reg.RDX)
	times(mulOf)
	XORQ(hi, a)
	ADDQ(a, sumA)
	XORQ(lo, b)
	ADDQ(b, sumB)
	ADDQ(U8(16), words)
	Label("more")
	CMPQ(words, end)
	JB(LabelRef("record"))
	Store(sumA, ReturnIndex(0))
	Store(sumB, ReturnIndex(1))
	RET()
}
