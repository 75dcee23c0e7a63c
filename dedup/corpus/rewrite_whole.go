package corpus

import (
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// wholeParquet copies a Parquet file of which every row is kept byte for byte. Its texts are decoded to be shown, and that
// the bytes that are copied are those that were decoded is seen by their hash. Pages of other columns are compared with
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

// showTexts decodes the texts of a row group and returns the hash of their bytes. It looks at the checksums of the other
// columns.
func (w *rewriter) showTexts(in *parquetFile, unused *arena, group int, row int64) (byteHash, error) {
	rg := in.meta.RowGroup(group)
	var seen hashedReader
	for c := range in.meta.Schema.NumColumns() {
		meta, err := rg.ColumnChunk(c)
		if err != nil {
			return byteHash{}, err
		}
		from, end := chunkStart(meta), chunkStart(meta)+meta.TotalCompressedSize()
		if c == in.columns.text {
			seen = hashedReader{byteHash: byteHash{from: from, end: end}, src: in.src, at: from}
			continue
		}
		if err := (&pageSums{src: in.src, at: from, end: end}).rest(); err != nil {
			return byteHash{}, fmt.Errorf("column %q: %w", in.meta.Schema.Column(c).Path(), err)
		}
	}
	in.through = &seen
	defer func() { in.through = nil }()
	err := guarded(func() error {
		return w.values(in, nil, unused, group, in.columns.text, row, &rowSet{rows: rg.NumRows(), all: true})
	})
	if err == nil {
		err = seen.finish()
	}
	return seen.byteHash, err
}

// copyBytes copies the file, in which the texts of the row groups are where their hashes say.
func (w *rewriter) copyBytes(in *parquetFile, texts []byteHash) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	at := int64(0)
	pass := func(to io.Writer, end int64) error {
		n, err := io.CopyBuffer(to, in.src.section(at, end), *buf)
		if err == nil && n < end-at {
			err = io.ErrUnexpectedEOF
		}
		if at = end; err != nil {
			return in.src.fault(ErrChanged, place{}, err)
		}
		return nil
	}
	for _, t := range texts {
		if err := pass(w.sink.W, t.from); err != nil {
			return err
		}
		h := xxh3.New()
		if err := pass(io.MultiWriter(w.sink.W, h), t.end); err != nil {
			return err
		}
		if h.Sum64() != t.sum {
			return changed(&w.set.Files[w.file], "it holds other texts than a moment ago")
		}
	}
	return pass(w.sink.W, in.size)
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
