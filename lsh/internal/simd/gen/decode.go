package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// widen writes ASCII as code points, 4 vectors of which are tested at once.
func widen(v *isa) {
	function("Widen"+v.suffix, "func(dst []uint32, text []byte) int",
		"Widen"+v.suffix+" sets dst[i] to text[i] up to the first byte that is not ASCII or to the end of either, and returns how many\n"+
			"it has done, rounded down to a multiple of 32 unless it is all. What it leaves behind them in dst means nothing.")
	dst, text := base("dst"), base("text")
	n, m := length("dst"), length("text")
	CMPQ(m, n)
	CMOVQLT(m, n)
	at := GP64()
	XORQ(at, at)
	JMP(LabelRef("more"))
	Label("vector")
	bytes, some := YMM(), GP32()
	VMOVDQU(Mem{Base: text, Index: at, Scale: 1}, bytes)
	VPMOVMSKB(bytes, some)
	TESTL(some, some)
	JNZ(LabelRef("done"))
	for i := 0; i < 32; i += v.lanes {
		x := v.vec()
		VPMOVZXBD(Mem{Base: text, Index: at, Scale: 1, Disp: i}, x)
		v.store(x, Mem{Base: dst, Index: at, Scale: 4, Disp: 4 * i})
	}
	ADDQ(U8(32), at)
	Label("more")
	left := GP64()
	MOVQ(n, left)
	SUBQ(at, left)
	CMPQ(left, U8(32))
	JGE(LabelRef("vector"))
	Label("one")
	b := GP32()
	CMPQ(at, n)
	JGE(LabelRef("done"))
	MOVBLZX(Mem{Base: text, Index: at, Scale: 1}, b)
	CMPL(b, U32(0x80))
	JAE(LabelRef("done"))
	MOVL(b, Mem{Base: dst, Index: at, Scale: 4})
	INCQ(at)
	JMP(LabelRef("one"))
	Label("done")
	Store(at, ReturnIndex(0))
	end()
}

// table16 returns a vector loaded with a table for every length in bytes of an encoding; other is for lengths that no
// encoding has. byLength starts with length 1.
func lengthTable(name string, byLength [4]uint32, other uint32) reg.VecVirtual {
	m := GLOBL(name, 8|16) // RODATA, NOPTR
	for i := range 16 {
		v := other
		if i >= 1 && i <= 4 {
			v = byLength[i-1]
		}
		DATA(4*i, U32(v))
	}
	return loaded(m)
}

// byteTable returns a vector loaded with 64 bytes.
func byteTable(name string, of func(i int) int) reg.VecVirtual {
	m := GLOBL(name, 8|16) // RODATA, NOPTR
	for i := range 64 {
		DATA(i, U8(uint8(of(i))))
	}
	return loaded(m)
}

func loaded(m Mem) reg.VecVirtual {
	at, x := GP64(), ZMM()
	LEAQ(m, at)
	VMOVDQU64(Mem{Base: at}, x)
	return x
}

// decode takes 64 bytes and makes 16 code points of them, or 64 if they are ASCII. The bytes that start an encoding are
// those that do not look like its continuation. Every lane gets the bytes from one start to the next, right-aligned as a
// big-endian number; their count, 1 to 4, chooses from tables what the leading bits have to be and how many the rest
// are. What is no valid UTF-8 ends the work: plain Go knows what to do with it.
func decode(v *isa) {
	function("DecodeAVX512", "func(dst []uint32, text []byte) (points, size int)",
		"DecodeAVX512 writes the code points at the start of text to dst and returns how many there are and how many bytes they\n"+
			"took. It stops where text is no valid UTF-8, and where less than 64 bytes or room for less than 16 code points is left.\n"+
			"What it leaves behind them in dst means nothing.")
	dst, room := base("dst"), length("dst")
	text, left := base("text"), length("text")
	first, start := GP64(), GP64()
	MOVQ(dst, first)
	MOVQ(text, start)

	number := byteTable("number", func(i int) int { return i })
	next := byteTable("next", func(i int) int { return i + 1 })
	spread := byteTable("spread", func(i int) int { return i % 16 &^ 3 })
	turn := byteTable("turn", func(i int) int { return 3 - i%4 })
	pairs := byteTable("pairs", func(i int) int { return []int{1, 64}[i%2] })
	shifts := lengthTable("shifts", [4]uint32{24, 16, 8, 0}, 0)
	value := lengthTable("value", [4]uint32{0x7f, 0x1f3f, 0x0f3f3f, 0x073f3f3f}, 0)
	leading := lengthTable("leading", [4]uint32{0, 0xc080, 0xe08080, 0xf0808080}, 0xffffffff)
	least := lengthTable("least", [4]uint32{0, 0x80, 0x800, 0x10000}, 0xffffffff)
	allBytes := func(b uint8) reg.VecVirtual { return v.all(uint32(b) * 0x01010101) }
	continuation, end64 := allBytes(0xbf), allBytes(64) // -65 is the largest that continues
	fours, most, block, surrogate, quads := v.all(4), v.all(0x10ffff), v.all(0xfffff800), v.all(0xd800), v.all(1|4096<<16)
	one := GP64()
	MOVQ(U32(1), one)

	Label("next_block")
	CMPQ(left, U8(64))
	JL(LabelRef("done"))
	CMPQ(room, U8(16))
	JL(LabelRef("done"))
	bytes := ZMM()
	VMOVDQU64(Mem{Base: text}, bytes)
	high := K()
	VPMOVB2M(bytes, high)
	KORTESTQ(high, high)
	JNZ(LabelRef("encoded"))
	for _, count := range []int{64, 16} {
		if count == 64 {
			CMPQ(room, U8(64))
			JL(LabelRef("sixteen"))
		} else {
			Label("sixteen")
		}
		for i := 0; i < count; i += 16 {
			x := ZMM()
			VPMOVZXBD(Mem{Base: text, Disp: i}, x)
			VMOVDQU32(x, Mem{Base: dst, Disp: 4 * i})
		}
		ADDQ(U32(4*count), dst)
		SUBQ(U8(count), room)
		ADDQ(U8(count), text)
		SUBQ(U8(count), left)
		JMP(LabelRef("next_block"))
	}

	Label("encoded")
	startsMask, starts := K(), GP64()
	VPCMPGTB(continuation, bytes, startsMask)
	KMOVQ(startsMask, starts)
	TESTB(U8(1), starts.As8())
	JZ(LabelRef("done"))
	places, ends := ZMM(), ZMM()
	VMOVDQA64(end64, places)
	compressBytes(number, startsMask, places)
	VPERMB(places, next, ends)
	VPMOVZXBD(places.AsX(), places)
	VPMOVZXBD(ends.AsX(), ends)
	count := ZMM()
	VPSUBD(places, ends, count)
	x := ZMM()
	VPSHUFB(spread, places, x)
	VPADDB(turn, x, x)
	VPERMB(bytes, x, x)
	choose := func(table reg.VecVirtual) reg.VecVirtual {
		y := ZMM()
		VPERMD(table, count, y)
		return y
	}
	VPSRLVD(choose(shifts), x, x)
	bits, lead, point := choose(value), ZMM(), ZMM()
	VPANDND(x, bits, lead)
	VPANDD(x, bits, point)
	VPMADDUBSW(pairs, point, point)
	VPMADDWD(quads, point, point)
	good := K()
	VPCMPEQD(choose(leading), lead, good)
	VPCMPUD(U8(5), choose(least), point, good, good)
	VPCMPUD(U8(2), most, point, good, good)
	VPANDD(block, point, lead)
	VPCMPUD(U8(4), surrogate, lead, good, good)
	VPCMPUD(U8(2), fours, count, good, good)
	VMOVDQU32(point, Mem{Base: dst})
	bad, taken := GP32(), GP64()
	KMOVW(good, bad)
	XORL(U32(0xffff), bad)
	JNZ(LabelRef("partly"))
	MOVL(U32(1<<16), taken.As32())
	PDEPQ(starts, taken, taken)
	TZCNTQ(taken, taken) // the place of start 16, or 64
	ADDQ(taken, text)
	SUBQ(taken, left)
	ADDQ(U8(64), dst)
	SUBQ(U8(16), room)
	JMP(LabelRef("next_block"))

	Label("partly")
	TZCNTL(bad, bad)
	SHLXQ(bad.(reg.GPVirtual).As64(), one, taken)
	PDEPQ(starts, taken, taken)
	TZCNTQ(taken, taken)
	ADDQ(taken, text)
	LEAQ(Mem{Base: dst, Index: bad.(reg.GPVirtual).As64(), Scale: 4}, dst)
	Label("done")
	SUBQ(first, dst)
	SHRQ(U8(2), dst)
	SUBQ(start, text)
	Store(dst, ReturnIndex(0))
	Store(text, ReturnIndex(1))
	end()
}

// compressBytes is the instruction VPCOMPRESSB with a mask that leaves the rest of dst, which avo does not know.
func compressBytes(src, mask, dst Op) {
	Instruction(&ir.Instruction{
		Opcode: "VPCOMPRESSB", ISA: []string{"AVX512VBMI2"},
		Operands: []Op{src, mask, dst}, Inputs: []Op{src, mask, dst}, Outputs: []Op{dst},
	})
}
