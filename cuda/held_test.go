//go:build cuda

package cuda_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// Texts stay where they were signed, make room for what is signed next, go down to disk, and are read back as they were; batches that
// do not fit are held in pieces. Signatures are right all the while.
func TestHeld(t *testing.T) {
	for seed := range 6 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := openGPU(t, cudatest.Sim(t, fmt.Sprintf("seed=%d", seed)), cuda.GPUOptions{PoolSize: 160 << 10, PinnedSize: 1 << 20})
			limits := cuda.StoreOptions{SpillMemoryLimit: []int64{-1, 100 << 10, 20 << 10}[seed%3], PinnedLimit: 40 << 10, HostLimit: 30 << 10, Dir: t.TempDir()}
			must(t, g.Hold(limits))
			b, err := g.NewBackend(lsh.Params{Sketch: lsh.Fast, NumBands: 2, MinhashesPerBand: 3, CharNgrams: 5, Seed: 1})
			must(t, err)
			type part struct {
				first, rows, at int
				item            *mem.Item
			}
			var parts [][]part
			var columns []*mem.Strings
			for n := range 8 {
				rows := 9 + n*(1-seed%2)
				if n == 6 {
					rows = 70 // more than there is memory for
				}
				c, texts := column(t, rows, 1500+200*n)
				keys, err := mem.Host().Alloc(b.Params().BandKeyBytes(c.Rows))
				must(t, err)
				var held []part
				f, err := b.(lsh.Holder).StartHeld(t.Context(), c, nil, keys, int64(n), func(first, rows int, item *mem.Item, at int) {
					held = append(held, part{first, rows, at, item})
				})
				must(t, err, f.Wait(t.Context()))
				r, err := lsh.NewReference(b.Params())
				must(t, err)
				for i, text := range texts {
					for band, want := range r.BandKeys(r.Sign([]byte(text))) {
						if got := mem.Uint64s(keys)[band*c.Rows+i]; got != want {
							t.Fatalf("batch %d, text %d, band %d: %#x, want %#x", n, i, band, got, want)
						}
					}
				}
				keys.Release()
				parts, columns = append(parts, held), append(columns, c)
			}
			for n, held := range parts {
				off, rows := columns[n].OffsetValues(), 0
				for _, p := range held {
					if p.first != rows {
						t.Fatalf("batch %d: a piece begins at row %d, and not at %d", n, p.first, rows)
					}
					rows += p.rows
					want := columns[n].Data.Bytes()[off[p.first]:off[rows]]
					got, err := mem.Host().Alloc(len(want))
					must(t, err, p.item.Read(t.Context(), got, p.at))
					if !bytes.Equal(got.Bytes(), want) {
						t.Errorf("batch %d: rows from %d on are not what they were, in tier %s", n, p.first, p.item.Tier())
					}
					got.Release()
					p.item.Drop()
				}
				if rows != columns[n].Rows {
					t.Errorf("batch %d: %d of %d rows are held", n, rows, columns[n].Rows)
				}
			}
			s := g.Stats()
			if s.Store.Into(mem.TierPinned) == 0 || seed%3 > 0 && s.Store.Peak[mem.TierDisk] == 0 || s.Shrunk == 0 || s.Processor > 0 || s.Store.Peak[mem.TierPinned] > 40<<10 || s.Store.Peak[mem.TierHost] > 30<<10 || s.NotHeld > 0 {
				t.Errorf("%+v", s)
			}
			must(t, b.Close())
		})
	}
}
