package ptx

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"
)

// module makes a kernel "k" of a body, with parameters p0, p1 ... and some registers.
func module(params int, body string) string {
	var list []string
	for i := range params {
		list = append(list, fmt.Sprintf("\t.param .u64 k_param_%d", i))
	}
	return ".version 9.0\n.target sm_75\n.address_size 64\n.extern .shared .align 16 .b8 dyn[];\n.visible .entry k(\n" +
		strings.Join(list, ",\n") + "\n)\n.maxntid 256, 1, 1\n{\n.reg .pred %p<9>;\n.reg .b16 %rs<9>;\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n" +
		".shared .align 8 .b8 fixed[64];\n" + body + "\nret;\n}\n"
}

func parse(t *testing.T, text string) *Module {
	t.Helper()
	m, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Each instruction against the same in Go, with numbers at the edges and random ones.
func TestInstructions(t *testing.T) {
	s32 := func(x uint64) int64 { return int64(int32(x)) }
	boolean := func(v bool) uint64 {
		if v {
			return 1
		}
		return 0
	}
	rotate := func(hi, lo, by uint64) uint64 { return uint64(uint32((hi<<32 | lo) >> (by & 31))) }
	for _, tc := range []struct {
		code string // of %rd1, %rd2, %rd3 (and %r1 ... , the low halves) to %rd0
		want func(a, b, c uint64) uint64
	}{
		{"add.s64 %rd0, %rd1, %rd2;", func(a, b, _ uint64) uint64 { return a + b }},
		{"sub.s64 %rd0, %rd1, %rd2;", func(a, b, _ uint64) uint64 { return a - b }},
		{"mul.lo.s64 %rd0, %rd1, %rd2;", func(a, b, _ uint64) uint64 { return a * b }},
		{"mul.hi.u64 %rd0, %rd1, %rd2;", func(a, b, _ uint64) uint64 { h, _ := bits.Mul64(a, b); return h }},
		{"mul.hi.s64 %rd0, %rd1, %rd2;", func(a, b, _ uint64) uint64 {
			h, _ := bits.Mul64(a, b)
			return h - uint64(int64(a)>>63)&b - uint64(int64(b)>>63)&a
		}},
		{"mad.lo.s64 %rd0, %rd1, %rd2, %rd3;", func(a, b, c uint64) uint64 { return a*b + c }},
		{"mad.lo.s32 %r0, %r1, %r2, %r3; cvt.u64.u32 %rd0, %r0;", func(a, b, c uint64) uint64 { return uint64(uint32(a*b + c)) }},
		{"mul.wide.u32 %rd0, %r1, %r2;", func(a, b, _ uint64) uint64 { return uint64(uint32(a)) * uint64(uint32(b)) }},
		{"mul.wide.s32 %rd0, %r1, %r2;", func(a, b, _ uint64) uint64 { return uint64(s32(a) * s32(b)) }},
		{"mul.hi.u32 %r0, %r1, %r2; cvt.u64.u32 %rd0, %r0;", func(a, b, _ uint64) uint64 { return uint64(uint32(a)) * uint64(uint32(b)) >> 32 }},
		{"or.b64 %rd4, %rd2, 1; div.u64 %rd0, %rd1, %rd4;", func(a, b, _ uint64) uint64 { return a / (b | 1) }},
		{"or.b64 %rd4, %rd2, 1; rem.u64 %rd0, %rd1, %rd4;", func(a, b, _ uint64) uint64 { return a % (b | 1) }},
		{"shr.u64 %rd4, %rd2, 9; or.b64 %rd4, %rd4, 1; div.s64 %rd0, %rd1, %rd4;", func(a, b, _ uint64) uint64 { return uint64(int64(a) / int64(b>>9|1)) }},
		{"or.b32 %r4, %r2, 1; rem.u32 %r0, %r1, %r4; cvt.u64.u32 %rd0, %r0;", func(a, b, _ uint64) uint64 { return uint64(uint32(a) % (uint32(b) | 1)) }},
		{"min.u64 %rd0, %rd1, %rd2;", func(a, b, _ uint64) uint64 { return min(a, b) }},
		{"max.s64 %rd0, %rd1, %rd2;", func(a, b, _ uint64) uint64 { return uint64(max(int64(a), int64(b))) }},
		{"min.s32 %r0, %r1, %r2; cvt.s64.s32 %rd0, %r0;", func(a, b, _ uint64) uint64 { return uint64(min(s32(a), s32(b))) }},
		{"max.u32 %r0, %r1, %r2; cvt.u64.u32 %rd0, %r0;", func(a, b, _ uint64) uint64 { return uint64(max(uint32(a), uint32(b))) }},
		{"and.b64 %rd0, %rd1, %rd2; not.b64 %rd0, %rd0; xor.b64 %rd0, %rd0, %rd3;", func(a, b, c uint64) uint64 { return ^(a & b) ^ c }},
		{"neg.s64 %rd0, %rd1;", func(a, _, _ uint64) uint64 { return -a }},
		{"not.b32 %r0, %r1; cvt.u64.u32 %rd0, %r0;", func(a, _, _ uint64) uint64 { return uint64(^uint32(a)) }},
		{"and.b32 %r4, %r2, 127; shl.b64 %rd0, %rd1, %r4;", func(a, b, _ uint64) uint64 { return a << (b & 127) }},
		{"and.b32 %r4, %r2, 127; shr.s64 %rd0, %rd1, %r4;", func(a, b, _ uint64) uint64 { return uint64(int64(a) >> (b & 127)) }},
		{"and.b32 %r4, %r2, 63; shl.b32 %r0, %r1, %r4; cvt.u64.u32 %rd0, %r0;", func(a, b, _ uint64) uint64 { return uint64(uint32(a) << (b & 63)) }},
		{"and.b32 %r4, %r2, 63; shr.s32 %r0, %r1, %r4; cvt.s64.s32 %rd0, %r0;", func(a, b, _ uint64) uint64 { return uint64(s32(a) >> (b & 63)) }},
		{"setp.lt.s64 %p1, %rd1, %rd2; selp.b64 %rd0, %rd3, 7, %p1;", func(a, b, c uint64) uint64 {
			if int64(a) < int64(b) {
				return c
			}
			return 7
		}},
		{"setp.ge.u32 %p1, %r1, %r2; selp.b64 %rd0, 1, 0, %p1;", func(a, b, _ uint64) uint64 { return boolean(uint32(a) >= uint32(b)) }},
		{"setp.gt.s32 %p1, %r1, %r2; setp.ne.s32 %p2, %r1, %r3; and.pred %p3, %p1, %p2; not.pred %p3, %p3; selp.b64 %rd0, 1, 0, %p3;",
			func(a, b, c uint64) uint64 { return boolean(!(s32(a) > s32(b) && uint32(a) != uint32(c))) }},
		{"setp.le.u64 %p1, %rd1, %rd2; mov.u64 %rd0, 5; @%p1 bra $L1; mov.u64 %rd0, 6;\n$L1:\n@!%p1 add.s64 %rd0, %rd0, 10;",
			func(a, b, _ uint64) uint64 { return 5 + 11*boolean(a > b) }},
		{"cvt.u16.u64 %rs1, %rd1; cvt.s64.s16 %rd0, %rs1;", func(a, _, _ uint64) uint64 { return uint64(int16(a)) }},
		{"cvt.u32.u64 %r0, %rd1; cvt.u64.u32 %rd0, %r0;", func(a, _, _ uint64) uint64 { return uint64(uint32(a)) }},
		{"bfi.b64 %rd0, %rd1, %rd2, 32, 20;", func(a, b, _ uint64) uint64 { const m = (1<<20 - 1) << 32; return b&^m | a<<32&m }},
		{"bfi.b32 %r0, %r1, %r2, 8, 24; cvt.u64.u32 %rd0, %r0;", func(a, b, _ uint64) uint64 { return uint64(uint32(b)&0xff | uint32(a)<<8) }},
		{"prmt.b32 %r0, %r1, %r2, 0x7531; cvt.u64.u32 %rd0, %r0;", func(a, b, _ uint64) uint64 {
			return a>>8&0xff | a>>24&0xff<<8 | b>>8&0xff<<16 | b>>24&0xff<<24
		}},
		{"prmt.b32 %r0, %r1, 0, 0x123U; cvt.u64.u32 %rd0, %r0;", func(a, _, _ uint64) uint64 { return uint64(bits.ReverseBytes32(uint32(a))) }},
		{"prmt.b32 %r0, %r1, %r2, 0x8888; cvt.u64.u32 %rd0, %r0;", func(a, _, _ uint64) uint64 { return a >> 7 & 1 * 0xffffffff }},
		{"prmt.b32.f4e %r0, %r1, %r2, %r3; cvt.u64.u32 %rd0, %r0;", func(a, b, c uint64) uint64 { return rotate(b&0xffffffff, a&0xffffffff, c&3*8) }},
		{"shf.r.wrap.b32 %r0, %r1, %r2, %r3; cvt.u64.u32 %rd0, %r0;", func(a, b, c uint64) uint64 { return rotate(b&0xffffffff, a&0xffffffff, c) }},
		{"shf.l.wrap.b32 %r0, %r1, %r2, %r3; cvt.u64.u32 %rd0, %r0;", func(a, b, c uint64) uint64 {
			return (b<<32 | a&0xffffffff) << (c & 31) >> 32
		}},
		{"popc.b32 %r0, %r1; cvt.u64.u32 %rd0, %r0;", func(a, _, _ uint64) uint64 { return uint64(bits.OnesCount32(uint32(a))) }},
		{"clz.b32 %r0, %r1; cvt.u64.u32 %rd0, %r0;", func(a, _, _ uint64) uint64 { return uint64(bits.LeadingZeros32(uint32(a))) }},
		{"mov.b64 {%r4, %r5}, %rd1; mov.b64 %rd0, {%r5, %r4};", func(a, _, _ uint64) uint64 { return bits.RotateLeft64(a, 32) }},
		{"st.shared.u64 [fixed+8], %rd1; ld.shared.v2.u32 {%r4, %r5}, [fixed+8]; mov.b64 %rd0, {%r5, %r4};", func(a, _, _ uint64) uint64 { return bits.RotateLeft64(a, 32) }},
		{"mov.u32 %r4, dyn; st.shared.u32 [%r4+4], %r1; st.shared.u32 [dyn], -1; ld.shared.u32 %r5, [dyn+4]; ld.shared.u32 %r6, [dyn]; mov.b64 %rd0, {%r5, %r6};",
			func(a, _, _ uint64) uint64 { return a&0xffffffff | 0xffffffff<<32 }},
		{"{ .reg .u64 %tmp; cvt.u64.u32 %tmp, %r1; mov.u32 %r4, fixed; cvt.u64.u32 %tmp, %r4; cvta.shared.u64 %rd4, %tmp; } st.u16 [%rd4], %rs2; ld.s8 %r5, [%rd4+1]; cvt.s64.s32 %rd0, %r5;",
			func(_, b, _ uint64) uint64 { return uint64(int8(b >> 8)) }},
		{"st.shared.u64 [fixed], %rd1; mov.u32 %r4, fixed; atom.shared.min.u64 %rd4, [fixed], %rd2; ld.volatile.shared.u64 %rd5, [fixed]; xor.b64 %rd0, %rd4, %rd5;",
			func(a, b, _ uint64) uint64 { return a ^ min(a, b) }},
		{"st.shared.u32 [fixed], %r1; atom.shared.cas.b32 %r4, [fixed], 0, %r2; ld.shared.u32 %r5, [fixed]; mov.b64 %rd0, {%r4, %r5};",
			func(a, b, _ uint64) uint64 {
				if uint32(a) == 0 {
					return b << 32
				}
				return a&0xffffffff | a<<32
			}},
		{"st.shared.u32 [fixed], %r1; atom.shared.add.u32 %r4, [fixed], %r2; ld.shared.u32 %r5, [fixed]; mov.b64 %rd0, {%r4, %r5};",
			func(a, b, _ uint64) uint64 { return a&0xffffffff | uint64(uint32(a)+uint32(b))<<32 }},
	} {
		m, err := Parse(module(4, "ld.param.u64 %rd8, [k_param_0];\nld.param.u64 %rd1, [k_param_1];\nld.param.u64 %rd2, [k_param_2];\nld.param.u64 %rd3, [k_param_3];\n"+
			"cvt.u32.u64 %r1, %rd1;\ncvt.u32.u64 %r2, %rd2;\ncvt.u32.u64 %r3, %rd3;\ncvt.u16.u64 %rs2, %rd2;\n"+tc.code+"\nst.global.u64 [%rd8], %rd0;"))
		if err != nil {
			t.Errorf("%s: %v", tc.code, err)
			continue
		}
		rng := rand.New(rand.NewPCG(1, 2))
		edges := []uint64{0, 1, 2, 31, 32, 63, 64, 127, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 63, 1<<63 - 1, ^uint64(0), 0xff80, 0xffff}
		number := func() uint64 {
			if rng.IntN(2) == 0 {
				return edges[rng.IntN(len(edges))]
			}
			return rng.Uint64() >> rng.IntN(64)
		}
		for range 300 {
			a, b, c := number(), number(), number()
			mem := NewMemory()
			out := mem.Alloc("out", 8)
			if _, err := m.Launch(mem, "k", Config{Grid: 1, Block: 1, Shared: 16}, out.Addr, a, b, c); err != nil {
				t.Errorf("%s: %v", tc.code, err)
				break
			}
			var got [8]byte
			if err := out.Read(0, got[:]); err != nil {
				t.Fatal(err)
			}
			if g, w := binary.LittleEndian.Uint64(got[:]), tc.want(a, b, c); g != w {
				t.Errorf("%s of %#x, %#x, %#x: %#x, want %#x", tc.code, a, b, c, g, w)
				break
			}
		}
	}
}

// What is not known is refused when it is read.
func TestParseRefuses(t *testing.T) {
	for _, code := range []string{
		"foo.u32 %r0, %r1;", "add.f32 %r0, %r1, %r2;", "add.s64 %r0, %r1, %r2;", "add.s32 %r0, %r9, %r2;", "bar.sync 1;", "bra $L9;",
		"ld.global.u32 %r0, %rd1;", "ld.local.u32 %r0, [%rd1];", "atom.global.inc.u32 %r0, [%rd1], %r2;", "setp.lt.s32 %r0, %r1, %r2;",
		"call foo;", ".local .b8 x[8];", "mul.lo.s32 %r0, %r1;", "ld.param.u64 %rd0, [k_param_7];", "cvt.rn.f32.s32 %r0, %r1;",
		"shfl.sync.up.b32 %r0, %r1, 1, 0;", "ld.global.v2.u32 %r0, [%rd1];", "add.s32 %r0, %r1, %r2", "mov.u32 %r0, %tid.y;",
	} {
		if _, err := Parse(module(1, code)); err == nil {
			t.Errorf("%q was taken", code)
		}
	}
	if _, err := Parse(".global .u32 x;"); err == nil {
		t.Error("a global variable was taken")
	}
}

// Faults are found, and what is no fault is not.
func TestFaults(t *testing.T) {
	const (
		head = "ld.param.u64 %rd1, [k_param_0];\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, %ctaid.x;\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;\n" +
			"setp.eq.s32 %p1, %r1, 0;\nsetp.eq.s32 %p2, %r2, 0;\nand.b32 %r3, %r1, 31;\nsetp.lt.u32 %p3, %r3, 16;\nmov.u32 %r4, fixed;\nsetp.eq.s32 %p4, %r1, 40;\n"
		own   = "st.global.u32 [%rd3], %r1;\n"      // each thread its own word
		first = "@%p1 st.global.u32 [%rd1], %r1;\n" // thread 0 of every block
		other = "@%p4 ld.global.u32 %r5, [%rd1];\n" // thread 40
		near  = "setp.eq.s32 %p5, %r1, 7;\n@%p5 ld.global.u32 %r5, [%rd1];\n"
	)
	for _, tc := range []struct{ name, code, want string }{
		{"own words", "@%p2 bra $L1;\nret;\n$L1:\n" + own, ""},
		{"two blocks", own, "data race"},
		{"beyond the end", "@%p2 st.global.u32 [%rd3+4], %r1;", "which is in no array"},
		{"before the beginning", "st.global.u32 [%rd1+-4], %r1;", "which is in no array"},
		{"null", "mov.u64 %rd1, 0;\nst.global.u32 [%rd1], %r1;", "far from all arrays"},
		{"across the end", "add.s64 %rd1, %rd1, 1024;\n@%p1 ld.global.u64 %rd4, [%rd1+-8];\n@%p1 ld.global.u64 %rd4, [%rd1];", "never written|in no array"},
		{"not aligned", "st.global.u32 [%rd1+2], %r1;", "not a multiple of 4"},
		{"never written", "@%p1 ld.global.u32 %r5, [%rd1+8];", "never written"},
		{"shared memory that was never written", "ld.shared.u32 %r5, [fixed+60];", "never written"},
		{"beyond shared memory", "st.shared.u32 [fixed+64], %r1;", "in no array"},
		{"beyond dynamic memory", "st.shared.u32 [dyn+16], %r1;", "in no array"},
		{"a barrier between", "@!%p2 ret;\n" + first + "bar.sync 0;\n" + other, ""},
		{"no barrier between", "@!%p2 ret;\n" + first + other, "data race"},
		{"no barrier between, the other way", "@!%p2 ret;\n" + first + "bar.sync 0;\n" + other + "@%p1 st.global.u32 [%rd1], %r1;", "data race"},
		{"a barrier does not order blocks", first + "bar.sync 0;\n" + other, "data race"},
		{"a barrier of the warp between", "@!%p2 ret;\n" + first + "bar.warp.sync -1;\n" + near, ""},
		{"no barrier of the warp between", "@!%p2 ret;\n" + first + near, "data race"},
		{"a vote is no barrier", "@!%p2 ret;\n" + first + "vote.sync.ballot.b32 %r5, %p1, -1;\n" + near, "data race"},
		{"a barrier of the warp is not for other warps", "@!%p2 ret;\n" + first + "bar.warp.sync -1;\n" + other, "data race"},
		{"half a warp", "@!%p2 ret;\n" + first + "@!%p3 bra $L1;\nbar.warp.sync 65535;\n" + near + "$L1:\n", ""},
		{"the other half of a warp", "@!%p2 ret;\n" + first + "@!%p3 bra $L1;\nbar.warp.sync 65535;\n$L1:\nsetp.eq.s32 %p5, %r1, 20;\n@%p5 ld.global.u32 %r5, [%rd1];", "data race"},
		{"atomics", "@%p2 bra $L1;\nret;\n$L1:\n@%p1 st.global.u32 [%rd1], %r1;\nbar.sync 0;\natom.global.add.u32 %r5, [%rd1], 1;\nld.volatile.global.u32 %r5, [%rd1];", ""},
		{"atomics and a load", "@!%p2 ret;\n@%p1 st.global.u32 [%rd1], %r1;\nbar.sync 0;\n@%p1 atom.global.add.u32 %r5, [%rd1], 1;\n" + other, "data race"},
		{"bytes of one word", "@!%p2 ret;\nadd.s64 %rd3, %rd1, 0;\ncvt.u64.u32 %rd4, %r1;\nadd.s64 %rd3, %rd1, %rd4;\ncvt.u16.u32 %rs1, %r1;\nst.global.u8 [%rd3], %rs1;", ""},
		{"a byte and its word", "@!%p2 ret;\ncvt.u16.u32 %rs1, %r1;\n@%p1 st.global.u32 [%rd1], %r1;\n@%p4 st.global.u8 [%rd1+3], %rs1;", "data race"},
		{"a barrier in a branch", "@%p3 bar.sync 0;\nbar.sync 0;", "waits where others do not"},
		{"threads that ended before a barrier", "@%p3 ret;\nbar.sync 0;", "while others wait"},
		{"a barrier after the other", "@%p1 bra $L1;\nbar.sync 0;\nbra $L2;\n$L1:\nbar.sync 0;\n$L2:\n", "waits where others do not"},
		{"a lane that is elsewhere", "@%p3 bar.warp.sync -1;\nbar.sync 0;", "waits where others do not"},
		{"a lane that ended", "@%p3 ret;\nbar.warp.sync -1;", "has ended|while others wait"},
		{"not in its own mask", "bar.warp.sync 1;", "not in its own mask"},
		{"from a lane that is not in the mask", "@!%p3 ret;\nshfl.sync.idx.b32 %r5, %r1, 20, 31, 65535;", "which is not in the mask"},
		{"other masks", "@%p3 bar.warp.sync 65535;\n@!%p3 bar.warp.sync -65536;\nbar.warp.sync -1;", ""},
		{"masks that cross", "@%p1 bar.warp.sync 3;\n@!%p1 bar.warp.sync -1;", "waits in line|waits where others do not"},
		{"no end", "$L1:\nbra $L1;", "does not end"},
		{"division by zero", "mov.u32 %r5, 0;\ndiv.u32 %r5, %r1, %r5;", "division by zero"},
	} {
		m := parse(t, module(1, head+tc.code))
		for seed := range uint64(20) {
			mem := NewMemory()
			array := mem.Alloc("array", 1024)
			if err := array.Write(0, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			_, err := m.Launch(mem, "k", Config{Grid: 2, Block: 256, Shared: 16, Seed: seed, MaxInstructions: 1 << 20}, array.Addr)
			found := false
			for _, w := range strings.Split(tc.want, "|") {
				found = found || err != nil && strings.Contains(err.Error(), w)
			}
			if tc.want == "" && err != nil || tc.want != "" && !found {
				t.Errorf("%s, seed %d: %v, want %q", tc.name, seed, err, tc.want)
				break
			}
		}
	}
}

// How a kernel is launched is checked.
func TestLaunch(t *testing.T) {
	m := parse(t, module(1, "ld.param.u64 %rd1, [k_param_0];"))
	mem := NewMemory()
	for _, tc := range []struct {
		name   string
		c      Config
		params []uint64
	}{
		{"k", Config{Grid: 1, Block: 256}, nil}, {"k", Config{Grid: 1, Block: 257}, []uint64{1}}, {"k", Config{Grid: 0, Block: 1}, []uint64{1}},
		{"k", Config{Grid: 1, Block: 1, Shared: 48<<10 - 63}, []uint64{1}}, {"j", Config{Grid: 1, Block: 1}, []uint64{1}},
	} {
		if _, err := m.Launch(mem, tc.name, tc.c, tc.params...); err == nil {
			t.Errorf("%s, %+v with %d parameters was launched", tc.name, tc.c, len(tc.params))
		}
	}
	if _, err := m.Launch(mem, "k", Config{Grid: 3, Block: 256, Shared: 48<<10 - 64}, 1); err != nil {
		t.Error(err)
	}
}

// Shuffles, votes and matches of a whole warp.
func TestWarp(t *testing.T) {
	m := parse(t, module(1, "ld.param.u64 %rd1, [k_param_0];\nmov.u32 %r1, %laneid;\nmul.wide.u32 %rd2, %r1, 32;\nadd.s64 %rd1, %rd1, %rd2;\nmul.lo.s32 %r2, %r1, 7;\n"+
		"shfl.sync.up.b32 %r3|%p1, %r2, 5, 0, -1;\nst.global.u32 [%rd1], %r3;\nselp.b32 %r3, 1, 0, %p1;\nst.global.u32 [%rd1+4], %r3;\n"+
		"shfl.sync.down.b32 %r3, %r2, 5, 31, -1;\nst.global.u32 [%rd1+8], %r3;\nshfl.sync.bfly.b32 %r3, %r2, 9, 31, -1;\nst.global.u32 [%rd1+12], %r3;\n"+
		"shfl.sync.idx.b32 %r3, %r2, 30, 31, -1;\nst.global.u32 [%rd1+16], %r3;\nand.b32 %r4, %r1, 3;\nsetp.eq.s32 %p2, %r4, 1;\n"+
		"vote.sync.ballot.b32 %r3, %p2, -1;\nst.global.u32 [%rd1+20], %r3;\nmatch.any.sync.b32 %r3, %r4, -1;\nst.global.u32 [%rd1+24], %r3;\nst.global.u32 [%rd1+28], %r3;"))
	mem := NewMemory()
	out := mem.Alloc("out", 32*32)
	if _, err := m.Launch(mem, "k", Config{Grid: 1, Block: 32, Seed: 3}, out.Addr); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 32*32)
	if err := out.Read(0, data); err != nil {
		t.Fatal(err)
	}
	for lane := range uint32(32) {
		up, ok, down := lane*7, uint32(0), lane*7
		if lane >= 5 {
			up, ok = (lane-5)*7, 1
		}
		if lane+5 < 32 {
			down = (lane + 5) * 7
		}
		match := uint32(0x11111111) << (lane & 3)
		for i, want := range []uint32{up, ok, down, (lane ^ 9) * 7, 210, 0x22222222, match, match} {
			if got := binary.LittleEndian.Uint32(data[lane*32+uint32(i)*4:]); got != want {
				t.Errorf("lane %d, value %d: %#x, want %#x", lane, i, got, want)
			}
		}
	}
}
