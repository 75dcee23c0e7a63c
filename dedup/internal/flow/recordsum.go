package flow

import (
	"github.com/dovetail-dedup/dovetail/internal/rowloops"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// RecordSum is the sum of [RecordHash] over records of width words without bytes that lie one after another: the hash of
// a chunk.
func RecordSum(words []uint64, width int) (sum shuffle.Hash) {
	switch width {
	case 2:
		sum.A, sum.B = rowloops.RecordSum2(words)
	case 3:
		sum.A, sum.B = rowloops.RecordSum3(words)
	default:
		for ; len(words) >= width; words = words[width:] {
			sum = sum.Add(RecordHash(words[:width], nil, false))
		}
	}
	return sum
}
