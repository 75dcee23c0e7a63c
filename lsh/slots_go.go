package lsh

// mapGo stores always: whether a key is the least so far is a coin toss until a slot has seen many, and
// a branch that is guessed wrong costs more than a store.
func mapGo(slots, hashes []uint32) {
	n := uint64(len(slots))
	for _, h := range hashes {
		p := uint64(h) * n
		s := p >> 32
		slots[s] = min(slots[s], uint32(p)>>2)
	}
}

func mapAgainGo(slots, hashes []uint32, round uint32) {
	n := uint64(len(slots))
	for _, h := range hashes {
		p := uint64(h*fastPoint+round) * n
		s := p >> 32
		slots[s] = min(slots[s], 1<<30|uint32(p)>>2)
	}
}

func belowGo(hashes []uint32, count, limit uint32) int {
	kept := 0
	for _, h := range hashes {
		if h*count < limit {
			hashes[kept] = h
			kept++
		}
	}
	return kept
}

func openAgainGo(dst, slots, hashes []uint32, round uint32) int {
	n, kept := uint64(len(slots)), 0
	for _, h := range hashes {
		dst[kept] = h
		if slots[uint64(h*fastPoint+round)*n>>32] >= 1<<30 {
			kept++
		}
	}
	return kept
}

func gatherEmptyGo(a, b, slots, allA, allB []uint32) int {
	n := 0
	for j, v := range slots {
		if v == emptySlot {
			a[n], b[n] = allA[j], allB[j]
			n++
		}
	}
	return n
}

func fillEmptyGo(slots, least []uint32) {
	for j, v := range slots {
		if v == emptySlot {
			slots[j] = 1<<31 | least[0]>>1
			least = least[1:]
		}
	}
}
