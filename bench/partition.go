package bench

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dovetail-dedup/dovetail/bench/limit"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// partitionWorkload puts rows of two integers into chunks by the hash of the first, ready to be sent, beside copying them.
func partitionWorkload(_ context.Context, e *Env) (*Workload, error) {
	const rowBytes, parts, batchRows = 16, 256, 512 << 10
	rows := 4 << 20
	if e.Quick {
		rows = 1 << 14
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "key", Type: arrow.PrimitiveTypes.Int64}, {Name: "value", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	rng := rand.New(rand.NewPCG(1, 1))
	for range rows {
		b.Field(0).(*array.Int64Builder).Append(rng.Int64())
		b.Field(1).(*array.Int64Builder).Append(rng.Int64())
	}
	batch := b.NewRecordBatch()
	codec, err := columns.NewCodec(schema)
	if err != nil {
		return nil, err
	}
	src, dst := make([]byte, rows*rowBytes), make([]byte, rows*rowBytes)
	const absent = 0xff
	for i := range src {
		src[i] = byte(i % absent)
	}
	limit.Copy(dst, src)
	packed := int64(0)
	var by columns.Partitioning
	partition := func(context.Context) (Sample, error) {
		packed = 0
		took, err := onThread(func() error {
			for from := 0; from < rows; from += batchRows {
				part := batch.NewSlice(int64(from), int64(min(from+batchRows, rows)))
				n, err := pack(codec, &by, part, parts)
				part.Release()
				if err != nil {
					return err
				}
				packed += n
			}
			return nil
		})
		return perCPU(int64(rows*rowBytes), took), err
	}
	return &Workload{
		Name: "partition", Data: fmt.Sprintf("%d rows of two int64, random, in batches of 8 MiB", rows),
		Sides: []Side{
			{Name: "partition", About: "hash, ledger hash, chunks of 256 partitions", Run: partition},
			{Name: "memcpy", About: "copying the rows", Run: func(context.Context) (Sample, error) {
				took, err := onThread(func() error { limit.Copy(dst, src); return nil })
				return perCPU(int64(len(src)), took), err
			}},
			{Name: "read", About: "reading the rows and nothing else", Run: func(context.Context) (Sample, error) {
				took, err := onThread(func() error { limit.Read(dst, absent); return nil })
				return perCPU(int64(len(dst)), took), err
			}},
		},
		Ratios: []Ratio{
			{What: "hash-partition 16-byte rows, P = 256, of memcpy", Of: "partition", By: "memcpy", Unit: PerCPU, Target: Target{AtLeast: 0.4},
				Short: "0.4 is 3.3 ns for a row where copying takes 1.3, and hashing every row for the ledger takes 2.8, moving it 2.9, its chunk a second pass over " +
					"memory; without ledger and chunks the prototype reached 0.48. Huge pages changed nothing (docs/design/20261127-grouping.md)",
				Note: "with the hash of every row for the ledger, 128 bits"},
			{What: "hash-partition 16-byte rows, P = 256, of reading", Of: "partition", By: "read", Unit: PerCPU},
		},
		Quality: func(context.Context) (string, error) {
			return fmt.Sprintf("%d of %d rows in chunks", packed, rows), nil
		},
		Close: batch.Release,
	}, nil
}

// pack makes chunks of the rows of each partition and drops them. It returns the number of rows.
func pack(codec *columns.Codec, p *columns.Partitioning, batch arrow.RecordBatch, parts int) (rows int64, err error) {
	if err := p.Hash(batch, []int{0}, parts, 0); err != nil {
		return 0, err
	}
	for chunk, err := range codec.Pack(batch, p, mem.Host().Alloc, 1<<30) {
		if err != nil {
			return 0, err
		}
		rows += chunk.Rows
		chunk.Release()
	}
	return rows, nil
}
