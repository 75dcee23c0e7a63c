//go:build amd64 && !purego

package simd

import "golang.org/x/sys/cpu"

// HasAVX2 reports whether the processor and the operating system can run the functions that end in AVX2.
func HasAVX2() bool { return cpu.X86.HasAVX2 && cpu.X86.HasBMI2 && cpu.X86.HasPOPCNT }

// HasAVX512 reports whether they can run those that end in AVX512. All processors with AVX-512 since Ice Lake (2019) and
// Zen 4 (2022) can; the ones before lack VBMI2, and have AVX2 to fall back on.
func HasAVX512() bool {
	x := &cpu.X86
	return HasAVX2() && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VBMI && x.HasAVX512VBMI2
}
