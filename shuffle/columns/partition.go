package columns

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
)

// Partitioning says which rows of one batch belong to which partition. It is safe for concurrent use but for
// [Partitioning.Hash].
type Partitioning struct {
	bounds []int    // partition p has rows bounds[p] to bounds[p+1], counted by partition and then as in the batch
	part   []uint32 // by row of the batch: its partition; nil if order was given
	once   sync.Once
	order  []int32 // rows, by partition and then as in the batch; see rows
}

// rows returns the rows by partition and then as in the batch. They are sorted when they are first asked for.
func (p *Partitioning) rows() []int32 {
	p.once.Do(func() {
		if p.part == nil {
			return
		}
		p.order = slices.Grow(p.order[:0], len(p.part))[:len(p.part)]
		next := slices.Clone(p.bounds[:p.Parts()])
		for row, k := range p.part {
			p.order[next[k]] = int32(row)
			next[k]++
		}
	})
	return p.order
}

// total is the number of rows.
func (p *Partitioning) total() int { return p.bounds[len(p.bounds)-1] }

// Parts returns the number of partitions.
func (p *Partitioning) Parts() int { return len(p.bounds) - 1 }

// Rows returns the number of rows of a partition.
func (p *Partitioning) Rows(part int) int { return p.bounds[part+1] - p.bounds[part] }

// HashPartition assigns every row of a batch to one of parts partitions by the hash of its key columns: h
// mod parts, where h is that of [HashRows]. Rows of one partition keep their order.
func HashPartition(batch arrow.RecordBatch, keys []int, parts int, seed uint32) (*Partitioning, error) {
	p := new(Partitioning)
	if err := p.Hash(batch, keys, parts, seed); err != nil {
		return nil, err
	}
	return p, nil
}

// Hash makes p what [HashPartition] returns, in the memory that p has: for batch after batch, none of which is still being
// packed by p.
func (p *Partitioning) Hash(batch arrow.RecordBatch, keys []int, parts int, seed uint32) error {
	if parts < 1 || parts > math.MaxInt32 || len(keys) == 0 {
		return fmt.Errorf("columns: %d partitions by %d key columns", parts, len(keys))
	}
	hashes, err := hashRows(p.part, batch, keys, seed)
	if err != nil {
		return err
	}
	n := uint32(parts)
	if n&(n-1) == 0 {
		for i := range hashes {
			hashes[i] &= n - 1
		}
	} else {
		// A remainder by two products: Lemire, Kaser, Kurz 2019, exact for all numbers of 32 bits.
		inverse := math.MaxUint64/uint64(n) + 1
		for i, h := range hashes {
			hi, _ := bits.Mul64(inverse*uint64(h), uint64(n))
			hashes[i] = uint32(hi)
		}
	}
	p.group(hashes, parts)
	return nil
}

// group counts the rows of each partition. It keeps part.
func (p *Partitioning) group(part []uint32, parts int) {
	*p = Partitioning{part: part, bounds: append(p.bounds[:0], make([]int, parts+1)...), order: p.order[:0]}
	counts := p.bounds[1:]
	for _, k := range part {
		counts[k]++
	}
	for k := range parts {
		p.bounds[k+1] += p.bounds[k]
	}
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
