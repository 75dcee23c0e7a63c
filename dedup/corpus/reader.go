package corpus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Columns is a set of the columns of a batch.
type Columns uint8

// The columns besides the ordinals, which are always read.
const (
	ColumnText Columns = 1 << iota
	ColumnKeep         // ignored unless Options.KeepField is set
	ColumnID           // ignored unless Options.IDField is set

	AllColumns = ColumnText | ColumnKeep | ColumnID
)

// ReadOptions say what a reader yields and how much memory it takes for it.
type ReadOptions struct {
	// Alloc makes the buffers of the batches and of what is being decoded; nil means mem.Host().
	Alloc mem.Allocator
	// TextAlloc makes the buffers for the texts of the batches; nil means Alloc.
	TextAlloc mem.Allocator
	// BatchBytes and BatchRows are when a batch is full: before the document that would exceed BatchBytes
	// bytes of text, or at BatchRows rows. 0 means 8 MiB and 65,536. A document larger than BatchBytes makes
	// a batch of its own.
	BatchBytes int64
	BatchRows  int
	// MaxBytes bounds what is held besides the batches within BatchBytes: the page or line that is being
	// decoded, and a document larger than BatchBytes; 0 means no bound. Where it does not suffice the
	// reader fails with a [TooLargeError].
	MaxBytes int64
	// Columns are the columns wanted; 0 means all.
	Columns Columns
	// Select, if not nil, restricts the reader to the rows whose ordinals it yields one by one, which ascend; ok
	// is false at the end. Files and row groups without one are not read, lines without one not parsed. Ordinals
	// before the split are passed over, and at most one beyond it is asked for. It is called by Next alone.
	Select func() (ord uint64, ok bool, err error)
	// Without are the indexes, which ascend, of files that are passed over.
	Without []int
	// Verify decodes all columns of Parquet files, also those that are not wanted, so that whatever is read later
	// can be read.
	Verify bool
	// Hash, if not nil, says of which files the rows are hashed, see Batch.Hash. Of Parquet all columns are decoded for
	// it, and eight bytes taken for every row of a row group.
	Hash func(file int) bool
	// Chunk, if not nil, is told of every row group of a Parquet file that was read to its end a hash of the bytes of its
	// column of texts, as they are in the file; see Sink.Sum.
	Chunk func(GroupSum)
	// Bytes, if not nil, is told of the bytes of every file of JSON Lines, or of the part of it that is in the split, that was
	// read to its end; see [Set.Copy].
	Bytes func(ByteSum)
	// Added are columns that files have at their end, put there by [Set.Rewrite], see Batch.Added. A Parquet file that
	// lacks them is a [FileError] that wraps [ErrColumn], a line an [ErrRecord].
	Added []Added
}

const (
	defaultBatchBytes = 8 << 20
	defaultBatchRows  = 1 << 16
)

// Reader reads the documents of one split. It belongs to one goroutine at a time.
type Reader struct {
	set     *Set
	split   Split
	o       ReadOptions
	chosen  *selection // nil for all rows
	next    int        // the file to open after cur
	cur     docReader
	batch   batchMaker
	largest int64
	err     error // what every further Next returns
}

// docReader reads the documents of one file or a part of it.
type docReader interface {
	// fill adds documents to the batch until the next one has no room, or the part ends.
	fill(ctx context.Context, m *batchMaker) (end bool, err error)
	// largest returns the most memory held at one time besides the batch.
	largest() int64
	close() error
}

// Open starts to read a split. The caller closes the reader.
func (s *Set) Open(sp Split, o ReadOptions) (*Reader, error) {
	if sp.First < 0 || sp.Last < sp.First || sp.Last >= len(s.Files) {
		return nil, fmt.Errorf("corpus: split of the files %d to %d, the set has %d", sp.First, sp.Last, len(s.Files))
	}
	if sp.Offset < 0 || sp.Offset > sp.End || sp.End > s.Files[sp.First].Size ||
		sp.FirstGroup < 0 || sp.FirstGroup > sp.EndGroup {
		return nil, fmt.Errorf("corpus: %s: split with a range that the file does not have", s.Files[sp.First].Name)
	}
	if o.BatchBytes < 0 || o.BatchRows < 0 || o.MaxBytes < 0 {
		return nil, fmt.Errorf("corpus: negative size in the options of a reader")
	}
	if o.Alloc == nil {
		o.Alloc = mem.Host()
	}
	if o.TextAlloc == nil {
		o.TextAlloc = o.Alloc
	}
	o.BatchBytes = cmp.Or(o.BatchBytes, defaultBatchBytes)
	o.BatchRows = cmp.Or(o.BatchRows, defaultBatchRows)
	o.Columns = cmp.Or(o.Columns, AllColumns)
	if s.Options.KeepField == "" {
		o.Columns &^= ColumnKeep
	}
	if s.Options.IDField == "" {
		o.Columns &^= ColumnID
	}
	// What is known about the size saves growing the first buffer, and holding a large one for little.
	first := int(min(o.BatchBytes, max(4<<10, sp.Size+sp.Size/8)))
	r := &Reader{set: s, split: sp, o: o, next: sp.First, batch: batchMaker{
		bytes: int(o.BatchBytes), rows: o.BatchRows, columns: o.Columns, idKind: s.IDKind,
		text:     stringBuilder{alloc: o.TextAlloc, first: first, most: int(o.BatchBytes)},
		strs:     stringBuilder{alloc: o.Alloc, first: 4 << 10, most: int(o.BatchBytes)},
		wantHash: o.Hash != nil, wantAdded: len(o.Added) > 0,
		added: stringBuilder{alloc: o.Alloc, first: 4 << 10, most: int(o.BatchBytes)},
	}}
	if o.Select != nil {
		r.chosen = &selection{pull: o.Select}
	}
	return r, nil
}

// Next returns the next batch, which the caller releases, or io.EOF after the last one. It is never empty.
// After any other error the reader is of no further use but to be closed.
func (r *Reader) Next(ctx context.Context) (*Batch, error) {
	if r.err != nil {
		return nil, r.err
	}
	b, err := r.read(ctx)
	if err != nil {
		r.err = err
	}
	return b, err
}

func (r *Reader) read(ctx context.Context) (*Batch, error) {
	for {
		if r.cur == nil {
			if r.next > r.split.Last {
				if !r.batch.empty() {
					return r.batch.finish()
				}
				return nil, io.EOF
			}
			err := r.openNext(ctx)
			if err == nil && r.chosen != nil {
				err = r.chosen.err
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		end, err := r.cur.fill(ctx, &r.batch)
		r.largest = max(r.largest, r.cur.largest())
		if err == nil && r.chosen != nil {
			err = r.chosen.err
		}
		if err != nil {
			return nil, err
		}
		if end {
			if err := r.closeFile(); err != nil {
				return nil, err
			}
		}
		if !end || r.batch.full() {
			return r.batch.finish()
		}
	}
}

// openNext opens the next file, or passes over it if none of its rows is selected.
func (r *Reader) openNext(ctx context.Context) error {
	i := r.next
	r.next++
	f := &r.set.Files[i]
	if _, without := slices.BinarySearch(r.o.Without, i); without || f.Bad != "" {
		return nil
	}
	rows := rowSelector{chosen: r.chosen, file: i, to: MaxRows}
	if rows.none(0) {
		return nil // or Select failed, which the caller of openNext finds
	}
	var err error
	switch f.Format {
	case Parquet:
		r.cur, err = r.set.openParquet(ctx, i, r.split, rows, r.o)
	case JSONL:
		r.cur, err = r.set.openJSONL(ctx, i, r.split, rows, r.o)
	case Files:
		r.cur = &wholeFile{set: r.set, file: i, alloc: r.o.Alloc, limit: r.o.MaxBytes}
	default:
		err = fmt.Errorf("corpus: %s: unknown format %q", f.Name, f.Format)
	}
	return err
}

func (r *Reader) closeFile() error {
	cur := r.cur
	r.cur = nil
	if cur == nil {
		return nil
	}
	return cur.close()
}

// File returns the index of the file that is being read: after Next failed, of the one it failed in.
func (r *Reader) File() int { return max(r.split.First, r.next-1) }

// Largest returns the most memory, in bytes, that was held at one time besides the batches within
// BatchBytes: a MaxBytes that would do for what was read so far.
func (r *Reader) Largest() int64 { return r.largest }

// Close releases what the reader holds. It may be called again. Batches stay valid.
func (r *Reader) Close() error {
	r.batch.release()
	if r.err == nil {
		r.err = errors.New("corpus: read from a closed reader")
	}
	return r.closeFile()
}

// selection is the ordinals of the rows that are wanted, one at a time.
type selection struct {
	pull  func() (uint64, bool, error)
	head  uint64 // the next one, if ready
	ready bool
	err   error // why there are no more
	end   bool
}

// seek returns the first ordinal that is not below ord. Those before it are passed over.
func (s *selection) seek(ord uint64) (uint64, bool) {
	for !s.end && (!s.ready || s.head < ord) {
		s.head, s.ready, s.err = s.pull()
		s.end = !s.ready || s.err != nil
	}
	return s.head, !s.end
}

// rowSelector says which rows of a file are wanted.
type rowSelector struct {
	chosen *selection // nil for all
	file   int
	to     int64 // rows from here on are another's
}

// within returns the selection among the rows below to.
func (s rowSelector) within(to int64) rowSelector {
	s.to = to
	return s
}

// wanted reports whether a row is wanted; rows are asked for in ascending order.
func (s *rowSelector) wanted(row int64) bool {
	if s.chosen == nil {
		return true
	}
	ord := Ordinal(s.file, row)
	next, ok := s.chosen.seek(ord)
	return ok && next == ord
}

// none reports that no row from row on is wanted.
func (s *rowSelector) none(row int64) bool {
	if s.chosen == nil {
		return false
	}
	next, ok := s.chosen.seek(Ordinal(s.file, row))
	file, at := SplitOrdinal(next)
	return !ok || file != s.file || at >= s.to
}
