//go:build unix

package mem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapPages maps n bytes, large ones in huge pages where the system has them: there are as many fewer page faults.
func mapPages(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil && n >= hugePage {
		adviseHuge(b)
	}
	return b, err
}

// unmapPages gives a mapping back. It cannot fail for a mapping that mapPages made.
func unmapPages(b []byte) { _ = unix.Munmap(b) }

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
