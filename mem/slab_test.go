package mem

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSlabs allocates and releases buffers of all sizes in any order, while memory is plentiful and after it: no two overlap, and
// what is free is kept or given back.
func TestSlabs(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	type held struct {
		b    *Buffer
		mark byte
	}
	var all []held
	const stride = 61 // less than the smallest distance of two buffers
	check := func(h held) {
		for k := 0; k < h.b.Len(); k += stride {
			if x := h.b.Bytes()[k]; x != h.mark {
				t.Fatalf("a buffer of %d bytes has %d where %d was written", h.b.Len(), x, h.mark)
			}
		}
		h.b.Release()
	}
	release := Plentiful()
	for i := range 3000 {
		if i == 2000 {
			release()
			release() // has no effect
		}
		if len(all) > 0 && rng.IntN(20) < 9+i/2000 {
			k := rng.IntN(len(all))
			check(all[k])
			all = slices.Delete(all, k, k+1)
			continue
		}
		top := 11 // to slabTo
		if i >= 2000 {
			top-- // more memory of the system, which keeps some, has no room for other tests
		}
		b, err := Host().Alloc(1 + rng.IntN(1<<(10+rng.IntN(top))))
		if err != nil {
			t.Fatal(err)
		}
		if addressOf(b.Bytes())%alignment != 0 {
			t.Fatal("not aligned")
		}
		h := held{b, byte(i)}
		for k := 0; k < b.Len(); k += stride {
			b.Bytes()[k] = h.mark
		}
		all = append(all, h)
	}
	for _, h := range all {
		check(h)
	}
	s := &hostSlabs
	s.mu.Lock()
	defer s.mu.Unlock()
	for class, list := range s.partial {
		if len(list) > 0 {
			t.Errorf("class %d: %d slabs that are partly used, and everything was released", class, len(list))
		}
	}
	if s.holders != 0 || len(s.empty) != 0 || len(s.returned) != len(s.of) {
		t.Errorf("%d holders, %d free slabs kept, %d of %d returned", s.holders, len(s.empty), len(s.returned), len(s.of))
	}
}
