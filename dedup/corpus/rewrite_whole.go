package corpus

import (
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// wholeParquet copies a Parquet file of which every row is kept byte for byte. That the bytes that are copied are those of the texts
// that were read is seen by their hash. Where that is not known the texts are decoded to be shown. Pages of other columns are compared with
// their checksums where they have any.
func (w *rewriter) wholeParquet(in *parquetFile) error {
	var texts []byteHash
	unused := &arena{} // of what would be encoded
	row := int64(0)
	for g := range in.meta.NumRowGroups() {
		n := in.meta.RowGroup(g).NumRows()
		for i := range n {
			if !w.want(row + i) {
				return fmt.Errorf("corpus: %s: row %d, counted from 0, is not kept, and its file is to be copied whole", w.name, row+i)
			}
		}
		if n > 0 {
			seen, err := w.showTexts(in, unused, g, row)
			if err != nil {
				return w.fault(in.src, unused, g+1, err)
			}
			texts = append(texts, seen)
		}
		row += n
	}
	return w.copyBytes(in, texts)
}

// textsInOrder reports whether the texts of later row groups come later in the file, as all writers have it.
func (p *parquetFile) textsInOrder() bool {
	at := int64(0)
	for g := range p.meta.NumRowGroups() {
		meta, err := p.meta.RowGroup(g).ColumnChunk(p.columns.text)
		if err != nil || chunkStart(meta) < at {
			return false
		}
		at = chunkStart(meta) + meta.TotalCompressedSize()
	}
	return true
}

// hashChunk returns what hashes the bytes of a column chunk as they are read through it.
func (p *parquetFile) hashChunk(group, column int) (*hashedReader, error) {
	meta, err := p.meta.RowGroup(group).ColumnChunk(column)
	if err != nil {
		return nil, err
	}
	from := chunkStart(meta)
	return &hashedReader{byteHash: byteHash{from: from, end: from + meta.TotalCompressedSize()}, src: p.src, at: from}, nil
}

// showTexts returns the hash that the bytes of the texts of a row group, of which every row is kept, must have, and shows the texts
// unless it is known. It looks at the checksums of the other columns.
func (w *rewriter) showTexts(in *parquetFile, unused *arena, group int, row int64) (byteHash, error) {
	rg := in.meta.RowGroup(group)
	for c := range in.meta.Schema.NumColumns() {
		meta, err := rg.ColumnChunk(c)
		if err != nil {
			return byteHash{}, err
		}
		if c == in.columns.text {
			continue
		}
		from := chunkStart(meta)
		if err := (&pageSums{src: in.src, at: from, end: from + meta.TotalCompressedSize()}).rest(); err != nil {
			return byteHash{}, fmt.Errorf("column %q: %w", in.meta.Schema.Column(c).Path(), err)
		}
	}
	seen, err := in.hashChunk(group, in.columns.text)
	if err != nil {
		return byteHash{}, err
	}
	if w.sink.Sum != nil {
		if sum, ok := w.sink.Sum(group, row); ok {
			seen.sum = sum
			return seen.byteHash, w.copied(row, rg.NumRows())
		}
	}
	in.through = seen
	defer func() { in.through = nil }()
	err = guarded(func() error {
		return w.values(in, nil, unused, group, in.columns.text, row, &rowSet{rows: rg.NumRows(), all: true})
	})
	if err == nil {
		err = seen.finish()
	}
	return seen.byteHash, err
}

// copied tells of a row group of which the texts are not shown.
func (w *rewriter) copied(row, n int64) error {
	if w.sink.Copied == nil {
		return nil
	}
	if err := w.sink.Copied(row, n); err != nil {
		return sinkError{err}
	}
	return nil
}

// copyBytes copies the file, in which the texts of the row groups are where their hashes say.
func (w *rewriter) copyBytes(in *parquetFile, texts []byteHash) error {
	at := int64(0)
	for _, t := range texts {
		if err := w.copyTo(w.sink.W, in, at, t.from); err != nil {
			return err
		}
		if err := w.copyTexts(w.sink.W, in, t); err != nil {
			return err
		}
		at = t.end
	}
	return w.copyTo(w.sink.W, in, at, in.size)
}

// copyTexts copies the bytes of texts, which must have their hash.
func (w *rewriter) copyTexts(to io.Writer, in *parquetFile, t byteHash) error {
	h := xxh3.New()
	if err := w.copyTo(io.MultiWriter(to, h), in, t.from, t.end); err != nil {
		return err
	}
	if h.Sum64() != t.sum {
		return changed(&w.set.Files[w.file], "it holds other texts than when they were read")
	}
	return nil
}

// copyTo copies bytes of the file.
func (w *rewriter) copyTo(to io.Writer, in *parquetFile, from, end int64) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(to, in.src.section(from, end), *buf)
	if err == nil && n < end-from {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return in.src.fault(ErrChanged, place{}, err)
	}
	return nil
}

// byteHash is a range of bytes of a file and their hash.
type byteHash struct {
	from, end int64
	sum       uint64
}

// hashedReader hashes a range of what is read through it, from its start to its end.
type hashedReader struct {
	byteHash
	src io.ReaderAt
	at  int64 // the next byte to be hashed
	h   xxh3.Hasher
}

// ReadAt reads, and hashes what was not read before.
func (r *hashedReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.src.ReadAt(b, off)
	if end := min(off+int64(n), r.end); off <= r.at && end > r.at {
		_, _ = r.h.Write(b[r.at-off : end-off]) // a hash takes every byte
		r.at = end
	}
	return n, err
}

// finish reads what was left of the range, and makes its hash.
func (r *hashedReader) finish() error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for r.at < r.end {
		n, err := r.ReadAt((*buf)[:min(int64(len(*buf)), r.end-r.at)], r.at)
		if n == 0 && err != nil {
			return err
		}
	}
	r.sum = r.h.Sum64()
	return nil
}
