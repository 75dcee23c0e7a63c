//go:build unix

package mem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func mapPages(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// unmapPages gives a mapping back. It cannot fail for a mapping that mapPages made.
func unmapPages(b []byte) { _ = unix.Munmap(b) }

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
