package arrowmem_test

import (
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/dovetail-dedup/dovetail/mem/arrowmem"
)

// Memory is aligned and clear whoever had it before, and nobody has it twice.
func TestRecycling(t *testing.T) {
	a := arrowmem.Recycling()
	sizes := []int{0, 1, 63, 4095, 4096, 4097, 6143, 6144, 6145, 8192, 8193, 100_000, 1 << 20, 1<<20 + 1, 3<<20 + 5}
	for round := range 3 {
		owner := make(map[*byte]int)
		var blocks [][]byte
		for _, n := range append(sizes, sizes...) {
			b := a.Allocate(n)
			if len(b) != n || n > 0 && uintptr(unsafe.Pointer(&b[0]))%64 != 0 {
				t.Fatalf("%d bytes: %d, at %p", n, len(b), b)
			}
			for i, v := range b {
				if v != 0 {
					t.Fatalf("round %d: byte %d of %d is %d", round, i, n, v)
				}
			}
			if n > 0 {
				if before, ok := owner[&b[0]]; ok {
					t.Fatalf("the same memory for %d and %d bytes", before, n)
				}
				owner[&b[0]] = n
			}
			for i := range b {
				b[i] = 0xee
			}
			blocks = append(blocks, b)
		}
		for i, b := range blocks {
			if i%2 == 0 {
				b = a.Reallocate(len(b)*2, b)
				for k, v := range b {
					if want := byte(0xee); k < len(b)/2 && v != want || k >= len(b)/2 && v != 0 {
						t.Fatalf("byte %d of %d after growing is %d", k, len(b), v)
					}
				}
			}
			a.Free(b[:len(b)/2]) // what is freed may have been cut
		}
	}
	a.Free(make([]byte, 5000)) // of somebody else
	if b := a.Allocate(5000); cap(b) != 6144 {
		t.Errorf("a block of %d bytes", cap(b))
	}
}

// Arrays that are built, read and released at the same time do not get into each other's way.
func TestRecyclingConcurrently(t *testing.T) {
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for round := range 20 {
				b := array.NewStringBuilder(arrowmem.Recycling())
				for i := range 3000 {
					b.Append(fmt.Sprint(g, round, i))
				}
				arr := b.NewStringArray()
				b.Release()
				for i := range 3000 {
					if arr.Value(i) != fmt.Sprint(g, round, i) {
						t.Errorf("value %d of %d is %q", i, g, arr.Value(i))
						return
					}
				}
				arr.Release()
			}
		})
	}
	all.Wait()
}
