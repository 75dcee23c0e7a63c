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

// Run moves chunks of size bytes, a multiple of 24, and returns how long that took. tls and devices are UCX's TLS and NET_DEVICES, library is
// where UCX is. With crc both ends compute CRC32C of each chunk and the receiver keeps all of them.
func Run(library, tls, devices string, chunks, size int, crc bool) (time.Duration, error) {
	l, t, d := C.CString(library), C.CString(tls), C.CString(devices)
	defer C.free(unsafe.Pointer(l))
	defer C.free(unsafe.Pointer(t))
	defer C.free(unsafe.Pointer(d))
	var message [256]C.char
	var ns C.int64_t
	c := C.int(0)
	if crc {
		c = 1
	}
	if C.dvt_loop(l, t, d, C.int(chunks), C.size_t(size), c, &ns, &message[0], C.size_t(len(message))) != 0 {
		return 0, fmt.Errorf("cloop: %s", C.GoString(&message[0]))
	}
	return time.Duration(ns), nil
}

// CRC is the checksum that the loop computes, of a multiple of 24 bytes.
func CRC(data []byte) uint32 {
	return uint32(C.dvt_crc(unsafe.Pointer(unsafe.SliceData(data)), C.size_t(len(data))))
}
