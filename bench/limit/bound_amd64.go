package limit

import "github.com/klauspost/cpuid/v2"

//go:noescape
func affine512(n int)

//go:noescape
func affine256(n int)

func instructions(n int) string {
	switch {
	case cpuid.CPU.Supports(cpuid.AVX512F):
		affine512(n)
		return "AVX-512"
	case cpuid.CPU.Supports(cpuid.AVX2):
		affine256(n)
		return "AVX2"
	}
	return ""
}
