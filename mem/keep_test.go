package mem

import "testing"

// TestKeepAtMost frees mappings while nothing more may be kept, and after it.
func TestKeepAtMost(t *testing.T) {
	h := &hostAllocator
	const size = 3 << 20
	kept := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.kept
	}
	use := func() {
		t.Helper()
		var all []*Buffer
		for range 20 {
			b, err := Host().Alloc(size)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b)
		}
		for _, b := range all {
			b.Release()
		}
	}
	for _, n := range []int64{8 << 20, 0, -1} {
		generous := KeepAtMost(1 << 40)
		release := KeepAtMost(n)
		use()
		if got := kept(); got > int(max(0, n)) {
			t.Errorf("%d bytes are kept, at most %d may be", got, n)
		}
		release()
		release() // has no effect
		generous()
	}
	use()
	if got := kept(); got < keepFree-size || got > keepFree {
		t.Errorf("%d bytes are kept, of %d", got, keepFree)
	}
	if len(h.most) > 0 {
		t.Errorf("%d bounds are left", len(h.most))
	}
	KeepAtMost(0)() // leaves room for other tests
	if got := kept(); got > 0 {
		t.Errorf("%d bytes are kept", got)
	}
}
