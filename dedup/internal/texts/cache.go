package texts

import (
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
	chunks map[Place]uint64
	bytes  int64
}

// Place is a row group of a file.
type Place struct{ File, Group int }

// chunkBytes is about what the hash of a row group takes.
const chunkBytes = 64

// block is consecutive documents of a split.
type block struct {
	ords []uint64
	ends []int64 // of the texts in data
	null []bool  // nil if there is none
	data *mem.Buffer
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

// Add keeps copies of documents, whose ordinals ascend and follow those that were added. If there is no room for them the
// split is not kept.
func (w *Writer) Add(ords []uint64, text *mem.Strings) {
	if w == nil || w.full || len(ords) == 0 {
		return
	}
	off := text.OffsetValues()
	n := off[len(ords)] - off[0]
	need := n + rowBytes*int64(len(ords))
	if !w.cache.take(need) {
		w.giveUp()
		return
	}
	w.kept.bytes += need
	data, err := mem.Host().Alloc(int(n))
	if err != nil {
		w.giveUp()
		return
	}
	copy(data.Bytes(), text.Data.Bytes()[off[0]:])
	b := block{ords: append([]uint64(nil), ords...), ends: make([]int64, len(ords)), data: data}
	for i := range ords {
		b.ends[i] = off[i+1] - off[0]
		if text.IsNull(i) {
			if b.null == nil {
				b.null = make([]bool, len(ords))
			}
			b.null[i] = true
		}
	}
	w.kept.blocks = append(w.kept.blocks, b)
}

// Chunk keeps the hash of the bytes that the texts of a row group are in.
func (w *Writer) Chunk(at Place, sum uint64) {
	if w == nil || w.full || !w.cache.take(chunkBytes) {
		return
	}
	w.kept.bytes += chunkBytes
	if w.kept.chunks == nil {
		w.kept.chunks = make(map[Place]uint64)
	}
	w.kept.chunks[at] = sum
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

// take takes bytes, if there is room.
func (c *Cache) take(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.room(c.held, n) {
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
	}
	c.held -= k.bytes
	k.blocks, k.chunks, k.bytes = nil, nil, 0
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
	cache *Cache
	kept  *kept
	block int
	at    int // of the block
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

// Text returns the text of a document, which is valid until the reader is closed; ok is false if the split has no such
// document. Ordinals must ascend from call to call, but after one of Find; the same one may be asked for again.
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
		return b.data.Bytes()[from:b.ends[r.at]:b.ends[r.at]], b.null != nil && b.null[r.at], true
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

// Chunk returns what was kept of a row group.
func (r *Reader) Chunk(at Place) (sum uint64, ok bool) {
	sum, ok = r.kept.chunks[at]
	return sum, ok
}

// Close ends the use of texts. It may be called again, and on nil.
func (r *Reader) Close() {
	if r == nil || r.kept == nil {
		return
	}
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	r.cache.release(r.kept)
	r.kept = nil
}
