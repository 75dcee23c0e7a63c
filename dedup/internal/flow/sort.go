package flow

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"os"
	"slices"

	"github.com/dovetail-dedup/dovetail/internal/colfile"
)

// Sorter sorts rows of equal width, in memory while they fit and on disk otherwise: sorted runs that are merged when they
// are read. Rows are compared word by word, then by their bytes.
type Sorter struct {
	dir   string
	words int
	blob  bool
	limit int // bytes in memory

	data    []uint64
	offsets []uint32 // starts of the rows' bytes
	bytes   []byte
	runs    []string
	rows    int64
	perm    []uint32 // order of the rows in memory, nil if it is not known
}

// mergeFan is how many runs are merged at a time.
const mergeFan = 32

// NewSorter returns a sorter of rows of a number of words, each with a run of bytes behind it if blob is set. It holds
// about limit bytes and puts what is more into files in dir, which [Sorter.Close] removes.
func NewSorter(dir string, words int, blob bool, limit int64) *Sorter {
	return &Sorter{dir: dir, words: words, blob: blob, limit: int(max(limit, 64<<10))}
}

// Rows returns the number of rows added.
func (s *Sorter) Rows() int64 { return s.rows }

// Add adds a row, which is copied.
func (s *Sorter) Add(words []uint64, blob []byte) error {
	s.perm = nil
	s.data = append(s.data, words[:s.words]...)
	if s.blob {
		s.offsets = append(s.offsets, uint32(len(s.bytes)))
		s.bytes = append(s.bytes, blob...)
	}
	s.rows++
	// Twice what is held, because slices double when they grow.
	if 2*(8*len(s.data)+8*len(s.offsets)+len(s.bytes)) < s.limit {
		return nil
	}
	return s.spill()
}

func (s *Sorter) held() int { return len(s.data) / s.words }

func (s *Sorter) at(i uint32) ([]uint64, []byte) {
	words := s.data[int(i)*s.words : (int(i)+1)*s.words]
	if !s.blob {
		return words, nil
	}
	end := len(s.bytes)
	if int(i)+1 < len(s.offsets) {
		end = int(s.offsets[i+1])
	}
	return words, s.bytes[s.offsets[i]:end]
}

func compareRows(a []uint64, x []byte, b []uint64, y []byte) int {
	for k, w := range a {
		if c := cmp.Compare(w, b[k]); c != 0 {
			return c
		}
	}
	return bytes.Compare(x, y)
}

// sort finds the order of the rows in memory.
func (s *Sorter) sort() {
	if s.perm != nil {
		return
	}
	s.perm = make([]uint32, s.held())
	for i := range s.perm {
		s.perm[i] = uint32(i)
	}
	slices.SortFunc(s.perm, func(i, j uint32) int {
		a, x := s.at(i)
		b, y := s.at(j)
		return compareRows(a, x, b, y)
	})
}

// spill writes the rows in memory as a run.
func (s *Sorter) spill() error {
	s.sort()
	err := s.writeRun(func(row func([]uint64, []byte) error) error {
		for _, i := range s.perm {
			if err := row(s.at(i)); err != nil {
				return err
			}
		}
		return nil
	})
	s.data, s.offsets, s.bytes, s.perm = s.data[:0], s.offsets[:0], s.bytes[:0], nil
	return err
}

// writeRun writes the rows that each yields, which are sorted, to a new run.
func (s *Sorter) writeRun(each func(row func([]uint64, []byte) error) error) (err error) {
	f, err := os.CreateTemp(s.dir, "sort-*")
	if err != nil {
		return err
	}
	s.runs = append(s.runs, f.Name())
	defer func() { err = errors.Join(err, f.Close()) }()
	var cols []colfile.Column
	for range s.words {
		cols = append(cols, colfile.Column{Name: "w", Kind: colfile.Uint64})
	}
	if s.blob {
		cols = append(cols, colfile.Column{Name: "b", Kind: colfile.Bytes})
	}
	w := colfile.NewWriter(f, cols)
	data := make([]colfile.Data, len(cols))
	perBlock := min(4096, max(32, s.limit/2/mergeFan/(8*s.words+16)))
	n := 0
	flush := func() error {
		err := w.Block(data)
		for i := range data {
			data[i] = colfile.Data{Uint64: data[i].Uint64[:0], Bytes: data[i].Bytes[:0]}
		}
		n = 0
		return err
	}
	err = each(func(words []uint64, blob []byte) error {
		for k, v := range words {
			data[k].Uint64 = append(data[k].Uint64, v)
		}
		if s.blob {
			data[s.words].Bytes = append(data[s.words].Bytes, bytes.Clone(blob))
		}
		if n++; n == perBlock {
			return flush()
		}
		return nil
	})
	if err == nil && n > 0 {
		err = flush()
	}
	return errors.Join(err, w.Finish())
}

// Each calls f for every row in ascending order. words and blob are valid during the call. It may be called again.
func (s *Sorter) Each(ctx context.Context, f func(words []uint64, blob []byte) error) error {
	for len(s.runs) >= mergeFan {
		from := s.runs[:mergeFan]
		s.runs = slices.Clone(s.runs[mergeFan:])
		err := s.writeRun(func(row func([]uint64, []byte) error) error { return s.merge(ctx, from, false, row) })
		for _, name := range from {
			err = errors.Join(err, os.Remove(name))
		}
		if err != nil {
			return err
		}
	}
	return s.merge(ctx, s.runs, true, f)
}

// merge calls f for the rows of the runs, and of those in memory if held is set.
func (s *Sorter) merge(ctx context.Context, runs []string, held bool, f func(words []uint64, blob []byte) error) (err error) {
	var h runHeap
	defer func() {
		for _, c := range h {
			err = errors.Join(err, c.close())
		}
	}()
	for _, name := range runs {
		c, err := openRun(name, s.words, s.blob)
		if err != nil {
			return err
		}
		h = append(h, c)
	}
	if held && s.held() > 0 {
		s.sort()
		h = append(h, &runCursor{sorter: s})
	}
	for i := 0; i < len(h); {
		ok, err := h[i].next()
		if err != nil {
			return err
		}
		if ok {
			i++
			continue
		}
		err = h[i].close()
		h = slices.Delete(h, i, i+1)
		if err != nil {
			return err
		}
	}
	heap.Init(&h)
	for n := 0; len(h) > 0; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c := h[0]
		if err := f(c.words, c.blob); err != nil {
			return err
		}
		ok, err := c.next()
		if err != nil {
			return err
		}
		if ok {
			heap.Fix(&h, 0)
			continue
		}
		heap.Pop(&h)
		if err := c.close(); err != nil {
			return err
		}
	}
	return nil
}

// Close removes the files.
func (s *Sorter) Close() error {
	var errs []error
	for _, name := range s.runs {
		errs = append(errs, os.Remove(name))
	}
	s.runs = nil
	return errors.Join(errs...)
}

// runCursor walks over a run, or over the rows in memory.
type runCursor struct {
	words []uint64 // the row in hand
	blob  []byte

	sorter *Sorter // of rows in memory
	index  int

	file    *os.File
	r       *colfile.Reader
	cols    [][]uint64
	blobs   [][]byte
	scratch colfile.Scratch
	strings colfile.Scratch
	block   int
	row     int
}

func openRun(name string, words int, blob bool) (*runCursor, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	c := &runCursor{file: f, words: make([]uint64, words), cols: make([][]uint64, words), block: -1}
	st, err := f.Stat()
	if err == nil {
		c.r, err = colfile.Open(f, st.Size(), name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if blob {
		c.blobs = [][]byte{}
	}
	return c, nil
}

// next moves to the next row and reports whether there is one.
func (c *runCursor) next() (bool, error) {
	if c.sorter != nil {
		if c.index == len(c.sorter.perm) {
			return false, nil
		}
		c.words, c.blob = c.sorter.at(c.sorter.perm[c.index])
		c.index++
		return true, nil
	}
	if c.row++; c.block < 0 || c.row >= c.r.BlockRows(c.block) {
		c.block, c.row = c.block+1, 0
		if c.block >= c.r.Blocks() {
			return false, nil
		}
		for k := range c.cols {
			var err error
			if c.cols[k], err = c.r.ReadUint64(c.block, k, c.cols[k][:0], &c.scratch); err != nil {
				return false, err
			}
		}
		if c.blobs != nil {
			var err error
			if c.blobs, err = c.r.ReadBytes(c.block, len(c.cols), &c.strings); err != nil {
				return false, err
			}
		}
	}
	for k := range c.cols {
		c.words[k] = c.cols[k][c.row]
	}
	if c.blobs != nil {
		c.blob = c.blobs[c.row]
	}
	return true, nil
}

func (c *runCursor) close() error {
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	return err
}

// runHeap orders cursors by the row in hand.
type runHeap []*runCursor

func (h runHeap) Len() int      { return len(h) }
func (h runHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h runHeap) Less(i, j int) bool {
	return compareRows(h[i].words, h[i].blob, h[j].words, h[j].blob) < 0
}

// Push implements heap.Interface.
func (h *runHeap) Push(x any) { *h = append(*h, x.(*runCursor)) }

// Pop implements heap.Interface.
func (h *runHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
