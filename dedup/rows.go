package dedup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"slices"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/colfile"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Between the shuffles lie row files: work files of uint64 columns only, written and read row by row.

// rowResult is the result of a partition that wrote a row file.
type rowResult struct {
	Part int    `json:"part"`
	File string `json:"file"`
	Rows int64  `json:"rows"`
}

const rowsPerBlock = 8 << 10

// rowFile writes a row file.
type rowFile struct {
	file io.WriteCloser
	name string
	w    *colfile.Writer
	cols [][]uint64
	data []colfile.Data
	buf  []uint64 // scratch for callers that put a row together
}

func newRowFile(out *executor.Attempt, name string, columns []string) (*rowFile, error) {
	f, err := out.Create(name)
	if err != nil {
		return nil, err
	}
	cols := make([]colfile.Column, len(columns))
	for i, c := range columns {
		cols[i] = colfile.Column{Name: c, Kind: colfile.Uint64}
	}
	return &rowFile{
		file: f, name: f.Name(), w: colfile.NewWriter(f, cols), cols: make([][]uint64, len(cols)), data: make([]colfile.Data, len(cols)),
		buf: make([]uint64, 0, len(cols)),
	}, nil
}

// row adds a row; words has one entry per column and is copied.
func (f *rowFile) row(words []uint64) error {
	for i, w := range words {
		f.cols[i] = append(f.cols[i], w)
	}
	if len(f.cols[0]) == rowsPerBlock {
		return f.flush()
	}
	return nil
}

func (f *rowFile) flush() error {
	for i, c := range f.cols {
		f.data[i] = colfile.Data{Uint64: c}
		f.cols[i] = c[:0]
	}
	return f.w.Block(f.data)
}

// close completes the file.
func (f *rowFile) close() error {
	return errors.Join(f.flush(), f.w.Finish(), f.file.Close())
}

// finish completes the file and makes it the result of the partition.
func (f *rowFile) finish(out *executor.Attempt, part *shuffle.Partition) ([]executor.Task, error) {
	if err := f.close(); err != nil {
		return nil, err
	}
	out.Count("rows", f.w.Rows())
	return []executor.Task{partTask(part.Index(), rowResult{part.Index(), f.name, f.w.Rows()})}, nil
}

// columnReader walks over the blocks of a work file and hands out columns of the block in hand.
type columnReader struct {
	file    *os.File
	r       *colfile.Reader
	block   int // of the block in hand
	rows    int // of the block in hand
	err     error
	scratch colfile.Scratch
	bytes   colfile.Scratch
	held    map[string][]uint64
}

// openColumns opens a committed work file by the name its task gave it.
func (r *run) openColumns(name string) (*columnReader, error) {
	f, err := r.work.OpenCommitted(name)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c, err := colfile.Open(f, st.Size(), f.Name())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &columnReader{file: f, r: c, block: -1, held: make(map[string][]uint64)}, nil
}

func (f *columnReader) Close() error { return f.file.Close() }

// next moves to the next block and reports whether there is one.
func (f *columnReader) next() bool {
	if f.err != nil || f.block+1 >= f.r.Blocks() {
		return false
	}
	f.block++
	f.rows = f.r.BlockRows(f.block)
	return true
}

// u64 returns a column of the block in hand, valid until next. After a failure err is set and it
// returns nil.
func (f *columnReader) u64(name string) []uint64 {
	if f.err != nil {
		return nil
	}
	col, err := f.r.Column(name, colfile.Uint64)
	if err == nil {
		f.held[name], err = f.r.ReadUint64(f.block, col, f.held[name][:0], &f.scratch)
	}
	if err != nil {
		f.err = err
		return nil
	}
	return f.held[name]
}

// blobs is u64 for a bytes column. Only one may be in use at a time.
func (f *columnReader) blobs(name string) [][]byte {
	if f.err != nil {
		return nil
	}
	col, err := f.r.Column(name, colfile.Bytes)
	if err != nil {
		f.err = err
		return nil
	}
	var out [][]byte
	out, f.err = f.r.ReadBytes(f.block, col, &f.bytes)
	return out
}

// refColumn is a column of refs of the block in hand.
type refColumn struct{ keep, ord []uint64 }

func (c refColumn) at(i int) ref {
	if c.keep == nil {
		return ref{0, c.ord[i]}
	}
	return ref{c.keep[i], c.ord[i]}
}

func (f *columnReader) refs(c refCodec, keep, ord string) refColumn {
	r := refColumn{ord: f.u64(ord)}
	if c.withKeep {
		r.keep = f.u64(keep)
	}
	return r
}

// columns names the columns of a row that consists of refs of these names.
func (c refCodec) columns(names ...string) []string {
	var out []string
	for _, n := range names {
		if c.withKeep {
			out = append(out, n+"_keep")
		}
		out = append(out, n)
	}
	return out
}

// eachRow calls f for every row of the row file that is the result of an earlier task.
func (r *run) eachRow(task executor.Task, columns []string, f func(words []uint64) error) error {
	in, err := decodeTask[rowResult](task)
	if err != nil {
		return err
	}
	return r.eachRowOf(in.File, columns, f)
}

func (r *run) eachRowOf(file string, columns []string, f func(words []uint64) error) (err error) {
	c, err := r.openColumns(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	cols := make([][]uint64, len(columns))
	words := make([]uint64, len(columns))
	for c.next() {
		for i, name := range columns {
			cols[i] = c.u64(name)
		}
		if c.err != nil {
			return c.err
		}
		for i := range c.rows {
			for k := range cols {
				words[k] = cols[k][i]
			}
			if err := f(words); err != nil {
				return err
			}
		}
	}
	return c.err
}

// eachRecord calls f for every record of a partition, in the order of the chunks. words and blob are valid
// during the call.
func eachRecord(ctx context.Context, part *shuffle.Partition, l layout, f func(words []uint64, blob []byte) error) error {
	return eachRecordOf(ctx, part, []layout{l}, func(_ int, words []uint64, blob []byte) error { return f(words, blob) })
}

// eachRecordOf is eachRecord for partitions with several layouts; f is told which one by its index.
func eachRecordOf(ctx context.Context, part *shuffle.Partition, ls []layout, f func(layout int, words []uint64, blob []byte) error) error {
	for c, err := range part.Chunks(ctx) {
		if err != nil {
			return err
		}
		which := slices.IndexFunc(ls, func(l layout) bool { return len(c.Meta) > 0 && c.Meta[0] == l.kind })
		if which < 0 {
			return fmt.Errorf("dedup: chunk of partition %d: unexpected layout", c.Partition)
		}
		recs, err := openRecords(c, ls[which])
		if err != nil {
			return err
		}
		for i := range recs.rows() {
			if err := f(which, recs.at(i), recs.bytes(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// table is rows of equal width in memory.
type table struct {
	words []uint64
	width int
}

// gather reads all records of a partition into memory.
func gather(ctx context.Context, part *shuffle.Partition, l layout) (*table, error) {
	t := &table{width: l.words, words: make([]uint64, 0, int(part.Rows())*l.words)}
	err := eachRecord(ctx, part, l, func(w []uint64, _ []byte) error {
		t.words = append(t.words, w...)
		return nil
	})
	return t, err
}

func (t *table) len() int          { return len(t.words) / t.width }
func (t *table) at(i int) []uint64 { return t.words[i*t.width : (i+1)*t.width] }

// sortBy sorts the rows by the given words, in that order of importance.
func (t *table) sortBy(words ...int) {
	perm := make([]uint32, t.len())
	for i := range perm {
		perm[i] = uint32(i)
	}
	slices.SortFunc(perm, func(a, b uint32) int {
		x, y := t.at(int(a)), t.at(int(b))
		for _, k := range words {
			if c := cmp.Compare(x[k], y[k]); c != 0 {
				return c
			}
		}
		return 0
	})
	sorted := make([]uint64, 0, len(t.words))
	for _, i := range perm {
		sorted = append(sorted, t.at(int(i))...)
	}
	t.words = sorted
}

// partOf spreads a hash over parts: the high bits of its product, after a mix, so that parts need not be
// a power of two and low bits of weak hashes count too.
func partOf(h uint64, parts int) int {
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	hi, _ := bits.Mul64(h*0xd6e8feb86659fd93, uint64(parts))
	return int(hi)
}
