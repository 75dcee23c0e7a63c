package flow

import (
	"context"
	"errors"
	"fmt"
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

// RowsPerBlock is the number of rows in a block of a row file; the last one may have fewer.
const RowsPerBlock = 8 << 10

// RowFile writes a row file.
type RowFile struct {
	File *executor.File
	Name string // of the file, for [OpenColumns]
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
		File: f, Name: f.Name(), w: colfile.NewWriter(f, cols), cols: make([][]uint64, len(cols)), data: make([]colfile.Data, len(cols)),
		Buf: make([]uint64, 0, len(cols)),
	}, nil
}

// Row adds a row; words has one entry per column and is copied.
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
	return errors.Join(f.flush(), f.w.Finish(), f.File.Close())
}

// Rows returns the number of rows added so far.
func (f *RowFile) Rows() int64 { return f.w.Rows() }

// Finish completes the file and makes it the result of the partition.
func (f *RowFile) Finish(out *executor.Attempt, part *shuffle.Partition) ([]executor.Task, error) {
	if err := f.Close(); err != nil {
		return nil, err
	}
	out.Count("rows", f.Rows())
	return []executor.Task{PartTask(part.Index(), RowResult{part.Index(), f.Name, f.Rows()})}, nil
}

// ColumnReader walks over the blocks of one work file after another and hands out columns of the block in hand.
type ColumnReader struct {
	ctx     context.Context // of the attempt that reads, whose time it is
	work    *executor.Work
	names   []string // of the files after the one in hand
	file    *os.File // nil before the first and after the last
	r       *colfile.Reader
	block   int // in hand
	Rows    int // of the block in hand
	Err     error
	scratch colfile.Scratch
	bytes   colfile.Scratch
	held    map[string][]uint64
}

// OpenColumns opens committed work files by the names their tasks gave them. Empty names are empty files. The caller closes
// the reader. Its reads count as those of the attempt that ctx belongs to.
func OpenColumns(ctx context.Context, work *executor.Work, names ...string) (*ColumnReader, error) {
	c := &ColumnReader{ctx: ctx, work: work, names: names, held: make(map[string][]uint64)}
	if c.Err = c.openNext(); c.Err != nil {
		return nil, c.Err
	}
	return c, nil
}

// openNext opens the next file, if there is one.
func (f *ColumnReader) openNext() error {
	if err := f.Close(); err != nil {
		return err
	}
	for len(f.names) > 0 && f.names[0] == "" {
		f.names = f.names[1:]
	}
	if len(f.names) == 0 {
		return nil
	}
	file, err := f.work.OpenCommitted(f.names[0])
	if err != nil {
		return err
	}
	f.names, f.file, f.block = f.names[1:], file, -1
	st, err := file.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if f.r, err = colfile.Open(executor.ReaderAt(f.ctx, file), st.Size(), file.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// Close closes the file in hand.
func (f *ColumnReader) Close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// Next moves to the next block and reports whether there is one.
func (f *ColumnReader) Next() bool {
	for f.Err == nil && f.file != nil {
		if f.block+1 < f.r.Blocks() {
			f.block++
			f.Rows = f.r.BlockRows(f.block)
			return true
		}
		f.Err = f.openNext()
	}
	return false
}

// Block moves to a block of the file in hand, and reports whether there is one.
func (f *ColumnReader) Block(i int) bool {
	f.block = i - 1
	return f.Next()
}

// Uint64 returns a column of the block in hand, valid until Next. After a failure Err is set and it
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

// RefColumn is a column of refs of the block in hand.
type RefColumn struct {
	Keep []uint64 // keep keys; nil if all are 0
	Ord  []uint64 // ordinals
}

// At returns the ref of row i of the block.
func (c RefColumn) At(i int) Ref {
	if c.Keep == nil {
		return Ref{0, c.Ord[i]}
	}
	return Ref{c.Keep[i], c.Ord[i]}
}

// Refs is Uint64 for the columns of a ref; keep is read only if c wants keep keys.
func (f *ColumnReader) Refs(c RefCodec, keep, ord string) RefColumn {
	r := RefColumn{Ord: f.Uint64(ord)}
	if c.WithKeep {
		r.Keep = f.Uint64(keep)
	}
	return r
}

// Columns names the columns of a row that consists of refs of these names.
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

// Ordinals yields the values of one column one by one.
type Ordinals struct {
	*ColumnReader
	name  string
	block []uint64 // what is left of the block in hand
}

// OpenOrdinals opens a column of a committed work file, or of none if file is empty. The caller closes it.
func OpenOrdinals(ctx context.Context, work *executor.Work, file, column string) (*Ordinals, error) {
	c, err := OpenColumns(ctx, work, file)
	return &Ordinals{ColumnReader: c, name: column}, err
}

// Pull returns the next value; ok is false at the end.
func (o *Ordinals) Pull() (ord uint64, ok bool, err error) {
	for len(o.block) == 0 {
		if !o.Next() {
			return 0, false, o.Err
		}
		if o.block = o.Uint64(o.name); o.Err != nil {
			return 0, false, o.Err
		}
	}
	ord, o.block = o.block[0], o.block[1:]
	return ord, true, nil
}

// EachRowOf is EachRow for the row file that is the result of an earlier task.
func EachRowOf(ctx context.Context, work *executor.Work, task executor.Task, columns []string, f func(words []uint64) error) error {
	in, err := DecodeTask[RowResult](task)
	if err != nil {
		return err
	}
	return EachRow(ctx, work, in.File, columns, f)
}

// EachRow calls f for every row of the committed row file, with the columns named. words is valid during the call.
func EachRow(ctx context.Context, work *executor.Work, file string, columns []string, f func(words []uint64) error) (err error) {
	c, err := OpenColumns(ctx, work, file)
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
	for c, err := range executor.Chunks(ctx, part) {
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

// eachChunk calls f with the chunks of a partition in their order. A chunk is valid during the call.
func eachChunk(ctx context.Context, part *shuffle.Partition, f func(c shuffle.Chunk) error) error {
	for c, err := range executor.Chunks(ctx, part) {
		if err == nil {
			err = f(c)
		}
		if err != nil {
			return err
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
