package mem_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

// pretend is a device whose memory is the host's: addresses are numbers, and only copy knows what is there.
type pretend struct {
	mu    sync.Mutex
	next  uintptr
	bytes map[uintptr][]byte
	left  int
	fail  error // of copies
}

func (d *pretend) Tier() mem.Tier { return mem.TierDevice }

func (d *pretend) Alloc(n int) (*mem.Buffer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n > d.left {
		return nil, &mem.NoMemoryError{Need: int64(n), Limit: int64(d.left)}
	}
	d.left -= n
	d.next += 1 << 32
	at := d.next
	d.bytes[at] = make([]byte, n)
	return mem.NewDeviceBuffer(at, n, func(*mem.Buffer) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.left += n
		delete(d.bytes, at)
	}), nil
}

func (d *pretend) of(b *mem.Buffer) []byte {
	if b.Tier() != mem.TierDevice {
		return b.Bytes()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	base := b.DeviceAddr() >> 32 << 32
	at := int(b.DeviceAddr() - base)
	return d.bytes[base][at : at+b.Len()]
}

func (d *pretend) copy(dst, src *mem.Buffer) error {
	if d.fail != nil {
		return d.fail
	}
	copy(d.of(dst), d.of(src))
	return nil
}

func newStore(t *testing.T, device int, pinnedLimit, hostLimit int64, dir string) (*mem.Store, *pretend) {
	t.Helper()
	d := &pretend{bytes: make(map[uintptr][]byte), left: device}
	s, err := mem.NewStore(mem.StoreOptions{
		Levels: []mem.Level{
			{Alloc: mem.NewChecked(t, d)},
			{Alloc: mem.NewChecked(t, tierOf{mem.TierPinned}), Limit: pinnedLimit},
			{Alloc: mem.NewChecked(t, mem.Host()), Limit: hostLimit},
		},
		Dir: dir, Copy: d.copy,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// tierOf is ordinary memory that says that it is of another tier.
type tierOf struct{ tier mem.Tier }

func (a tierOf) Tier() mem.Tier { return a.tier }
func (a tierOf) Alloc(n int) (*mem.Buffer, error) {
	return mem.NewHostBuffer(a.tier, make([]byte, n), nil), nil
}

func deviceItem(t *testing.T, s *mem.Store, d *pretend, n int, fill byte, next int64) *mem.Item {
	t.Helper()
	b, err := s.Alloc(mem.TierDevice, n)
	if err != nil {
		t.Fatal(err)
	}
	copy(d.of(b), bytes.Repeat([]byte{fill}, n))
	it, err := s.Put(b, nil, next)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// What does not fit goes down tier by tier to disk, what is needed last first, and comes back as it was.
func TestStoreSpillsDown(t *testing.T) {
	dir := t.TempDir()
	s, d := newStore(t, 1000, 300, 300, dir)
	var items []*mem.Item
	for i := range 10 {
		items = append(items, deviceItem(t, s, d, 200, byte(i+1), int64(i)))
	}
	var tiers []string
	for _, it := range items {
		tiers = append(tiers, it.Tier().String())
	}
	// Each new one is needed last and made room by those before it that were needed last at that moment.
	st := s.Stats()
	if st.Held[mem.TierDevice] != 1000 || st.Held[mem.TierPinned] != 200 || st.Held[mem.TierHost] != 200 || st.Held[mem.TierDisk] != 600 || st.Spilled() == 0 {
		t.Fatalf("%v: %+v", tiers, st)
	}
	if got := strings.Join(tiers[:4], " "); got != "device device device device" {
		t.Errorf("what is needed first was moved: %v", tiers)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Error(len(files), err)
	}
	for i, it := range items {
		b, err := it.Get(t.Context(), mem.TierDevice)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(d.of(b), bytes.Repeat([]byte{byte(i + 1)}, 200)) {
			t.Errorf("item %d is not what it was", i)
		}
		it.Done()
		it.Drop()
		it.Drop()
		if _, err := it.Get(t.Context(), mem.TierDevice); !errors.Is(err, mem.ErrNoItem) {
			t.Errorf("a dropped item: %v", err)
		}
	}
	if st := s.Stats(); st.Held != [mem.NumTiers]int64{} || st.Items != [mem.NumTiers]int{} || st.Returned() == 0 || st.Peak[mem.TierDevice] > 1000 {
		t.Errorf("at the end %+v", st)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Error(len(files), err)
	}
	if n := s.Close(); n != 0 {
		t.Errorf("%d items are left", n)
	}
}

// An item in use is not moved, and one whose work is under way is not either.
func TestStoreSpares(t *testing.T) {
	s, d := newStore(t, 400, 0, 0, "")
	defer s.Close()
	used := deviceItem(t, s, d, 100, 1, 100)
	if _, err := used.Get(t.Context(), mem.TierDevice); err != nil {
		t.Fatal(err)
	}
	b, err := s.Alloc(mem.TierDevice, 100)
	if err != nil {
		t.Fatal(err)
	}
	work := &fence{}
	busy, err := s.Put(b, work, 99)
	if err != nil {
		t.Fatal(err)
	}
	soon := deviceItem(t, s, d, 100, 2, 1)
	late := deviceItem(t, s, d, 100, 3, 2)
	if n, err := s.MakeRoom(mem.TierDevice, 1); n != 100 || err != nil || late.Tier() != mem.TierPinned {
		t.Errorf("%d, %v, the one needed last is in tier %s", n, err, late.Tier())
	}
	late.Expect(0)
	if n, err := s.MakeRoom(mem.TierDevice, 100); n != 100 || err != nil || soon.Tier() != mem.TierPinned || busy.Tier() != mem.TierDevice || work.waited != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := s.MakeRoom(mem.TierDevice, 1000); n != 100 || err != nil || used.Tier() != mem.TierDevice || busy.Tier() != mem.TierPinned || work.waited != 1 {
		t.Errorf("%d, %v, waited %d times", n, err, work.waited)
	}
	if _, err := used.Get(t.Context(), mem.TierHost); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
	used.Done()
	if n, err := s.MakeRoom(mem.TierDevice, 1000); n != 100 || err != nil || used.Tier() != mem.TierPinned {
		t.Errorf("%d, %v", n, err)
	}
}

type fence struct {
	done   bool
	waited int
	err    error
}

func (f *fence) Done() bool                     { return f.done }
func (f *fence) Wait(ctx context.Context) error { f.waited++; f.done = true; return f.err }

// Errors are told to whoever needs the room, or the item, and nothing is lost by them.
func TestStoreErrors(t *testing.T) {
	s, d := newStore(t, 200, 50, 50, "")
	it := deviceItem(t, s, d, 200, 7, 1)
	if _, err := s.Alloc(mem.TierDevice, 10); !errors.Is(err, mem.ErrNoMemory) || it.Tier() != mem.TierDevice {
		t.Errorf("nowhere to go: %v", err)
	}
	it.Drop()
	s, d = newStore(t, 200, 0, 0, "")
	it = deviceItem(t, s, d, 200, 7, 1)
	d.fail = errors.New("the link is down")
	if _, err := s.Alloc(mem.TierDevice, 10); !errors.Is(err, d.fail) || it.Tier() != mem.TierDevice {
		t.Errorf("a copy that fails: %v", err)
	}
	d.fail = nil
	b, err := s.Alloc(mem.TierDevice, 10)
	if err != nil {
		t.Fatal(err)
	}
	b.Release()
	it.Drop()
	s, d = newStore(t, 200, 50, 50, t.TempDir()+"/missing")
	it = deviceItem(t, s, d, 200, 7, 1)
	if _, err := s.Alloc(mem.TierDevice, 10); err == nil || !strings.Contains(err.Error(), "spilling 200 bytes") {
		t.Errorf("a folder that is not there: %v", err)
	}
	it.Drop()
	broken := errors.New("the kernel failed")
	s, d = newStore(t, 200, 0, 0, "")
	b, _ = s.Alloc(mem.TierDevice, 20)
	it, err = s.Put(b, &fence{err: broken}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := it.Get(t.Context(), mem.TierDevice); !errors.Is(err, broken) {
		t.Errorf("work that failed: %v", err)
	}
	it.Drop()
	for _, o := range []mem.StoreOptions{{}, {Levels: []mem.Level{{Alloc: d}}}, {Levels: []mem.Level{{Alloc: mem.Host()}, {Alloc: mem.Host()}}}} {
		if _, err := mem.NewStore(o); err == nil {
			t.Errorf("%+v", o)
		}
	}
	host, err := mem.NewStore(mem.StoreOptions{Levels: []mem.Level{{Alloc: mem.Host()}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Put(mem.NewHostBuffer(mem.TierPinned, nil, nil), nil, 0); err == nil {
		t.Error("a tier that the store has not")
	}
}

// A budget's requests are met by moving items down.
func TestStoreOnPressure(t *testing.T) {
	b := mem.NewBudget(1000)
	s, err := mem.NewStore(mem.StoreOptions{Levels: []mem.Level{{Alloc: b.Within("held", mem.NewChecked(t, mem.Host()))}}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	remove := s.OnPressure(b, mem.TierHost, 0)
	defer remove()
	for i := range 4 {
		buf, err := s.Alloc(mem.TierHost, 250)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(buf, nil, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.Reserve(t.Context(), "work", 400)
	if err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Held[mem.TierDisk] != 500 || st.Moves[mem.TierHost][mem.TierDisk].Items != 2 {
		t.Errorf("%+v", st)
	}
	r.Release()
	if n := s.Close(); n != 4 {
		t.Errorf("%d items were dropped", n)
	}
}

// Many goroutines hold, use and drop items with far too little room for them: nothing is lost or bent, nobody waits for ever, and no
// tier holds more than it may.
func TestStoreUnderLoad(t *testing.T) {
	s, d := newStore(t, 3000, 1500, 1000, t.TempDir())
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 9))
			type held struct {
				it   *mem.Item
				fill byte
			}
			var mine []held
			for step := range 400 {
				switch k := r.IntN(10); {
				case k < 4 && len(mine) < 12:
					n := r.IntN(500)
					b, err := s.Alloc(mem.TierDevice, n)
					if errors.Is(err, mem.ErrNoMemory) {
						continue // others use it all at this moment
					}
					if err != nil {
						t.Error(err)
						return
					}
					h := held{fill: byte(step)}
					copy(d.of(b), bytes.Repeat([]byte{h.fill}, n))
					if h.it, err = s.Put(b, nil, r.Int64N(100)); err != nil {
						t.Error(err)
						return
					}
					mine = append(mine, h)
				case len(mine) == 0:
				case k < 9:
					h := mine[r.IntN(len(mine))]
					b, err := h.it.Get(context.Background(), []mem.Tier{mem.TierDevice, mem.TierPinned, mem.TierHost}[r.IntN(3)])
					if errors.Is(err, mem.ErrNoMemory) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if !bytes.Equal(d.of(b), bytes.Repeat([]byte{h.fill}, h.it.Len())) {
						t.Error("an item is not what it was")
					}
					h.it.Done()
				default:
					i := r.IntN(len(mine))
					mine[i].it.Drop()
					mine = append(mine[:i], mine[i+1:]...)
				}
			}
			for _, h := range mine {
				h.it.Drop()
			}
		})
	}
	wg.Wait()
	st := s.Stats()
	if st.Held != [mem.NumTiers]int64{} || st.Peak[mem.TierDevice] > 3000 || st.Peak[mem.TierPinned] > 1500 || st.Peak[mem.TierHost] > 1000 || st.Moves[mem.TierDevice][mem.TierPinned].Items == 0 || st.Peak[mem.TierDisk] == 0 {
		t.Errorf("%+v", st)
	}
	if n := s.Close(); n != 0 {
		t.Errorf("%d items are left", n)
	}
}

// lazily is the fence of work that is done when someone waits for it, and by nobody else.
type lazily struct {
	work func()
	done bool
}

func (l *lazily) Done() bool { return l.done }

func (l *lazily) Wait(context.Context) error {
	if !l.done {
		l.work()
		l.done = true
	}
	return nil
}

// An item is read where it is, in every tier, whole and in part, after the work that writes it, and stays there.
func TestStoreRead(t *testing.T) {
	s, d := newStore(t, 1<<20, 100, 100, t.TempDir())
	var items []*mem.Item
	for i := range 5 {
		b, err := s.Alloc(mem.TierDevice, 100)
		if err != nil {
			t.Fatal(err)
		}
		f := &lazily{work: func() {
			for j, bytes := 0, d.of(b); j < len(bytes); j++ {
				bytes[j] = byte(10*i + j)
			}
		}}
		it, err := s.Put(b, f, int64(i))
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, it)
	}
	if _, err := s.MakeRoom(mem.TierDevice, 400); err != nil {
		t.Fatal(err)
	}
	for i, it := range items {
		before := it.Tier()
		for _, part := range [][2]int{{0, 100}, {7, 93}, {100, 0}, {0, 1}} {
			out, err := mem.Host().Alloc(part[1])
			if err != nil {
				t.Fatal(err)
			}
			if err := it.Read(t.Context(), out, part[0]); err != nil {
				t.Fatal(err)
			}
			for j, got := range out.Bytes() {
				if got != byte(10*i+part[0]+j) {
					t.Fatalf("item %d in tier %s: byte %d is %d", i, before, part[0]+j, got)
				}
			}
			out.Release()
		}
		if it.Tier() != before {
			t.Errorf("item %d was in tier %s and is in %s", i, before, it.Tier())
		}
		if out := mem.NewHostBuffer(mem.TierHost, make([]byte, 10), nil); it.Read(t.Context(), out, 91) == nil || it.Read(t.Context(), out, -1) == nil {
			t.Error("bytes were read that are not there")
		}
	}
	have := make(map[mem.Tier]int64)
	for _, it := range items {
		have[it.Tier()]++
	}
	st := s.Stats()
	for tier := range mem.Tier(mem.NumTiers) {
		if want := have[tier]; want == 0 || st.Reads[tier].Items != 4*want || st.Reads[tier].Bytes != 194*want {
			t.Errorf("tier %s has %d items: %+v", tier, want, st.Reads)
		}
	}
	items[0].Drop()
	if err := items[0].Read(t.Context(), mem.NewHostBuffer(mem.TierHost, nil, nil), 0); !errors.Is(err, mem.ErrNoItem) {
		t.Error(err)
	}
	if n := s.Close(); n != 4 {
		t.Error(n)
	}
}

// What two stores did is added up.
func TestStoreStatsAdd(t *testing.T) {
	var all mem.StoreStats
	for range 2 {
		s, _ := newStore(t, 1<<20, 100, 0, t.TempDir())
		for i := range 3 {
			b, err := s.Alloc(mem.TierDevice, 100)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Put(b, nil, int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.MakeRoom(mem.TierDevice, 200); err != nil {
			t.Fatal(err)
		}
		st := s.Stats()
		all.Add(&st)
		s.Close()
	}
	if all.Spilled() != 600 || all.Into(mem.TierPinned) != 400 || all.Into(mem.TierHost) != 200 || all.Peak[mem.TierDevice] != 300 || all.Held[mem.TierPinned] != 200 {
		t.Errorf("%+v", all)
	}
}

// A buffer that is put has the others make room for it before it is counted: the limit holds at every moment.
func TestStorePutKeepsLimit(t *testing.T) {
	d := &pretend{bytes: make(map[uintptr][]byte), left: 1 << 20}
	s, err := mem.NewStore(mem.StoreOptions{
		Levels: []mem.Level{{Alloc: mem.NewChecked(t, d), Limit: 250}, {Alloc: mem.NewChecked(t, mem.Host())}}, Copy: d.copy,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{100, 100, 100, 200, 300, 50} {
		b, err := s.Alloc(mem.TierDevice, n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(b, nil, int64(i)); err != nil {
			t.Fatal(err)
		}
		// One that is larger than all there may be is moved as soon as it is there.
		if st := s.Stats(); st.Held[mem.TierDevice] > 250 || n <= 250 && i < 4 && st.Peak[mem.TierDevice] > 250 {
			t.Errorf("after %d bytes more: %+v", n, st)
		}
	}
	s.Close()
}
