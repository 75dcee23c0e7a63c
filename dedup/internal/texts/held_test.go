package texts

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

// hold puts the texts of rows into a store, as a device would that has signed them: behind something else.
func hold(t *testing.T, s *mem.Store, text *mem.Strings, first, rows int) Held {
	t.Helper()
	off := text.OffsetValues()
	raw := append([]byte("offsets and so on"), text.Data.Bytes()[off[first]:off[first+rows]]...)
	b, err := s.Alloc(mem.TierHost, len(raw))
	if err != nil {
		t.Fatal(err)
	}
	copy(b.Bytes(), raw)
	it, err := s.Put(b, nil, int64(first))
	if err != nil {
		t.Fatal(err)
	}
	return Held{First: first, Rows: rows, Item: it, At: len("offsets and so on")}
}

// Batches of which some are in memory and others are held elsewhere, in pieces, partly on disk, are read as they were.
func TestHeld(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 9))
		s, err := mem.NewStore(mem.StoreOptions{Levels: []mem.Level{{Alloc: mem.NewChecked(t, mem.Host()), Limit: 60}}, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		c := New(AtMost(1 << 20))
		w := c.Writer(7)
		docs := someDocs(rng, 1+rng.IntN(60))
		elsewhere := false
		for at := 0; at < len(docs); {
			n := 1 + rng.IntN(len(docs)-at)
			text := column(t, docs[at:at+n])
			ords := make([]uint64, n)
			for i := range ords {
				ords[i] = docs[at+i].ord
			}
			if rng.IntN(2) == 0 {
				addIfRoom(w, ords, text)
			} else {
				var held []Held
				for first := 0; first < n; {
					rows := 1 + rng.IntN(n-first)
					held = append(held, hold(t, s, text, first, rows))
					first += rows
				}
				w.AddHeld(ords, text, held)
				elsewhere = true
			}
			text.Release()
			at += n
		}
		w.Keep()
		r := c.Open(7)
		if r == nil || r.Resident() == elsewhere || (c.OpenResident(7) == nil) != elsewhere {
			t.Fatal(r, elsewhere)
		}
		for _, d := range docs {
			if rng.IntN(4) == 0 {
				continue
			}
			text, null, ok := r.Text(d.ord)
			if !ok || null != d.null || !d.null && !bytes.Equal(text, d.text) || r.Err() != nil {
				t.Fatalf("seed %d: document %d: %q, %v, %v, want %q, %v", seed, d.ord, text, null, ok, d.text, d.null)
			}
		}
		r.Close()
		if !elsewhere {
			c.OpenResident(7).Close()
		}
		c.Close()
		if n := s.Close(); n != 0 {
			t.Errorf("%d items are left", n)
		}
	}
}

// What is held is not kept if it is not all of a batch, if the split is given up, or if the store fails, which is no fault of the texts.
func TestHeldInPart(t *testing.T) {
	s, err := mem.NewStore(mem.StoreOptions{Levels: []mem.Level{{Alloc: mem.NewChecked(t, mem.Host())}}})
	if err != nil {
		t.Fatal(err)
	}
	docs := []doc{{1, []byte("one"), false}, {2, []byte("two"), false}}
	text := column(t, docs)
	defer text.Release()
	ords := []uint64{1, 2}
	c := New(AtMost(100))
	w := c.Writer(1)
	w.AddHeld(ords, text, []Held{hold(t, s, text, 0, 1)})
	if w.Wanted() {
		t.Error("a part of a batch is kept")
	}
	w.AddHeld(ords, text, []Held{hold(t, s, text, 0, 2)})
	w.Keep()
	(*Writer)(nil).AddHeld(ords, text, []Held{hold(t, s, text, 0, 2)})
	if r := c.Open(1); r != nil || c.Held() != 0 || s.Stats().Items[mem.TierHost] != 0 {
		t.Errorf("%v, %d bytes, %+v", r, c.Held(), s.Stats())
	}

	w = c.Writer(2)
	h := hold(t, s, text, 0, 2)
	w.AddHeld(ords, text, []Held{h})
	w.Keep()
	h.Item.Drop() // the device is gone
	r := c.Open(2)
	if _, _, ok := r.Text(1); ok || !errors.Is(r.Err(), mem.ErrNoItem) {
		t.Errorf("%v, %v", ok, r.Err())
	}
	r.Close()

	// A sixteenth of the room is for what finds texts elsewhere.
	w = New(AtMost(6 + 2*rowBytes + 1)).Writer(3)
	if w.Room(ords, text, true) || !w.Wanted() || !w.Room(ords, text, false) {
		t.Error("there is room for texts, or none at all")
	}
	c.Close()
	if n := s.Close(); n != 0 {
		t.Errorf("%d items are left", n)
	}
}
