//go:build unix

package lsh

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guarded is memory between two pages that must not be touched: who reads or writes a byte too many ends the test.
type guarded struct{ all []byte }

func newGuarded(t testing.TB, size int) *guarded {
	t.Helper()
	page := unix.Getpagesize()
	size = (size + page - 1) / page * page
	mapped, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mapped); err != nil {
			t.Error(err)
		}
	})
	for _, guard := range [][]byte{mapped[:page], mapped[page+size:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return &guarded{mapped[page : page+size]}
}

// bytes returns a copy of b, which is not longer than the memory, that ends where the memory ends.
func (g *guarded) bytes(b []byte) []byte {
	c := g.all[len(g.all)-len(b):]
	copy(c, b)
	return c
}

// guardedCopy is bytes for slices of numbers. With front it starts where the memory starts.
func guardedCopy[T uint32 | int32 | uint64](g *guarded, s []T, front bool) []T {
	if len(s) == 0 {
		return nil
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(s[0])))
	if front {
		copy(g.all, raw)
		return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(g.all))), len(s))
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(g.bytes(raw)))), len(s))
}
