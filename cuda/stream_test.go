//go:build cuda

package cuda_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/cuda/cudatest"
	"github.com/dovetail-dedup/dovetail/mem"
)

// seeds are those that every test of ordering goes through: how late work is done, and in which order, follows from them.
const seeds = 24

// gpu is a context with what a test needs, all of which is closed at the end.
type gpu struct {
	t      *testing.T
	c      *cuda.Context
	device mem.Allocator
	pinned mem.Allocator
	add    *cuda.Kernel
	copy   *cuda.Kernel
}

func newGPU(t *testing.T, d *cuda.Driver, index int) *gpu {
	t.Helper()
	c, err := d.NewContext(index)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Load([]byte("any"))
	if err != nil {
		t.Fatal(err)
	}
	g := &gpu{t: t, c: c, device: mem.NewChecked(t, c.DeviceAllocator()), pinned: mem.NewChecked(t, c.PinnedAllocator())}
	t.Cleanup(func() {
		err := m.Close()
		if err := errors.Join(err, c.Close()); err != nil && c.Broken() == nil {
			t.Error(err)
		}
	})
	if g.add, err = m.Kernel("sim_add", 0); err != nil {
		t.Fatal(err)
	}
	if g.copy, err = m.Kernel("sim_copy", 0); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gpu) stream() *cuda.Stream {
	g.t.Helper()
	s, err := g.c.NewStream()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		if err := s.Close(); err != nil && g.c.Broken() == nil {
			g.t.Error(err)
		}
	})
	return s
}

func (g *gpu) event() *cuda.Event {
	g.t.Helper()
	e, err := g.c.NewEvent()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		if err := e.Close(); err != nil && g.c.Broken() == nil {
			g.t.Error(err)
		}
	})
	return e
}

func (g *gpu) alloc(a mem.Allocator, n int) *mem.Buffer {
	g.t.Helper()
	b, err := a.Alloc(n)
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func words(b *mem.Buffer, v uint64) {
	for i := 0; i+8 <= b.Len(); i += 8 {
		binary.NativeEndian.PutUint64(b.Bytes()[i:], v)
	}
}

func TestSimulatedDevices(t *testing.T) {
	d := cudatest.Sim(t, "gpus=3,memory=123456789")
	devs, err := d.Devices()
	if err != nil || len(devs) != 3 || !d.Simulated() || d.Version() != "13.0" {
		t.Fatal(devs, err)
	}
	want := cuda.Device{Index: 2, UUID: "GPU-73696d75-6c61-7465-0000-000000000002", Name: "simulated GPU", MemoryTotal: 123456789, Major: 8,
		PCIBusID: "0000:03:00.0", NUMANode: devs[2].NUMANode}
	if devs[2] != want {
		t.Errorf("got %+v, want %+v", devs[2], want)
	}
	if _, err := d.NewContext(3); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_INVALID_DEVICE (101)") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"gpus", "gpus=-1", "gpu=1", "lost=3", "memory=x", "bend=1"} {
		if _, err := cuda.OpenSimulator(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// What a stream is given is done in its order, whenever it is done, and the fence says when: upload, three kernels, download.
func TestStreamOrder(t *testing.T) {
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := newGPU(t, cudatest.Sim(t, fmt.Sprintf("seed=%d", seed)), 0)
			s := g.stream()
			in, out, dev := g.alloc(g.pinned, 4096), g.alloc(g.pinned, 4096), g.alloc(g.device, 4096)
			words(in, 1)
			must(t, s.Copy(dev, in))
			for range 3 {
				must(t, s.Launch(g.add, 1, 0, uint64(dev.DeviceAddr()), 512, 2))
			}
			must(t, s.Copy(out, dev))
			fence, err := s.Fence()
			must(t, err, fence.Wait(context.Background()))
			if !fence.Done() || !bytes.Equal(out.Bytes()[4088:], []byte{7, 0, 0, 0, 0, 0, 0, 0}) {
				t.Errorf("got %v", out.Bytes()[4088:])
			}
			in.Release()
			out.Release()
			dev.Release()
		})
	}
}

// Streams wait for each other only by events: a ring of streams, on two GPUs, each adding 1 after the other.
func TestEventsOrderStreams(t *testing.T) {
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d := cudatest.Sim(t, fmt.Sprintf("gpus=2,seed=%d", seed))
			gs := []*gpu{newGPU(t, d, 0), newGPU(t, d, 1)}
			var streams []*cuda.Stream
			var bufs []*mem.Buffer
			for i := range 6 {
				streams = append(streams, gs[i%2].stream())
				bufs = append(bufs, gs[i%2].alloc(gs[i%2].device, 800))
			}
			out := gs[0].alloc(gs[0].pinned, 800)
			words(out, 40)
			must(t, streams[0].Copy(bufs[0], out))
			last := gs[0].event()
			must(t, streams[0].Record(last))
			for i := 1; i < 6; i++ {
				g, s := gs[i%2], streams[i]
				must(t, s.Wait(last), s.CopyPeer(bufs[i], bufs[i-1], gs[(i-1)%2].c), s.Launch(g.add, 1, 0, uint64(bufs[i].DeviceAddr()), 100, 1))
				last = g.event()
				must(t, s.Record(last))
			}
			home := gs[0].alloc(gs[0].device, 800)
			must(t, streams[0].Wait(last), streams[0].CopyPeer(home, bufs[5], gs[1].c), streams[0].Copy(out, home), streams[0].Synchronize())
			if got := binary.NativeEndian.Uint64(out.Bytes()[792:]); got != 45 {
				t.Errorf("got %d", got)
			}
			for _, b := range append(bufs, out, home) {
				b.Release()
			}
		})
	}
}

// Without the wait the same gives wrong bytes with some seeds: the simulation shows what is missing.
func TestMissingWaitShows(t *testing.T) {
	wrong := 0
	for seed := range seeds {
		d := cudatest.Sim(t, fmt.Sprintf("seed=%d", seed))
		func() {
			c, err := d.NewContext(0)
			must(t, err)
			a, err := c.NewStream()
			must(t, err)
			b, err := c.NewStream()
			must(t, err)
			in, err := c.PinnedAllocator().Alloc(8)
			must(t, err)
			out, err := c.PinnedAllocator().Alloc(8)
			must(t, err)
			dev, err := c.DeviceAllocator().Alloc(8)
			must(t, err)
			words(in, 1)
			must(t, a.Copy(dev, in), b.Copy(out, dev), b.Synchronize())
			if binary.NativeEndian.Uint64(out.Bytes()) != 1 {
				wrong++
			}
			must(t, a.Close(), b.Close())
			for _, x := range []*mem.Buffer{in, out, dev} {
				x.Release()
			}
			must(t, c.Close())
		}()
	}
	if wrong == 0 || wrong == seeds {
		t.Errorf("%d of %d seeds show that a wait is missing", wrong, seeds)
	}
}

// A result that is read before its fence is the old one with some seeds; a buffer that is written before, too.
func TestLateReadsAndWritesShow(t *testing.T) {
	early, late := 0, 0
	for seed := range seeds {
		d := cudatest.Sim(t, fmt.Sprintf("seed=%d", seed))
		c, err := d.NewContext(0)
		must(t, err)
		s, err := c.NewStream()
		must(t, err)
		in, err := c.PinnedAllocator().Alloc(8)
		must(t, err)
		dev, err := c.DeviceAllocator().Alloc(8)
		must(t, err)
		words(in, 1)
		must(t, s.Copy(dev, in))
		words(in, 2) // before it was copied
		must(t, s.Copy(in, dev))
		if v := binary.NativeEndian.Uint64(in.Bytes()); v == 2 {
			early++
		}
		must(t, s.Synchronize())
		if v := binary.NativeEndian.Uint64(in.Bytes()); v == 2 {
			late++
		}
		must(t, s.Close())
		in.Release()
		dev.Release()
		must(t, c.Close())
	}
	if early == 0 || late == 0 || late == seeds {
		t.Errorf("%d and %d of %d seeds show it", early, late, seeds)
	}
}

// Memory that is freed while the GPU is to use it is the end of the context, and an error that says so.
func TestUseAfterFree(t *testing.T) {
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	d := cudatest.Sim(t, "seed=3,late=0")
	g := newGPU(t, d, 0)
	s := g.stream()
	dev := g.alloc(g.device, 64)
	must(t, s.Launch(g.add, 1, 0, uint64(dev.DeviceAddr()), 8, 1))
	dev.Release()
	err := s.Synchronize()
	if !errors.Is(err, cuda.ErrBroken) || !strings.Contains(err.Error(), "CUDA_ERROR_ILLEGAL_ADDRESS (700)") {
		t.Errorf("got %v", err)
	}
	if err := g.c.Broken(); !errors.Is(err, cuda.ErrBroken) {
		t.Errorf("the context remembers %v", err)
	}
	if _, err := g.c.NewEvent(); !errors.Is(err, cuda.ErrBroken) {
		t.Errorf("a broken context makes an event: %v", err)
	}
}

// Mistakes are errors and change nothing.
func TestMistakes(t *testing.T) {
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	d := cudatest.Sim(t, "gpus=2,memory=1048576,peer=0")
	g, other := newGPU(t, d, 0), newGPU(t, d, 1)
	s := g.stream()
	dev, pin := g.alloc(g.device, 64), g.alloc(g.pinned, 64)
	defer dev.Release()
	defer pin.Release()
	host := mem.NewHostBuffer(mem.TierHost, make([]byte, 64), nil)
	half, err := dev.Slice(0, 32)
	must(t, err)
	defer half.Release()
	beyond := mem.NewDeviceBuffer(dev.DeviceAddr()+8, 64, nil)
	for what, tc := range map[string]struct {
		err  error
		want string
	}{
		"lengths":          {s.Copy(half, pin), "64 bytes to a buffer of 32"},
		"host memory":      {s.Copy(dev, host), "no copy from tier host to tier device"},
		"beyond":           {s.Copy(beyond, pin), "CUDA_ERROR_INVALID_VALUE (1), invalid argument"},
		"peer of host":     {s.CopyPeer(dev, pin, other.c), "tier pinned"},
		"fill of host":     {s.Fill(pin, 1), "tier pinned"},
		"another's kernel": {s.Launch(other.add, 1, 0, 0, 0, 0), "in a stream of another GPU"},
		"shared memory":    {s.Launch(g.add, 1, 100<<10, uint64(dev.DeviceAddr()), 1, 1), "cuLaunchKernel of sim_add: CUDA_ERROR_INVALID_VALUE"},
		"parameters":       {s.Launch(g.add, 1, 0, make([]uint64, 65)...), "65 parameters"},
		"peer access":      {g.c.EnablePeer(other.c), "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) || strings.Contains(tc.err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", what, tc.err, tc.want)
		}
	}
	if _, err := g.device.Alloc(2 << 20); !errors.Is(err, mem.ErrNoMemory) || !strings.Contains(err.Error(), "2097152 bytes") {
		t.Errorf("%v", err)
	}
	for _, a := range []mem.Allocator{g.device, g.pinned} {
		if _, err := a.Alloc(-1); err == nil {
			t.Error("less than nothing was allocated")
		}
	}
	if can, err := g.c.CanAccessPeer(other.c); can || err != nil {
		t.Error(can, err)
	}
	must(t, s.Copy(dev, pin), s.Synchronize())
	if g.c.Broken() != nil {
		t.Error("a mistake broke the context")
	}
}

// A context says what was not closed, once, and is closed all the same.
func TestLeaks(t *testing.T) {
	d := cudatest.Sim(t, "")
	c, err := d.NewContext(0)
	must(t, err)
	_, err1 := c.NewEvent()
	b, err2 := c.DeviceAllocator().Alloc(10)
	must(t, err1, err2)
	if err := c.Close(); err == nil || !strings.Contains(err.Error(), "GPU 0 is closed while 1 device buffers, 1 events are in use") {
		t.Errorf("got %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if _, err := c.NewStream(); !errors.Is(err, cuda.ErrClosed) {
		t.Errorf("a closed context makes a stream: %v", err)
	}
	b.Release() // too late, and harmless
}

// What is more than 48 KiB of shared memory has to be asked for, and then is given.
func TestLargeSharedMemory(t *testing.T) {
	g := newGPU(t, cudatest.Sim(t, ""), 0)
	m, err := g.c.Load([]byte("any"))
	must(t, err)
	k, err := m.Kernel("sim_add", 100<<10)
	must(t, err)
	s, dev := g.stream(), g.alloc(g.device, 8)
	must(t, s.Launch(k, 1, 100<<10, uint64(dev.DeviceAddr()), 1, 1), s.Synchronize(), m.Close())
	dev.Release()
	if _, err := m.Kernel("sim_add", 0); err == nil {
		t.Error("a closed module has kernels")
	}
}

// Host functions run in their place in the stream.
func TestCall(t *testing.T) {
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := newGPU(t, cudatest.Sim(t, fmt.Sprintf("seed=%d", seed)), 0)
			s, dev, pin := g.stream(), g.alloc(g.device, 8), g.alloc(g.pinned, 8)
			words(pin, 5)
			var seen uint64
			must(t, s.Copy(dev, pin), s.Launch(g.add, 1, 0, uint64(dev.DeviceAddr()), 1, 1), s.Copy(pin, dev),
				s.Call(func() { seen = binary.NativeEndian.Uint64(pin.Bytes()); words(pin, 100) }),
				s.Copy(dev, pin), s.Fill(dev, 0), s.Synchronize())
			if seen != 6 {
				t.Errorf("it saw %d", seen)
			}
			dev.Release()
			pin.Release()
		})
	}
}

// Memory of the driver's own pool is freed in the order of the stream, after its last use.
func TestStreamAlloc(t *testing.T) {
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := newGPU(t, cudatest.Sim(t, fmt.Sprintf("seed=%d", seed)), 0)
			s, pin := g.stream(), g.alloc(g.pinned, 80)
			p, err := s.Alloc(80)
			must(t, err)
			b := mem.NewDeviceBuffer(p, 80, nil)
			must(t, s.Fill(b, 1), s.Copy(pin, b), s.Free(p), s.Synchronize())
			if pin.Bytes()[79] != 1 {
				t.Error("freed before it was copied")
			}
			pin.Release()
		})
	}
}
