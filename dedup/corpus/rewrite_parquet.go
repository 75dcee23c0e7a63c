package corpus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"

	"github.com/dovetail-dedup/dovetail/mem"
)

// parquet copies the kept rows of each row group, column by column.
func (w *rewriter) parquet(ctx context.Context) (err error) {
	src, err := w.set.open(ctx, w.file)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, src.Close()) }()
	in, err := readFooter(src, w.set.Options)
	if err != nil {
		return err
	}
	if in.meta.GetNumRows() != w.set.Files[w.file].Rows {
		return changed(&w.set.Files[w.file], "its rows are others")
	}
	if w.sink.Whole && len(w.sink.Add) == 0 && in.textsInOrder() {
		return w.wholeParquet(in)
	}
	// What the writer itself holds: dictionaries, and pages until their dictionary is written.
	arena := &arena{inner: w.sink.Alloc, name: src.name}
	defer arena.close()
	var out groupSink
	err = guarded(func() (err error) {
		root, kv := in.meta.Schema.Root(), in.meta.KeyValueMetadata()
		if len(w.sink.Add) > 0 {
			if root, err = withAdded(root, w.sink.Add); err != nil {
				return err
			}
			kv = addToMetadata(kv, w.sink.Add)
		} else if footer, err := in.meta.Serialize(ctx); err == nil { // the library cannot write all that it reads
			out, err = newPatchwork(w, in, arena, footer)
			return err
		}
		f, err := file.NewParquetWriterWithError(w.sink.W, root, file.WithWriterProps(writerProps(in, w.sink.Add, arena)),
			file.WithWriteMetadata(kv))
		out = encodedOnly{f}
		return err
	})
	if err != nil {
		return w.fault(src, arena, 0, err)
	}
	row := int64(0)
	for g := range in.meta.NumRowGroups() {
		if err := w.rowGroup(in, out, arena, g, row); err != nil {
			return err
		}
		row += in.meta.RowGroup(g).NumRows()
	}
	return w.fault(src, arena, 0, guarded(out.Close))
}

// groupSink takes the row groups of a file.
type groupSink interface {
	// AppendRowGroupChecked begins a row group that is encoded.
	AppendRowGroupChecked() (file.SerialRowGroupWriter, error)
	// copyGroup copies a row group, of which every row is kept. done is false if such a file has no row groups that are copied.
	copyGroup(group int, row int64) (done bool, err error)
	// Close completes the file.
	Close() error
}

// encodedOnly is a file of which all row groups are encoded.
type encodedOnly struct{ *file.Writer }

func (encodedOnly) copyGroup(int, int64) (bool, error) { return false, nil }

// fault makes the error to report when err came up while a row group, or if that is 0 the file, was copied.
func (w *rewriter) fault(src *source, a *arena, group int, err error) error {
	var own sinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own.err
	case a.err != nil:
		return a.err // the library may have made a text of it
	}
	return src.fault(ErrCorrupt, place{group: group}, err)
}

// sinkError marks an error of the caller's callback, which is passed on as it is.
type sinkError struct{ err error }

func (e sinkError) Error() string { return e.err.Error() }

// rowGroup copies the kept rows of a row group, whose first row is number row of the file, if there are any.
func (w *rewriter) rowGroup(in *parquetFile, out groupSink, a *arena, group int, row int64) error {
	n := in.meta.RowGroup(group).NumRows()
	kept, err := newRowSet(w.sink.Alloc, n)
	if err != nil {
		return err
	}
	defer kept.bits.Release()
	for i := range n {
		if w.want(row + i) {
			kept.add(i)
		}
	}
	if kept.count == 0 {
		return nil
	}
	if kept.count == n {
		if done, err := out.copyGroup(group, row); done || err != nil {
			return w.fault(in.src, a, group+1, err)
		}
	}
	err = guarded(func() error {
		rg, err := out.AppendRowGroupChecked()
		if err != nil {
			return err
		}
		for c := range in.meta.Schema.NumColumns() {
			if err := w.column(in, rg, a, group, c, row, kept); err != nil {
				return err
			}
		}
		for i := range w.sink.Add {
			to, err := rg.NextColumn()
			if err != nil {
				return err
			}
			if err := writeAdded(to, &w.sink.Add[i], row, kept); err != nil {
				return err
			}
		}
		return rg.Close()
	})
	return w.fault(in.src, a, group+1, err)
}

// column copies a column of a row group.
func (w *rewriter) column(
	in *parquetFile, rg file.SerialRowGroupWriter, written *arena, group, column int, row int64, kept *rowSet,
) error {
	to, err := rg.NextColumn()
	if err != nil {
		return err
	}
	if texts := w.knownColumn(in, to, group, column, row); texts != nil {
		err = w.known(to, texts, w.shown(in, column, row), row, kept)
	} else {
		err = w.values(in, to, written, group, column, row, kept)
	}
	if err != nil {
		return err
	}
	return to.Close()
}

// shown returns what is called with the values of a column, or nil.
func (w *rewriter) shown(in *parquetFile, column int, row int64) func(row int64, text []byte, null bool) error {
	if column != in.columns.text || w.sink.Kept == nil {
		return nil
	}
	return func(i int64, text []byte, null bool) error {
		if err := w.sink.Kept(row+i, text, null); err != nil {
			return sinkError{err}
		}
		return nil
	}
}

// values copies the values of a column, if to is not nil, and shows the texts.
func (w *rewriter) values(
	in *parquetFile, to file.ColumnChunkWriter, written *arena, group, column int, row int64, kept *rowSet,
) (err error) {
	read := &arena{inner: w.sink.Alloc, name: in.src.name, row: row, pages: true}
	defer read.close()
	from, err := in.openChunk(group, column, read)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, from.Close()) }()
	err = copyColumn(from, to, kept, w.shown(in, column, row))
	if err == nil {
		err = from.sums.finish()
	} else if from.sums.err != nil {
		err = from.sums.err
	}
	if err != nil {
		if read.err != nil && written.err == nil {
			written.err = read.err
		}
		return fmt.Errorf("column %q: %w", in.meta.Schema.Column(column).Path(), err)
	}
	return nil
}

// writerProps returns properties that make files like this one, with added columns.
func writerProps(in *parquetFile, added []Added, a *arena) *parquet.WriterProperties {
	meta := in.meta
	props := []parquet.WriterProperty{
		parquet.WithAllocator(a), parquet.WithVersion(parquet.V2_LATEST), parquet.WithDictionaryDefault(false),
		// One call of WriteBatch is one batch, so that pages end where copyColumn wants them to.
		parquet.WithBatchSize(1 << 20), parquet.WithRootName(meta.Schema.Root().Name()),
		parquet.WithRootRepetition(meta.Schema.Root().RepetitionType()),
	}
	if meta.NumRowGroups() == 0 {
		return parquet.NewWriterProperties(props...)
	}
	rg := meta.RowGroup(0)
	if sorted := rg.SortingColumns(); len(sorted) > 0 {
		props = append(props, parquet.WithSortingColumns(sorted))
	}
	for c := range rg.NumColumns() {
		chunk, err := rg.ColumnChunk(c)
		if err != nil {
			continue // checked when the footer was read
		}
		path := meta.Schema.Column(c).Path()
		props = append(props, parquet.WithCompressionFor(path, chunk.Compression()),
			parquet.WithEncodingFor(path, valueEncoding(chunk)))
		if chunk.Compression() == compress.Codecs.Zstd {
			// The level is not recorded; pyarrow's default is 1, and it is twice as fast as the library's.
			props = append(props, parquet.WithCompressionLevelFor(path, 1))
		}
		if chunk.HasDictionaryPage() {
			props = append(props, parquet.WithDictionaryFor(path, true),
				parquet.WithDictionaryCostFallbackFor(path, false))
		}
		for i := range added {
			if c == in.columns.text {
				props = append(props, parquet.WithCompressionFor(added[i].Name, chunk.Compression()))
				if chunk.Compression() == compress.Codecs.Zstd {
					props = append(props, parquet.WithCompressionLevelFor(added[i].Name, 1))
				}
			}
		}
	}
	for i := range added {
		if added[i].Type == AddedType(StringIDs) { // words that repeat, or ids, of which the library makes none for long
			props = append(props, parquet.WithDictionaryFor(added[i].Name, true))
		}
	}
	return parquet.NewWriterProperties(props...)
}

// valueEncoding returns how the values of a chunk are encoded where they are in no dictionary.
func valueEncoding(chunk *metadata.ColumnChunkMetaData) parquet.Encoding {
	for _, e := range chunk.Encodings() {
		switch e {
		case parquet.Encodings.DeltaBinaryPacked, parquet.Encodings.DeltaByteArray,
			parquet.Encodings.DeltaLengthByteArray, parquet.Encodings.ByteStreamSplit:
			return e
		}
	}
	if chunk.Type() == parquet.Types.Boolean && !slices.Contains(chunk.Encodings(), parquet.Encodings.Plain) {
		return parquet.Encodings.RLE
	}
	return parquet.Encodings.Plain
}

// rowSet is a set of row numbers of a row group, a bit for each. How many rows there are is what the file
// says, so its memory is asked for like that of a page.
type rowSet struct {
	bits  *mem.Buffer
	rows  int64
	count int64
	all   bool // whatever bits says
}

func newRowSet(a mem.Allocator, n int64) (*rowSet, error) {
	bits, err := mem.AllocZeroed(a, int((n+7)/8))
	return &rowSet{bits: bits, rows: n}, err
}

func (s *rowSet) add(i int64) { s.bits.Bytes()[i>>3] |= 1 << (i & 7); s.count++ }
func (s *rowSet) has(i int64) bool {
	return s.all || s.count > 0 && s.bits.Bytes()[i>>3]&(1<<(i&7)) != 0
}
