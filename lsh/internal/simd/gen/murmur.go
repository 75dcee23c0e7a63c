package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// murmur writes MurmurHash3_x86_32 of many windows. What is done to a word of input before it meets the state depends on
// the word alone, and windows that overlap share it.
func murmur(v *isa) {
	words(v)
	mixWords(v)
	murmurBytes(v)
	if v.wide() {
		murmurPoints(v)
	}
}

func words(v *isa) {
	if !v.wide() {
		function("WordsAVX2", "func(dst []uint32, text []byte) int",
			"WordsAVX2 sets dst[i] to the little-endian word of 4 bytes at text[i:], and returns for how many i: a multiple of 8, while\n"+
				"16 bytes are left. dst is no longer than text.")
		dst, n, text, left := base("dst"), length("dst"), base("text"), length("text")
		order := YMM()
		at := GP64()
		LEAQ(orderOfWords(), at)
		VMOVDQU(Mem{Base: at}, order)
		XORQ(at, at)
		JMP(LabelRef("more"))
		Label("vector")
		x := YMM()
		VBROADCASTI128(Mem{Base: text, Index: at, Scale: 1}, x)
		VPSHUFB(order, x, x)
		VMOVDQU(x, Mem{Base: dst, Index: at, Scale: 4})
		ADDQ(U8(8), at)
		SUBQ(U8(8), n)
		SUBQ(U8(8), left)
		Label("more")
		CMPQ(n, U8(8))
		JL(LabelRef("done"))
		CMPQ(left, U8(16))
		JGE(LabelRef("vector"))
		Label("done")
		Store(at, ReturnIndex(0))
		end()
		return
	}
	function("WordsAVX512", "func(dst []uint32, text []byte)",
		"WordsAVX512 sets dst[i] to the little-endian word of 4 bytes at text[i:], as if zeros followed text. dst is no longer than text.")
	dst, n, text, left := base("dst"), length("dst"), base("text"), length("text")
	order := byteTable("wordOrder", func(i int) int { return i/4 + i%4 })
	v.each(n, func(at reg.Register) {
		some, bits, k, x := GP64(), GP64(), K(), ZMM()
		MOVQ(left, some)
		MOVQ(U32(32), bits)
		CMPQ(some, bits)
		CMOVQGT(bits, some)
		MOVQ(I32(-1), bits)
		BZHIQ(some, bits, bits)
		KMOVQ(bits, k)
		VMOVDQU8_Z(Mem{Base: text}, k, x.AsY())
		VPERMB(x, order, x)
		v.store(x, values(dst, at))
		ADDQ(U8(16), text)
		SUBQ(U8(16), left)
	})
	end()
}

// orderOfWords makes, of 16 bytes in both halves of a vector, the words at the first 8 of them.
func orderOfWords() Mem {
	m := GLOBL("wordOrder2", 8|16) // RODATA, NOPTR
	for i := range 32 {
		DATA(i, U8(uint8(i/4+i%4)))
	}
	return m
}

// mixed returns what murmur makes of a word before it meets the state.
type mixer struct{ c1, c2 reg.VecVirtual }

func (v *isa) mixer() mixer { return mixer{v.all(0xcc9e2d51), v.all(0x1b873593)} }

func (v *isa) mixed(m mixer, word reg.VecVirtual) reg.VecVirtual {
	return v.mul(v.rotate(v.mul(word, m.c1), 15), m.c2)
}

func mixWords(v *isa) {
	function("MixWords"+v.suffix, "func(dst, words []uint32, mask uint32)",
		"MixWords"+v.suffix+" sets dst[i] to what MurmurHash3_x86_32 makes of words[i] & mask before it meets the state. dst may be words.")
	dst, n, words := base("dst"), length("dst"), base("words")
	mask, m := v.argument("mask"), v.mixer()
	v.each(n, func(at reg.Register) {
		v.store(v.mixed(m, v.and(v.load(values(words, at)), mask)), values(dst, at))
	})
	end()
}

// state holds the constants of the steps and of the end.
type state struct{ add, end1, end2, one reg.VecVirtual }

func (v *isa) state() state {
	return state{v.all(0xe6546b64), v.all(0x85ebca6b), v.all(0xc2b2ae35), v.all(1)}
}

// stepped takes a mixed word into the state.
func (v *isa) stepped(s state, h, word reg.VecVirtual) reg.VecVirtual {
	h = v.rotate(v.xor(h, word), 13)
	four := v.vec()
	VPSLLD(U8(2), h, four)
	return v.add(v.add(h, four), s.add)
}

// ended finishes a hash. cuDF has 1 for 0.
func (v *isa) ended(s state, h, length reg.VecVirtual) reg.VecVirtual {
	h = v.mul(v.mix(v.xor(h, length), 16), s.end1)
	h = v.mix(v.mul(v.mix(h, 13), s.end2), 16)
	VPMAXUD(s.one, h, h)
	return h
}

func murmurBytes(v *isa) {
	function("Murmur"+v.suffix, "func(dst, words, tails []uint32, full int, seed, length uint32)",
		"Murmur"+v.suffix+" sets dst[i] to the hash, 1 instead of 0, of length bytes whose mixed words are words[i], words[i+4] and so on, full\n"+
			"of them, and then tails[i+4*full], unless there are no tails.")
	dst, n, words, tails := base("dst"), length("dst"), base("words"), base("tails")
	full, tailed := Load(Param("full"), GP64()), length("tails")
	seed, size, s := v.argument("seed"), v.argument("length"), v.state()
	v.each(n, func(at reg.Register) {
		h := v.copied(seed)
		from, k := GP64(), GP64()
		LEAQ(values(words, at), from)
		MOVQ(full, k)
		whole := "whole"
		if v.mask != nil {
			whole = "part"
		}
		TESTQ(k, k)
		JZ(LabelRef(whole + "_tail"))
		Label(whole + "_word")
		v.copyTo(v.stepped(s, h, v.load(Mem{Base: from})), h)
		ADDQ(U8(16), from)
		DECQ(k)
		JNZ(LabelRef(whole + "_word"))
		Label(whole + "_tail")
		TESTQ(tailed, tailed)
		JZ(LabelRef(whole + "_end"))
		MOVQ(full, k)
		SHLQ(U8(4), k)
		ADDQ(at, k)
		v.copyTo(v.xor(h, v.load(values(tails, k))), h)
		Label(whole + "_end")
		v.store(v.ended(s, h, size), values(dst, at))
	})
	end()
}

// murmurPoints has windows of as many bytes as their code points have. A step takes the words where the windows are, which
// a mask has for those windows that are so long.
func murmurPoints(v *isa) {
	function("MurmurPointsAVX512", "func(dst, mixed, words []uint32, starts []int32, width int, seed uint32)",
		"MurmurPointsAVX512 sets dst[i] to the hash, 1 instead of 0, of the bytes from starts[i] to starts[i+width], where words holds the\n"+
			"little-endian words at every byte, and mixed the same after MixWordsAVX512.")
	dst, n, mixed, words := base("dst"), length("dst"), base("mixed"), base("words")
	starts, ends := base("starts"), GP64()
	LEAQ(Mem{Base: starts, Index: Load(Param("width"), GP64()), Scale: 4}, ends)
	seed, s, m := v.argument("seed"), v.state(), v.mixer()
	three, four, ones := v.all(3), v.all(4), v.all(0xffffffff)
	v.each(n, func(at reg.Register) {
		name := "whole"
		if v.mask != nil {
			name = "part"
		}
		place, length, left := v.load(values(starts, at)), ZMM(), ZMM()
		VPSUBD(place, v.load(values(ends, at)), length)
		VMOVDQA64(length, left)
		h := v.copied(seed)
		Label(name + "_word")
		more, gathering := K(), K()
		VPCMPUD(U8(5), four, left, more) // left >= 4
		if v.mask != nil {
			KANDW(v.mask, more, more)
		}
		KORTESTW(more, more)
		JZ(LabelRef(name + "_tail"))
		KMOVW(more, gathering)
		word := ZMM()
		VPXORD(word, word, word)
		VPGATHERDD(Mem{Base: mixed, Index: place, Scale: 4}, gathering, word)
		next := v.stepped(s, h, word)
		VMOVDQA32(next, more, h)
		VPADDD(four, place, more, place)
		VPSUBD(four, left, more, left)
		JMP(LabelRef(name + "_word"))
		Label(name + "_tail")
		tail := K()
		VPTESTMD(three, left, tail)
		if v.mask != nil {
			KANDW(v.mask, tail, tail)
		}
		KMOVW(tail, gathering)
		last, bits := ZMM(), ZMM()
		VPXORD(last, last, last)
		VPGATHERDD(Mem{Base: words, Index: place, Scale: 4}, gathering, last)
		VPSLLD(U8(3), left, bits)
		VPSLLVD(bits, ones, bits)
		VPANDND(last, bits, last)
		VPXORD(v.mixed(m, last), h, tail, h)
		v.store(v.ended(s, h, length), values(dst, at))
	})
	end()
}
