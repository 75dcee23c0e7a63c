//go:build cuda

package cuda_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
	"github.com/dovetail-dedup/dovetail/mem"
)

// Columns that are written by kernels are held on the GPU, in pinned memory, in ordinary memory and on disk, while the kernels of
// others run, and come back as they were.
func TestStore(t *testing.T) {
	for seed := range 12 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d := cudatest.Sim(t, fmt.Sprintf("seed=%d,memory=2000000", seed))
			g := openGPU(t, d, cuda.GPUOptions{PoolSize: 1 << 20, PinnedSize: 4 << 20})
			m, err := g.Context().Load([]byte("any"))
			must(t, err)
			add, err := m.Kernel("sim_add", 0)
			must(t, err)
			dir := t.TempDir()
			s, err := g.NewStore(cuda.StoreOptions{SpillMemoryLimit: 400 << 10, PinnedLimit: 300 << 10, HostLimit: 300 << 10, Dir: dir})
			must(t, err)
			work, err := g.Context().NewStream()
			must(t, err)
			const n = 100 << 10
			var items []*mem.Item
			for i := range 14 {
				b, err := s.Alloc(mem.TierDevice, n)
				must(t, err, work.Fill(b, 0))
				for range 1 + i%3 {
					must(t, work.Launch(add, 1, 0, uint64(b.DeviceAddr()), n/8, uint64(i)))
				}
				f, err := work.Fence()
				must(t, err)
				it, err := s.Put(b, f, int64(i%5))
				must(t, err)
				items = append(items, it)
				if i%4 == 3 {
					_ = items[i-2].Len()
					_, err := items[i-2].Get(t.Context(), mem.TierDevice)
					must(t, err)
					items[i-2].Done()
				}
			}
			st := s.Stats()
			if st.Held[mem.TierDisk] == 0 || st.Held[mem.TierPinned] > 300<<10 || st.Held[mem.TierHost] > 300<<10 {
				t.Errorf("%+v", st)
			}
			if g.Stats().Pool.Peak > 1<<20 {
				t.Errorf("%+v", g.Stats().Pool)
			}
			for i, it := range items {
				b, err := it.Get(t.Context(), []mem.Tier{mem.TierPinned, mem.TierHost}[i%2])
				must(t, err)
				for at := 0; at < n; at += 8 {
					if got := binary.NativeEndian.Uint64(b.Bytes()[at:]); got != uint64(i*(1+i%3)) {
						t.Fatalf("item %d: word %d is %d", i, at/8, got)
					}
				}
				it.Done()
				it.Drop()
			}
			must(t, work.Close(), m.Close(), s.Close())
			if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
				t.Error(len(files), err)
			}
		})
	}
}

// 80 % of the pool are held unless something else is asked for.
func TestStoreLimits(t *testing.T) {
	g := openGPU(t, cudatest.Sim(t, ""), cuda.GPUOptions{PoolSize: 1 << 20})
	for limit, want := range map[int64]int64{0: 8 * 104857, 300 << 10: 3 * 100 << 10, -1: 10 * 102400} {
		s, err := g.NewStore(cuda.StoreOptions{SpillMemoryLimit: limit})
		must(t, err)
		for range 10 {
			b, err := s.Alloc(mem.TierDevice, 100<<10)
			must(t, err)
			_, err = s.Put(b, nil, 0)
			must(t, err)
		}
		if held := s.Stats().Held[mem.TierDevice]; held > want || held < want-100<<10 {
			t.Errorf("limit %d: %d bytes are held on the GPU", limit, held)
		}
		must(t, s.Close())
	}
}

// What goes wrong with a GPU is an error of whoever needs the item, and everything can be closed.
func TestStoreOfLostGPU(t *testing.T) {
	d, err := cuda.OpenSimulator("seed=1")
	must(t, err)
	g, err := d.OpenGPU(0, cuda.GPUOptions{PoolSize: 1 << 20})
	must(t, err)
	m, err := g.Context().Load([]byte("any"))
	must(t, err)
	add, err := m.Kernel("sim_add", 0)
	must(t, err)
	s, err := g.NewStore(cuda.StoreOptions{})
	must(t, err)
	b, err := s.Alloc(mem.TierDevice, 1000)
	must(t, err)
	it, err := s.Put(b, nil, 0)
	must(t, err)
	work, err := g.Context().NewStream()
	must(t, err)
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	freed, err := g.Context().DeviceAllocator().Alloc(8)
	must(t, err, work.Launch(add, 1, 0, uint64(freed.DeviceAddr()), 1, 1))
	freed.Release()
	_ = work.Synchronize()
	if g.Broken() == nil {
		t.Skip("the kernel ran before")
	}
	if _, err := it.Get(t.Context(), mem.TierHost); !errors.Is(err, cuda.ErrBroken) {
		t.Errorf("%v", err)
	}
	_ = errors.Join(work.Close(), s.Close(), m.Close())
	must(t, g.Close())
}
