package corpus

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Sink is where a rewritten file goes.
type Sink struct {
	// W takes the bytes of the new file, in order.
	W io.Writer
	// Kept, if not nil, is called for every kept row in row order with its text, which is borrowed until it
	// returns; null is true for a document without a text. An error stops the rewriting and is returned.
	Kept func(row int64, text []byte, null bool) error
	// Line, if not nil, takes the place of Kept for JSON Lines: it is called for every kept line in row order with what
	// Batch.Hash has of it. Lines are not parsed then: whoever knows the hash has seen that they are documents.
	Line func(row int64, sum uint64) error
	// Texts, if not nil, returns the texts of a row group of a Parquet file, whose first row is number row of the file, or
	// nil if they are to be read from the file. What it yields is borrowed until Rewrite returns.
	Texts func(group int, row int64) *GroupTexts
	// Sum, if not nil, returns what ReadOptions.Chunk was told of a row group, whose first row is number row of the file, or
	// false. A row group of which every row is kept is then copied without being decoded, its texts must have that hash, and
	// Copied is called with its first row and their number in place of Kept.
	Sum    func(group int, row int64) (sum uint64, ok bool)
	Copied func(row, n int64) error
	// Add are columns that the new file has beside those of the input. A file without rows has them, too, if it is
	// Parquet. Format [Files] has no place for them.
	Add []Added
	// Whole promises that keep returns true for every document. A Parquet file is then copied byte for byte if nothing is
	// added; an error says so if the promise is not kept.
	Whole bool
	// Alloc makes the buffers for what is being decoded; nil means mem.Host().
	Alloc mem.Allocator
}

// GroupTexts is what is known of the texts of a row group.
type GroupTexts struct {
	// At returns the text of a row, counted in the file. It is asked for those that are kept, in order.
	At func(row int64) (text []byte, null bool, err error)
}

// Rewritten counts what a rewriting did.
type Rewritten struct {
	Rows  int64 // documents in the input file
	Kept  int64 // of them, written
	Bytes int64 // bytes written
}

// Rewrite writes the rows of a file for which keep returns true as a file of the same format. keep is called
// once for every document, in row order.
//
// JSON Lines: the kept lines byte for byte, with the compression of the input at a level like it. Lines that
// are no documents are left out, but where columns are added blank ones stay. ([Set.Copy] copies a file of which nothing is left out.) Files: the bytes, or nothing; a caller that writes no file for a document
// that is not kept asks keep itself. Parquet: the schema, the key-value metadata, the codec of each column, the
// row groups (those without a kept row are left out) and all other columns are those of the input; values are
// copied with their definition and repetition levels and never converted. A file without any kept row is a
// valid file of its format. A Parquet file that is kept whole is copied as it is, and so, in other files to which nothing is added,
// are row groups that are kept whole, but without page indexes and Bloom filters. Columns that are added have the codec of the text; the Arrow schema in the metadata of
// a Parquet file is extended by them.
//
// If Rewrite fails, what was written to the sink is of no use.
func (s *Set) Rewrite(ctx context.Context, file int, keep func(row int64) bool, sink Sink) (Rewritten, error) {
	if file < 0 || file >= len(s.Files) {
		return Rewritten{}, fmt.Errorf("corpus: file %d of a set of %d", file, len(s.Files))
	}
	if sink.Alloc == nil {
		sink.Alloc = mem.Host()
	}
	if len(sink.Add) > 0 && s.Files[file].Format == Files {
		return Rewritten{}, fmt.Errorf("corpus: %s is a text, to which no columns can be added", s.Files[file].Name)
	}
	out := &countingWriter{w: sink.W}
	sink.W = out
	w := &rewriter{set: s, file: file, keep: keep, sink: sink, name: s.Files[file].Name}
	var err error
	switch f := s.Files[file].Format; f {
	case Parquet:
		err = w.parquet(ctx)
	case JSONL:
		err = w.jsonl(ctx)
	case Files:
		err = w.wholeFile(ctx)
	default:
		err = fmt.Errorf("corpus: %s: unknown format %q", w.name, f)
	}
	if out.err != nil {
		// A library may have taken it for a fault of the file.
		err = fmt.Errorf("corpus: rewriting %s: %w", w.name, out.err)
	}
	w.done.Bytes = out.n
	return w.done, err
}

// rewriter is one call of Rewrite.
type rewriter struct {
	set  *Set
	file int
	name string
	keep func(row int64) bool
	sink Sink
	done Rewritten
}

// want asks whether a row is kept, and counts it.
func (w *rewriter) want(row int64) bool {
	w.done.Rows++
	if !w.keep(row) {
		return false
	}
	w.done.Kept++
	return true
}

// countingWriter counts bytes and remembers the first error.
type countingWriter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if err != nil && c.err == nil {
		c.err = err
	}
	return n, err
}

// jsonl copies lines.
func (w *rewriter) jsonl(ctx context.Context) (err error) {
	lines, err := w.set.openLines(ctx, w.file, 0, 0, 0, ReadOptions{Alloc: w.sink.Alloc})
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, lines.close()) }()
	buffered := bufio.NewWriterSize(w.sink.W, 64<<10)
	out, err := w.compressor(buffered, lines.src)
	if err != nil {
		return err
	}
	closed := false
	finish := func() error { closed = true; return firstError(out.Close(), buffered.Flush()) }
	defer func() {
		if !closed {
			_ = out.Close() // what was written is of no use
		}
	}()
	doc := newJSONDoc(w.set.Options, ColumnText, NoIDs, nil)
	var values []AddedValue
	var fields []byte
	for {
		line, row, err := lines.next(ctx)
		if err == io.EOF {
			return finish()
		}
		if err != nil {
			return err
		}
		blank := isBlank(trimBOM(line, row))
		if !blank && !w.want(row) || blank && len(w.sink.Add) == 0 {
			continue
		}
		if !blank && w.sink.Line != nil {
			if err := w.sink.Line(row, xxh3.Hash(line)); err != nil {
				return err
			}
		} else if !blank && (w.sink.Kept != nil || len(w.sink.Add) > 0) {
			if _, err := doc.parse(line, row); err != nil {
				return lines.src.fault(ErrRecord, place{line: row + 1}, err)
			}
		}
		if !blank && w.sink.Line == nil && w.sink.Kept != nil {
			text, null := doc.textValue()
			if err := w.sink.Kept(row, text, null); err != nil {
				return err
			}
		}
		if !blank && len(w.sink.Add) > 0 {
			if values, err = valuesOf(w.sink.Add, row, values); err != nil {
				return err
			}
			fields = AppendAdded(fields[:0], w.sink.Add, values...)
			if err := addToLine(out, line, fields); err != nil {
				return err
			}
			continue
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
}

// compressor returns a writer that compresses like the input file.
func (w *rewriter) compressor(to io.Writer, src *source) (io.WriteCloser, error) {
	switch c := w.set.Files[w.file].Compression; c {
	case Uncompressed:
		return uncompressed{to}, nil
	case Gzip:
		return gzip.NewWriterLevel(to, gzipLevel(src))
	case Zstd:
		return newZstdWriter(to, zstdLevel(src))
	default:
		return nil, fmt.Errorf("unknown compression %q", c)
	}
}

type uncompressed struct{ io.Writer }

func (uncompressed) Close() error { return nil }

// gzipLevel guesses the level a file was compressed with from the one byte of the header about it.
func gzipLevel(src *source) int {
	var head [10]byte
	if _, err := src.ReadAt(head[:], 0); err != nil {
		return gzip.DefaultCompression // the reader says what is wrong with the file
	}
	switch head[8] {
	case 2:
		return gzip.BestCompression
	case 4:
		return gzip.BestSpeed
	}
	return gzip.DefaultCompression
}

// zstdLevel guesses the level a file was compressed with from the window of its first frame, which zstd makes the smaller
// the faster it is to be, if it does not know the size before. No level is larger than zstd's default.
func zstdLevel(src *source) int {
	head := make([]byte, zstd.HeaderMaxSize)
	n, err := src.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return defaultZstdLevel // the reader says what is wrong with the file
	}
	var h zstd.Header
	switch {
	case h.Decode(head[:n]) != nil || h.SingleSegment:
	case h.WindowSize <= 512<<10:
		return 1
	case h.WindowSize <= 1<<20:
		return 2
	}
	return defaultZstdLevel
}

const defaultZstdLevel = 3

// wholeFile copies a document that is a file.
func (w *rewriter) wholeFile(ctx context.Context) (err error) {
	if !w.want(0) {
		return nil
	}
	src, err := w.set.open(ctx, w.file)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, src.Close()) }()
	size := w.set.Files[w.file].Size
	in := src.section(0, size)
	if w.sink.Kept == nil {
		n, err := io.Copy(w.sink.W, in)
		if err == nil && n < size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return src.fault(ErrChanged, place{}, err)
		}
		return nil
	}
	buf, err := w.sink.Alloc.Alloc(int(size))
	if err != nil {
		return err
	}
	defer buf.Release()
	if _, err := io.ReadFull(in, buf.Bytes()); err != nil {
		return src.fault(ErrChanged, place{}, err)
	}
	if err := w.sink.Kept(0, buf.Bytes(), false); err != nil {
		return err
	}
	_, err = w.sink.W.Write(buf.Bytes())
	return err
}
