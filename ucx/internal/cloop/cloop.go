//go:build ucx && cgo && amd64

// Package cloop is what package ucx is measured against: a loop in C over UCX, which does no more than move chunks between two threads
// and compute the checksums that a shuffle computes.
package cloop

/*
#cgo CFLAGS: -msse4.2
#cgo LDFLAGS: -ldl -lpthread
#include <stdlib.h>
#include "loop.h"
*/
import "C"

import (
	"fmt"
	"time"
	"unsafe"
)

// Run sends a chunk, of a multiple of 24 bytes, once for each buffer of into, which are as long, and returns how long that took. tls and devices are
// UCX's TLS and NET_DEVICES, library is where UCX is. Both ends compute CRC32C of each chunk. The memory is not of the Go heap, so that a shuffle
// can be measured in the same.
func Run(library, tls, devices string, chunk []byte, into [][]byte) (time.Duration, error) {
	l, t, d := C.CString(library), C.CString(tls), C.CString(devices)
	defer C.free(unsafe.Pointer(l))
	defer C.free(unsafe.Pointer(t))
	defer C.free(unsafe.Pointer(d))
	at := make([]unsafe.Pointer, len(into))
	for i, b := range into {
		at[i] = unsafe.Pointer(unsafe.SliceData(b))
	}
	var message [256]C.char
	var ns C.int64_t
	if C.dvt_loop(l, t, d, unsafe.Pointer(unsafe.SliceData(chunk)), C.size_t(len(chunk)), unsafe.SliceData(at), C.int(len(at)), &ns, &message[0],
		C.size_t(len(message))) != 0 {
		return 0, fmt.Errorf("cloop: %s", C.GoString(&message[0]))
	}
	return time.Duration(ns), nil
}

// CRC is the checksum that the loop computes, of a multiple of 24 bytes.
func CRC(data []byte) uint32 {
	return uint32(C.dvt_crc(unsafe.Pointer(unsafe.SliceData(data)), C.size_t(len(data))))
}
