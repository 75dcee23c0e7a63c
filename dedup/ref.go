package dedup

import "cmp"

// ref names a document and places it in pi, the order in which documents are preferred: ascending by keep
// key, then by ordinal. Where Keep is "first" all keep keys are 0.
type ref struct {
	keep uint64
	ord  uint64
}

// before reports whether a comes before b in pi.
func (a ref) before(b ref) bool {
	return a.keep < b.keep || a.keep == b.keep && a.ord < b.ord
}

func compareRefs(a, b ref) int {
	if c := cmp.Compare(a.keep, b.keep); c != 0 {
		return c
	}
	return cmp.Compare(a.ord, b.ord)
}

// refCodec writes refs as words of a record: the ordinal alone where keep keys say nothing.
type refCodec struct{ withKeep bool }

func (c refCodec) words() int {
	if c.withKeep {
		return 2
	}
	return 1
}

func (c refCodec) append(dst []uint64, r ref) []uint64 {
	if c.withKeep {
		dst = append(dst, r.keep)
	}
	return append(dst, r.ord)
}

// read returns the first ref of w and what follows it.
func (c refCodec) read(w []uint64) (ref, []uint64) {
	if c.withKeep {
		return ref{w[0], w[1]}, w[2:]
	}
	return ref{0, w[0]}, w[1:]
}
