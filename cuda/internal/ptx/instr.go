package ptx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// instr is an instruction. Registers hold values of their width, the bits above being 0.
type instr struct {
	op         opcode
	dst        int32
	a, b, c, d int32 // registers of operands
	pred       int32 // register of the guard, -1 for none
	not        bool  // the guard must be false
	signed     bool
	mask       uint64 // of the result
	shift      uint8  // 64 less the width of the operands, to extend a sign
	cmp        compare
	how        uint8 // which of a family: atomic, shuffle
	target     int32 // of a jump; the number of a parameter
	line       int32

	// Of accesses to memory.
	space  space
	size   uint8 // bytes of a value
	atomic bool  // volatile, relaxed or an atomic operation
	offset int64
	vector []int32 // further registers of a vector
}

type opcode uint8

const (
	opMov opcode = iota
	opAdd
	opSub
	opMul
	opMulHi
	opMulWide
	opMad
	opDiv
	opRem
	opMin
	opMax
	opAnd
	opOr
	opXor
	opNot
	opNeg
	opShl
	opShr
	opSetp
	opSelp
	opCvt
	opBfi
	opPrmt
	opExtract4
	opFunnelL
	opFunnelR
	opPopc
	opClz
	opPack
	opUnpack
	opToShared
	opParam
	opLd
	opSt
	opAtom
	opBra
	opRet
	opBarrier
	opWarpBarrier
	opShuffle
	opBallot
	opMatch
)

type compare uint8

const (
	cmpEq compare = iota
	cmpNe
	cmpLt
	cmpLe
	cmpGt
	cmpGe
)

var compares = map[string]compare{"eq": cmpEq, "ne": cmpNe, "lt": cmpLt, "le": cmpLe, "gt": cmpGt, "ge": cmpGe,
	"lo": cmpLt, "ls": cmpLe, "hi": cmpGt, "hs": cmpGe}

type space uint8

const (
	generic space = iota
	global
	shared
	constant
)

const (
	atomAdd = iota
	atomMin
	atomMax
	atomCas
	atomExch
	atomOr
	atomAnd
)

const (
	shuffleUp = iota
	shuffleDown
	shuffleXor
	shuffleTo
)

// typeOf reads a type such as u32: bits and whether it has a sign.
func typeOf(s string) (bits int, signed bool, err error) {
	if s == "pred" {
		return 1, false, nil
	}
	if len(s) < 2 || !strings.Contains("bus", s[:1]) {
		return 0, false, fmt.Errorf("unknown type %q", s)
	}
	bits, err = strconv.Atoi(s[1:])
	if err != nil || !slices.Contains([]int{8, 16, 32, 64}, bits) {
		return 0, false, fmt.Errorf("unknown type %q", s)
	}
	return bits, s[0] == 's', nil
}

// simple are instructions with one type at the end, a destination and sources of that type.
var simple = map[string]struct {
	op      opcode
	sources int
}{
	"mov": {opMov, 1}, "add": {opAdd, 2}, "sub": {opSub, 2}, "mul.lo": {opMul, 2}, "mul.hi": {opMulHi, 2}, "mad.lo": {opMad, 3},
	"div": {opDiv, 2}, "rem": {opRem, 2}, "min": {opMin, 2}, "max": {opMax, 2}, "and": {opAnd, 2}, "or": {opOr, 2}, "xor": {opXor, 2},
	"not": {opNot, 1}, "neg": {opNeg, 1}, "bfi": {opBfi, 4}, "prmt": {opPrmt, 3}, "shf.l.wrap": {opFunnelL, 3}, "shf.r.wrap": {opFunnelR, 3},
}

// instruction fills in one instruction, given the parts of its name and its operands.
func (p *parser) instruction(in *instr, name, args []string) (err error) {
	need := func(n int) {
		if err == nil && len(args) != n {
			err = fmt.Errorf("%d operands, not %d", len(args), n)
		}
	}
	dst := func(s string, bits int) int32 {
		r, e := p.register(s, bits)
		if err == nil {
			err = e
		}
		return r
	}
	src := func(s string, bits int) int32 {
		r, e := p.source(s, bits)
		if err == nil {
			err = e
		}
		return r
	}
	last := name[len(name)-1]
	full := strings.Join(name, ".")
	base := strings.Join(name[:len(name)-1], ".")

	if base == "mov" && len(args) == 2 && (args[0][0] == '{' || args[1][0] == '{') {
		return p.pack(in, last, args)
	}
	if s, ok := simple[base]; ok {
		bits, signed, e := typeOf(last)
		if e != nil {
			return e
		}
		if need(1 + s.sources); err != nil {
			return err
		}
		in.op, in.signed, in.mask, in.shift = s.op, signed, maskOf(bits), uint8(64-bits)
		in.dst = dst(args[0], bits)
		regs := []*int32{&in.a, &in.b, &in.c, &in.d}
		for i, a := range args[1:] {
			width := bits
			if s.op == opBfi && i >= 2 {
				width = 32
			}
			*regs[i] = src(a, width)
		}
		return err
	}
	switch {
	case base == "shl" || base == "shr":
		bits, signed, e := typeOf(last)
		if e != nil {
			return e
		}
		if need(3); err != nil {
			return err
		}
		in.op, in.signed, in.mask, in.shift = opShl, signed, maskOf(bits), uint8(64-bits)
		if base == "shr" {
			in.op = opShr
		}
		in.dst, in.a, in.b = dst(args[0], bits), src(args[1], bits), src(args[2], 32)
		return err
	case base == "mul.wide" || base == "mad.wide":
		bits, signed, e := typeOf(last)
		if e != nil || base == "mad.wide" {
			return fmt.Errorf("unknown instruction %s", full)
		}
		if need(3); err != nil {
			return err
		}
		in.op, in.signed, in.mask, in.shift = opMulWide, signed, maskOf(2*bits), uint8(64-bits)
		in.dst, in.a, in.b = dst(args[0], 2*bits), src(args[1], bits), src(args[2], bits)
		return err
	case name[0] == "setp" && len(name) == 3:
		bits, signed, e := typeOf(last)
		cmp, ok := compares[name[1]]
		if e != nil || !ok {
			return fmt.Errorf("unknown instruction %s", full)
		}
		if need(3); err != nil {
			return err
		}
		in.op, in.signed, in.cmp, in.shift = opSetp, signed, cmp, uint8(64-bits)
		in.dst, in.a, in.b = dst(args[0], 1), src(args[1], bits), src(args[2], bits)
		return err
	case base == "selp":
		bits, _, e := typeOf(last)
		if e != nil {
			return e
		}
		if need(4); err != nil {
			return err
		}
		in.op = opSelp
		in.dst, in.a, in.b, in.c = dst(args[0], bits), src(args[1], bits), src(args[2], bits), src(args[3], 1)
		return err
	case name[0] == "cvt" && len(name) == 3:
		to, _, e := typeOf(name[1])
		from, signed, e2 := typeOf(last)
		if e != nil || e2 != nil {
			return fmt.Errorf("unknown instruction %s", full)
		}
		if need(2); err != nil {
			return err
		}
		in.op, in.signed, in.mask, in.shift = opCvt, signed, maskOf(to), uint8(64-from)
		in.dst, in.a = dst(args[0], to), src(args[1], from)
		return err
	case base == "popc" || base == "clz":
		bits, _, e := typeOf(last)
		if e != nil {
			return e
		}
		if need(2); err != nil {
			return err
		}
		in.op, in.shift = opPopc, uint8(64-bits)
		if base == "clz" {
			in.op = opClz
		}
		in.dst, in.a = dst(args[0], 32), src(args[1], bits)
		return err
	case full == "prmt.b32.f4e": // four bytes of two words from byte c on
		if need(4); err != nil {
			return err
		}
		in.op, in.dst, in.a, in.b, in.c = opExtract4, dst(args[0], 32), src(args[1], 32), src(args[2], 32), src(args[3], 32)
		return err
	case full == "cvta.to.global.u64":
		if need(2); err != nil {
			return err
		}
		in.op, in.mask, in.dst, in.a = opMov, maskOf(64), dst(args[0], 64), src(args[1], 64)
		return err
	case full == "cvta.shared.u64":
		if need(2); err != nil {
			return err
		}
		in.op, in.dst, in.a = opToShared, dst(args[0], 64), src(args[1], 64)
		return err
	case full == "bra" || full == "bra.uni":
		if need(1); err != nil {
			return err
		}
		in.op = opBra
		p.jumps[len(p.k.code)] = args[0]
		return nil
	case full == "ret":
		in.op = opRet
		return nil
	case full == "bar.sync" || full == "barrier.sync":
		if need(1); err != nil {
			return err
		}
		if args[0] != "0" {
			return fmt.Errorf("barrier %s; there is only barrier 0", args[0])
		}
		in.op = opBarrier
		return nil
	case full == "bar.warp.sync":
		if need(1); err != nil {
			return err
		}
		in.op, in.a = opWarpBarrier, src(args[0], 32)
		return err
	case base == "shfl.sync.up" || base == "shfl.sync.down" || base == "shfl.sync.bfly" || base == "shfl.sync.idx":
		if need(5); err != nil {
			return err
		}
		in.op, in.target = opShuffle, -1
		in.how = uint8(map[string]int{"up": shuffleUp, "down": shuffleDown, "bfly": shuffleXor, "idx": shuffleTo}[name[2]])
		to, valid, two := strings.Cut(args[0], "|")
		in.dst = dst(to, 32)
		if two {
			in.target = dst(valid, 1)
		}
		in.a, in.b, in.c, in.d = src(args[1], 32), src(args[2], 32), src(args[3], 32), src(args[4], 32)
		return err
	case full == "vote.sync.ballot.b32":
		if need(3); err != nil {
			return err
		}
		in.op, in.dst = opBallot, dst(args[0], 32)
		var not bool
		if args[1], not = strings.CutPrefix(args[1], "!"); not {
			return fmt.Errorf("unknown operand")
		}
		in.a, in.d = src(args[1], 1), src(args[2], 32)
		return err
	case full == "match.any.sync.b32":
		if need(3); err != nil {
			return err
		}
		in.op, in.dst, in.a, in.d = opMatch, dst(args[0], 32), src(args[1], 32), src(args[2], 32)
		return err
	case name[0] == "ld" || name[0] == "st" || name[0] == "atom" || name[0] == "red":
		return p.access(in, name, args)
	}
	return fmt.Errorf("unknown instruction %s", full)
}

// pack reads mov.b64 from or to two halves.
func (p *parser) pack(in *instr, last string, args []string) error {
	if last != "b64" {
		return fmt.Errorf("unknown instruction")
	}
	parts := func(s string) ([]string, bool) {
		f := strings.Split(strings.Trim(s, "{} "), ",")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		return f, len(f) == 2
	}
	var err, err2, err3 error
	if list, ok := parts(args[0]); ok && args[0][0] == '{' {
		in.op = opUnpack
		in.dst, err = p.register(list[0], 32)
		in.target, err2 = p.register(list[1], 32)
		in.a, err3 = p.source(args[1], 64)
	} else if list, ok := parts(args[1]); ok {
		in.op = opPack
		in.dst, err = p.register(args[0], 64)
		in.a, err2 = p.source(list[0], 32)
		in.b, err3 = p.source(list[1], 32)
	} else {
		return fmt.Errorf("unknown operands")
	}
	for _, e := range []error{err, err2, err3} {
		if e != nil {
			return e
		}
	}
	return nil
}

// access reads an instruction that goes to memory.
func (p *parser) access(in *instr, name, args []string) error {
	bits, signed, err := typeOf(name[len(name)-1])
	if err != nil {
		return err
	}
	in.signed, in.size, in.shift = signed, uint8(bits/8), uint8(64-bits)
	vector, param, how := 1, false, -1
	for _, part := range name[1 : len(name)-1] {
		switch part {
		case "global":
			in.space = global
		case "shared":
			in.space = shared
		case "const":
			in.space = constant
		case "param":
			param = true
		case "volatile", "relaxed":
			in.atomic = true
		case "gpu", "cta", "sys":
		case "v2":
			vector = 2
		case "v4":
			vector = 4
		case "add", "min", "max", "cas", "exch", "or", "and":
			how = map[string]int{"add": atomAdd, "min": atomMin, "max": atomMax, "cas": atomCas, "exch": atomExch, "or": atomOr, "and": atomAnd}[part]
		default:
			return fmt.Errorf("unknown part .%s", part)
		}
	}
	address, value := 1, 0
	sources := 0 // after the address
	switch name[0] {
	case "ld":
		in.op = opLd
	case "st":
		in.op, address, value = opSt, 0, 1
	case "atom":
		in.op, in.how, in.atomic, sources = opAtom, uint8(how), true, 1
		if how == atomCas {
			sources = 2
		}
	default:
		return fmt.Errorf("unknown instruction")
	}
	if len(args) != 2+sources || (how >= 0) != (name[0] == "atom") || vector > 1 && in.op == opAtom {
		return fmt.Errorf("unknown form of %s", name[0])
	}
	at, ok := strings.CutPrefix(args[address], "[")
	at, ok2 := strings.CutSuffix(at, "]")
	if !ok || !ok2 {
		return fmt.Errorf("unknown address %q", args[address])
	}
	at, plus, more := strings.Cut(at, "+")
	if more {
		n, err := strconv.ParseInt(plus, 0, 64)
		if err != nil {
			return err
		}
		in.offset = n
	}
	regs := []string{args[value]}
	if vector > 1 {
		regs = strings.Split(strings.Trim(args[value], "{} "), ",")
	}
	if len(regs) != vector {
		return fmt.Errorf("unknown vector %q", args[value])
	}
	for i, s := range regs {
		s = strings.TrimSpace(s)
		var r int32
		if _, e := parseNumber(s); in.op == opSt && e == nil {
			r, err = p.source(s, bits)
		} else if in.op == opSt {
			r, err = p.source(s, min(bits, 16)) // registers of 16 bits hold bytes
		} else {
			r, err = p.register(s, min(bits, 16))
		}
		if err != nil {
			return err
		}
		if i == 0 {
			in.dst = r
		} else {
			in.vector = append(in.vector, r)
		}
	}
	// A load extends to the register's width.
	if in.op != opSt && in.dst >= 0 {
		r, _ := p.find(strings.TrimSpace(regs[0]))
		in.mask = maskOf(r.bits)
	}
	if param {
		n, ok := p.k.params[at]
		if !ok || in.op != opLd || bits != 64 || in.offset != 0 || vector > 1 {
			return fmt.Errorf("unknown parameter %q", at)
		}
		in.op, in.target = opParam, int32(n)
		return nil
	}
	if in.space == constant {
		n, ok := p.m.symbols[at]
		if ok {
			in.offset += int64(n)
			in.a = p.number(0)
		} else if in.a, err = p.register(at, 64); err != nil {
			return err
		}
	} else if in.a, err = p.source(at, 32); err != nil {
		return err
	}
	if sources > 0 {
		if in.b, err = p.source(args[2], bits); err != nil {
			return err
		}
	}
	if sources > 1 {
		in.c, err = p.source(args[3], bits)
	}
	return err
}
