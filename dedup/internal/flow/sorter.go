package flow

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// A Sorter sorts rows in bounded memory: what does not fit is sorted and written to a scratch file as a run, and a
// cursor merges the runs. So what a partition holds may be of any size and shape, and the number of partitions is a
// matter of speed alone. A row is a fixed number of words and, if Blob is set, some bytes.
//
// It is used by one goroutine: Add, then Cursor or Each as often as needed, then Close.
type Sorter struct {
	RowKind
	dir   string // for scratch files
	Limit int64  // bytes held, at most; cursors take as much again each

	blocks [][]uint64 // rows in the order they came, blockRows to a block
	rows   int        // of blocks
	bytes  BlobBlocks
	perm   []sortKey // of the rows, once sorted
	levels []*runFile
	Peak   int64 // the most bytes held
}

// NewSorter returns a sorter that holds limit bytes and keeps what is more in scratch files in dir.
func NewSorter(dir string, kind RowKind, limit int64) *Sorter {
	return &Sorter{RowKind: kind, dir: dir, Limit: limit, bytes: BlobBlocks{block: int(max(1<<10, min(BlobBlock, limit/8)))}}
}

// RowKind says what rows are and how they are sorted.
type RowKind struct {
	Width    int   // words
	Keys     []int // the words that are compared, in this order of importance
	Blob     bool  // whether bytes follow
	ByBytes  bool  // rows with equal keys are compared by their bytes
	Distinct bool  // drop rows that compare as the row before
}

// Whole is the kind of rows that are compared word by word, then by their bytes if they have any.
func Whole(width int, blob bool) RowKind {
	k := RowKind{Width: width, Blob: blob, ByBytes: blob}
	for i := range width {
		k.Keys = append(k.Keys, i)
	}
	return k
}

type sortKey struct {
	key uint64 // the first of the words compared
	row uint32
}

const (
	blockRows = 1 << 12
	// KeyBytes is what sorting takes for a row, beside its words.
	KeyBytes = 16
)

// compare compares row a, with the bytes x, and row b, with y.
func (k *RowKind) compare(a []uint64, x []byte, b []uint64, y []byte) int {
	for _, i := range k.Keys {
		if c := cmp.Compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	if k.ByBytes {
		return bytes.Compare(x, y)
	}
	return 0
}

// held is the bytes that the rows take, with what sorting them will take.
func (s *Sorter) held() int64 {
	return int64(s.rows)*int64(8*s.words()+KeyBytes) + s.bytes.held()
}

// words is the words of a row in memory: where its bytes are is one more.
func (s *Sorter) words() int {
	if s.Blob {
		return s.Width + 2
	}
	return s.Width
}

// Add adds a row, which is copied.
func (s *Sorter) Add(words []uint64, blob []byte) error {
	if s.rows > 0 && (s.held()+int64(len(blob)) > s.Limit || s.rows == 1<<32-1) {
		if err := s.spill(); err != nil {
			return err
		}
	}
	if s.rows%blockRows == 0 {
		if n := s.rows / blockRows; n == len(s.blocks) {
			room := 0
			if n > 0 {
				room = blockRows * s.words()
			}
			s.blocks = append(s.blocks, make([]uint64, 0, room))
		}
	}
	b := &s.blocks[s.rows/blockRows]
	*b = append(*b, words...)
	if s.Blob {
		at := s.bytes.Add(blob)
		*b = append(*b, at, uint64(len(blob)))
	}
	s.rows++
	s.perm = s.perm[:0]
	return nil
}

// row returns row i in the order they came.
func (s *Sorter) row(i uint32) ([]uint64, []byte) {
	w := s.words()
	r := s.blocks[i/blockRows][int(i%blockRows)*w:][:w]
	if !s.Blob {
		return r, nil
	}
	return r[:s.Width], s.bytes.Get(r[s.Width], r[s.Width+1])
}

// sort makes perm.
func (s *Sorter) sort() {
	s.Peak = max(s.Peak, s.held())
	if len(s.perm) == s.rows {
		return
	}
	s.perm = slices.Grow(s.perm[:0], s.rows)
	for i := range uint32(s.rows) {
		w, _ := s.row(i)
		s.perm = append(s.perm, sortKey{w[s.Keys[0]], i})
	}
	slices.SortFunc(s.perm, func(a, b sortKey) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		v, x := s.row(a.row)
		w, y := s.row(b.row)
		return s.compare(v, x, w, y)
	})
}

// spill writes the rows in memory as a run.
func (s *Sorter) spill() error {
	w, err := s.newRun(0)
	if err != nil {
		return err
	}
	c := s.inMemory()
	for c.Next() {
		if err := w.add(c.Row, c.Bytes); err != nil {
			return err
		}
	}
	s.perm, s.rows = s.perm[:0], 0
	for i := range s.blocks {
		s.blocks[i] = s.blocks[i][:0]
	}
	s.bytes.Reset()
	return w.finish()
}

// bufferBytes is the buffer of a run that is being written or read, and fan the number of runs read at one time.
func (s *Sorter) bufferBytes() int { return int(min(256<<10, max(4<<10, s.Limit/64))) }
func (s *Sorter) fan() int         { return int(min(64, max(4, s.Limit/int64(s.bufferBytes())))) }

// runFile holds the runs of one level: those of level 0 were in memory, others come from as many runs as fan.
type runFile struct {
	file *os.File
	runs []sortedRun
	end  int64
}

// sortedRun is one sorted run in a scratch file.
type sortedRun struct {
	from, to int64
	rows     int64
	hash     shuffle.Hash // of the rows: what is read back is what was written
}

// newRun starts a run at a level, first making room there.
func (s *Sorter) newRun(level int) (*runWriter, error) {
	for len(s.levels) <= level {
		f, err := ScratchFile(s.dir, "rows-*")
		if err != nil {
			return nil, err
		}
		s.levels = append(s.levels, &runFile{file: f})
	}
	if len(s.levels[level].runs) == s.fan() {
		if err := s.lift(level); err != nil {
			return nil, err
		}
	}
	l := s.levels[level]
	return &runWriter{kind: &s.RowKind, to: l, run: sortedRun{from: l.end}, w: bufio.NewWriterSize(&fileTail{l}, s.bufferBytes())}, nil
}

// lift merges the runs of a level into one of the next.
func (s *Sorter) lift(level int) error {
	w, err := s.newRun(level + 1)
	if err != nil {
		return err
	}
	l := s.levels[level]
	c, err := s.merge(l)
	if err != nil {
		return err
	}
	for c.Next() {
		if err := w.add(c.Row, c.Bytes); err != nil {
			return err
		}
	}
	if err := errors.Join(c.Err, w.finish()); err != nil {
		return err
	}
	l.runs, l.end = l.runs[:0], 0
	return ScratchError(l.file.Truncate(0))
}

// Cursor starts to walk over all rows in order. After it nothing can be added.
func (s *Sorter) Cursor() (*RowCursor, error) {
	if len(s.levels) == 0 {
		return s.inMemory(), nil
	}
	if s.rows > 0 {
		if err := s.spill(); err != nil {
			return nil, err
		}
		// What was held makes room for the buffers of the runs.
		s.blocks, s.perm, s.bytes = nil, nil, BlobBlocks{}
	}
	for level := 0; ; level++ {
		n := 0
		for _, l := range s.levels {
			n += len(l.runs)
		}
		if n <= s.fan() {
			return s.merge(s.levels...)
		}
		if err := s.lift(level); err != nil {
			return nil, err
		}
	}
}

// Each calls f for every row in order. words and blob are valid during the call. After it nothing can be added.
func (s *Sorter) Each(ctx context.Context, f func(words []uint64, blob []byte) error) error {
	c, err := s.Cursor()
	if err != nil {
		return err
	}
	for n := 0; c.Next(); n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := f(c.Row, c.Bytes); err != nil {
			return err
		}
	}
	return c.Err
}

// Close frees everything. The sorter is empty afterwards.
func (s *Sorter) Close() {
	for _, l := range s.levels {
		_ = l.file.Close() // removed already; nothing in it is needed any more
	}
	s.levels, s.blocks, s.perm, s.rows, s.bytes = nil, nil, nil, 0, BlobBlocks{}
}

// runWriter writes a run.
type runWriter struct {
	kind *RowKind
	to   *runFile
	run  sortedRun
	w    *bufio.Writer
	n    [1]uint64 // scratch
}

// fileTail appends to the file of a level.
type fileTail struct{ l *runFile }

func (t *fileTail) Write(p []byte) (int, error) {
	n, err := t.l.file.WriteAt(p, t.l.end)
	t.l.end += int64(n)
	return n, err
}

func (w *runWriter) add(words []uint64, blob []byte) error {
	w.run.rows++
	w.run.hash = w.run.hash.Add(RecordHash(words, blob, w.kind.Blob))
	_, err := w.w.Write(BytesOf(words))
	if err == nil && w.kind.Blob {
		w.n[0] = uint64(len(blob))
		if _, err = w.w.Write(BytesOf(w.n[:])); err == nil {
			_, err = w.w.Write(blob)
		}
	}
	return ScratchError(err)
}

func (w *runWriter) finish() error {
	err := w.w.Flush()
	w.run.to = w.to.end
	w.to.runs = append(w.to.runs, w.run)
	return ScratchError(err)
}

// RowCursor walks over sorted rows.
type RowCursor struct {
	kind *RowKind
	// The row in hand, valid until the next call of Next.
	Row   []uint64
	Bytes []byte
	Err   error

	mem  *Sorter // rows in memory, at the next of perm
	at   int
	last []uint64 // the row before, where only distinct ones count
	tail []byte   // its bytes
	some bool     // last is set

	heap []*runReader // by their rows; the one in hand is the first
	used bool         // the first has been handed out
}

func (s *Sorter) inMemory() *RowCursor {
	s.sort()
	return &RowCursor{kind: &s.RowKind, mem: s}
}

// merge starts a cursor over all runs of levels.
func (s *Sorter) merge(levels ...*runFile) (*RowCursor, error) {
	c := &RowCursor{kind: &s.RowKind}
	for _, l := range levels {
		for _, run := range l.runs {
			r := &runReader{kind: &s.RowKind, run: run, row: make([]uint64, s.Width)}
			r.r = bufio.NewReaderSize(io.NewSectionReader(l.file, run.from, run.to-run.from), s.bufferBytes())
			ok, err := r.next()
			if err != nil {
				return nil, err
			}
			if ok {
				c.heap = append(c.heap, r)
			}
		}
	}
	for i := len(c.heap)/2 - 1; i >= 0; i-- {
		c.down(i)
	}
	return c, nil
}

// Next moves to the next row and reports whether there is one.
func (c *RowCursor) Next() bool {
	for c.step() {
		if !c.kind.Distinct {
			return true
		}
		if !c.some || c.kind.compare(c.last, c.tail, c.Row, c.Bytes) != 0 {
			c.last, c.tail, c.some = append(c.last[:0], c.Row...), append(c.tail[:0], c.Bytes...), true
			return true
		}
	}
	return false
}

func (c *RowCursor) step() bool {
	if c.Err != nil {
		return false
	}
	if c.mem != nil {
		if c.at == len(c.mem.perm) {
			return false
		}
		c.Row, c.Bytes = c.mem.row(c.mem.perm[c.at].row)
		c.at++
		return true
	}
	if c.used {
		ok, err := c.heap[0].next()
		if err != nil {
			c.Err = err
			return false
		}
		if !ok {
			n := len(c.heap) - 1
			c.heap[0], c.heap = c.heap[n], c.heap[:n]
		}
		c.down(0)
	}
	c.used = true
	if len(c.heap) == 0 {
		return false
	}
	c.Row, c.Bytes = c.heap[0].row, c.heap[0].bytes
	return true
}

// down restores the order of the heap below i.
func (c *RowCursor) down(i int) {
	for {
		least := i
		for k := 2*i + 1; k <= 2*i+2 && k < len(c.heap); k++ {
			if c.kind.compare(c.heap[k].row, c.heap[k].bytes, c.heap[least].row, c.heap[least].bytes) < 0 {
				least = k
			}
		}
		if least == i {
			return
		}
		c.heap[i], c.heap[least] = c.heap[least], c.heap[i]
		i = least
	}
}

// runReader reads a run.
type runReader struct {
	kind  *RowKind
	run   sortedRun
	r     *bufio.Reader
	row   []uint64
	bytes []byte
	seen  int64
	hash  shuffle.Hash
	n     [1]uint64 // scratch
}

func (r *runReader) next() (bool, error) {
	if r.seen == r.run.rows {
		if !r.hash.Equal(r.run.hash) {
			return false, errors.New("dedup: scratch file of rows: the rows are not those that were written; the disk or memory is faulty")
		}
		return false, nil
	}
	r.seen++
	if _, err := io.ReadFull(r.r, BytesOf(r.row)); err != nil {
		return false, ScratchError(err)
	}
	if r.kind.Blob {
		if _, err := io.ReadFull(r.r, BytesOf(r.n[:])); err != nil {
			return false, ScratchError(err)
		}
		n := r.n[0]
		if n > uint64(r.run.to-r.run.from) {
			return false, ScratchError(errors.New("a row claims more bytes than there are"))
		}
		r.bytes = slices.Grow(r.bytes[:0], int(n))[:n]
		if _, err := io.ReadFull(r.r, r.bytes); err != nil {
			return false, ScratchError(err)
		}
	}
	r.hash = r.hash.Add(RecordHash(r.row, r.bytes, r.kind.Blob))
	return true, nil
}

// BlobBlocks holds runs of bytes without moving them.
type BlobBlocks struct {
	block  int // bytes of a block; 0 means BlobBlock
	blocks [][]byte
	at     int // the block being filled
	n      int64
}

// BlobBlock is the bytes of a block of [BlobBlocks], unless one run of bytes is longer.
const BlobBlock = 64 << 10

// Add copies b and returns where it is.
func (a *BlobBlocks) Add(b []byte) (place uint64) {
	if len(b) == 0 {
		return 0
	}
	for ; a.at < len(a.blocks); a.at++ {
		if n := len(a.blocks[a.at]); n+len(b) <= cap(a.blocks[a.at]) {
			a.blocks[a.at] = append(a.blocks[a.at], b...)
			return uint64(a.at)<<32 | uint64(n)
		}
	}
	n := max(cmp.Or(a.block, BlobBlock), len(b))
	a.blocks = append(a.blocks, append(make([]byte, 0, n), b...))
	a.n += int64(n)
	return uint64(a.at) << 32
}

// Get returns the n bytes at a place that Add returned, valid until Reset.
func (a *BlobBlocks) Get(place, n uint64) []byte {
	if n == 0 {
		return nil
	}
	return a.blocks[place>>32][place&(1<<32-1):][:n]
}

// held is the memory of all blocks.
func (a *BlobBlocks) held() int64 { return a.n }

// Reset forgets what was added and keeps blocks of the usual size to be filled again.
func (a *BlobBlocks) Reset() {
	a.blocks = slices.DeleteFunc(a.blocks, func(b []byte) bool { return cap(b) > 2*cmp.Or(a.block, BlobBlock) })
	a.at, a.n = 0, 0
	for i := range a.blocks {
		a.blocks[i] = a.blocks[i][:0]
		a.n += int64(cap(a.blocks[i]))
	}
}

// ScratchFile makes a file that lives as long as it is open, whatever happens to this process.
func ScratchFile(dir, pattern string) (*os.File, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, ScratchError(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(ScratchError(err), f.Close())
	}
	return f, nil
}

// ScratchError says of an error that it is about a scratch file; nil stays nil.
func ScratchError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("dedup: scratch file: %w", err)
}
