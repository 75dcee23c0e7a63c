//go:build ucx && cgo

package ucx

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// registering makes a way with a context of its own that registers memory, whatever its transports need.
func registering(t *testing.T, way string, limit int64) string {
	t.Helper()
	c, err := Open(Config{Set: ways[way], Register: RegisterAlways, RegisterLimit: limit})
	if err != nil {
		t.Fatal(err)
	}
	name := way + "+registered"
	contexts[name] = c
	t.Cleanup(func() {
		delete(contexts, name)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if s := c.Registrations(); s.Kept != 0 || s.Bytes != 0 || s.InUse != 0 || s.Late != 0 {
			t.Errorf("a closed context has registrations: %+v", s)
		}
	})
	return name
}

// exchange sends a payload from rank 0 to rank 1 and compares what comes. Both payloads stay the caller's.
func exchange(t *testing.T, ts []*Transport, payload, into []*mem.Buffer) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(payload[0].Len()), 9))
	for _, b := range payload {
		data := b.Bytes()
		for len(data) >= 8 {
			binary.LittleEndian.PutUint64(data, r.Uint64())
			data = data[8:]
		}
		b.Retain()
	}
	if err := ts[0].Post([]shuffle.Op{{Kind: shuffle.OpSend, Peer: 1, Payload: payload, Header: []byte("header")}}); err != nil {
		t.Fatal(err)
	}
	ev := waitEvent(t, ts[1], shuffle.EventOffer)
	for _, b := range into {
		clear(b.Bytes())
		b.Retain()
	}
	if err := ts[1].Post([]shuffle.Op{{Kind: shuffle.OpAccept, Cookie: ev.Cookie, Payload: into}}); err != nil {
		t.Fatal(err)
	}
	ev = waitEvent(t, ts[1], shuffle.EventMessage)
	if !bytes.Equal(join(payload), join(ev.Payload)) {
		t.Fatal("other bytes came than were sent")
	}
	for _, b := range ev.Payload {
		b.Release()
	}
	waitEvent(t, ts[0], shuffle.EventSent)
}

func join(bufs []*mem.Buffer) (all []byte) {
	for _, b := range bufs {
		all = append(all, b.Bytes()...)
	}
	return all
}

// allocate makes some of n bytes, which the caller releases.
func allocate(t *testing.T, a mem.Allocator, count, n int) (all []*mem.Buffer) {
	t.Helper()
	for range count {
		b, err := a.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func release(bufs []*mem.Buffer) {
	for _, b := range bufs {
		b.Release()
	}
}

// fillKept has mem keep as much memory as it does, so that what was allocated before and is released next goes back to the system.
func fillKept(t *testing.T) {
	t.Helper()
	large, small := allocate(t, mem.Host(), 9, 4<<20), allocate(t, mem.Host(), 17, 256<<10)
	release(large)
	release(small)
}

// TestRegisteredMemory: a mapping is registered by its first use, is not again by the next, and no more when it is gone.
func TestRegisteredMemory(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		way = registering(t, way, 0)
		c := contexts[way]
		ts := connectRanks(t, way, 2, nil)
		const size = 3 << 20
		out, in := allocate(t, mem.Host(), 3, size), allocate(t, mem.Host(), 3, size)
		fillKept(t)
		exchange(t, ts, out, in)
		first := c.Registrations()
		if first.Made != 6 || first.Kept != 6 || first.Bytes < 6*size || first.Used < 6 || first.InUse != 0 || first.Bare != 0 {
			t.Fatalf("after the first message: %+v", first)
		}
		for range 5 {
			exchange(t, ts, out, in)
		}
		if s := c.Registrations(); s.Made != 6 || s.Kept != 6 || s.Used != 6*first.Used || s.InUse != 0 || s.Bare != 0 {
			t.Fatalf("after six: %+v", s)
		}
		// Parts of one mapping share its registration, and a payload need not begin where a buffer does.
		part := func(b *mem.Buffer, from, to int) *mem.Buffer {
			s, err := b.Slice(from, to)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		from, to := part(out[0], 1000, 2<<20), part(in[0], 77, 2<<20-923)
		exchange(t, ts, []*mem.Buffer{from, out[1]}, []*mem.Buffer{to, in[1]})
		from.Release()
		to.Release()
		if s := c.Registrations(); s.Made != 6 || s.InUse != 0 {
			t.Fatalf("a slice: %+v", s)
		}
		release(out)
		if s := c.Registrations(); s.Unmapped != 3 || s.Kept != 3 {
			t.Fatalf("three mappings have gone: %+v", s)
		}
		release(in)
		if s := c.Registrations(); s.Unmapped != 6 || s.Kept != 0 || s.Bytes != 0 || s.Late != 0 {
			t.Fatalf("all have gone: %+v", s)
		}
	})
}

// after looks at a context when memory that was registered on it goes, after its registry was told.
type after struct {
	t    *testing.T
	c    *Context
	kept []int64
}

func (a *after) Returning(m *mem.Mapping) {
	a.kept = append(a.kept, a.c.Registrations().Kept)
	if b := bytesAt(uint64(m.Addr()), uint64(m.Len())); b[0] != 77 || b[len(b)-1] != 0 {
		a.t.Errorf("the memory has gone before it was told: %d, %d", b[0], b[len(b)-1])
	}
}

// TestUnregisteredFirst: the registration has ended while the memory is still there.
func TestUnregisteredFirst(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		way = registering(t, way, 0)
		c := contexts[way]
		ts := connectRanks(t, way, 2, nil)
		out, in := allocate(t, mem.Host(), 1, 5<<20-4096), allocate(t, mem.Host(), 1, 5<<20-4096)
		fillKept(t)
		exchange(t, ts, out, in)
		a := &after{t: t, c: c}
		for _, b := range []*mem.Buffer{out[0], in[0]} {
			b.Mapping().Watch(a)
			b.Bytes()[0] = 77
			m := bytesAt(uint64(b.Mapping().Addr()), uint64(b.Mapping().Len()))
			m[len(m)-1] = 0
		}
		release(out)
		release(in)
		if len(a.kept) != 2 || a.kept[0] != 1 || a.kept[1] != 0 {
			t.Errorf("registrations left when memory went: %v", a.kept)
		}
	})
}

// TestBareMemory: memory of the Go heap is in no mapping, and works all the same.
func TestBareMemory(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		way = registering(t, way, 0)
		ts := connectRanks(t, way, 2, nil)
		heap := func(n int) []*mem.Buffer {
			return []*mem.Buffer{mem.NewHostBuffer(mem.TierHost, make([]byte, n), nil)}
		}
		for _, n := range []int{10 << 10, 200 << 10, 3 << 20} {
			exchange(t, ts, heap(n), heap(n))
		}
		if s := contexts[way].Registrations(); s.Made != 0 || s.Bare < 6 || s.Used != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestRegisterLimit: what is registered stays within the limit; what is idle makes room; and if all is in use, memory is used as it is.
func TestRegisterLimit(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		const limit = 8 << 20
		way = registering(t, way, limit)
		c := contexts[way]
		ts := connectRanks(t, way, 2, nil)
		out, in := allocate(t, mem.Host(), 6, 3<<20), allocate(t, mem.Host(), 6, 3<<20)
		defer release(out)
		defer release(in)
		for i := range out {
			exchange(t, ts, out[i:i+1:i+1], in[i:i+1:i+1])
			if s := c.Registrations(); s.Bytes > limit || s.Kept > 2 {
				t.Fatalf("message %d: %+v", i, s)
			}
		}
		s := c.Registrations()
		if s.Made != 12 || s.Evicted != 10 || s.Bare != 0 {
			t.Errorf("one after another: %+v", s)
		}
		exchange(t, ts, out, in)
		if s := c.Registrations(); s.Bytes > limit || s.Bare == 0 || s.InUse != 0 {
			t.Errorf("all at a time: %+v", s)
		}
		large := allocate(t, mem.Host(), 2, limit+1)
		defer release(large)
		before := c.Registrations()
		exchange(t, ts, large[:1:1], large[1:])
		if s := c.Registrations(); s.Made != before.Made || s.Bare == before.Bare {
			t.Errorf("more than the limit: %+v", s)
		}
	})
}

// nowhere makes buffers at an address that UCX refuses.
type nowhere struct{ mem.Allocator }

func (nowhere) Tier() mem.Tier { return mem.TierDevice }

func (nowhere) Alloc(n int) (*mem.Buffer, error) { return mem.NewDeviceBuffer(0, n, nil), nil }

// TestRegisterFails: what cannot be registered is used as it is.
func TestRegisterFails(t *testing.T) {
	way := registering(t, "shm", 0)
	r := contexts[way].registry
	p, err := mem.NewPool(nowhere{}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b := allocate(t, p, 1, 1000)[0]
	defer b.Release()
	if g := r.use(b.Mapping()); g != nil {
		t.Fatal("address 0 is registered")
	}
	if s := contexts[way].Registrations(); s.Failed != 1 || s.Bare != 1 || s.Kept != 0 {
		t.Errorf("%+v", s)
	}
	ts := connectRanks(t, way, 2, nil)
	bufs := allocate(t, mem.Host(), 2, 3<<20)
	defer release(bufs)
	exchange(t, ts, bufs[:1:1], bufs[1:])
}

// TestRegisteredPool: pinned memory and that of devices comes from pools, each registered as a whole.
func TestRegisteredPool(t *testing.T) {
	forWays(t, func(t *testing.T, way string) {
		way = registering(t, way, 0)
		ts := connectRanks(t, way, 2, nil)
		p, err := mem.NewPool(mem.Host(), 16<<20)
		if err != nil {
			t.Fatal(err)
		}
		bufs := allocate(t, p, 4, 3<<20)
		exchange(t, ts, bufs[:2:2], bufs[2:])
		release(bufs)
		if s := contexts[way].Registrations(); s.Made != 1 || s.Bytes != 16<<20 || s.Bare != 0 {
			t.Errorf("%+v", s)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if s := contexts[way].Registrations(); s.Unmapped != 1 || s.Kept != 0 {
			t.Errorf("the pool is closed: %+v", s)
		}
	})
}

// TestRegistryAtOnce uses memory from many goroutines while others give it back, with and without slabs, and with too little room.
func TestRegistryAtOnce(t *testing.T) {
	const limit = 9 << 20
	way := registering(t, "shm", limit)
	c := contexts[way]
	var wg sync.WaitGroup
	for k := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(k), 4))
			for range 400 {
				if k == 0 && rng.IntN(4) == 0 {
					plenty := mem.Plentiful()
					defer plenty()
				}
				b, err := mem.Host().Alloc(1 + rng.IntN(1<<(15+rng.IntN(9))))
				if err != nil {
					t.Error(err)
					return
				}
				var s slot
				var o op
				for range 1 + rng.IntN(3) {
					tr := Transport{port: &Port{c: c}}
					o.addr, s.want = addressOf(b.Bytes()), uint64(b.Len())
					tr.register(&o, &s, b.Mapping())
					if (s.using == nil) == (s.bare == 0) || s.using != nil && o.memory == 0 {
						t.Errorf("neither registered nor bare, or both: %+v", s)
					}
					tr.unregister(&s)
				}
				b.Release()
			}
		})
	}
	wg.Wait()
	s := c.Registrations()
	if s.Late != 0 || s.InUse != 0 || s.Bytes > limit || s.Made != s.Kept+s.Unmapped+s.Evicted {
		t.Errorf("%+v", s)
	}
	if s.Made == 0 || s.Used == 0 || s.Unmapped == 0 || s.Evicted == 0 {
		t.Errorf("not all ways were gone: %+v", s)
	}
}

// Shared memory and TCP register nothing, unless told to.
func TestWhoRegisters(t *testing.T) {
	for list, want := range map[string]bool{"tcp/eth0": false, "sysv/memory": false, "cma/memory": false, "rc_mlx5/mlx5_0:1": true, "srd/rdmap0s6:1": true, "knem/memory": true} {
		if got := needRegistration([]string{"posix/memory", list, "self/memory"}); got != want {
			t.Errorf("%s: %v", list, got)
		}
	}
	open := func(how Register) (bool, error) {
		c, err := Open(Config{Set: ways["tcp"], Register: how})
		if err != nil {
			return false, err
		}
		return c.Registrations().On, c.Close()
	}
	t.Setenv(RegisterVariable, "")
	for how, want := range map[Register]bool{RegisterAuto: false, RegisterAlways: true, RegisterNever: false} {
		if on, err := open(how); on != want || err != nil {
			t.Errorf("%d: %v, %v", how, on, err)
		}
	}
	t.Setenv(RegisterVariable, "always")
	if on, err := open(RegisterAuto); !on || err != nil {
		t.Error(on, err)
	}
	t.Setenv(RegisterVariable, "often")
	if _, err := open(RegisterAuto); err == nil || err.Error() != `ucx: $DOVETAIL_UCX_REGISTER is "often": give auto, always or never` {
		t.Error(err)
	}
}

// BenchmarkRegister is what registering costs where it is of no use: once for a mapping, for an operation in it, and for one in other memory.
func BenchmarkRegister(b *testing.B) {
	for _, way := range []string{"shm", "tcp"} {
		c, err := Open(Config{Set: ways[way], Register: RegisterAlways})
		if err != nil {
			b.Fatal(err)
		}
		buf, err := mem.AllocZeroed(mem.Host(), 8<<20)
		if err != nil {
			b.Fatal(err)
		}
		r, m := c.registry, buf.Mapping()
		b.Run(way+"/mapping", func(b *testing.B) {
			for range b.N {
				r.done(r.use(m))
				r.Returning(m)
			}
		})
		b.Run(way+"/use", func(b *testing.B) {
			for range b.N {
				r.done(r.use(m))
			}
		})
		b.Run(way+"/bare", func(b *testing.B) {
			for range b.N {
				r.use(nil)
				r.forget(addressOf(buf.Bytes()), 1<<20)
			}
		})
		buf.Release()
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
