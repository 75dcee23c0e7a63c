package shuffle_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"sync"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

// BenchmarkInproc moves chunks from every rank to its neighbour. The rate counts the bytes of all ranks.
// Compare it with BenchmarkLimit, which does to one core's worth of bytes what must be done to each: a
// checksum before sending and one after.
func BenchmarkInproc(b *testing.B) {
	for _, ranks := range []int{2, 4} {
		for _, size := range []int{256, 4 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("ranks=%d/chunk=%d", ranks, size), func(b *testing.B) { benchmarkInproc(b, ranks, size) })
		}
	}
}

func benchmarkInproc(b *testing.B, ranks, size int) {
	ctx := context.Background()
	buf, err := mem.Host().Alloc(size)
	if err != nil {
		b.Fatal(err)
	}
	defer buf.Release()
	clear(buf.Bytes())
	ss := make([]*shuffle.Shuffler, ranks)
	for r, t := range inproc.New(ranks, inproc.Options{}) {
		c, err := shuffle.NewCommunicator(t)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		if ss[r], err = shuffle.New(shuffle.Options{Comm: c, TotalParts: ranks}); err != nil {
			b.Fatal(err)
		}
		defer ss[r].Close()
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for r, s := range ss {
		wg.Go(func() {
			in := s.Begin(uint64(r), 0)
			c := shuffle.Chunk{Partition: (r + 1) % ranks, Rows: 1, Meta: []byte("meta")}
			for range (b.N + ranks - 1 - r) / ranks {
				c.Data = buf.Retain() // the data is only read, so all chunks can share it
				if err := in.Insert(ctx, c); err != nil {
					b.Error(err)
					return
				}
			}
			if err := in.Commit(ctx); err != nil {
				b.Error(err)
			}
			if err := s.InsertFinished(ctx); err != nil {
				b.Error(err)
			}
			if err := s.Wait(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

// BenchmarkLimit measures the bounds of BenchmarkInproc: two checksums of a chunk, and a copy and two
// checksums, on one core. Two cores do twice as much.
func BenchmarkLimit(b *testing.B) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, size := range []int{256, 64 << 10, 1 << 20} {
		src, dst := make([]byte, size), make([]byte, size)
		b.Run(fmt.Sprintf("2crc/chunk=%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				crc32.Checksum(src, table)
				crc32.Checksum(src, table)
			}
		})
		b.Run(fmt.Sprintf("copy+2crc/chunk=%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				crc32.Checksum(src, table)
				copy(dst, src)
				crc32.Checksum(dst, table)
			}
		})
	}
}
