package dedup

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// A sorter sorts rows in bounded memory: what does not fit is sorted and written to a scratch file as a run, and a
// cursor merges the runs. So what a partition holds may be of any size and shape, and the number of partitions is a
// matter of speed alone. A row is a fixed number of words and, if blob is set, some bytes.
//
// It is used by one goroutine: add, then cursor as often as needed, then close.
type sorter struct {
	rowKind
	dir   string // for scratch files
	limit int64  // bytes held, at most; cursors take as much again each

	blocks [][]uint64 // rows in the order they came, blockRows to a block
	rows   int        // of blocks
	bytes  blobBlocks
	perm   []sortKey // of the rows, once sorted
	levels []*runFile
	peak   int64 // the most bytes held
}

// sorter returns one that takes 1/part of an actor's share of memory.
func (r *run) sorter(env *executor.Env, kind rowKind, part int64) *sorter {
	limit := r.plan.share / part
	return &sorter{rowKind: kind, dir: env.SpillDir, limit: limit, bytes: blobBlocks{block: int(max(1<<10, min(blobBlock, limit/8)))}}
}

// rowKind says what rows are and how they are sorted.
type rowKind struct {
	width    int   // words
	keys     []int // the words that are compared, in this order of importance
	blob     bool  // whether bytes follow
	distinct bool  // drop rows whose keys are those of the row before
}

type sortKey struct {
	key uint64 // the first of the words compared
	row uint32
}

const (
	blockRows = 1 << 12
	keyBytes  = 16 // of a sortKey
)

// compare compares two rows by their keys.
func (k *rowKind) compare(a, b []uint64) int {
	for _, i := range k.keys {
		if c := cmp.Compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

// held is the bytes that the rows take, with what sorting them will take.
func (s *sorter) held() int64 {
	return int64(s.rows)*int64(8*s.words()+keyBytes) + s.bytes.held()
}

// words is the words of a row in memory: where its bytes are is one more.
func (s *sorter) words() int {
	if s.blob {
		return s.width + 2
	}
	return s.width
}

// add adds a row, which is copied.
func (s *sorter) add(words []uint64, blob []byte) error {
	if s.rows > 0 && (s.held()+int64(len(blob)) > s.limit || s.rows == 1<<32-1) {
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
	if s.blob {
		at := s.bytes.add(blob)
		*b = append(*b, at, uint64(len(blob)))
	}
	s.rows++
	s.perm = s.perm[:0]
	return nil
}

// row returns row i in the order they came.
func (s *sorter) row(i uint32) ([]uint64, []byte) {
	w := s.words()
	r := s.blocks[i/blockRows][int(i%blockRows)*w:][:w]
	if !s.blob {
		return r, nil
	}
	return r[:s.width], s.bytes.get(r[s.width], r[s.width+1])
}

// sort makes perm.
func (s *sorter) sort() {
	s.peak = max(s.peak, s.held())
	if len(s.perm) == s.rows {
		return
	}
	s.perm = slices.Grow(s.perm[:0], s.rows)
	for i := range uint32(s.rows) {
		w, _ := s.row(i)
		s.perm = append(s.perm, sortKey{w[s.keys[0]], i})
	}
	slices.SortFunc(s.perm, func(a, b sortKey) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		x, _ := s.row(a.row)
		y, _ := s.row(b.row)
		return s.compare(x, y)
	})
}

// spill writes the rows in memory as a run.
func (s *sorter) spill() error {
	w, err := s.newRun(0)
	if err != nil {
		return err
	}
	c := s.inMemory()
	for c.next() {
		if err := w.add(c.row, c.bytes); err != nil {
			return err
		}
	}
	s.perm, s.rows = s.perm[:0], 0
	for i := range s.blocks {
		s.blocks[i] = s.blocks[i][:0]
	}
	s.bytes.reset()
	return w.finish()
}

// bufferBytes is the buffer of a run that is being written or read, and fan the number of runs read at one time.
func (s *sorter) bufferBytes() int { return int(min(256<<10, max(4<<10, s.limit/64))) }
func (s *sorter) fan() int         { return int(min(64, max(4, s.limit/int64(s.bufferBytes())))) }

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
func (s *sorter) newRun(level int) (*runWriter, error) {
	for len(s.levels) <= level {
		f, err := scratchFile(s.dir, "rows-*")
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
	return &runWriter{kind: &s.rowKind, to: l, run: sortedRun{from: l.end}, w: bufio.NewWriterSize(&fileTail{l}, s.bufferBytes())}, nil
}

// lift merges the runs of a level into one of the next.
func (s *sorter) lift(level int) error {
	w, err := s.newRun(level + 1)
	if err != nil {
		return err
	}
	l := s.levels[level]
	c, err := s.merge(l)
	if err != nil {
		return err
	}
	for c.next() {
		if err := w.add(c.row, c.bytes); err != nil {
			return err
		}
	}
	if err := errors.Join(c.err, w.finish()); err != nil {
		return err
	}
	l.runs, l.end = l.runs[:0], 0
	return scratchError(l.file.Truncate(0))
}

// cursor starts to walk over all rows in order. After it nothing can be added.
func (s *sorter) cursor() (*rowCursor, error) {
	if len(s.levels) == 0 {
		return s.inMemory(), nil
	}
	if s.rows > 0 {
		if err := s.spill(); err != nil {
			return nil, err
		}
		// What was held makes room for the buffers of the runs.
		s.blocks, s.perm, s.bytes = nil, nil, blobBlocks{}
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

// close frees everything. The sorter is empty afterwards.
func (s *sorter) close() {
	for _, l := range s.levels {
		_ = l.file.Close() // removed already; nothing in it is needed any more
	}
	s.levels, s.blocks, s.perm, s.rows, s.bytes = nil, nil, nil, 0, blobBlocks{}
}

// runWriter writes a run.
type runWriter struct {
	kind *rowKind
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
	w.run.hash = w.run.hash.Add(recordHash(words, blob, w.kind.blob))
	_, err := w.w.Write(bytesOf(words))
	if err == nil && w.kind.blob {
		w.n[0] = uint64(len(blob))
		if _, err = w.w.Write(bytesOf(w.n[:])); err == nil {
			_, err = w.w.Write(blob)
		}
	}
	return scratchError(err)
}

func (w *runWriter) finish() error {
	err := w.w.Flush()
	w.run.to = w.to.end
	w.to.runs = append(w.to.runs, w.run)
	return scratchError(err)
}

// rowCursor walks over sorted rows.
type rowCursor struct {
	kind *rowKind
	// The row in hand, valid until the next call of next.
	row   []uint64
	bytes []byte
	err   error

	mem  *sorter // rows in memory, at the next of perm
	at   int
	last []uint64 // the row before, where only distinct ones count
	some bool     // last is set

	heap []*runReader // by their rows; the one in hand is the first
	used bool         // the first has been handed out
}

func (s *sorter) inMemory() *rowCursor {
	s.sort()
	return &rowCursor{kind: &s.rowKind, mem: s}
}

// merge starts a cursor over all runs of levels.
func (s *sorter) merge(levels ...*runFile) (*rowCursor, error) {
	c := &rowCursor{kind: &s.rowKind}
	for _, l := range levels {
		for _, run := range l.runs {
			r := &runReader{kind: &s.rowKind, run: run, row: make([]uint64, s.width)}
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

// next moves to the next row and reports whether there is one.
func (c *rowCursor) next() bool {
	for c.step() {
		if !c.kind.distinct {
			return true
		}
		if !c.some || c.kind.compare(c.last, c.row) != 0 {
			c.last, c.some = append(c.last[:0], c.row...), true
			return true
		}
	}
	return false
}

func (c *rowCursor) step() bool {
	if c.err != nil {
		return false
	}
	if c.mem != nil {
		if c.at == len(c.mem.perm) {
			return false
		}
		c.row, c.bytes = c.mem.row(c.mem.perm[c.at].row)
		c.at++
		return true
	}
	if c.used {
		ok, err := c.heap[0].next()
		if err != nil {
			c.err = err
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
	c.row, c.bytes = c.heap[0].row, c.heap[0].bytes
	return true
}

// down restores the order of the heap below i.
func (c *rowCursor) down(i int) {
	for {
		least := i
		for k := 2*i + 1; k <= 2*i+2 && k < len(c.heap); k++ {
			if c.kind.compare(c.heap[k].row, c.heap[least].row) < 0 {
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
	kind  *rowKind
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
	if _, err := io.ReadFull(r.r, bytesOf(r.row)); err != nil {
		return false, scratchError(err)
	}
	if r.kind.blob {
		if _, err := io.ReadFull(r.r, bytesOf(r.n[:])); err != nil {
			return false, scratchError(err)
		}
		n := r.n[0]
		if n > uint64(r.run.to-r.run.from) {
			return false, scratchError(errors.New("a row claims more bytes than there are"))
		}
		r.bytes = slices.Grow(r.bytes[:0], int(n))[:n]
		if _, err := io.ReadFull(r.r, r.bytes); err != nil {
			return false, scratchError(err)
		}
	}
	r.hash = r.hash.Add(recordHash(r.row, r.bytes, r.kind.blob))
	return true, nil
}

// blobBlocks holds runs of bytes without moving them.
type blobBlocks struct {
	block  int // bytes of a block; 0 means blobBlock
	blocks [][]byte
	at     int // the block being filled
	n      int64
}

const blobBlock = 64 << 10

// add copies b and returns where it is.
func (a *blobBlocks) add(b []byte) (place uint64) {
	if len(b) == 0 {
		return 0
	}
	for ; a.at < len(a.blocks); a.at++ {
		if n := len(a.blocks[a.at]); n+len(b) <= cap(a.blocks[a.at]) {
			a.blocks[a.at] = append(a.blocks[a.at], b...)
			return uint64(a.at)<<32 | uint64(n)
		}
	}
	n := max(cmp.Or(a.block, blobBlock), len(b))
	a.blocks = append(a.blocks, append(make([]byte, 0, n), b...))
	a.n += int64(n)
	return uint64(a.at) << 32
}

func (a *blobBlocks) get(place, n uint64) []byte {
	if n == 0 {
		return nil
	}
	return a.blocks[place>>32][place&(1<<32-1):][:n]
}

// held is the memory of all blocks.
func (a *blobBlocks) held() int64 { return a.n }

// reset forgets what was added and keeps blocks of the usual size to be filled again.
func (a *blobBlocks) reset() {
	a.blocks = slices.DeleteFunc(a.blocks, func(b []byte) bool { return cap(b) > 2*cmp.Or(a.block, blobBlock) })
	a.at, a.n = 0, 0
	for i := range a.blocks {
		a.blocks[i] = a.blocks[i][:0]
		a.n += int64(cap(a.blocks[i]))
	}
}

// scratchFile makes a file that lives as long as it is open, whatever happens to this process.
func scratchFile(dir, pattern string) (*os.File, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, scratchError(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(scratchError(err), f.Close())
	}
	return f, nil
}

func scratchError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("dedup: scratch file: %w", err)
}
