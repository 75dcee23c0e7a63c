package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa writes the same kernel with 16 or with 8 lanes of 32 bits.
type isa struct {
	suffix string
	lanes  int
	vec    func() reg.VecVirtual
	mask   reg.Register // of a part of a vector, nil while vectors are whole
}

// isas returns both instruction sets.
func isas() []*isa {
	return []*isa{{suffix: "AVX512", lanes: 16, vec: func() reg.VecVirtual { return ZMM() }}, {suffix: "AVX2", lanes: 8, vec: func() reg.VecVirtual { return YMM() }}}
}

func (v *isa) wide() bool { return v.lanes == 16 }

// load loads lanes of 32 bits, those of the mask alone if there is one, and then nothing else is touched.
func (v *isa) load(m Mem) reg.VecVirtual {
	x := v.vec()
	switch {
	case v.wide() && v.mask != nil:
		VMOVDQU32_Z(m, v.mask, x)
	case v.wide():
		VMOVDQU32(m, x)
	case v.mask != nil:
		VPMASKMOVD(m, v.mask, x)
	default:
		VMOVDQU(m, x)
	}
	return x
}

func (v *isa) store(x reg.VecVirtual, m Mem) {
	switch {
	case v.wide() && v.mask != nil:
		VMOVDQU32(x, v.mask, m)
	case v.wide():
		VMOVDQU32(x, m)
	case v.mask != nil:
		VPMASKMOVD(x, v.mask, m)
	default:
		VMOVDQU(x, m)
	}
}

// all returns a vector with a constant in every lane.
func (v *isa) all(value uint32) reg.VecVirtual {
	r := GP32()
	MOVL(U32(value), r)
	return v.allOf(r)
}

// allOf returns a vector with the value of a general register in every lane.
func (v *isa) allOf(r reg.Register) reg.VecVirtual {
	x := v.vec()
	if v.wide() {
		VPBROADCASTD(r, x)
	} else {
		low := XMM()
		VMOVD(r, low)
		VPBROADCASTD(low, x)
	}
	return x
}

// argument returns a vector with an argument of 32 bits in every lane.
func (v *isa) argument(name string) reg.VecVirtual { return v.allOf(Load(Param(name), GP32())) }

func (v *isa) xor(x, y reg.VecVirtual) reg.VecVirtual {
	z := v.vec()
	if v.wide() {
		VPXORD(x, y, z)
	} else {
		VPXOR(x, y, z)
	}
	return z
}

func (v *isa) and(x, y reg.VecVirtual) reg.VecVirtual {
	z := v.vec()
	if v.wide() {
		VPANDD(x, y, z)
	} else {
		VPAND(x, y, z)
	}
	return z
}

// copyTo sets y to x.
func (v *isa) copyTo(x, y reg.VecVirtual) {
	if v.wide() {
		VMOVDQA64(x, y)
	} else {
		VMOVDQA(x, y)
	}
}

func (v *isa) copied(x reg.VecVirtual) reg.VecVirtual {
	y := v.vec()
	v.copyTo(x, y)
	return y
}

func (v *isa) add(x, y reg.VecVirtual) reg.VecVirtual {
	z := v.vec()
	VPADDD(x, y, z)
	return z
}

func (v *isa) mul(x, y reg.VecVirtual) reg.VecVirtual {
	z := v.vec()
	VPMULLD(x, y, z)
	return z
}

// compare compares 16 lanes into a mask, or those of the mask there is.
func (v *isa) compare(op func(...Op), ops ...Op) reg.Register {
	k := K()
	if v.mask != nil {
		ops = append(ops, v.mask)
	}
	op(append(ops, k)...)
	return k
}

// mix returns x ^ x>>bits.
func (v *isa) mix(x reg.VecVirtual, bits uint8) reg.VecVirtual {
	z := v.vec()
	VPSRLD(U8(bits), x, z)
	return v.xor(x, z)
}

// rotate returns x rotated left.
func (v *isa) rotate(x reg.VecVirtual, bits uint8) reg.VecVirtual {
	z := v.vec()
	if v.wide() {
		VPROLD(U8(bits), x, z)
		return z
	}
	y := v.vec()
	VPSLLD(U8(bits), x, z)
	VPSRLD(U8(32-bits), x, y)
	VPOR(y, z, z)
	return z
}

// each runs body over n values of 4 bytes: with whole vectors as long as there are such, then with a part of one. at
// is the offset in bytes of the first value, and n is used up.
func (v *isa) each(n reg.Register, body func(at reg.Register)) {
	at := GP64()
	XORQ(at, at)
	JMP(LabelRef("more"))
	Label("vector")
	body(at)
	ADDQ(U8(4*v.lanes), at)
	SUBQ(U8(v.lanes), n)
	Label("more")
	CMPQ(n, U8(v.lanes))
	JGE(LabelRef("vector"))
	TESTQ(n, n)
	JZ(LabelRef("done"))
	v.mask = v.lowLanes(n)
	body(at)
	v.mask = nil
	Label("done")
}

// end ends a function. The upper halves of vectors are left clear, because code that was made for SSE is slow otherwise.
func end() {
	VZEROUPPER()
	RET()
}

// lowLanes returns a mask of the lowest n lanes, n from 0 to the number of lanes.
func (v *isa) lowLanes(n reg.Register) reg.Register {
	if v.wide() {
		bits, k := GP64(), K()
		MOVQ(I32(-1), bits)
		BZHIQ(n, bits, bits)
		KMOVQ(bits, k)
		return k
	}
	at, back, mask := GP64(), GP64(), YMM()
	LEAQ(lanesData(), at)
	MOVQ(n, back)
	NEGQ(back)
	VMOVDQU(Mem{Base: at, Index: back, Scale: 4, Disp: 32}, mask)
	return mask
}

var lanesMem *Mem

// lanesData is 8 lanes of ones and then 8 of zeros: from the right place, a mask of any number of lanes for AVX2.
func lanesData() Mem {
	if lanesMem == nil {
		m := GLOBL("lanes", 8|16) // RODATA, NOPTR
		for i := range 16 {
			v := U32(0)
			if i < 8 {
				v = 0xffffffff
			}
			DATA(4*i, v)
		}
		lanesMem = &m
	}
	return *lanesMem
}

// values returns the place of values of 4 bytes at an offset in bytes.
func values(base, at reg.Register) Mem { return Mem{Base: base, Index: at, Scale: 1} }
