package dedup

import (
	"math/bits"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
)

// unionFind finds connected components among documents. The root of a component is its pi-smallest
// document, so labels do not depend on the order of the pairs. Linking to the smaller root with path halving
// costs O(log n) amortized per operation (Tarjan and van Leeuwen 1984).
type unionFind struct {
	slots  []uint32 // 1 + index of a vertex, 0 if free; the length is a power of two
	ords   []uint64
	keeps  []uint64 // keep keys; nil while all are 0
	parent []uint32
}

// unionFindBytes is the memory for a number of vertices, at worst while the arrays grow.
func unionFindBytes(vertices int64) int64 { return vertices * (8 + 8 + 4 + 4*4) * 2 }

func (u *unionFind) index(r flow.Ref) uint32 {
	if 2*(len(u.ords)+1) > len(u.slots) {
		u.slots = make([]uint32, max(1024, 2*len(u.slots)))
		for i, n := range u.ords {
			u.slots[u.find(n)] = uint32(i + 1)
		}
	}
	slot := u.find(r.Ord)
	if u.slots[slot] == 0 {
		if r.Keep != 0 && u.keeps == nil {
			u.keeps = make([]uint64, len(u.ords))
		}
		u.ords = append(u.ords, r.Ord)
		if u.keeps != nil {
			u.keeps = append(u.keeps, r.Keep)
		}
		u.parent = append(u.parent, uint32(len(u.parent)))
		u.slots[slot] = uint32(len(u.ords))
	}
	return u.slots[slot] - 1
}

func (u *unionFind) find(ord uint64) int {
	mask := len(u.slots) - 1
	hi, lo := bits.Mul64(ord, 0x9e3779b97f4a7c15)
	for slot := int(hi^lo) & mask; ; slot = (slot + 1) & mask {
		if i := u.slots[slot]; i == 0 || u.ords[i-1] == ord {
			return slot
		}
	}
}

func (u *unionFind) root(i uint32) uint32 {
	for u.parent[i] != i {
		u.parent[i] = u.parent[u.parent[i]]
		i = u.parent[i]
	}
	return i
}

func (u *unionFind) at(i uint32) flow.Ref {
	if u.keeps == nil {
		return flow.Ref{Keep: 0, Ord: u.ords[i]}
	}
	return flow.Ref{Keep: u.keeps[i], Ord: u.ords[i]}
}

// union joins the components of two documents.
func (u *unionFind) union(a, b flow.Ref) {
	x := u.root(u.index(a))
	y := u.root(u.index(b))
	switch {
	case x == y:
	case u.at(x).Before(u.at(y)):
		u.parent[y] = x
	default:
		u.parent[x] = y
	}
}

// vertices returns the number of documents seen.
func (u *unionFind) vertices() int { return len(u.ords) }

// label returns document i, in the order they were first seen, and the pi-smallest of its component.
func (u *unionFind) label(i int) (doc, label uint64) {
	return u.ords[i], u.ords[u.root(uint32(i))]
}
