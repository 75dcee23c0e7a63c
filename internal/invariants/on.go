//go:build invariants || race

// Package invariants holds checks that are too dear for a release build. They are on in builds with the
// tag invariants and under the race detector, and cost nothing otherwise.
package invariants

// Enabled is true when invariant checks are compiled in.
const Enabled = true

// Mangle overwrites b, so that a reader who kept a slice of released memory reads rubbish at once.
func Mangle(b []byte) {
	const n = 4096 // both ends are enough to be noticed
	if len(b) > 2*n {
		fill(b[:n])
		b = b[len(b)-n:]
	}
	fill(b)
}

func fill(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
