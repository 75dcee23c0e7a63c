package main

import (
	"fmt"
	"math/bits"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// scatter writes values to a line of 64 bytes for each column of each partition, and whole lines to where they belong, past
// the caches.
func scatter(columns int) {
	args, name := "dst, values", "scatter8AVX512"
	if columns == 2 {
		args, name = "dst0, dst1, values0, values1", "scatter8x2AVX512"
	}
	function(name, fmt.Sprintf("func(%s *byte, next, parts []uint32, lines *byte)", args),
		name+" is the loop of Scatter8 for whole lines. What is left in lines is for the caller to write.")
	var dst, values []reg.Register
	for i := range columns {
		number := ""
		if columns == 2 {
			number = fmt.Sprint(i)
		}
		dst, values = append(dst, pointer("dst"+number)), append(values, pointer("values"+number))
	}
	next, parts, n, lines := base("next"), base("parts"), length("parts"), pointer("lines")
	at := GP64()
	XORQ(at, at)
	JMP(LabelRef("more"))
	Label("row")
	line, pos, slot := GP64(), GP64(), GP64()
	MOVL(Mem{Base: parts, Index: at, Scale: 4}, line.As32())
	MOVL(Mem{Base: next, Index: line, Scale: 4}, pos.As32())
	v := GP64()
	LEAL(Mem{Base: pos, Disp: 1}, slot.As32())
	MOVL(slot.As32(), Mem{Base: next, Index: line, Scale: 4})
	SHLQ(U8(6+bits.TrailingZeros(uint(columns))), line)
	ADDQ(lines, line)
	MOVL(pos.As32(), slot.As32())
	ANDL(U8(7), slot.As32())
	for i := range columns {
		MOVQ(Mem{Base: values[i], Index: at, Scale: 8}, v)
		MOVQ(v, Mem{Base: line, Index: slot, Scale: 8, Disp: 64 * i})
	}
	CMPL(slot.As32(), U8(7))
	JE(LabelRef("full"))
	Label("on")
	INCQ(at)
	Label("more")
	CMPQ(at, n)
	JB(LabelRef("row"))
	SFENCE()
	VZEROUPPER()
	RET()
	Label("full")
	for i := range columns {
		x := ZMM()
		VMOVDQU64(Mem{Base: line, Disp: 64 * i}, x)
		VMOVNTDQ(x, Mem{Base: dst[i], Index: pos, Scale: 8, Disp: -56})
	}
	JMP(LabelRef("on"))
}
