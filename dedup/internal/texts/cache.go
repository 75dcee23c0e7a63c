package texts

import (
	"context"
	"slices"
	"sort"
	"sync"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Cache keeps texts. Its methods may be called by several goroutines at a time, and on nil, which keeps nothing.
type Cache struct {
	room func(held, more int64) bool

	mu     sync.Mutex
	held   int64
	splits map[int]*kept
	closed bool
}

// New returns a cache. room is asked before bytes are taken beside those that are held; one goroutine asks at a time.
func New(room func(held, more int64) bool) *Cache {
	return &Cache{room: room, splits: make(map[int]*kept)}
}

// AtMost is a room of n bytes.
func AtMost(n int64) func(held, more int64) bool {
	return func(held, more int64) bool { return held+more <= n }
}

// kept is the texts of a split. The cache has a reference to it, and every reader.
type kept struct {
	refs   int // under the lock of the cache
	blocks []block
	bytes  int64
}

// block is consecutive documents of a split.
type block struct {
	ords []uint64
	ends []int64     // of the texts in data
	null []bool      // nil if there is none
	data *mem.Buffer // nil if a device holds them
	item *mem.Item
	at   int // where the texts begin in item
}

// Held is rows of a batch, from First on, whose texts a device holds: one after another in Item, from At on.
type Held struct {
	First, Rows int
	Item        *mem.Item
	At          int
}

// rowBytes is what a document takes beside its text.
const rowBytes = 8 + 8

// Writer keeps the texts of a split; it belongs to one goroutine. It does nothing if it is nil.
type Writer struct {
	cache *Cache
	split int
	kept  *kept
	full  bool // there was no room
}

// Writer begins to keep the texts of a split. The caller ends it by Keep or Drop.
func (c *Cache) Writer(split int) *Writer {
	if c == nil {
		return nil
	}
	return &Writer{cache: c, split: split, kept: &kept{refs: 1}}
}

// Wanted reports whether the split may still be kept.
func (w *Writer) Wanted() bool { return w != nil && !w.full }

// Room reports whether there is room for documents, and takes it, for Add. If there is none the split is not kept, unless elsewhere
// says that there is another place for texts, for AddHeld; then a sixteenth of the room is left, for what finds them there.
func (w *Writer) Room(ords []uint64, text *mem.Strings, elsewhere bool) bool {
	if w == nil || w.full {
		return false
	}
	off := text.OffsetValues()
	need := off[len(ords)] - off[0] + rowBytes*int64(len(ords))
	if w.cache.take(need, elsewhere) {
		w.kept.bytes += need
		return true
	}
	if !elsewhere {
		w.giveUp()
	}
	return false
}

// Add keeps copies of documents for which Room was taken, and whose ordinals ascend and follow those that were added.
func (w *Writer) Add(ords []uint64, text *mem.Strings) {
	if w == nil || w.full || len(ords) == 0 {
		return
	}
	off := text.OffsetValues()
	n := off[len(ords)] - off[0]
	data, err := mem.Host().Alloc(int(n))
	if err != nil {
		w.giveUp()
		return
	}
	copy(data.Bytes(), text.Data.Bytes()[off[0]:])
	b := describe(ords, text, 0, len(ords))
	b.data = data
	w.kept.blocks = append(w.kept.blocks, b)
}

// AddHeld keeps documents, as Add does, whose texts a device holds. It takes the items. If they are not all texts of the batch, or
// there is no room for what finds them, the split is not kept.
func (w *Writer) AddHeld(ords []uint64, text *mem.Strings, held []Held) {
	rows, at := 0, 0
	for _, h := range held {
		rows += h.Rows
	}
	need := rowBytes * int64(rows)
	switch {
	case w.Wanted() && len(ords) == 0:
		return
	case w.Wanted() && rows == len(ords) && w.cache.take(need, false):
		w.kept.bytes += need
	default:
		for _, h := range held {
			h.Item.Drop()
		}
		if w.Wanted() {
			w.giveUp()
		}
		return
	}
	for _, h := range held {
		b := describe(ords, text, at, h.Rows)
		b.item, b.at = h.Item, h.At
		w.kept.blocks = append(w.kept.blocks, b)
		at += h.Rows
	}
}

// describe returns a block of rows from first on, without their texts.
func describe(ords []uint64, text *mem.Strings, first, rows int) block {
	off := text.OffsetValues()[first:]
	b := block{ords: append([]uint64(nil), ords[first:first+rows]...), ends: make([]int64, rows)}
	for i := range rows {
		b.ends[i] = off[i+1] - off[0]
		if text.IsNull(first + i) {
			if b.null == nil {
				b.null = make([]bool, rows)
			}
			b.null[i] = true
		}
	}
	return b
}

// Keep makes the split available, in place of what there was of it.
func (w *Writer) Keep() {
	if w == nil || w.full {
		return
	}
	c := w.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.release(w.kept)
		return
	}
	if old := c.splits[w.split]; old != nil {
		c.release(old)
	}
	c.splits[w.split] = w.kept
	w.kept = &kept{refs: 1}
}

// giveUp forgets the split for good.
func (w *Writer) giveUp() {
	w.Drop()
	w.full = true
}

// Drop forgets what was added; the writer may go on from the start of the split.
func (w *Writer) Drop() {
	if w == nil || w.full {
		return
	}
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	w.cache.release(w.kept)
	w.kept = &kept{refs: 1}
}

// take takes bytes, if there is room, or with leave if a sixteenth of it stays.
func (c *Cache) take(n int64, leave bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := n
	if leave {
		all += (c.held + n) / 15
	}
	if c.closed || !c.room(c.held, all) {
		return false
	}
	c.held += n
	return true
}

// release gives up a reference. The caller holds the lock.
func (c *Cache) release(k *kept) {
	if k.refs--; k.refs > 0 {
		return
	}
	for _, b := range k.blocks {
		b.data.Release()
		if b.item != nil {
			b.item.Drop()
		}
	}
	c.held -= k.bytes
	k.blocks, k.bytes = nil, 0
}

// Held returns the bytes that are held.
func (c *Cache) Held() int64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// Close forgets all splits. Readers stay valid until they are closed.
func (c *Cache) Close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for split, k := range c.splits {
		c.release(k)
		delete(c.splits, split)
	}
}

// Reader finds the texts of a split. It belongs to one goroutine.
type Reader struct {
	cache  *Cache
	kept   *kept
	block  int
	at     int         // of the block
	loaded int         // 1 + the block that held is of
	held   *mem.Buffer // a copy of the texts of a block that a device holds
	err    error
}

// Open returns a reader of a split, which the caller closes, or nil if it is not kept.
func (c *Cache) Open(split int) *Reader {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.splits[split]
	if k == nil {
		return nil
	}
	k.refs++
	return &Reader{cache: c, kept: k}
}

// OpenResident is Open for splits whose texts are all in this process's memory, where they may be found in any order.
func (c *Cache) OpenResident(split int) *Reader {
	r := c.Open(split)
	if r.Resident() {
		return r
	}
	r.Close()
	return nil
}

// Resident reports whether the texts are in this process's memory; it may be called on nil, which has none.
func (r *Reader) Resident() bool {
	return r != nil && !slices.ContainsFunc(r.kept.blocks, func(b block) bool { return b.item != nil })
}

// Err returns why a text could not be had from the device that holds it.
func (r *Reader) Err() error { return r.err }

// texts returns the texts of a block.
func (r *Reader) texts(i int) []byte {
	b := &r.kept.blocks[i]
	if b.item == nil {
		return b.data.Bytes()
	}
	if r.loaded == i+1 {
		return r.held.Bytes()
	}
	r.held.Release()
	r.held, r.loaded = nil, 0
	copied, err := mem.Host().Alloc(int(b.ends[len(b.ends)-1]))
	if err == nil {
		if err = b.item.Read(context.Background(), copied, b.at); err != nil {
			copied.Release()
		}
	}
	if err != nil {
		r.err = err
		return nil
	}
	r.held, r.loaded = copied, i+1
	return copied.Bytes()
}

// Text returns the text of a document, which is valid until the reader is closed, or, if it is not Resident, until the next call;
// ok is false if the split has no such document, or there is an Err. Ordinals must ascend from call to call, but after one of Find; the same one may be asked for again.
func (r *Reader) Text(ord uint64) (text []byte, null, ok bool) {
	for ; r.block < len(r.kept.blocks); r.block, r.at = r.block+1, 0 {
		b := &r.kept.blocks[r.block]
		if b.ords[len(b.ords)-1] < ord {
			continue
		}
		for b.ords[r.at] < ord {
			r.at++
		}
		if b.ords[r.at] != ord {
			return nil, false, false
		}
		from := int64(0)
		if r.at > 0 {
			from = b.ends[r.at-1]
		}
		data := r.texts(r.block)
		if r.err != nil {
			return nil, false, false
		}
		return data[from:b.ends[r.at]:b.ends[r.at]], b.null != nil && b.null[r.at], true
	}
	return nil, false, false
}

// Find is Text for documents in any order.
func (r *Reader) Find(ord uint64) (text []byte, null, ok bool) {
	i := sort.Search(len(r.kept.blocks), func(i int) bool { b := r.kept.blocks[i].ords; return b[len(b)-1] >= ord })
	if i == len(r.kept.blocks) {
		return nil, false, false
	}
	r.block = i
	r.at, _ = slices.BinarySearch(r.kept.blocks[i].ords, ord)
	return r.Text(ord)
}

// Close ends the use of texts. It may be called again, and on nil.
func (r *Reader) Close() {
	if r == nil || r.kept == nil {
		return
	}
	r.held.Release()
	r.held, r.loaded = nil, 0
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	r.cache.release(r.kept)
	r.kept = nil
}
