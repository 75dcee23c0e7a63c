package mem_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Buffers of a pool never overlap, stay within it, and what is released is whole again at the end, over many random orders.
func TestPool(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, err := mem.NewPool(mem.NewChecked(t, mem.Host()), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		type held struct {
			b    *mem.Buffer
			fill byte
		}
		var all []held
		failures := 0
		for step := range 2000 {
			if len(all) > 0 && r.IntN(100) < 48 {
				i := r.IntN(len(all))
				h := all[i]
				if !bytes.Equal(h.b.Bytes(), bytes.Repeat([]byte{h.fill}, h.b.Len())) {
					t.Fatalf("seed %d, step %d: a buffer of %d bytes was written by another", seed, step, h.b.Len())
				}
				h.b.Release()
				all = append(all[:i], all[i+1:]...)
				continue
			}
			b, err := p.Alloc(r.IntN(40000))
			if err != nil {
				if !errors.Is(err, mem.ErrNoMemory) {
					t.Fatal(err)
				}
				failures++
				continue
			}
			h := held{b, byte(step)}
			for i := range b.Bytes() {
				b.Bytes()[i] = h.fill
			}
			all = append(all, h)
			if s := p.Stats(); s.Used > s.Size || s.Buffers != int64(len(all)) || s.Peak < s.Used {
				t.Fatalf("%+v", s)
			}
		}
		if seed == 0 && failures == 0 {
			t.Error("the pool was never full, so nothing was tried")
		}
		if len(all) > 0 {
			if err := p.Close(); err == nil || !strings.Contains(err.Error(), "in use") {
				t.Errorf("a pool in use was closed: %v", err)
			}
		}
		for _, h := range all {
			h.b.Release()
		}
		if s := p.Stats(); s.Used != 0 || s.Largest != s.Size || s.Failures != int64(failures) {
			t.Errorf("at the end %+v", s)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A pool takes the smallest part that will do, so that large ones stay whole.
func TestPoolBestFit(t *testing.T) {
	p, err := mem.NewPool(mem.NewChecked(t, mem.Host()), 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	alloc := func(n int) *mem.Buffer {
		t.Helper()
		b, err := p.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	big, wall, small, rest := alloc(8<<10), alloc(256), alloc(1<<10), alloc(0)
	big.Release()
	small.Release()
	fits := alloc(1 << 10) // where small was, and not at the beginning of where big was
	again := alloc(8 << 10)
	if _, err := p.Alloc(8 << 10); !errors.Is(err, mem.ErrNoMemory) || !strings.Contains(err.Error(), "largest free part") {
		t.Errorf("%v", err)
	}
	for _, b := range []*mem.Buffer{wall, rest, fits, again} {
		b.Release()
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for _, size := range []int64{-1, 0, 255} {
		if _, err := mem.NewPool(mem.Host(), size); err == nil {
			t.Errorf("a pool of %d bytes", size)
		}
	}
}

// Addresses of a device are cut like bytes.
func TestPoolOfDevice(t *testing.T) {
	freed := 0
	p, err := mem.NewPool(deviceOf(func(n int) *mem.Buffer {
		return mem.NewDeviceBuffer(0x10000, n, func(*mem.Buffer) { freed++ })
	}), 1<<12)
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := p.Alloc(100)
	b, err2 := p.Alloc(100)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if a.DeviceAddr() != 0x10000 || b.DeviceAddr() != 0x10100 || b.Len() != 100 || b.Tier() != mem.TierDevice || p.Tier() != mem.TierDevice {
		t.Errorf("%x, %x", a.DeviceAddr(), b.DeviceAddr())
	}
	a.Release()
	b.Release()
	if err := p.Close(); err != nil || freed != 1 {
		t.Error(err, freed)
	}
}

type deviceOf func(n int) *mem.Buffer

func (deviceOf) Tier() mem.Tier                     { return mem.TierDevice }
func (d deviceOf) Alloc(n int) (*mem.Buffer, error) { return d(n), nil }
