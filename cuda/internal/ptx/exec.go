package ptx

import (
	"fmt"
	"math/bits"
)

// state says why a thread does not go on.
type state uint8

const (
	ready state = iota
	atBarrier
	inWarp // waits for the lanes of a mask
	ended
)

// thread is one thread of a block.
type thread struct {
	block  *block
	tid    int
	id     uint64 // as in access
	regs   []uint64
	pc     int
	state  state
	mask   uint32     // of the lanes it waits for
	clocks [32]uint32 // what it knows of the lanes of its warp
	last   *Array     // that it accessed last
	tally  *tally     // what it executed, if that is asked for
}

// longest is the number of instructions after which a thread that loops is preempted in any case.
const longest = 1 << 18

// step executes until the thread waits, ends, faults or is preempted, and returns how many instructions that were.
func (t *thread) step() (n int64, err error) {
	r, code, run := t.regs, t.block.run.kernel.code, t.block.run
	for {
		in := &code[t.pc]
		n++
		if t.tally != nil {
			t.tally.counts[t.pc]++
		}
		t.pc++
		if in.pred >= 0 && (r[in.pred] != 0) == in.not {
			continue
		}
		switch in.op {
		case opMov:
			r[in.dst] = r[in.a] & in.mask
		case opAdd:
			r[in.dst] = (r[in.a] + r[in.b]) & in.mask
		case opSub:
			r[in.dst] = (r[in.a] - r[in.b]) & in.mask
		case opMul:
			r[in.dst] = r[in.a] * r[in.b] & in.mask
		case opMad:
			r[in.dst] = (r[in.a]*r[in.b] + r[in.c]) & in.mask
		case opMulHi:
			r[in.dst] = mulHi(in, r[in.a], r[in.b])
		case opMulWide:
			if in.signed {
				r[in.dst] = uint64(in.extend(r[in.a])*in.extend(r[in.b])) & in.mask
			} else {
				r[in.dst] = r[in.a] * r[in.b] & in.mask
			}
		case opDiv, opRem:
			a, b := r[in.a], r[in.b]&in.mask
			if b == 0 {
				return n, fmt.Errorf("division by zero")
			}
			switch {
			case in.signed && in.op == opDiv:
				r[in.dst] = uint64(in.extend(a)/in.extend(b)) & in.mask
			case in.signed:
				r[in.dst] = uint64(in.extend(a)%in.extend(b)) & in.mask
			case in.op == opDiv:
				r[in.dst] = a & in.mask / b
			default:
				r[in.dst] = a & in.mask % b
			}
		case opMin, opMax:
			a, b := r[in.a], r[in.b]
			less := a < b
			if in.signed {
				less = in.extend(a) < in.extend(b)
			}
			if less != (in.op == opMin) {
				a = b
			}
			r[in.dst] = a
		case opAnd:
			r[in.dst] = r[in.a] & r[in.b]
		case opOr:
			r[in.dst] = r[in.a] | r[in.b]
		case opXor:
			r[in.dst] = r[in.a] ^ r[in.b]
		case opNot:
			r[in.dst] = ^r[in.a] & in.mask
		case opNeg:
			r[in.dst] = -r[in.a] & in.mask
		case opShl:
			r[in.dst] = r[in.a] << r[in.b] & in.mask // Go's shifts by more than the width give 0, and so do PTX's
		case opShr:
			if in.signed {
				r[in.dst] = uint64(in.extend(r[in.a])>>r[in.b]) & in.mask
			} else {
				r[in.dst] = r[in.a] >> r[in.b]
			}
		case opSetp:
			a, b := r[in.a], r[in.b]
			if in.signed {
				const sign = 1 << 63
				a, b = a<<in.shift^sign, b<<in.shift^sign
			}
			var v bool
			switch in.cmp {
			case cmpEq:
				v = a == b
			case cmpNe:
				v = a != b
			case cmpLt:
				v = a < b
			case cmpLe:
				v = a <= b
			case cmpGt:
				v = a > b
			case cmpGe:
				v = a >= b
			}
			r[in.dst] = 0
			if v {
				r[in.dst] = 1
			}
		case opSelp:
			if r[in.c] != 0 {
				r[in.dst] = r[in.a]
			} else {
				r[in.dst] = r[in.b]
			}
		case opCvt:
			if in.signed {
				r[in.dst] = uint64(in.extend(r[in.a])) & in.mask
			} else {
				r[in.dst] = r[in.a] << in.shift >> in.shift & in.mask
			}
		case opBfi:
			at, length := r[in.c]&0xff, r[in.d]&0xff
			field := (uint64(1)<<length - 1) << at & in.mask
			r[in.dst] = r[in.b]&^field | r[in.a]<<at&field
		case opPrmt:
			r[in.dst] = permute(r[in.a]|r[in.b]<<32, r[in.c])
		case opExtract4:
			r[in.dst] = (r[in.a] | r[in.b]<<32) >> (8 * (r[in.c] & 3)) & 0xffffffff
		case opFunnelL:
			r[in.dst] = (r[in.a] | r[in.b]<<32) << (r[in.c] & 31) >> 32
		case opFunnelR:
			r[in.dst] = (r[in.a] | r[in.b]<<32) >> (r[in.c] & 31) & 0xffffffff
		case opPopc:
			r[in.dst] = uint64(bits.OnesCount64(r[in.a]))
		case opClz:
			r[in.dst] = uint64(bits.LeadingZeros64(r[in.a])) - uint64(in.shift)
		case opPack:
			r[in.dst] = r[in.a] | r[in.b]<<32
		case opUnpack:
			v := r[in.a]
			if in.dst >= 0 {
				r[in.dst] = v & 0xffffffff
			}
			if in.target >= 0 {
				r[in.target] = v >> 32
			}
		case opToShared:
			r[in.dst] = r[in.a] + sharedBase
		case opParam:
			r[in.dst] = run.params[in.target]
		case opLd, opSt, opAtom:
			if err := t.access(in); err != nil {
				return n, err
			}
			if in.atomic && run.preempt() {
				return n, nil
			}
		case opBra:
			back := int(in.target) < t.pc
			t.pc = int(in.target)
			if back && (n > longest || run.preempt()) {
				return n, nil
			}
		case opRet:
			t.state = ended
			return n, nil
		case opBarrier:
			t.state = atBarrier
			return n, nil
		case opWarpBarrier, opShuffle, opBallot, opMatch:
			t.mask = uint32(r[in.d])
			if in.op == opWarpBarrier {
				t.mask = uint32(r[in.a])
			}
			t.state = inWarp
			return n, t.exchange(in)
		default:
			return n, fmt.Errorf("unknown instruction")
		}
	}
}

// extend extends the sign of an operand.
func (in *instr) extend(v uint64) int64 { return int64(v<<in.shift) >> in.shift }

func mulHi(in *instr, a, b uint64) uint64 {
	width := 64 - in.shift
	if width == 32 {
		if in.signed {
			return uint64(in.extend(a)*in.extend(b)>>32) & in.mask
		}
		return a * b >> 32
	}
	high, _ := bits.Mul64(a, b)
	if in.signed {
		if int64(a) < 0 {
			high -= b
		}
		if int64(b) < 0 {
			high -= a
		}
	}
	return high
}

// permute is prmt in its default mode: four bytes of eight, each chosen by four bits, the highest of which repeats the byte's sign.
func permute(from, how uint64) (v uint64) {
	for i := range 4 {
		sel := how >> (4 * i) & 15
		b := from >> (8 * (sel & 7)) & 0xff
		if sel&8 != 0 {
			b = uint64(uint8(int8(b) >> 7))
		}
		v |= b << (8 * i)
	}
	return v
}

// access executes a load, a store or an atomic operation.
func (t *thread) access(in *instr) error {
	addr := t.regs[in.a] + uint64(in.offset)
	if in.space == constant {
		return t.loadConst(in, addr)
	}
	if t.tally != nil {
		t.tally.access(t.pc-1, addr)
	}
	for i := range 1 + len(in.vector) {
		reg := in.dst
		if i > 0 {
			reg = in.vector[i-1]
		}
		if i == 0 && addr%uint64(int(in.size)*(1+len(in.vector))) != 0 {
			return fmt.Errorf("address %#x is not a multiple of %d", addr, int(in.size)*(1+len(in.vector)))
		}
		if err := t.accessOne(in, addr+uint64(i)*uint64(in.size), reg); err != nil {
			return err
		}
	}
	return nil
}

// place finds the page and the position in it of an address.
func (t *thread) place(in *instr, addr uint64) (*page, int64, error) {
	if in.space == shared || in.space == generic && addr >= sharedBase {
		at := addr
		if in.space == generic {
			at -= sharedBase
		}
		if !t.block.inShared(at, in.size) {
			return nil, 0, fmt.Errorf("access to %d bytes at %d of shared memory, which is in no array: %s", in.size, at, t.block.sharedArrays())
		}
		return t.block.shared[at/pageBytes], int64(at % pageBytes), nil
	}
	a := t.last
	if a == nil || addr-a.Addr >= uint64(a.Size) {
		if a = t.block.run.memory.Find(addr); a == nil {
			return nil, 0, fmt.Errorf("access to %d bytes at %#x, which is in no array: %s", in.size, addr, t.block.run.memory.near(addr))
		}
		t.last = a
	}
	at := int64(addr - a.Addr)
	if at+int64(in.size) > a.Size {
		return nil, 0, fmt.Errorf("access to %d bytes at %d of %s, which has %d", in.size, at, a.Name, a.Size)
	}
	return a.page(at / pageBytes), at % pageBytes, nil
}

func (t *thread) accessOne(in *instr, addr uint64, reg int32) error {
	p, at, err := t.place(in, addr)
	if err != nil {
		return err
	}
	if in.op != opSt && !p.has(at, in.size) {
		return fmt.Errorf("%d bytes at %#x are read and were never written", in.size, addr)
	}
	if err := p.check(t, at, in.size, in.line, in.op != opLd, in.atomic); err != nil {
		return err
	}
	if in.op == opSt {
		p.put(at, in.size, t.regs[reg])
		return nil
	}
	old := p.get(at, in.size)
	if in.op == opAtom {
		p.put(at, in.size, atomic(in, old, t.regs[in.b], t.regs[in.c]))
	}
	if reg >= 0 {
		if in.signed && in.op == opLd {
			t.regs[reg] = uint64(in.extend(old)) & in.mask
		} else {
			t.regs[reg] = old
		}
	}
	return nil
}

// atomic returns what an atomic operation stores.
func atomic(in *instr, old, b, c uint64) uint64 {
	switch in.how {
	case atomAdd:
		return old + b
	case atomMin, atomMax:
		less := b < old
		if in.signed {
			less = in.extend(b) < in.extend(old)
		}
		if less == (in.how == atomMin) {
			return b
		}
		return old
	case atomCas:
		if old == b {
			return c
		}
		return old
	case atomOr:
		return old | b
	case atomAnd:
		return old & b
	}
	return b // exchange
}

func (t *thread) loadConst(in *instr, addr uint64) error {
	consts := t.block.run.module.consts
	for i := range 1 + len(in.vector) {
		reg, at := in.dst, addr+uint64(i)*uint64(in.size)
		if i > 0 {
			reg = in.vector[i-1]
		}
		if at+uint64(in.size) > uint64(len(consts)) || at%uint64(in.size) != 0 {
			return fmt.Errorf("access to %d bytes at %d of constant memory, which has %d", in.size, at, len(consts))
		}
		v := uint64(0)
		for k := range uint64(in.size) {
			v |= uint64(consts[at+k]) << (8 * k)
		}
		t.regs[reg] = v & in.mask
	}
	return nil
}
