package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// slots writes what lowers, looks for and fills the slots of a signature of the sketch "fast".
func slots(v *isa) {
	below(v)
	open(v)
	maximum(v)
}

// mapped lowers slots one hash after another, without vectors. Places and keys from vectors have to go through memory to be
// used one by one, and were measured to be slower than one product of 64 by 64 bits that has the slot in its high half
// and the key in its low one. It stores always, because whether a key is the least so far is a coin toss until a slot
// has seen many, and a branch that is guessed wrong costs more than a store.
func mapped(again bool) {
	if again {
		function("MapAgainAVX2", "func(slots, hashes []uint32, round uint32)",
			"MapAgainAVX2 lowers slots[s] to the round 1 key of each hash in the slot s it is mapped to.")
	} else {
		function("MapAVX2", "func(slots, hashes []uint32)",
			"MapAVX2 lowers slots[s] to the round 0 key of each hash in the slot s it is mapped to.")
	}
	slots, count := base("slots"), length("slots") // slots * 2^32, so that the product is in two halves
	SHLQ(U8(32), count)
	hashes, n := base("hashes"), length("hashes")
	var round reg.Register
	if again {
		round = Load(Param("round"), GP32())
	}
	lower := func(disp int) {
		key, slot, least := GP64(), GP64(), GP32()
		if again {
			IMUL3L(U32(fastPoint), Mem{Base: hashes, Disp: disp}, reg.EDX)
			ADDL(round, reg.EDX)
		} else {
			MOVL(Mem{Base: hashes, Disp: disp}, reg.EDX)
		}
		MULXQ(count, key, slot)
		SHRQ(U8(34), key)
		if again {
			ORL(U32(1<<30), key.As32())
		}
		MOVL(Mem{Base: slots, Index: slot, Scale: 4}, least)
		CMPL(least, key.As32())
		CMOVLCS(least, key.As32()) // one micro-operation, which CMOVLHI is not
		MOVL(key.As32(), Mem{Base: slots, Index: slot, Scale: 4})
	}
	JMP(LabelRef("more"))
	Label("eight")
	for i := range 8 {
		lower(4 * i)
	}
	ADDQ(U8(32), hashes)
	SUBQ(U8(8), n)
	Label("more")
	CMPQ(n, U8(8))
	JGE(LabelRef("eight"))
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("one")
	lower(0)
	ADDQ(U8(4), hashes)
	DECQ(n)
	JNZ(LabelRef("one"))
	Label("done")
	RET()
}

// below keeps the hashes that can still change something.
func below(v *isa) {
	function("Below"+v.suffix, "func(hashes []uint32, count, limit uint32) int",
		"Below"+v.suffix+" moves the hashes h with (h*count mod 2^32) < limit to the front, in their order, and returns how many there are.")
	hashes, n := base("hashes"), length("hashes")
	count, limit := v.argument("count"), v.argument("limit")
	c := v.compressor(hashes, n)
	v.each(n, func(at reg.Register) {
		h := v.load(values(hashes, at))
		p := v.mul(h, count)
		if v.wide() {
			c.keep(h, v.compare(VPCMPUD, U8(1), limit, p))
			return
		}
		drop := v.vec()
		VPMAXUD(limit, p, drop)
		VPCMPEQD(p, drop, drop) // p is not below limit
		c.keep2(h, drop)
	})
	Store(c.to, ReturnIndex(0))
	end()
}

// open keeps the hashes that round 1 maps to slots that round 0 left open.
func open(v *isa) {
	function("OpenAgain"+v.suffix, "func(dst, slots, hashes []uint32, round uint32) int",
		"OpenAgain"+v.suffix+" copies the hashes that round 1 maps to slots of 2^30 or more to dst, which is as long, in their order, and\n"+
			"returns how many there are.")
	dst, slots, hashes, n := base("dst"), base("slots"), base("hashes"), length("hashes")
	count := v.allOf(Load(Param("slots").Len(), GP64()).(reg.GPVirtual).As32())
	point, round := v.all(fastPoint), v.argument("round")
	c := v.compressor(dst, n)
	v.each(n, func(at reg.Register) {
		h := v.load(values(hashes, at))
		q := v.add(v.mul(h, point), round)
		even, odd := v.vec(), v.vec()
		VPMULUDQ(q, count, even)
		VPSRLQ(U8(32), q, odd)
		VPMULUDQ(odd, count, odd)
		VPSRLQ(U8(32), even, even)
		slot, key, all := v.vec(), v.vec(), v.vec()
		if v.wide() {
			bits, k := GP32(), K()
			MOVL(U32(0xaaaa), bits)
			KMOVW(bits, k)
			VPBLENDMD(odd, even, k, slot)
			bits, k = GP32(), K()
			MOVL(U32(0xffff), bits)
			KMOVW(bits, k)
			if v.mask != nil {
				KANDW(v.mask, k, k)
			}
			VPXORD(key, key, key)
			VPGATHERDD(Mem{Base: slots, Index: slot, Scale: 4}, k, key)
			VPSRLD(U8(30), key, key)
			c.keep(h, v.compare(VPTESTMD, key, key))
			return
		}
		VPBLENDD(U8(0xaa), odd, even, slot)
		VPCMPEQD(all, all, all) // a hash that is masked out is 0, and its slot there
		VPXOR(key, key, key)
		VPGATHERDD(all, Mem{Base: slots, Index: slot, Scale: 4}, key)
		VPSRLD(U8(30), key, key)
		VPXOR(all, all, all)
		VPCMPEQD(all, key, key)
		c.keep2(h, key)
	})
	Store(c.to, ReturnIndex(0))
	end()
}

// compressor writes some lanes of vectors one after another.
type compressor struct {
	*isa
	dst, to reg.Register // where, and how many there are
	n       reg.Register // lanes of the last vector, in its turn
	table   reg.Register
}

func (v *isa) compressor(dst, n reg.Register) compressor {
	c := compressor{isa: v, dst: dst, to: GP64(), n: n}
	XORQ(c.to, c.to)
	if !v.wide() {
		c.table = GP64()
		LEAQ(orderData(), c.table)
	}
	return c
}

// keep writes the lanes of h in mask, which only has lanes that there are. Behind them it writes what does not count, but
// no further than h goes.
func (c compressor) keep(h reg.VecVirtual, mask reg.Register) {
	kept := GP64()
	if c.mask == nil {
		x := c.vec()
		VPCOMPRESSD_Z(h, mask, x)
		c.store(x, Mem{Base: c.dst, Index: c.to, Scale: 4})
	} else {
		VPCOMPRESSD(h, mask, Mem{Base: c.dst, Index: c.to, Scale: 4})
	}
	KMOVW(mask, kept.As32())
	POPCNTL(kept.As32(), kept.As32())
	ADDQ(kept, c.to)
}

// keep2 does the same for AVX2 and the lanes that drop does not have.
func (c compressor) keep2(h, drop reg.VecVirtual) {
	kept, order, x := GP64(), YMM(), c.vec()
	VMOVMSKPS(drop, kept.As32())
	XORL(U32(0xff), kept.As32())
	if c.mask != nil {
		BZHIL(c.n.(reg.GPVirtual).As32(), kept.As32(), kept.As32())
	}
	VPMOVZXBD(Mem{Base: c.table, Index: kept, Scale: 8}, order)
	VPERMD(h, order, x)
	POPCNTL(kept.As32(), kept.As32())
	if c.mask != nil {
		c.isa.mask = c.lowLanes(kept)
	}
	c.store(x, Mem{Base: c.dst, Index: c.to, Scale: 4})
	ADDQ(kept, c.to)
}

var orderMem *Mem

// orderData has, for every set of 8 lanes, the numbers of its lanes one after another in a byte each.
func orderData() Mem {
	if orderMem == nil {
		m := GLOBL("order", 8|16) // RODATA, NOPTR
		for set := range 256 {
			var lanes U64
			at := 0
			for lane := range 8 {
				if set>>lane&1 == 1 {
					lanes |= U64(lane) << (8 * at)
					at++
				}
			}
			DATA(8*set, lanes)
		}
		orderMem = &m
	}
	return *orderMem
}

func maximum(v *isa) {
	function("Max"+v.suffix, "func(slots []uint32) uint32", "Max"+v.suffix+" returns the largest slot, 0 if there is none.")
	slots, n := base("slots"), length("slots")
	most := v.all(0)
	v.each(n, func(at reg.Register) {
		VPMAXUD(v.load(values(slots, at)), most, most) // lanes that are masked out are 0
	})
	overLanes(VPMAXUD, most)
	result := GP32()
	VMOVD(most.AsX(), result)
	Store(result, ReturnIndex(0))
	end()
}

// empty writes the two ends of filling empty slots.
func empty(v *isa) {
	function("GatherEmptyAVX512", "func(a, b, slots, allA, allB []uint32) int",
		"GatherEmptyAVX512 copies allA[j] and allB[j] of every slot j that is 2^32-1 to the front of a and b, which have the length of\n"+
			"slots as allA and allB have, and returns how many there are.")
	a, b, allA, allB := base("a"), base("b"), base("allA"), base("allB")
	slots, n := base("slots"), length("slots")
	ones, total, some := v.all(0xffffffff), GP64(), GP64()
	XORQ(total, total)
	gather := func(at reg.Register) {
		k := v.compare(VPCMPEQD, v.load(values(slots, at)), ones)
		VPCOMPRESSD(v.load(values(allA, at)), k, Mem{Base: a, Index: total, Scale: 4})
		VPCOMPRESSD(v.load(values(allB, at)), k, Mem{Base: b, Index: total, Scale: 4})
		KMOVW(k, some.As32())
		POPCNTL(some.As32(), some.As32())
		ADDQ(some, total)
	}
	v.each(n, gather)
	Store(total, ReturnIndex(0))
	end()

	function("FillEmptyAVX512", "func(slots, least []uint32)",
		"FillEmptyAVX512 sets the slots that are 2^32-1, in their order, to 2^31 | least[i]>>1, i being 0 for the first of them.")
	slots, n = base("slots"), length("slots")
	least := base("least")
	ones = v.all(0xffffffff)
	top := v.all(1 << 31)
	some = GP64()
	v.each(n, func(at reg.Register) {
		k, x := v.compare(VPCMPEQD, v.load(values(slots, at)), ones), v.vec()
		VPEXPANDD_Z(Mem{Base: least}, k, x)
		VPSRLD(U8(1), x, x)
		VPORD(top, x, x)
		VMOVDQU32(x, k, values(slots, at))
		KMOVW(k, some.As32())
		POPCNTL(some.As32(), some.As32())
		LEAQ(Mem{Base: least, Index: some, Scale: 4}, least)
	})
	end()
}
