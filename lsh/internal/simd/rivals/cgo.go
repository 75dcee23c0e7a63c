package main

// #cgo CFLAGS: -O2
// #include "affine.h"
import "C"

import "unsafe"

func pointer(s []uint32) *C.uint32_t { return (*C.uint32_t)(unsafe.Pointer(unsafe.SliceData(s))) }

func affineScalarC(least, a, b, hashes []uint32) {
	C.affine_scalar(pointer(least), pointer(a), pointer(b), C.size_t(len(least)), pointer(hashes), C.size_t(len(hashes)))
}

func affineAVX512C(least, a, b, hashes []uint32) {
	C.affine_avx512(pointer(least), pointer(a), pointer(b), C.size_t(len(least)), pointer(hashes), C.size_t(len(hashes)))
}
