package columns

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
)

// Partitioning says which rows of one batch belong to which partition.
type Partitioning struct {
	order  []int32 // rows, by partition and then as in the batch
	bounds []int   // partition p has order[bounds[p]:bounds[p+1]]
}

// Parts returns the number of partitions.
func (p *Partitioning) Parts() int { return len(p.bounds) - 1 }

// Rows returns the number of rows of a partition.
func (p *Partitioning) Rows(part int) int { return p.bounds[part+1] - p.bounds[part] }

// HashPartition assigns every row of a batch to one of parts partitions by the hash of its key columns: h
// mod parts, where h is that of [HashRows]. Rows of one partition keep their order.
func HashPartition(batch arrow.RecordBatch, keys []int, parts int, seed uint32) (*Partitioning, error) {
	if parts < 1 || parts > math.MaxInt32 || len(keys) == 0 {
		return nil, fmt.Errorf("columns: %d partitions by %d key columns", parts, len(keys))
	}
	hashes, err := HashRows(batch, keys, seed)
	if err != nil {
		return nil, err
	}
	n := uint32(parts)
	if n&(n-1) == 0 {
		for i := range hashes {
			hashes[i] &= n - 1
		}
	} else {
		for i := range hashes {
			hashes[i] %= n
		}
	}
	return group(hashes, parts), nil
}

// group sorts rows by partition, by counting.
func group(part []uint32, parts int) *Partitioning {
	p := &Partitioning{order: make([]int32, len(part)), bounds: make([]int, parts+1)}
	for _, k := range part {
		p.bounds[k+1]++
	}
	for k := range parts {
		p.bounds[k+1] += p.bounds[k]
	}
	next := make([]int, parts)
	copy(next, p.bounds)
	for row, k := range part {
		p.order[next[k]] = int32(row)
		next[k]++
	}
	return p
}

// InOrder is a partitioning into one partition, with the given rows in the given order. It serves to pick and to sort rows.
func InOrder(rows []int32) *Partitioning {
	return &Partitioning{order: rows, bounds: []int{0, len(rows)}}
}

// SplitAt cuts a batch of rows rows at the given positions, which must ascend and lie in [0, rows]:
// partition 0 gets the rows before the first, partition len(at) those from the last on. It serves range
// shuffles of sorted data.
func SplitAt(rows int64, at []int64) (*Partitioning, error) {
	if rows < 0 || rows > math.MaxInt32 {
		return nil, fmt.Errorf("columns: batch of %d rows", rows)
	}
	p := &Partitioning{order: make([]int32, rows), bounds: make([]int, 1, len(at)+2)}
	for i := range p.order {
		p.order[i] = int32(i)
	}
	last := int64(0)
	for i, pos := range at {
		if pos < last || pos > rows {
			return nil, fmt.Errorf("columns: split %d at row %d, must be in [%d, %d]", i, pos, last, rows)
		}
		p.bounds = append(p.bounds, int(pos))
		last = pos
	}
	p.bounds = append(p.bounds, int(rows))
	return p, nil
}
