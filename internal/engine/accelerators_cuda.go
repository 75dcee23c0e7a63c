//go:build cuda

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// usual reports whether an error is no reason to tell anyone: there just are no GPUs.
func usual(err error) bool { return errors.Is(err, cuda.ErrNoCUDA) || errors.Is(err, errNone) }

// cudaGPUs are NVIDIA's GPUs, or simulated ones.
type cudaGPUs struct {
	driver *cuda.Driver
	opts   cuda.GPUOptions
	hold   cuda.StoreOptions      // but for its folder
	nvml   *cuda.System           // nil if there is none
	known  map[string]cuda.Device // to NVML, by what identifies; see identity
	index  map[string]int

	mu   sync.Mutex
	open map[string]*cuda.GPU
}

func (a *Accelerators) open(o Options) (err error) {
	g := &cudaGPUs{opts: cuda.GPUOptions{PoolSize: o.PoolSize, PinnedSize: o.PinnedSize}, hold: cuda.StoreOptions{
		SpillMemoryLimit: o.SpillMemoryLimit, HostLimit: o.HostHeld,
	}, index: make(map[string]int), open: make(map[string]*cuda.GPU)}
	if o.Device == Sim {
		sim := []string{fmt.Sprintf("gpus=%d", max(1, o.SimGPUs))}
		if o.Simulation != "" {
			sim = append(sim, o.Simulation)
		}
		g.driver, err = cuda.OpenSimulator(strings.Join(sim, ","))
	} else {
		a.kind = CUDA
		g.driver, err = cuda.OpenDriver()
	}
	if err != nil {
		return err
	}
	devs, err := own(g.driver, o)
	if err != nil {
		return err
	}
	if !g.driver.Simulated() {
		// It knows better than the driver which GPU is lost, and is not needed for anything else.
		g.nvml, _ = cuda.Open()
		g.askNVML()
	}
	a.gpus = g
	for _, d := range devs {
		g.index[d.UUID] = d.Index
		if !o.Lazy {
			if _, err := g.gpu(d.UUID); err != nil {
				if errors.Is(err, cuda.ErrNoKernels) {
					return errors.Join(err, a.Close())
				}
				a.notes = append(a.notes, fmt.Sprintf("GPU %d is left out: %v", d.Index, err))
				continue
			}
		}
		if k, ok := g.known[identity(d.UUID)]; ok {
			d.Index = k.Index // that of nvidia-smi
		}
		a.devices = append(a.devices, Devices(cuda.Inventory{Devices: []cuda.Device{d}})...)
	}
	for err := g.links(); err != nil; err = g.links() { // there are none if they are opened later
		if !a.dropBroken(g) {
			return errors.Join(err, a.Close())
		}
	}
	if len(a.devices) == 0 && len(a.notes) > 0 {
		return fmt.Errorf("no GPU works: %s", strings.Join(a.notes, "; "))
	}
	return nil
}

// Addresses returns where in PCI the GPUs are that [Open] would find, without opening them; none if there are none, or they are simulated.
func Addresses(o Options) (all []string) {
	if o.Device != Auto && o.Device != CUDA {
		return nil
	}
	driver, err := cuda.OpenDriver()
	if err != nil {
		return nil
	}
	devs, _ := own(driver, o) // whoever opens them says what is the matter
	for _, d := range devs {
		all = append(all, d.PCIBusID)
	}
	return all
}

// own returns the devices that this process sees and that are for it.
func own(d *cuda.Driver, o Options) ([]cuda.Device, error) {
	devs, err := d.Devices()
	if err != nil || o.Share == nil {
		return devs, err
	}
	from, to := o.Share(len(devs))
	return devs[from:to], nil
}

// dropBroken leaves out the GPUs that have failed, and reports whether there are any.
func (a *Accelerators) dropBroken(g *cudaGPUs) (dropped bool) {
	a.devices = slices.DeleteFunc(a.devices, func(d executor.Device) bool {
		gpu := g.open[d.UUID]
		if gpu == nil || gpu.Broken() == nil {
			return false
		}
		a.notes = append(a.notes, fmt.Sprintf("GPU %d is left out: %v", d.Index, gpu.Broken()))
		_ = gpu.Close() // what it would say was said
		delete(g.open, d.UUID)
		dropped = true
		return true
	})
	return dropped
}

// links tries the links between the GPUs that are open.
func (g *cudaGPUs) links() error {
	var all []*cuda.GPU
	for _, gpu := range g.open {
		all = append(all, gpu)
	}
	return cuda.TestLinks(all)
}

// gpu returns a GPU that is open, and tried out.
func (g *cudaGPUs) gpu(uuid string) (*cuda.GPU, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gpu := g.open[uuid]; gpu != nil {
		return gpu, nil
	}
	index, ok := g.index[uuid]
	if !ok {
		return nil, fmt.Errorf("engine: there is no GPU %s for this process", uuid)
	}
	gpu, err := g.driver.OpenGPU(index, g.opts)
	if err != nil {
		return nil, err
	}
	if err := gpu.SelfTest(); err != nil {
		return nil, errors.Join(err, gpu.Close())
	}
	g.open[uuid] = gpu
	return gpu, nil
}

func (g *cudaGPUs) backend(p lsh.Params, env *executor.Env) (lsh.Backend, error) {
	gpu, err := g.gpu(env.Device.UUID)
	if err != nil {
		return nil, transient(err)
	}
	if err := g.holding(gpu, env.SpillDir); err != nil {
		return nil, transient(err)
	}
	b, err := gpu.NewBackend(p)
	if err != nil {
		return nil, transient(err)
	}
	return marking{b.(lsh.Holder)}, nil
}

// holding has a GPU hold what later stages want. What is moved to disk goes to dir.
func (g *cudaGPUs) holding(gpu *cuda.GPU, dir string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gpu.Holding() {
		return nil
	}
	o := g.hold
	o.Dir = dir
	err := gpu.Hold(o)
	if errors.Is(err, mem.ErrNoMemory) {
		return nil // then it holds nothing
	}
	return err
}

func (g *cudaGPUs) pairs(charNgrams int, env *executor.Env) (lsh.PairBackend, error) {
	gpu, err := g.gpu(env.Device.UUID)
	if err != nil {
		return nil, transient(err)
	}
	p, err := gpu.NewPairs(charNgrams)
	if err != nil {
		return nil, transient(err)
	}
	return markingPairs{p}, nil
}

func (g *cudaGPUs) batchBytes() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	least := int64(0)
	for _, gpu := range g.open {
		if n := gpu.BatchBytes(); least == 0 || n < least {
			least = n
		}
	}
	return least
}

// check asks about a GPU that an actor failed on. One whose context is broken counts as lost, as far as this process goes.
func (g *cudaGPUs) check(d executor.Device) error {
	g.mu.Lock()
	gpu := g.open[d.UUID]
	g.mu.Unlock()
	if gpu != nil {
		if err := gpu.Broken(); err != nil {
			return fmt.Errorf("%w: %w", cuda.ErrLost, err)
		}
	}
	if k, ok := g.known[identity(d.UUID)]; ok {
		return g.nvml.Check(k.UUID)
	}
	return nil
}

// askNVML finds out by which names it knows the GPUs. Those that it does not know are not asked about.
func (g *cudaGPUs) askNVML() {
	if g.nvml == nil {
		return
	}
	inv, err := g.nvml.Devices(cuda.Options{})
	if err != nil {
		return
	}
	g.known = make(map[string]cuda.Device)
	for _, d := range inv.Devices {
		g.known[identity(d.UUID)] = d
	}
}

// identity is what the names that CUDA and NVML have for a GPU, or for an instance of one, have in common: the driver calls
// an instance GPU- and what NVML calls MIG- and the same digits.
func identity(uuid string) string {
	_, id, _ := strings.Cut(uuid, "-")
	return id
}

func (g *cudaGPUs) use() (u Use) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, gpu := range g.open {
		s := gpu.Stats()
		u.Devices++
		u.Batches += s.Batches
		u.Documents += s.Documents
		u.Shrunk += s.Shrunk
		u.Processor += s.Processor
		u.NotHeld += s.NotHeld
		u.Uploaded += s.Uploaded
		u.Pinned += s.Pinned
		u.Texts += s.Compared.Texts
		u.Pairs += s.Compared.Pairs
		u.Launches += s.Compared.Launches
		u.PoolPeak = max(u.PoolPeak, s.Pool.Peak)
		u.Held.Add(&s.Store)
	}
	return u
}

func (g *cudaGPUs) summary() string {
	u := g.use()
	if u.Documents == 0 && u.Pairs == 0 {
		return ""
	}
	line := fmt.Sprintf("%d GPUs signed %s documents in %s batches, %s copied to them, %s of device memory at most in one", u.Devices,
		humanize.Comma(u.Documents-u.Processor), humanize.Comma(u.Batches), humanize.IBytes(uint64(u.Uploaded)), humanize.IBytes(uint64(u.PoolPeak)))
	if u.Pairs > 0 {
		line += fmt.Sprintf("; they compared %s pairs in %s launches", humanize.Comma(u.Pairs), humanize.Comma(u.Launches))
	}
	if n := u.Held.Spilled(); n > 0 {
		line += fmt.Sprintf("; of texts that they held %s were moved down, %s of it to disk", humanize.IBytes(uint64(n)), humanize.IBytes(uint64(u.Held.Into(mem.TierDisk))))
	}
	if u.Shrunk > 0 {
		line += fmt.Sprintf("; memory was short %s times and batches became smaller", humanize.Comma(u.Shrunk))
	}
	if u.Processor > 0 {
		line += fmt.Sprintf("; %s documents were too large for it and were signed by the processor", humanize.Comma(u.Processor))
	}
	return line
}

func (g *cudaGPUs) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for uuid, gpu := range g.open {
		errs = append(errs, gpu.Close())
		delete(g.open, uuid)
	}
	if g.nvml != nil {
		errs = append(errs, g.nvml.Close())
		g.nvml = nil
	}
	return errors.Join(errs...)
}

// transient marks what may work when it is tried again.
func transient(err error) error {
	if errors.Is(err, cuda.ErrTransient) {
		return executor.Transient(err)
	}
	return err
}

// marking marks the errors of a backend, and of its fences.
type marking struct{ lsh.Holder }

func (m marking) Start(ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer) (mem.Fence, error) {
	return marked(m.Holder.Start(ctx, texts, signatures, keys))
}

func (m marking) StartHeld(
	ctx context.Context, texts *mem.Strings, signatures, keys *mem.Buffer, next int64, held func(first, rows int, item *mem.Item, at int),
) (mem.Fence, error) {
	return marked(m.Holder.StartHeld(ctx, texts, signatures, keys, next, held))
}

func marked(f mem.Fence, err error) (mem.Fence, error) {
	if err != nil {
		return nil, transient(err)
	}
	return markingFence{f}, nil
}

// markingPairs does the same for comparisons.
type markingPairs struct{ lsh.PairBackend }

func (m markingPairs) Load(ctx context.Context, texts *mem.Strings) error {
	return transient(m.PairBackend.Load(ctx, texts))
}

func (m markingPairs) Compare(ctx context.Context, pairs *mem.Buffer, n int, out *mem.Buffer) (mem.Fence, error) {
	return marked(m.PairBackend.Compare(ctx, pairs, n, out))
}

type markingFence struct{ mem.Fence }

func (m markingFence) Wait(ctx context.Context) error { return transient(m.Fence.Wait(ctx)) }
