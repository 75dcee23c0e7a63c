package shuffle

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

func newVictim(t *testing.T, rng *rand.Rand, size int) victim {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	meta := fmt.Appendf(nil, "meta %d", size)
	h := goldenHeader()
	h.task, h.size, h.metaLen, h.checksum = rng.Uint64(), int64(size), len(meta), chunkSum(data, meta)
	return victim{item: &item{chunkHeader: h}, header: h, meta: meta, data: mem.NewHostBuffer(mem.TierHost, data, nil)}
}

// Chunks of all sizes are read back as they were written, files are deleted when none of their chunks is
// needed, and at close.
func TestSpillStore(t *testing.T) {
	d := newSpillStore(t.TempDir(), "test-")
	d.limit = 300 << 10
	defer d.close()
	rng := rand.New(rand.NewPCG(1, 2))
	var all []victim
	for range 20 {
		var vs []victim
		for range 1 + rng.IntN(30) {
			vs = append(vs, newVictim(t, rng, []int{0, 1, 100, spillGather - 1, spillGather, 100_000}[rng.IntN(6)]))
		}
		if err := d.write(vs); err != nil {
			t.Fatal(err)
		}
		all = append(all, vs...)
	}
	if len(d.files) < 3 {
		t.Fatalf("%d files", len(d.files))
	}
	for _, i := range rng.Perm(len(all)) {
		v := all[i]
		data := make([]byte, v.data.Len())
		meta, err := d.read(v.item, v.ref, data)
		if err != nil || !bytes.Equal(meta, v.meta) || !bytes.Equal(data, v.data.Bytes()) {
			t.Fatalf("chunk %d of %d bytes: %v", i, len(data), err)
		}
		d.free(v.ref)
	}
	if len(d.files) != 0 {
		t.Errorf("%d files are left", len(d.files))
	}
	if left, _ := os.ReadDir(d.dir); len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
	if err := d.write(all[:1]); err != nil {
		t.Fatal(err)
	}
	d.close()
	if _, err := d.read(all[0].item, all[0].ref, nil); !errors.Is(err, ErrSpill) || !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if err := d.write(all[:1]); !errors.Is(err, ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

// Every byte that changes on disk is noticed, and so is a file that was cut off.
func TestSpillStoreDamage(t *testing.T) {
	d := newSpillStore(t.TempDir(), "test-")
	defer d.close()
	v := newVictim(t, rand.New(rand.NewPCG(3, 4)), 300)
	vs := []victim{v}
	if err := d.write(vs); err != nil {
		t.Fatal(err)
	}
	v = vs[0]
	data := make([]byte, 300)
	f := v.ref.file.f
	for i := range v.ref.file.size {
		var b [1]byte
		if _, err := f.ReadAt(b[:], i); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{b[0] ^ 4}, i); err != nil {
			t.Fatal(err)
		}
		_, err := d.read(v.item, v.ref, data)
		if !errors.Is(err, ErrSpill) || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "partition 6") {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := f.WriteAt(b[:], i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.read(v.item, v.ref, data); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(v.ref.file.size - 1); err != nil {
		t.Fatal(err)
	}
	if _, err := d.read(v.item, v.ref, data); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "file ends") {
		t.Errorf("file cut off: %v", err)
	}
}

func TestSpillStoreNoFolder(t *testing.T) {
	d := newSpillStore(t.TempDir()+"/gone", "test-")
	err := d.write([]victim{newVictim(t, rand.New(rand.NewPCG(5, 6)), 10)})
	if !errors.Is(err, ErrSpill) || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Whoever presses for memory may be about to spill a chunk of an operation that is being closed. The file is gone then,
// which is no reason to abort the operation on peers that are still in it.
func TestSpillAfterClose(t *testing.T) {
	comm, err := NewCommunicator(lonely{})
	if err != nil {
		t.Fatal(err)
	}
	defer comm.Close()
	s, err := New(Options{Comm: comm, TotalParts: 1, SpillDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	data, err := s.Alloc(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	clear(data.Bytes())
	if err := s.Insert(t.Context(), Chunk{Rows: 1, Data: data}); err != nil {
		t.Fatal(err)
	}
	if err := s.InsertFinished(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	vs := s.victims(1)
	s.mu.Unlock()
	if len(vs) != 1 {
		t.Fatalf("%d chunks can be spilled", len(vs))
	}
	s.Close()
	if _, err := s.writeOut(vs); !errors.Is(err, ErrClosed) {
		t.Errorf("spilling after Close: %v", err)
	}
	if s.err != nil {
		t.Errorf("the operation was complete, and is aborted: %v", s.err)
	}
}

// lonely is the transport of a single rank.
type lonely struct{}

func (lonely) Rank() int                                    { return 0 }
func (lonely) Size() int                                    { return 1 }
func (lonely) Features() Features                           { return Features{} }
func (lonely) Alloc(_ mem.Tier, n int) (*mem.Buffer, error) { return mem.Host().Alloc(n) }
func (lonely) Post([]Op) error                              { return nil }
func (lonely) Poll([]Event) (int, error)                    { return 0, nil }
func (lonely) Ready() <-chan struct{}                       { return nil }
func (lonely) Close() error                                 { return nil }
