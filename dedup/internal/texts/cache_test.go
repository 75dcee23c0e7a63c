package texts

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

type doc struct {
	ord  uint64
	text []byte
	null bool
}

// column makes a column of documents, which begins inside its buffer.
func column(t *testing.T, docs []doc) *mem.Strings {
	t.Helper()
	var data []byte
	offsets, err := mem.Host().Alloc(8 * (len(docs) + 1))
	if err != nil {
		t.Fatal(err)
	}
	valid, err := mem.AllocZeroed(mem.Host(), (len(docs)+7)/8)
	if err != nil {
		t.Fatal(err)
	}
	data = append(data, "before"...)
	off := mem.Int64s(offsets)
	off[0] = int64(len(data))
	for i, d := range docs {
		data = append(data, d.text...)
		off[i+1] = int64(len(data))
		if !d.null {
			valid.Bytes()[i>>3] |= 1 << (i & 7)
		}
	}
	buf, err := mem.Host().Alloc(len(data))
	if err != nil {
		t.Fatal(err)
	}
	copy(buf.Bytes(), data)
	return &mem.Strings{Rows: len(docs), Offsets: offsets, Data: buf, Valid: valid}
}

func someDocs(rng *rand.Rand, n int) []doc {
	docs := make([]doc, n)
	ord := rng.Uint64N(1000)
	for i := range docs {
		ord += 1 + rng.Uint64N(3)
		docs[i] = doc{ord: ord, null: rng.IntN(5) == 0}
		if !docs[i].null {
			docs[i].text = []byte(fmt.Sprint(ord, "x"))[:rng.IntN(3)]
		}
	}
	return docs
}

func add(t *testing.T, w *Writer, rng *rand.Rand, docs []doc) {
	for len(docs) > 0 {
		n := 1 + rng.IntN(len(docs))
		text := column(t, docs[:n])
		ords := make([]uint64, n)
		for i, d := range docs[:n] {
			ords[i] = d.ord
		}
		addIfRoom(w, ords, text)
		text.Release()
		docs = docs[n:]
	}
}

// TestCache: what was kept comes back as it was, whichever documents are asked for, and nothing else does.
func TestCache(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		docs := someDocs(rng, 1+rng.IntN(50))
		c := New(AtMost(1 << 20))
		w := c.Writer(3)
		add(t, w, rng, docs[:rng.IntN(len(docs))])
		w.Drop() // an attempt that failed
		add(t, w, rng, docs)
		if c.Open(3) != nil {
			t.Fatal("a split can be read before it is complete")
		}
		w.Keep()
		w.Drop() // too late to do anything
		r := c.Open(3)
		for _, d := range docs {
			if rng.IntN(3) == 0 {
				if _, _, ok := r.Text(d.ord - 1); ok != (d.ord-1 >= docs[0].ord && has(docs, d.ord-1)) {
					t.Fatalf("seed %d: document %d is there: %v", seed, d.ord-1, ok)
				}
			}
			if rng.IntN(2) == 0 {
				continue
			}
			text, null, ok := r.Text(d.ord)
			if !ok || null != d.null || !bytes.Equal(text, d.text) {
				t.Fatalf("seed %d: document %d: %q %v %v, wanted %q %v", seed, d.ord, text, null, ok, d.text, d.null)
			}
		}
		for range 20 {
			d := docs[rng.IntN(len(docs))]
			ord := d.ord + rng.Uint64N(3) - 1
			i := slices.IndexFunc(docs, func(d doc) bool { return d.ord == ord })
			text, null, ok := r.Find(ord)
			if ok != (i >= 0) || ok && (null != docs[i].null || !bytes.Equal(text, docs[i].text)) {
				t.Fatalf("seed %d: document %d, %d of them: %q %v %v", seed, ord, i, text, null, ok)
			}
		}
		if _, _, ok := r.Text(docs[len(docs)-1].ord + 1); ok {
			t.Fatal("there is something behind the last document")
		}
		c.Close()
		if c.Held() == 0 {
			t.Fatal("what is being read was given back")
		}
		r.Close()
		r.Close()
		if c.Held() != 0 {
			t.Fatalf("%d bytes are left", c.Held())
		}
	}
}

func has(docs []doc, ord uint64) bool {
	for _, d := range docs {
		if d.ord == ord {
			return true
		}
	}
	return false
}

// TestRoom: a split that does not fit is not kept, takes nothing, and leaves the others alone.
func TestRoom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	docs := someDocs(rng, 100)
	c := New(AtMost(2500))
	small := c.Writer(0)
	add(t, small, rng, docs[:10])
	small.Keep()
	held := c.Held()
	if held == 0 || c.Open(0) == nil {
		t.Fatal("nothing was kept where there was room")
	}
	for i := 1; i < 4; i++ {
		w := c.Writer(1)
		add(t, w, rng, docs)
		add(t, w, rng, docs)
		w.Keep()
		if c.Open(1) != nil || c.Held() != held {
			t.Fatalf("a split without room holds %d bytes, wanted %d", c.Held(), held)
		}
	}
}

// TestReplaced: of two attempts at a split that both end the later counts; readers of the first go on.
func TestReplaced(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	docs := someDocs(rng, 10)
	c := New(AtMost(1 << 20))
	var r *Reader
	for range 2 {
		w := c.Writer(0)
		add(t, w, rng, docs)
		w.Keep()
		if r == nil {
			r = c.Open(0)
		}
	}
	if _, _, ok := r.Text(docs[9].ord); !ok {
		t.Error("the texts of a reader are gone")
	}
	r.Close()
	c.Close()
	if c.Held() != 0 {
		t.Errorf("%d bytes are left", c.Held())
	}
	w := c.Writer(0)
	add(t, w, rng, docs)
	w.Keep()
	if c.Held() != 0 || c.Open(0) != nil {
		t.Error("a cache that is closed keeps texts")
	}
}

// TestNone: a cache that is nil keeps nothing and does no harm.
func TestNone(t *testing.T) {
	var c *Cache
	w := c.Writer(0)
	addIfRoom(w, []uint64{1}, column(t, []doc{{1, []byte("x"), false}}))
	w.Keep()
	w.Drop()
	if c.Open(0) != nil || c.Held() != 0 {
		t.Error("nil keeps something")
	}
	c.Close()
}

// TestConcurrent: splits come, go and are read at the same time.
func TestConcurrent(t *testing.T) {
	c := New(AtMost(20_000))
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range 200 {
				split := rng.IntN(4)
				docs := someDocs(rand.New(rand.NewPCG(uint64(split), 9)), 40)
				if r := c.Open(split); r != nil {
					for _, d := range docs {
						if text, _, ok := r.Text(d.ord); !ok || !bytes.Equal(text, d.text) {
							t.Errorf("split %d: document %d is %q, wanted %q", split, d.ord, text, d.text)
						}
					}
					r.Close()
				}
				w := c.Writer(split)
				add(t, w, rng, docs)
				w.Keep()
			}
		})
	}
	all.Wait()
	c.Close()
	if c.Held() != 0 {
		t.Errorf("%d bytes are left", c.Held())
	}
}

// TestHalfOfMemory: this machine has memory, and no room for more than it has.
func TestHalfOfMemory(t *testing.T) {
	room := HalfOfMemory()
	room(0, 1) // true where other programs leave half of the memory
	if HalfOfMemory()(0, 1<<60) {
		t.Error("there is room for an exabyte")
	}
}

// addIfRoom keeps documents if there is room.
func addIfRoom(w *Writer, ords []uint64, text *mem.Strings) {
	if w.Room(ords, text, false) {
		w.Add(ords, text)
	}
}
