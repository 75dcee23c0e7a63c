package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// affine holds what affineMin32 has in registers.
type affine struct {
	*isa
	least, a, b reg.Register // pointers to the slots that are left
	slots       reg.Register // how many
	hashes, n   reg.Register
}

// affineMin32 has a slot per lane and goes through the hashes once for each group of vectors: multiply, add and minimum
// are all that the vector ports do. With 16 lanes, the slots that do not fill a vector are turned round, with a hash per
// lane, if there are hashes enough to pay for the minimum over lanes.
func affineMin32(v *isa) {
	function("AffineMin32"+v.suffix, "func(least, a, b, hashes []uint32)",
		"AffineMin32"+v.suffix+" lowers least[j] to the least h*a[j]+b[j] mod 2^32 over hashes. least, a and b have one length.")
	f := affine{
		isa:   v,
		least: Load(Param("least").Base(), GP64()), a: Load(Param("a").Base(), GP64()), b: Load(Param("b").Base(), GP64()),
		slots: Load(Param("least").Len(), GP64()), hashes: Load(Param("hashes").Base(), GP64()), n: Load(Param("hashes").Len(), GP64()),
	}
	TESTQ(f.n, f.n)
	JZ(LabelRef("done"))
	if v.wide() {
		f.groups(8)
	}
	f.groups(4)
	f.groups(2)
	f.groups(1)
	TESTQ(f.slots, f.slots)
	JZ(LabelRef("done"))
	if v.wide() {
		f.turned()
	}
	v.mask = v.lowLanes(f.slots)
	f.step("part", 1)
	v.mask = nil
	Label("done")
	end()
}

// groups goes through the hashes for so many vectors of slots at a time, as long as there are as many.
func (f affine) groups(vectors int) {
	name := "groups" + string(rune('0'+vectors))
	end := name + "_end"
	Label(name)
	CMPQ(f.slots, U32(f.lanes*vectors))
	JB(LabelRef(end))
	f.step(name+"_hash", vectors)
	f.advance(f.lanes * vectors)
	JMP(LabelRef(name))
	Label(end)
}

// step goes through the hashes once for the next vectors of slots.
func (f affine) step(label string, vectors int) {
	var a, b, least []reg.VecVirtual
	for i := range vectors {
		disp := 4 * f.lanes * i
		a = append(a, f.load(Mem{Base: f.a, Disp: disp}))
		b = append(b, f.load(Mem{Base: f.b, Disp: disp}))
		least = append(least, f.load(Mem{Base: f.least, Disp: disp}))
	}
	at, left, h := GP64(), GP64(), f.vec()
	MOVQ(f.hashes, at)
	MOVQ(f.n, left)
	Label(label)
	VPBROADCASTD(Mem{Base: at}, h)
	for i := range least {
		VPMINUD(f.add(f.mul(h, a[i]), b[i]), least[i], least[i])
	}
	ADDQ(U8(4), at)
	DECQ(left)
	JNZ(LabelRef(label))
	for i := range least {
		f.store(least[i], Mem{Base: f.least, Disp: 4 * f.lanes * i})
	}
}

// advance goes to the slots after count of them. It leaves the flags of slots.
func (f affine) advance(count int) {
	ADDQ(U32(4*count), f.least)
	ADDQ(U32(4*count), f.a)
	ADDQ(U32(4*count), f.b)
	SUBQ(U32(count), f.slots)
}

// turned does the last slots, fewer than 16, one after another with 16 hashes at a time, unless a vector that is partly
// empty is faster: for slots * (n+48) > 16 * n, as the minimum over the lanes costs as much as 48 hashes.
func (f affine) turned() {
	cost, limit := GP64(), GP64()
	LEAQ(Mem{Base: f.n, Disp: 48}, cost)
	IMULQ(f.slots, cost)
	MOVQ(f.n, limit)
	SHLQ(U8(4), limit)
	CMPQ(cost, limit)
	JA(LabelRef("unturned"))
	rest, end := GP64(), GP64()
	MOVQ(f.n, rest)
	ANDQ(U8(15), rest)
	tail := f.lowLanes(rest)
	MOVQ(f.n, end)
	ANDQ(I8(-16), end)
	LEAQ(Mem{Base: f.hashes, Index: end, Scale: 4}, end)
	Label("turned")
	a, b, least, t, at := ZMM(), ZMM(), ZMM(), ZMM(), GP64()
	VPBROADCASTD(Mem{Base: f.a}, a)
	VPBROADCASTD(Mem{Base: f.b}, b)
	VPBROADCASTD(Mem{Base: f.least}, least)
	MOVQ(f.hashes, at)
	JMP(LabelRef("turned_more"))
	Label("turned_hashes")
	VPMULLD(Mem{Base: at}, a, t)
	VPADDD(b, t, t)
	VPMINUD(t, least, least)
	ADDQ(U8(64), at)
	Label("turned_more")
	CMPQ(at, end)
	JB(LabelRef("turned_hashes"))
	VMOVDQU32_Z(Mem{Base: at}, tail, t)
	VPMULLD(t, a, t)
	VPADDD(b, t, t)
	VPMINUD(t, least, tail, least)
	overLanes(VPMINUD, least)
	VMOVD(least.AsX(), Mem{Base: f.least})
	f.advance(1)
	JNZ(LabelRef("turned"))
	JMP(LabelRef("done"))
	Label("unturned")
}

// overLanes leaves the result of op over the lanes of v in its lowest one.
func overLanes(op func(...Op), v reg.VecVirtual) {
	t := ZMM()
	if v.Size() == 64 {
		VEXTRACTI64X4(U8(1), v, t.AsY())
		op(t.AsY(), v.AsY(), v.AsY())
	}
	VEXTRACTI128(U8(1), v.AsY(), t.AsX())
	op(t.AsX(), v.AsX(), v.AsX())
	VPSHUFD(U8(0b01_00_11_10), v.AsX(), t.AsX())
	op(t.AsX(), v.AsX(), v.AsX())
	VPSHUFD(U8(0b10_11_00_01), v.AsX(), t.AsX())
	op(t.AsX(), v.AsX(), v.AsX())
}

// affineBound has the arithmetic of AffineMin32AVX512 and nothing else: no loads, no stores, no remainders.
func affineBound(v *isa) {
	function("AffineBound"+v.suffix, "func(rounds int) uint32",
		"AffineBound"+v.suffix+" does the multiplication, addition and minimum of 4 vectors of slots so many times, in registers:\n"+
			"the bound that AffineMin32"+v.suffix+" is measured against. rounds is at least 1. The result means nothing.")
	left := Load(Param("rounds"), GP64())
	h, a, b := v.all(0x9e3779b1), v.all(0x85ebca77), v.all(1)
	var least []reg.VecVirtual
	for range 4 {
		least = append(least, v.all(0xffffffff))
	}
	Label("round")
	for _, l := range least {
		VPMINUD(v.add(v.mul(h, a), b), l, l)
	}
	DECQ(left)
	JNZ(LabelRef("round"))
	for _, l := range least[1:] {
		VPMINUD(l, least[0], least[0])
	}
	result := GP32()
	VMOVD(least[0].AsX(), result)
	Store(result, ReturnIndex(0))
	end()
}

// search64 looks at 16 hashes at a time, with one test for all. Two of them may wait in the pipeline.
func search64() {
	function("Search64AVX512", "func(hashes []uint64, a, b, mask uint64) int",
		"Search64AVX512 returns the index of the first hash h for which (h*a+b) & mask is 0, or len(hashes).")
	at := Load(Param("hashes").Base(), GP64())
	n := Load(Param("hashes").Len(), GP64())
	broadcast := func(name string) reg.VecVirtual {
		x := ZMM()
		VPBROADCASTQ(Load(Param(name), GP64()), x)
		return x
	}
	a, b, mask := broadcast("a"), broadcast("b"), broadcast("mask")
	index, bits, high := GP64(), GP64(), GP64()
	XORQ(index, index)
	value := func(disp int) reg.VecVirtual {
		x := ZMM()
		VPMULLQ(Mem{Base: at, Index: index, Scale: 8, Disp: disp}, a, x)
		VPADDQ(b, x, x)
		return x
	}
	JMP(LabelRef("more"))
	Label("vectors")
	k0, k1 := K(), K()
	VPTESTNMQ(mask, value(0), k0)
	VPTESTNMQ(mask, value(64), k1)
	KORTESTB(k0, k1)
	JNZ(LabelRef("found"))
	ADDQ(U8(16), index)
	SUBQ(U8(16), n)
	Label("more")
	CMPQ(n, U8(16))
	JGE(LabelRef("vectors"))
	Label("part") // up to 15 hashes, 8 at a time
	TESTQ(n, n)
	JLE(LabelRef("none"))
	eight := GP64()
	MOVQ(U32(8), eight)
	CMPQ(n, eight)
	CMOVQLT(n, eight)
	MOVQ(I32(-1), bits)
	BZHIQ(eight, bits, bits)
	k, x := K(), ZMM()
	KMOVQ(bits, k)
	VMOVDQU64_Z(Mem{Base: at, Index: index, Scale: 8}, k, x)
	VPMULLQ(x, a, x)
	VPADDQ(b, x, x)
	VPTESTNMQ(mask, x, k, k)
	KMOVB(k, bits.As32())
	TESTQ(bits, bits)
	JNZ(LabelRef("first"))
	ADDQ(eight, index)
	SUBQ(eight, n)
	JMP(LabelRef("part"))
	Label("found")
	KMOVB(k0, bits.As32())
	KMOVB(k1, high.As32())
	SHLQ(U8(8), high)
	ORQ(high, bits)
	Label("first")
	TZCNTQ(bits, bits)
	ADDQ(bits, index)
	Store(index, ReturnIndex(0))
	end()
	Label("none")
	Store(Load(Param("hashes").Len(), index), ReturnIndex(0))
	end()
}
