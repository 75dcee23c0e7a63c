package dedup

import (
	"math"
	"math/bits"
)

// A table of groups may turn out too large for an actor's share of memory: where the partitions of a shuffle are as many
// as inserting allows, or one of them got more than its part. Then the groups are taken in several passes over the
// partition, each of a range of hashes that fits. How many passes are needed shows only in passing: when the table
// is full the range is halved and what lies outside is dropped, to be found by a later pass.

// hashRange is the range of hashes of a pass, both ends included.
type hashRange struct{ first, last uint64 }

func allHashes() hashRange { return hashRange{0, math.MaxUint64} }

func (r hashRange) has(h uint64) bool { return h-r.first <= r.last-r.first }

// halve leaves the upper half to a later pass. It reports false if the range is one hash.
func (r *hashRange) halve() bool {
	if r.first == r.last {
		return false
	}
	r.last = r.first + (r.last-r.first)/2
	return true
}

// next moves on to what is left after this pass, and reports whether there is anything.
func (r *hashRange) next() bool {
	if r.last == math.MaxUint64 {
		return false
	}
	r.first, r.last = r.last+1, math.MaxUint64
	return true
}

// passHash spreads keys over the ranges of passes, whatever bits those of one partition share.
func passHash(key uint64) uint64 {
	hi, lo := bits.Mul64(key^0x9e3779b97f4a7c15, 0xd1342543de82ef95)
	hi, lo = bits.Mul64(hi^lo^0x2545f4914f6cdd1d, 0xaf251af3b0f025b5)
	return hi ^ lo
}

// groupTableBytes is the memory of one entry of the map of smallest, at worst: 32 bytes at a load of 7/16.
const groupTableBytes = 72

// smallest finds the pi-smallest ref of every key in a partition, with at most limit keys in memory. scan calls its
// argument for every row of the partition, as often as it is asked to; emit is then called for every row with the
// smallest ref of its key. watch is told the keys held.
func smallest[K comparable](
	limit int, hash func(K) uint64, scan func(row func(K, ref) error) error, emit func(k K, r, least ref) error, watch func(keys int),
) error {
	var least map[K]ref
	for in := allHashes(); ; {
		least = make(map[K]ref, len(least))
		err := scan(func(k K, r ref) error {
			if !in.has(hash(k)) {
				return nil
			}
			if old, ok := least[k]; ok && !r.before(old) {
				return nil
			}
			least[k] = r
			for len(least) > limit && in.halve() {
				for k := range least {
					if !in.has(hash(k)) {
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
		err = scan(func(k K, r ref) error {
			if !in.has(hash(k)) {
				return nil
			}
			return emit(k, r, least[k])
		})
		if err != nil || !in.next() {
			return err
		}
	}
}
