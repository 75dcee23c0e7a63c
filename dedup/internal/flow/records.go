package flow

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/internal/rowloops"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Everything the pipeline shuffles is a record: a few uint64 words and sometimes one run of bytes. A chunk
// holds records of one layout:
//
//	Meta  kind (1 byte), words per record (1 byte), has bytes (1 byte)
//	Data  rows x words uint64, record after record; then, if it has bytes, rows+1 uint32 offsets and the bytes
//
// All integers are little-endian. A record's hash is taken when it is added, and compared when the chunk
// is opened at its destination, so a record that was bent on the way, in memory or on the wire, is noticed.

// Layout describes the records of a chunk.
type Layout struct {
	Kind  byte // tells apart the layouts that share a shuffle
	Words int  // uint64 words per record, at most 255
	Blob  bool // whether a run of bytes follows
}

func (l Layout) meta() []byte {
	m := []byte{l.Kind, byte(l.Words), 0}
	if l.Blob {
		m[2] = 1
	}
	return m
}

// RecordHash is the two-word hash of one record. Its sum over records is their multiset hash.
func RecordHash(words []uint64, blob []byte, hasBlob bool) shuffle.Hash {
	a, b := rowloops.BeginRecord()
	for _, w := range words {
		a, b = rowloops.FoldRecord(a, b, w)
	}
	if hasBlob {
		h := xxh3.Hash128(blob)
		a, b = rowloops.FoldRecord(a, b, h.Hi)
		a, b = rowloops.FoldRecord(a, b, h.Lo)
	}
	a, b = rowloops.EndRecord(a, b)
	return shuffle.Hash{A: a, B: b}
}

// ChunkSink takes finished chunks; it is the part of executor.PartWriter that a RecordWriter needs.
type ChunkSink interface {
	Alloc(ctx context.Context, n int) (*mem.Buffer, error)
	Insert(ctx context.Context, c shuffle.Chunk) error
	Wanted(part int) bool
}

// RecordWriter gathers records of one layout by partition and inserts them as chunks. It is used by one
// goroutine. Its memory is bounded: when all partitions together hold more than total bytes, all are
// flushed.
type RecordWriter struct {
	out    ChunkSink
	layout Layout
	parts  []recordBuffer
	skip   []bool // partitions that nobody wants
	chunk  int    // bytes from which a partition is flushed
	total  int    // bytes over all partitions from which everything is flushed
	held   int
}

type recordBuffer struct {
	words   []uint64
	offsets []uint32
	blob    []byte
	hash    shuffle.Hash
}

// ChunkBytes is the size of chunks where there are few partitions; with many they are smaller.
const ChunkBytes = 256 << 10

// MinChunk is the least that is worth a chunk of its own. The number of partitions is bounded so that chunks are
// seldom smaller, however little memory there is.
const MinChunk = 4 << 10

// NewRecordWriter returns a writer of records of layout l for parts partitions whose buffers hold total bytes at most.
func NewRecordWriter(out ChunkSink, l Layout, parts, total int) *RecordWriter {
	w := &RecordWriter{out: out, layout: l, parts: make([]recordBuffer, parts), skip: make([]bool, parts), total: total}
	w.chunk = min(ChunkBytes, max(MinChunk, total/parts))
	for p := range w.skip {
		w.skip[p] = !out.Wanted(p)
	}
	return w
}

// Add adds a record to a partition; words has layout.words entries and is copied.
func (w *RecordWriter) Add(ctx context.Context, part int, words ...uint64) error {
	return w.AddBlob(ctx, part, nil, words...)
}

// AddBlob adds a record with bytes, which are copied.
func (w *RecordWriter) AddBlob(ctx context.Context, part int, blob []byte, words ...uint64) error {
	if w.skip[part] {
		return nil
	}
	b := &w.parts[part]
	if len(b.blob)+len(blob) > math.MaxUint32 {
		return fmt.Errorf("dedup: a document of %d bytes: at most 4 GiB can be compared", len(blob))
	}
	h := RecordHash(words, blob, w.layout.Blob)
	b.hash = b.hash.Add(h)
	b.words = append(b.words, words...)
	size := 8 * len(words)
	if w.layout.Blob {
		b.offsets = append(b.offsets, uint32(len(b.blob)))
		b.blob = append(b.blob, blob...)
		size += 4 + len(blob)
	}
	w.held += size
	if b.size() >= w.chunk {
		return w.flushPart(ctx, part)
	}
	if w.held >= w.total {
		return w.Flush(ctx)
	}
	return nil
}

func (b *recordBuffer) size() int { return 8*len(b.words) + 4*len(b.offsets) + len(b.blob) }

// Flush inserts everything that is held.
func (w *RecordWriter) Flush(ctx context.Context) error {
	for p := range w.parts {
		if err := w.flushPart(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (w *RecordWriter) flushPart(ctx context.Context, part int) error {
	b := &w.parts[part]
	if len(b.words) == 0 {
		return nil
	}
	rows := len(b.words) / w.layout.Words
	size := b.size()
	n := size
	if w.layout.Blob {
		n += 4 // one offset more than rows
	}
	buf, err := w.out.Alloc(ctx, n)
	if err != nil {
		return err
	}
	data := buf.Bytes()
	copy(data, BytesOf(b.words))
	if w.layout.Blob {
		at := 8 * len(b.words)
		at += copy(data[at:], BytesOf(b.offsets))
		binary.LittleEndian.PutUint32(data[at:], uint32(len(b.blob)))
		copy(data[at+4:], b.blob)
	}
	c := shuffle.Chunk{Partition: part, Rows: int64(rows), Hash: b.hash, Meta: w.layout.meta(), Data: buf}
	w.held -= size
	b.words, b.offsets, b.blob, b.hash = b.words[:0], b.offsets[:0], b.blob[:0], shuffle.Hash{}
	// Rows often come partition after partition. Buffers kept from all of them would add up beyond total, and
	// one huge document should not be held for the rest of the task.
	if len(w.parts)*w.chunk > w.total || cap(b.blob) > 4*w.chunk {
		*b = recordBuffer{}
	}
	return w.out.Insert(ctx, c)
}

// Records is a view of the records of a chunk, valid as long as the chunk's buffer.
type Records struct {
	words   []uint64
	width   int
	offsets []uint32 // rows+1, nil without bytes
	blob    []byte
}

// OpenRecords checks that the chunk has the layout and that its records are those that were inserted.
func OpenRecords(c shuffle.Chunk, l Layout) (Records, error) {
	r, err := viewRecords(c, l)
	if err != nil {
		return r, err
	}
	var sum shuffle.Hash
	if l.Blob {
		for i := range r.Rows() {
			sum = sum.Add(RecordHash(r.At(i), r.Bytes(i), true))
		}
	} else {
		sum = RecordSum(r.words, r.width)
	}
	if sum != c.Hash {
		return Records{}, fmt.Errorf("dedup: chunk of partition %d: its records are not those that were inserted: memory or a link is faulty",
			c.Partition)
	}
	return r, nil
}

// viewRecords checks that the chunk has the layout.
func viewRecords(c shuffle.Chunk, l Layout) (Records, error) {
	bad := func(what string) (Records, error) {
		return Records{}, fmt.Errorf("dedup: chunk of partition %d: %s", c.Partition, what)
	}
	if len(c.Meta) != 3 || c.Meta[0] != l.Kind || int(c.Meta[1]) != l.Words || (c.Meta[2] == 1) != l.Blob {
		return bad("unexpected layout")
	}
	data := c.Data.Bytes()
	if c.Rows < 0 || c.Rows > int64(len(data))/int64(8*l.Words) {
		return bad("its row count does not fit its length")
	}
	n := int(c.Rows) * l.Words
	r := Records{words: uint64sOf(data[:8*n]), width: l.Words}
	data = data[8*n:]
	if l.Blob {
		k := int(c.Rows) + 1
		if len(data) < 4*k {
			return bad("its offsets are cut off")
		}
		r.offsets = uint32sOf(data[:4*k])
		r.blob = data[4*k:]
		if !slices.IsSorted(r.offsets) || r.offsets[0] != 0 || int(r.offsets[k-1]) != len(r.blob) {
			return bad("its offsets do not fit its length")
		}
	} else if len(data) != 0 {
		return bad("it is longer than its records")
	}
	return r, nil
}

// Rows returns the number of records.
func (r *Records) Rows() int { return len(r.words) / r.width }

// At returns the words of record i.
func (r *Records) At(i int) []uint64 { return r.words[i*r.width : (i+1)*r.width] }

// Bytes returns the bytes of record i, nil if records have none.
func (r *Records) Bytes(i int) []byte {
	if r.offsets == nil {
		return nil
	}
	return r.blob[r.offsets[i]:r.offsets[i+1]]
}

// The pipeline runs on little-endian machines only (endian.go refuses others), so that words can be
// viewed in place. Buffers are aligned to 64 bytes, and every section starts at a multiple of its
// element size.

// BytesOf views words as their bytes.
func BytesOf[T uint64 | uint32](v []T) []byte {
	var t T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(t)))
}

// uint64sOf views bytes, which are aligned, as words.
func uint64sOf(b []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}

// Uint64sAt views bytes as words wherever they lie: it copies them if they are not aligned.
func Uint64sAt(b []byte) []uint64 {
	if uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 == 0 {
		return uint64sOf(b)
	}
	return uint64sOf(append(BytesOf(make([]uint64, len(b)/8))[:0], b...))
}

func uint32sOf(b []byte) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}
