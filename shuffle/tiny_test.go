package shuffle_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Very many chunks of a few bytes stay inside of a budget that their entries alone would exceed several times; they
// come back complete and in order, and those of an aborted attempt do not.
func TestTinyChunks(t *testing.T) {
	const limit, parts, each = 4 << 20, 64, 400
	for _, n := range []int{1, 2} {
		budget := mem.NewBudget(limit)
		ctx, ss := ranks(t, n, shuffle.Options{TotalParts: parts, Budget: budget})
		// Tasks arrive in an order that is not that of their numbers, and each has an attempt that does not count.
		for _, task := range []uint64{2, 0, 1} {
			s := ss[int(task)%n]
			bad, good := s.Begin(task, 0), s.Begin(task, 1)
			for k := range each {
				for part := range parts {
					for _, in := range []*shuffle.Inserter{bad, good} {
						if in == bad && k%10 > 0 {
							continue
						}
						b, err := s.Alloc(ctx, 8)
						if err != nil {
							t.Fatal(err)
						}
						binary.LittleEndian.PutUint64(b.Bytes(), task<<32|uint64(k))
						hash := shuffle.Hash{A: task, B: uint64(k)}
						if err := in.Insert(ctx, shuffle.Chunk{Partition: part, Rows: 1, Hash: hash, Meta: []byte{byte(k), byte(part)}, Data: b}); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			if err := bad.Abort(); err != nil {
				t.Fatal(err)
			}
			if err := good.Commit(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range ss {
			if err := s.InsertFinished(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range ss {
			if err := s.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		if m.HeapAlloc > 3*limit {
			t.Errorf("%d ranks: %d bytes on the heap, the limit is %d", n, m.HeapAlloc, limit)
		}
		for part := range parts {
			s := ss[part%n]
			var next uint64
			check := func(c shuffle.Chunk) {
				want := next/each<<32 | next%each
				if got := binary.LittleEndian.Uint64(c.Data.Bytes()); got != want || c.Attempt != 1 || c.Meta[0] != byte(want) || int(c.Meta[1]) != part {
					t.Fatalf("partition %d: chunk %d holds %#x of attempt %d", part, next, got, c.Attempt)
				}
				next++
			}
			if part%3 == 0 {
				chunks, err := s.Extract(ctx, part)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range chunks {
					check(c)
				}
				shuffle.ReleaseAll(chunks)
			} else {
				p, err := s.Open(part)
				if err != nil {
					t.Fatal(err)
				}
				for c, err := range p.Chunks(ctx) {
					if err != nil {
						t.Fatal(err)
					}
					check(c)
				}
				p.Close()
			}
			if next != 3*each {
				t.Fatalf("partition %d: %d chunks, want %d", part, next, 3*each)
			}
		}
		if s := budget.Stats(); s.Peak > limit+limit/8 {
			t.Errorf("%d ranks: %d bytes at most, the limit is %d", n, s.Peak, limit)
		}
		for _, s := range ss {
			s.Close()
		}
		if s := budget.Stats(); s.Used != 0 {
			t.Errorf("%d ranks: %d bytes are left", n, s.Used)
		}
	}
}

// A list of chunks that cannot be kept within the limit ends the operation with what to do about it.
func TestTooManyChunks(t *testing.T) {
	budget := mem.NewBudget(4 << 20)
	ctx, ss := ranks(t, 1, shuffle.Options{TotalParts: 1, Budget: budget})
	s := ss[0]
	var err error
	for k := 0; k < 100_000 && err == nil; k++ {
		err = s.Insert(ctx, shuffle.Chunk{Meta: []byte{1, byte(k)}}) // without data there is nothing to spill
	}
	if !errors.Is(err, shuffle.ErrAborted) || !errors.Is(err, mem.ErrNoMemory) || !strings.Contains(err.Error(), "larger chunks") {
		t.Error(err)
	}
	s.Close()
	if u := budget.Stats().Used; u != 0 {
		t.Errorf("%d bytes are left", u)
	}
}

// A run whose headers changed on disk is found out.
func TestRunDamage(t *testing.T) {
	ctx, ss := ranks(t, 1, shuffle.Options{TotalParts: 1, Budget: mem.NewBudget(4 << 20)})
	s := ss[0]
	for range 9 {
		fill(t, ctx, s, 0, 2) // so the middle of the file is a header
	}
	if err := s.InsertFinished(ctx); err != nil {
		t.Fatal(err)
	}
	s.Spill(1 << 20)
	if n, err := s.DamageSpill(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := s.Open(0); !errors.Is(err, shuffle.ErrSpill) || !errors.Is(err, shuffle.ErrCorrupt) || !strings.Contains(err.Error(), "partition 0") {
		t.Error(err)
	}
}
