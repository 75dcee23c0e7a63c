//go:build !unix

package mem

import "unsafe"

func mapPages(n int) ([]byte, error) { return alignedMake(n), nil }

func unmapPages([]byte) {}

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
