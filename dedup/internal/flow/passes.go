package flow

import (
	"math"
	"math/bits"
)

// A table of groups may turn out too large for an actor's share of memory: where the partitions of a shuffle are as many
// as inserting allows, or one of them got more than its part. Then the groups are taken in several passes over the
// partition, each of a range of hashes that fits. How many passes are needed shows only in passing: when the table
// is full the range is halved and what lies outside is dropped, to be found by a later pass.

// HashRange is the range of hashes of a pass, both ends included.
type HashRange struct{ first, last uint64 }

// AllHashes is the range of the first pass.
func AllHashes() HashRange { return HashRange{0, math.MaxUint64} }

// Has reports whether h is in the range.
func (r HashRange) Has(h uint64) bool { return h-r.first <= r.last-r.first }

// All reports whether the range is that of all hashes, so that none need be computed.
func (r HashRange) All() bool { return r == AllHashes() }

// Halve leaves the upper half to a later pass. It reports false if the range is one hash.
func (r *HashRange) Halve() bool {
	if r.first == r.last {
		return false
	}
	r.last = r.first + (r.last-r.first)/2
	return true
}

// Next moves on to what is left after this pass, and reports whether there is anything.
func (r *HashRange) Next() bool {
	if r.last == math.MaxUint64 {
		return false
	}
	r.first, r.last = r.last+1, math.MaxUint64
	return true
}

// PassHash spreads keys over the ranges of passes, whatever bits those of one partition share.
func PassHash(key uint64) uint64 {
	hi, lo := bits.Mul64(key^0x9e3779b97f4a7c15, 0xd1342543de82ef95)
	hi, lo = bits.Mul64(hi^lo^0x2545f4914f6cdd1d, 0xaf251af3b0f025b5)
	return hi ^ lo
}

// GroupTableBytes is the memory of one entry of the map of [Smallest], at worst: 32 bytes at a load of 7/16.
const GroupTableBytes = 72

// Smallest finds the pi-smallest ref of every key in a partition, with at most limit keys in memory. scan calls its
// argument for every row of the partition, as often as it is asked to; emit is then called for every row with the
// smallest ref of its key. watch is told the keys held.
func Smallest[K comparable](
	limit int, hash func(K) uint64, scan func(row func(K, Ref) error) error, emit func(k K, r, least Ref) error, watch func(keys int),
) error {
	var least map[K]Ref
	for in := AllHashes(); ; {
		least = make(map[K]Ref, len(least))
		err := scan(func(k K, r Ref) error {
			if !in.Has(hash(k)) {
				return nil
			}
			if old, ok := least[k]; ok && !r.Before(old) {
				return nil
			}
			least[k] = r
			for len(least) > limit && in.Halve() {
				for k := range least {
					if !in.Has(hash(k)) {
						delete(least, k)
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		watch(len(least))
		err = scan(func(k K, r Ref) error {
			if !in.Has(hash(k)) {
				return nil
			}
			return emit(k, r, least[k])
		})
		if err != nil || !in.Next() {
			return err
		}
	}
}
