//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"sync"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// GPUOptions says how much memory of a GPU, and beside it of the host, is taken at once and dealt out.
type GPUOptions struct {
	// PoolSize is the size in bytes of the pool of device memory: 0 takes 90 % of what is free, and less than 0 makes none, so that
	// every buffer is a call of the driver. It is RapidsMPF's and RMM's rmm_pool_size.
	PoolSize int64
	// PinnedSize is the size in bytes of the pool of pinned memory, and all pinned memory that there is: what does not fit is done
	// in smaller pieces. 0 makes one of 64 MiB, and what does not fit is allocated by itself; less than 0 makes none.
	PinnedSize int64
}

const (
	poolShare         = 0.9
	defaultPinnedSize = 64 << 20
)

// GPU is a GPU that is in use, with its kernels and pools: what all that work on it in a process share. It is safe for concurrent
// use. Kernels and backends are closed before it.
type GPU struct {
	c                       *Context
	module                  *Module
	device, pinned          mem.Allocator
	devicePool, pinnedPool  *mem.Pool
	scanReduce, scanSums    *Kernel
	scanApply, pieces, init *Kernel
	bandKeys                *Kernel
	windowSlots, jaccard    *Kernel
	texts                   *textAlloc
	store                   *Store // nil if nothing is held
	mu                      sync.Mutex
	sign                    map[string]*Kernel
	counts                  GPUStats
}

// GPUStats says what a [GPU] was used for.
type GPUStats struct {
	Batches    int64          `json:"batches"`   // pieces of columns that were signed
	Documents  int64          `json:"documents"` // in them
	Shrunk     int64          `json:"shrunk"`    // times that a piece was made smaller for lack of memory
	Processor  int64          `json:"processor"` // documents too large for the GPU's memory, which the processor signed
	Uploaded   int64          `json:"uploaded"`  // bytes
	Pinned     int64          `json:"pinned"`    // bytes of texts that were read into pinned memory, and so not copied once more
	Returned   int64          `json:"returned"`  // bytes
	NotHeld    int64          `json:"not_held"`  // pieces that were to be held, and for which there was no room in any tier
	Compared   ComparedStats  `json:"compared"`
	Pool       mem.PoolStats  `json:"pool"`        // of device memory, zero without a pool
	PinnedPool mem.PoolStats  `json:"pinned_pool"` // of pinned memory, zero without a pool
	Store      mem.StoreStats `json:"-"`           // of what is held, see [GPU.Hold]
}

// ComparedStats says what pairs a GPU compared.
type ComparedStats struct {
	Texts    int64 `json:"texts"` // whose windows were made ready
	Pairs    int64 `json:"pairs"`
	Launches int64 `json:"launches"`
}

// OpenGPU begins to use the GPU with an index of [Driver.Devices]. The caller closes it.
func (d *Driver) OpenGPU(index int, o GPUOptions) (_ *GPU, err error) {
	image := []byte("the simulated driver has kernels of its own")
	if !d.simulated {
		if image, err = Fatbin(); err != nil {
			return nil, err
		}
	}
	c, err := d.NewContext(index)
	if err != nil {
		return nil, err
	}
	g := &GPU{c: c, sign: make(map[string]*Kernel)}
	if err := g.start(image, o); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *GPU) start(image []byte, o GPUOptions) (err error) {
	if g.module, err = g.c.Load(image); err != nil {
		return err
	}
	for name, k := range map[string]**Kernel{
		"dv_scan_reduce": &g.scanReduce, "dv_scan_sums": &g.scanSums, "dv_scan_apply": &g.scanApply, "dv_pieces": &g.pieces,
		"dv_sign_init": &g.init, "dv_band_keys": &g.bandKeys, "dv_window_slots": &g.windowSlots, "dv_jaccard": &g.jaccard,
	} {
		if *k, err = g.module.Kernel(name, 0); err != nil {
			return err
		}
	}
	g.device, g.pinned = g.c.DeviceAllocator(), g.c.PinnedAllocator()
	if o.PoolSize >= 0 {
		size := o.PoolSize
		if size == 0 {
			free, _, err := g.c.Memory()
			if err != nil {
				return err
			}
			size = int64(float64(free) * poolShare)
		}
		if g.devicePool, err = mem.NewPool(g.device, size); err != nil {
			return fmt.Errorf("cuda: the pool of GPU %d: %w", g.c.device.Index, err)
		}
		g.device = g.devicePool
	}
	if o.PinnedSize >= 0 {
		size := o.PinnedSize
		if size == 0 {
			size = defaultPinnedSize
		}
		// Without a pool every buffer is a call: slower, and no reason to fail.
		if p, err := mem.NewPool(g.pinned, size); err == nil {
			if g.pinnedPool = p; o.PinnedSize > 0 {
				g.pinned = p
			} else {
				g.pinned = poolFirst{p, g.pinned}
			}
		} else if !errors.Is(err, mem.ErrNoMemory) {
			return err
		}
	}
	g.texts = &textAlloc{pinned: g.pinned, most: defaultPinnedSize / 2}
	if g.pinnedPool != nil {
		g.texts.pinned, g.texts.most = g.pinnedPool, g.pinnedPool.Stats().Size/2
	}
	return nil
}

// Hold has backends that are made from now on be an [lsh.Holder]: what they hold is in a store with these options, which makes
// room for whoever needs the GPU's memory. Of pinned memory it takes a quarter at most, and of no tier more than of the GPU, unless
// o says otherwise. It is called once at most.
func (g *GPU) Hold(o StoreOptions) error {
	limit, err := g.spillLimit(o.SpillMemoryLimit)
	if err != nil {
		return err
	}
	if o.PinnedLimit == 0 {
		o.PinnedLimit = g.texts.most / 2
	}
	if limit > 0 {
		o.PinnedLimit, o.HostLimit = min(o.PinnedLimit, limit), min(o.HostLimit, limit)
	}
	g.store, err = g.NewStore(o)
	return err
}

// Holding reports whether [GPU.Hold] was called.
func (g *GPU) Holding() bool { return g.store != nil }

// BatchBytes is how much text, in bytes, suits the GPU for all the batches that are under way on it: as much as is read into pinned
// memory, and leaves room for what is made of it.
func (g *GPU) BatchBytes() int64 {
	all := g.c.device.MemoryTotal
	if g.devicePool != nil {
		all = g.devicePool.Stats().Size
	}
	return min(g.texts.most, all/4)
}

// alloc allocates device memory for work. What is held makes room for it.
func (g *GPU) alloc(n int) (*mem.Buffer, error) {
	if g.store == nil {
		return g.device.Alloc(n)
	}
	b, err := g.store.Alloc(mem.TierDevice, n)
	if err != nil && !errors.Is(err, mem.ErrNoMemory) && !errors.Is(err, ErrBroken) {
		// What is held could not be moved, because the disk is full or the like; that ends nothing but the holding.
		return nil, &mem.NoMemoryError{Need: int64(n), Cause: err}
	}
	return b, err
}

// poolFirst takes from a pool, and elsewhere what the pool has no room for.
type poolFirst struct {
	*mem.Pool
	beside mem.Allocator
}

func (p poolFirst) Alloc(n int) (*mem.Buffer, error) {
	b, err := p.Pool.Alloc(n)
	if errors.Is(err, mem.ErrNoMemory) {
		return p.beside.Alloc(n)
	}
	return b, err
}

// Device describes the GPU.
func (g *GPU) Device() Device { return g.c.device }

// Context returns the GPU's context.
func (g *GPU) Context() *Context { return g.c }

// DeviceAllocator returns the allocator of the GPU's memory, its pool if it has one.
func (g *GPU) DeviceAllocator() mem.Allocator { return g.device }

// PinnedAllocator returns the allocator of pinned memory.
func (g *GPU) PinnedAllocator() mem.Allocator { return g.pinned }

// Broken returns the error after which nothing can be done with the GPU, nil if there was none.
func (g *GPU) Broken() error { return g.c.Broken() }

// Stats returns a snapshot.
func (g *GPU) Stats() GPUStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.counts
	if g.devicePool != nil {
		s.Pool = g.devicePool.Stats()
	}
	if g.pinnedPool != nil {
		s.PinnedPool = g.pinnedPool.Stats()
	}
	if g.store != nil {
		s.Store = g.store.Stats()
	}
	return s
}

func (g *GPU) count(f func(*GPUStats)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(&g.counts)
}

// signKernel returns a kernel that needs more or less shared memory, depending on parameters.
func (g *GPU) signKernel(name string, shared int) (*Kernel, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := fmt.Sprint(name, max(shared, maxStaticShared))
	if k := g.sign[key]; k != nil {
		return k, nil
	}
	k, err := g.module.Kernel(name, shared)
	if err == nil {
		g.sign[key] = k
	}
	return k, err
}

// Close ends the use of the GPU. It fails if something of it is still in use. It may be called again.
func (g *GPU) Close() error {
	if g.c.closed.Load() {
		return nil
	}
	var errs []error
	broken := g.c.Broken() != nil
	if g.store != nil {
		if err := g.store.Close(); err != nil && !broken {
			errs = append(errs, err)
		}
	}
	for _, p := range []*mem.Pool{g.devicePool, g.pinnedPool} {
		if p == nil {
			continue
		}
		if err := p.Close(); err != nil && !broken {
			errs = append(errs, err)
		}
	}
	if g.module != nil {
		if err := g.module.Close(); err != nil && !broken {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, g.c.Close())...)
}

var _ lsh.Kernels = (*Kernels)(nil)
