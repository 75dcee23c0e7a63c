package shuffle

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

// OwnerFunc says which rank in [0, size) holds a partition in [0, total). It must be a pure function, the
// same on all ranks.
type OwnerFunc func(part, total, size int) int

// RoundRobin deals partitions out in turn: partition p belongs to rank p mod size.
func RoundRobin(part, _, size int) int { return part % size }

// Contiguous gives every rank a run of neighbouring partitions, as equal in length as can be, in the order
// of the ranks: after a range shuffle, the keys of rank r lie below those of rank r+1.
func Contiguous(part, total, size int) int {
	return int(int64(part) * int64(size) / int64(total))
}

// ownerTable evaluates an owner function for every partition.
func ownerTable(f OwnerFunc, total, size int) ([]int32, error) {
	owners := make([]int32, total)
	for p := range owners {
		o := f(p, total, size)
		if o < 0 || o >= size {
			return nil, fmt.Errorf("shuffle: Owner puts partition %d on rank %d, there are %d ranks", p, o, size)
		}
		owners[p] = int32(o)
	}
	return owners, nil
}

// ownersFingerprint is compared between ranks instead of the functions themselves.
func ownersFingerprint(owners []int32) uint64 {
	h := fnv.New64a()
	var b [4]byte
	for _, o := range owners {
		binary.LittleEndian.PutUint32(b[:], uint32(o))
		h.Write(b[:])
	}
	return h.Sum64()
}
