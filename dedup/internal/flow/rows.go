package flow

import (
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

// RowResult is the result of a partition that wrote a row file.
type RowResult struct {
	Part int    `json:"part"`
	File string `json:"file"`
	Rows int64  `json:"rows"`
}

const RowsPerBlock = 8 << 10

// RowFile writes a row file.
type RowFile struct {
	file io.WriteCloser
	Name string
	w    *colfile.Writer
	cols [][]uint64
	data []colfile.Data
	Buf  []uint64 // scratch for callers that put a row together
}

// NewRowFile makes a row file of the attempt with these columns. The caller calls Close or Finish.
func NewRowFile(out *executor.Attempt, name string, columns []string) (*RowFile, error) {
	f, err := out.Create(name)
	if err != nil {
		return nil, err
	}
	cols := make([]colfile.Column, len(columns))
	for i, c := range columns {
		cols[i] = colfile.Column{Name: c, Kind: colfile.Uint64}
	}
	return &RowFile{
		file: f, Name: f.Name(), w: colfile.NewWriter(f, cols), cols: make([][]uint64, len(cols)), data: make([]colfile.Data, len(cols)),
		Buf: make([]uint64, 0, len(cols)),
	}, nil
}

// Row adds a Row; words has one entry per column and is copied.
func (f *RowFile) Row(words []uint64) error {
	for i, w := range words {
		f.cols[i] = append(f.cols[i], w)
	}
	if len(f.cols[0]) == RowsPerBlock {
		return f.flush()
	}
	return nil
}

func (f *RowFile) flush() error {
	for i, c := range f.cols {
		f.data[i] = colfile.Data{Uint64: c}
		f.cols[i] = c[:0]
	}
	return f.w.Block(f.data)
}

// Close completes the file.
func (f *RowFile) Close() error {
	return errors.Join(f.flush(), f.w.Finish(), f.file.Close())
}

// Rows returns the rows written so far.
func (f *RowFile) Rows() int64 { return f.w.Rows() }

// Finish completes the file and makes it the result of the partition.
func (f *RowFile) Finish(out *executor.Attempt, part *shuffle.Partition) ([]executor.Task, error) {
	if err := f.Close(); err != nil {
		return nil, err
	}
	out.Count("rows", f.w.Rows())
	return []executor.Task{PartTask(part.Index(), RowResult{part.Index(), f.Name, f.w.Rows()})}, nil
}

// ColumnReader walks over the blocks of a work file and hands out columns of the block in hand.
type ColumnReader struct {
	file    *os.File
	r       *colfile.Reader
	block   int // of the block in hand
	Rows    int // of the block in hand
	Err     error
	scratch colfile.Scratch
	bytes   colfile.Scratch
	held    map[string][]uint64
}

// OpenColumns opens a committed work file by the name its task gave it. The caller closes it.
func OpenColumns(work *executor.Work, name string) (*ColumnReader, error) {
	f, err := work.OpenCommitted(name)
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
	return &ColumnReader{file: f, r: c, block: -1, held: make(map[string][]uint64)}, nil
}

// Close closes the file.
func (f *ColumnReader) Close() error { return f.file.Close() }

// Next moves to the Next block and reports whether there is one.
func (f *ColumnReader) Next() bool {
	if f.Err != nil || f.block+1 >= f.r.Blocks() {
		return false
	}
	f.block++
	f.Rows = f.r.BlockRows(f.block)
	return true
}

// Uint64 returns a column of the block in hand, valid until next. After a failure err is set and it
// returns nil.
func (f *ColumnReader) Uint64(name string) []uint64 {
	if f.Err != nil {
		return nil
	}
	col, err := f.r.Column(name, colfile.Uint64)
	if err == nil {
		f.held[name], err = f.r.ReadUint64(f.block, col, f.held[name][:0], &f.scratch)
	}
	if err != nil {
		f.Err = err
		return nil
	}
	return f.held[name]
}

// Blobs is Uint64 for a bytes column. Only one may be in use at a time.
func (f *ColumnReader) Blobs(name string) [][]byte {
	if f.Err != nil {
		return nil
	}
	col, err := f.r.Column(name, colfile.Bytes)
	if err != nil {
		f.Err = err
		return nil
	}
	var out [][]byte
	out, f.Err = f.r.ReadBytes(f.block, col, &f.bytes)
	return out
}

// Columns names the Columns of a row that consists of refs of these names.
func (c RefCodec) Columns(names ...string) []string {
	var out []string
	for _, n := range names {
		if c.WithKeep {
			out = append(out, n+"_keep")
		}
		out = append(out, n)
	}
	return out
}

// EachRow calls f for every row of the committed row file, with the columns named. words is valid during the call.
func EachRow(work *executor.Work, file string, columns []string, f func(words []uint64) error) (err error) {
	c, err := OpenColumns(work, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	cols := make([][]uint64, len(columns))
	words := make([]uint64, len(columns))
	for c.Next() {
		for i, name := range columns {
			cols[i] = c.Uint64(name)
		}
		if c.Err != nil {
			return c.Err
		}
		for i := range c.Rows {
			for k := range cols {
				words[k] = cols[k][i]
			}
			if err := f(words); err != nil {
				return err
			}
		}
	}
	return c.Err
}

// EachRecord calls f for every record of a partition, in the order of the chunks. words and blob are valid
// during the call.
func EachRecord(ctx context.Context, part *shuffle.Partition, l Layout, f func(words []uint64, blob []byte) error) error {
	return EachRecordOf(ctx, part, []Layout{l}, func(_ int, words []uint64, blob []byte) error { return f(words, blob) })
}

// EachRecordOf is EachRecord for partitions with several layouts; f is told which one by its index.
func EachRecordOf(ctx context.Context, part *shuffle.Partition, ls []Layout, f func(layout int, words []uint64, blob []byte) error) error {
	for c, err := range part.Chunks(ctx) {
		if err != nil {
			return err
		}
		which := slices.IndexFunc(ls, func(l Layout) bool { return len(c.Meta) > 0 && c.Meta[0] == l.Kind })
		if which < 0 {
			return fmt.Errorf("dedup: chunk of partition %d: unexpected layout", c.Partition)
		}
		recs, err := OpenRecords(c, ls[which])
		if err != nil {
			return err
		}
		for i := range recs.Rows() {
			if err := f(which, recs.At(i), recs.Bytes(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// PartOf spreads a hash over parts: the high bits of its product, after a mix, so that parts need not be
// a power of two and low bits of weak hashes count too.
func PartOf(h uint64, parts int) int {
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	hi, _ := bits.Mul64(h*0xd6e8feb86659fd93, uint64(parts))
	return int(hi)
}
