package columns

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
)

// How libcudf hashes nested keys, and where this package has to say more than libcudf does.
//
// A nested key is taken apart into chains, one per leaf, in order: the first leaf below a struct keeps the struct above
// it, later ones do not; lists stay above every leaf below them. A struct<a, list<struct<b, c>>> becomes
// struct-a, list-struct-b and list-c. Each chain is then a key column of its own. A chain that is no bare leaf is hashed
// from h = 0 by combining, level by level from the top: for each element the row has at that level, 0 if it is valid and
// 2^32-1 if not; for each list among them, the MurmurHash3 of its length (4 bytes, seed 0); and at the end, for each
// element of the leaf, its hash. A null struct makes everything below it null, and a null list is empty.
//
// libcudf leaves the validities out where no key column of the whole batch has a null, so there the partition of a row
// depends on the other rows of its batch. A partition must be a function of the row, so here they are always combined,
// which is what libcudf does for a batch with nulls.
//
// libcudf has no unions, fixed-size lists, list views or run ends. Lists of all kinds and maps (lists of structs of key
// and value) are lists, run ends are their values, and a union is a leaf: the hash of its type code (1 byte), combined
// with the hash of each chain of the value.

// level is one step of a chain, over one array.
type level struct {
	n    *node
	arr  arrow.Array
	null func(i int) bool // with what the structs above make null
	leaf func(i int) uint32
}

// chains takes a column apart. above are the levels that its first chain keeps, lists those that all keep; null is
// what the structs right above make null.
func chains(n *node, arr arrow.Array, above, lists []level, null func(int) bool, seed uint32) [][]level {
	arr = storage(arr)
	own := null
	if n.shape.valid() && arr.NullN() > 0 {
		own = func(i int) bool { return arr.IsNull(i) || null(i) }
	}
	l := level{n: n, arr: arr, null: own}
	kids := children(n, arr)
	switch n.shape {
	case shapeStruct:
		if len(kids) == 0 {
			return [][]level{append(above[:len(above):len(above)], l)}
		}
		var out [][]level
		for i, kid := range kids {
			prefix := lists
			if i == 0 {
				prefix = append(above[:len(above):len(above)], l)
			}
			out = append(out, chains(n.kids[i], kid, prefix, lists, own, seed)...)
		}
		return out
	case shapeList, shapeFixedList, shapeListView:
		never := func(int) bool { return false }
		return chains(n.kids[0], kids[0], append(above[:len(above):len(above)], l), append(lists[:len(lists):len(lists)], l), never, seed)
	}
	value := leafHash(n, arr, seed)
	l.leaf = func(i int) uint32 {
		if own(i) {
			return math.MaxUint32
		}
		return value(i)
	}
	return [][]level{append(above[:len(above):len(above)], l)}
}

// keyHashes returns a function for each key column that a column counts as.
func keyHashes(n *node, col arrow.Array, seed uint32) []func(row int) uint32 {
	var out []func(int) uint32
	for _, chain := range chains(n, col, nil, nil, func(int) bool { return false }, seed) {
		if len(chain) == 1 && chain[0].leaf != nil {
			if l := chain[0]; l.arr.NullN() == 0 && l.n.shape != shapeNull {
				out = append(out, leafHash(l.n, l.arr, seed)) // without looking for nulls
			} else {
				out = append(out, l.leaf)
			}
			continue
		}
		var now, next []int
		out = append(out, func(row int) uint32 {
			h := uint32(0)
			now = append(now[:0], row)
			for _, l := range chain {
				if l.leaf != nil {
					for _, i := range now {
						h = combine(h, l.leaf(i))
					}
					break
				}
				for _, i := range now {
					v := uint32(0)
					if l.null(i) {
						v = math.MaxUint32
					}
					h = combine(h, v)
				}
				if l.n.shape == shapeStruct {
					continue
				}
				next = next[:0]
				for _, i := range now {
					from, to := 0, 0
					if !l.null(i) {
						from, to = listSpan(l.n, l.arr, i)
					}
					h = combine(h, finish3(round3(0, uint32(to-from)), 4))
					for ; from < to; from++ {
						next = append(next, from)
					}
				}
				now, next = next, now
			}
			return h
		})
	}
	return out
}

// combine is boost's hash_combine.
func combine(h, x uint32) uint32 { return h ^ (x + 0x9e3779b9 + h<<6 + h>>2) }

// unionHash hashes the elements of a union.
func unionHash(n *node, arr arrow.Array, seed uint32) func(i int) uint32 {
	codes, offsets := codesOf(arr)
	kids := children(n, arr)
	hashes := make([][]func(int) uint32, len(kids))
	for k, kid := range kids {
		hashes[k] = keyHashes(n.kids[k], kid, seed)
	}
	return func(i int) uint32 {
		h := murmur3([]byte{byte(codes[i])}, seed)
		at := i
		if offsets != nil {
			at = int(offsets[i])
		}
		for _, f := range hashes[n.child[codes[i]]] {
			h = combine(h, f(at))
		}
		return h
	}
}

// encodedHash hashes the elements of a dictionary or a run-end encoded array, each value once.
func encodedHash(n *node, arr arrow.Array, seed uint32) func(i int) uint32 {
	values := children(n, arr)[0]
	hashes := make([]uint32, values.Len())
	for k, f := range keyHashes(n.kids[0], values, seed) {
		for i := range hashes {
			if k == 0 {
				hashes[i] = f(i)
			} else {
				hashes[i] = combine(hashes[i], f(i))
			}
		}
	}
	index := encodedIndex(arr)
	return func(i int) uint32 { return hashes[index(i)] }
}
