package flow

import "cmp"

// Ref names a document and places it in pi, the order in which documents are preferred: ascending by keep
// key, then by ordinal. Where Keep is "first" all keep keys are 0.
type Ref struct {
	Keep uint64
	Ord  uint64
}

// Before reports whether a comes before b in pi.
func (a Ref) Before(b Ref) bool {
	return a.Keep < b.Keep || a.Keep == b.Keep && a.Ord < b.Ord
}

// CompareRefs compares by pi, for sorting.
func CompareRefs(a, b Ref) int {
	if c := cmp.Compare(a.Keep, b.Keep); c != 0 {
		return c
	}
	return cmp.Compare(a.Ord, b.Ord)
}

// RefCodec writes refs as words of a record: the ordinal alone where keep keys say nothing.
type RefCodec struct{ WithKeep bool }

// Words returns the number of words of a ref.
func (c RefCodec) Words() int {
	if c.WithKeep {
		return 2
	}
	return 1
}

// Append appends the words of r to dst.
func (c RefCodec) Append(dst []uint64, r Ref) []uint64 {
	if c.WithKeep {
		dst = append(dst, r.Keep)
	}
	return append(dst, r.Ord)
}

// Read returns the first ref of w and what follows it.
func (c RefCodec) Read(w []uint64) (Ref, []uint64) {
	if c.WithKeep {
		return Ref{w[0], w[1]}, w[2:]
	}
	return Ref{0, w[0]}, w[1:]
}
