package corpus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"
)

// maxWindow is the largest window of a zstd frame that is accepted: what zstd --long makes, and what its
// command line refuses to exceed without being told.
const maxWindow = 128 << 20

// decompress returns a reader of the bytes behind c, of all members of a gzip file and all frames of a zstd
// file, and what closes it.
func decompress(c Compression, r io.Reader) (io.Reader, func() error, error) {
	switch c {
	case Uncompressed:
		return r, func() error { return nil }, nil
	case Gzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("gzip: %w", err)
		}
		return z, z.Close, nil
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, func() error { z.Close(); return nil }, nil
	}
	return nil, nil, fmt.Errorf("unknown compression %q", c)
}

// jsonLines reads the lines of a JSON Lines file one by one.
type jsonLines struct {
	src   *source
	lines lineReader
	free  func() error
	row   int64 // of the line that next returns next

	compressed bool
	window     int64         // see zstdWindow
	from       int64         // where the bytes begin
	seen       *hashedStream // hashes them, if that is wanted
}

// usualWindow is the largest window that zstd makes without being told to, and every decoder has to accept.
const usualWindow = 8 << 20

// zstdWindow returns the bytes that decompressing a file takes at once, because the header of its first frame says so
// and whatever its size, if that is more than usual.
func zstdWindow(src *source, f *File) (int64, error) {
	if f.Compression != Zstd {
		return 0, nil
	}
	head := make([]byte, min(f.Size, zstd.HeaderMaxSize))
	if _, err := src.ReadAt(head, 0); err != nil && err != io.EOF {
		return 0, src.fault(ErrCorrupt, place{}, err)
	}
	var h zstd.Header
	if h.Decode(head) != nil {
		return 0, nil // the decoder says what is wrong
	}
	n := h.WindowSize
	if h.SingleSegment {
		n = h.FrameContentSize
	}
	if n <= usualWindow || n > maxWindow {
		return 0, nil
	}
	return int64(n), nil
}

// openLines opens the bytes [from, to) of a file, whose first line is number row; they are decompressed
// from the start of the file if it is compressed.
func (s *Set) openLines(ctx context.Context, file int, from, to, row int64, o ReadOptions) (*jsonLines, error) {
	f := &s.Files[file]
	src, err := s.open(ctx, file)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error { return firstError(err, src.Close()) }
	if to == 0 {
		to = f.Size
	}
	if f.Compression != Uncompressed && f.Size == 0 {
		err := fmt.Errorf("it is empty, which no .%s file is", f.Compression)
		return nil, fail(src.fault(ErrCorrupt, place{}, err))
	}
	window, err := zstdWindow(src, f)
	if err != nil {
		return nil, fail(err)
	}
	if o.MaxBytes > 0 && window > o.MaxBytes {
		return nil, fail(&TooLargeError{Name: f.Name, Row: row, Need: window + lineBuffer, Limit: o.MaxBytes})
	}
	l := &jsonLines{src: src, row: row, window: window, compressed: f.Compression != Uncompressed, from: from}
	in := io.Reader(src.section(from, to))
	if o.Bytes != nil {
		l.seen = &hashedStream{r: in}
		in = l.seen
	}
	if l.compressed {
		in = bufio.NewReaderSize(in, 64<<10) // the libraries read the few bytes of a header at a time
	}
	in, l.free, err = decompress(f.Compression, in)
	if err != nil {
		return nil, fail(src.fault(ErrCorrupt, place{}, err))
	}
	l.lines = lineReader{r: in, alloc: o.Alloc, limit: o.MaxBytes}
	return l, nil
}

// next returns the next line with its \n, and its number from 0.
func (l *jsonLines) next(ctx context.Context) (line []byte, row int64, err error) {
	l.src.ctx = ctx
	if err := guarded(func() error { line, err = l.lines.next(); return err }); err != nil {
		if err == errLongLine {
			return nil, 0, l.tooLong()
		}
		return nil, 0, l.fault(err)
	}
	row = l.row
	if row >= MaxRows {
		return nil, 0, fmt.Errorf("corpus: %s has more than %d lines; split it", l.src.name, int64(MaxRows))
	}
	l.row++
	return line, row, nil
}

// skipLine passes over the next line.
func (l *jsonLines) skipLine(ctx context.Context) error {
	l.src.ctx = ctx
	if err := guarded(l.lines.skip); err != nil {
		return l.fault(err)
	}
	l.row++
	return nil
}

// fault passes io.EOF on, which is the end of the file and not a fault.
func (l *jsonLines) fault(err error) error {
	if err == io.EOF && l.src.err == nil {
		return err
	}
	if !l.compressed {
		return l.src.fault(ErrCorrupt, place{line: l.row + 1}, err)
	}
	// What is wrong lies somewhere ahead of the line in hand.
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = errors.New("the file ends too early")
	}
	return l.src.fault(ErrCorrupt, place{}, fmt.Errorf("cannot be decompressed to its end: %w", err))
}

func (l *jsonLines) tooLong() error {
	row, limit := l.row, l.lines.limit
	var n int64
	err := guarded(func() (err error) { n, err = l.lines.rest(); return err })
	if err != nil {
		return l.fault(err)
	}
	return &TooLargeError{Name: l.src.name, Row: row, Need: lineNeed(n), Text: n, Limit: limit}
}

// lineNeed bounds the memory to read a line of n bytes: the buffer it is collected in and the half as large
// one before, and the same bytes once more each as an unescaped string and as a text.
func lineNeed(n int64) int64 { return max(5*(n+1), lineBuffer) }

func (l *jsonLines) close() error {
	l.lines.close()
	return firstError(l.free(), l.src.Close())
}

// jsonDoc takes the wanted fields out of lines.
type jsonDoc struct {
	line           jsonLine
	text, keep, id *jsonField // nil if not wanted
	idKind         IDKind
	adds           []*jsonField // none of which there should be
	added          *jsonField   // the first of those that were added; nil if not wanted

	key uint64 // see values
	num int64
}

// newJSONDoc makes one. added are columns that lines have at their end.
func newJSONDoc(o Options, columns Columns, kind IDKind, added []Added) *jsonDoc {
	d := &jsonDoc{idKind: kind}
	for _, c := range []struct {
		column Columns
		name   string
		field  **jsonField
	}{{ColumnText, o.TextField, &d.text}, {ColumnKeep, o.KeepField, &d.keep}, {ColumnID, o.IDField, &d.id}} {
		if columns&c.column != 0 && c.name != "" {
			*c.field = newJSONField(c.name)
			d.line.fields = append(d.line.fields, *c.field)
		}
	}
	for _, name := range o.Adds {
		d.adds = append(d.adds, &jsonField{name: name})
	}
	d.line.fields = append(d.line.fields, d.adds...)
	if len(added) > 0 {
		d.added = &jsonField{name: added[0].Name}
		d.line.fields = append(d.line.fields, d.added)
	}
	return d
}

// twice returns an error if the last line has a field that is to be added.
func (d *jsonDoc) twice(name string, row int64) error {
	for _, f := range d.adds {
		if f.value.kind != jsonMissing {
			return addsTwice(fmt.Sprintf("%s:%d", name, row+1), "field", f.name)
		}
	}
	return nil
}

// parts returns the last line without what was added to it, in two parts, and what was added.
func (d *jsonDoc) parts(line []byte, row int64) (before, added, behind []byte, err error) {
	if d.added == nil {
		return line, nil, nil, nil
	}
	if d.added.value.kind == jsonMissing {
		return nil, nil, nil, fmt.Errorf("it has no field %q", d.added.name)
	}
	start := d.added.start + len(line) - len(trimBOM(line, row))
	before, added, behind = takeFromLine(line, start)
	return before, added, behind, nil
}

var bom = []byte("\xef\xbb\xbf")

// parse reads a line. ok is false for a blank one, which is no document.
func (d *jsonDoc) parse(line []byte, row int64) (ok bool, err error) {
	line = trimBOM(line, row)
	if isBlank(line) {
		return false, nil
	}
	if err := d.line.scan(line); err != nil {
		return false, errors.New(err.Error() + hint(line, row))
	}
	if d.text != nil {
		if k := d.text.value.kind; k > jsonNull && k != jsonString {
			return false, fmt.Errorf("field %q is %s, a text must be a string or null", d.text.name, k)
		}
	}
	return true, nil
}

// trimBOM cuts the byte order mark off the first line of a file.
func trimBOM(line []byte, row int64) []byte {
	if row == 0 {
		return bytes.TrimPrefix(line, bom)
	}
	return line
}

func isBlank(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}

// hint guesses what a file is whose first line is not a JSON object.
func hint(line []byte, row int64) string {
	switch {
	case row > 0:
		return ""
	case bytes.HasPrefix(line, []byte("\x1f\x8b")):
		return "; the file looks like gzip: name it .jsonl.gz"
	case bytes.HasPrefix(line, []byte("\x28\xb5\x2f\xfd")):
		return "; the file looks like zstd: name it .jsonl.zst"
	case line[0] == '[' || bytes.Equal(bytes.TrimSpace(line), []byte("{")):
		return "; JSON Lines has one object to a line, for instance from jq -c '.[]'"
	}
	return ""
}

// textValue returns the text of the last document; null is true if there is none.
func (d *jsonDoc) textValue() (text []byte, null bool) {
	if v := d.text.value; v.kind == jsonString {
		return v.raw, false
	}
	return nil, true
}

func (d *jsonDoc) keepValue() (uint64, error) {
	switch v := d.keep.value; v.kind {
	case jsonMissing, jsonNull:
		return 0, nil
	case jsonBool:
		if v.raw[0] == 't' {
			return numberKeyInt(1), nil
		}
		return numberKeyInt(0), nil
	case jsonNumber:
		if n, err := strconv.ParseInt(string(v.raw), 10, 64); err == nil {
			return numberKeyInt(n), nil
		}
		f, err := strconv.ParseFloat(string(v.raw), 64)
		if err != nil && !math.IsInf(f, 0) {
			return 0, err
		}
		return numberKey(f), nil
	default:
		return 0, fmt.Errorf("field %q is %s, to compare documents by it it must be a number", d.keep.name, v.kind)
	}
}

// idKindOf returns the kind of id that a value is.
func idKindOf(v jsonValue) IDKind {
	switch v.kind {
	case jsonNumber:
		return IntIDs
	case jsonString:
		return StringIDs
	}
	return NoIDs
}

// values takes the keep key and the integer id out of the last document.
func (d *jsonDoc) values() (err error) {
	if d.keep != nil {
		if d.key, err = d.keepValue(); err != nil {
			return err
		}
	}
	if d.id == nil {
		return nil
	}
	v := d.id.value
	switch kind := idKindOf(v); {
	case kind == NoIDs:
		return fmt.Errorf("field %q is %s, an id must be an integer or a string", d.id.name, v.kind)
	case kind != d.idKind:
		return fmt.Errorf("field %q is %s, the ids before it are of type %s", d.id.name, v.kind, d.idKind)
	case kind == IntIDs:
		if d.num, err = strconv.ParseInt(string(v.raw), 10, 64); err != nil {
			return fmt.Errorf("field %q is %.40s, which is no 64-bit integer", d.id.name, v.raw)
		}
	}
	return nil
}

// jsonReader is the docReader of JSON Lines.
type jsonReader struct {
	*jsonLines
	file    int
	doc     *jsonDoc
	rows    rowSelector
	limit   int64
	skip    bool // bad records are left out
	pending bool // doc holds a document that had no room yet
	hash    bool // rows are hashed
	bytes   func(ByteSum)
	hasher  xxh3.Hasher
	sum     uint64
	added   []byte
	at      int64
	peak    int64
}

func (s *Set) openJSONL(
	ctx context.Context, file int, sp Split, rows rowSelector, o ReadOptions,
) (docReader, error) {
	l, err := s.openLines(ctx, file, sp.Offset, sp.End, sp.Row, o)
	if err != nil {
		return nil, err
	}
	opts := s.Options
	if s.Files[file].Reference {
		opts.Adds = nil // it is not written
	}
	return &jsonReader{
		jsonLines: l, file: file, rows: rows, limit: o.MaxBytes, skip: s.Options.SkipRecords,
		peak: l.window,
		hash: o.Hash != nil && o.Hash(file), bytes: o.Bytes,
		doc: newJSONDoc(opts, o.Columns, s.IDKind, o.Added),
	}, nil
}

func (r *jsonReader) fill(ctx context.Context, m *batchMaker) (end bool, err error) {
	for {
		if !r.pending {
			if some, end, err := r.advance(ctx, m); !some || err != nil {
				return end, err
			}
		}
		var text []byte
		var null bool
		if r.doc.text != nil {
			text, null = r.doc.textValue()
		}
		if r.pending = !m.room(len(text)); r.pending {
			return false, nil
		}
		if err := r.add(m, text, null); err != nil {
			return false, err
		}
	}
}

// advance parses up to the next wanted document. some is false if there is none: at the end, or because the batch is
// full of bad records.
func (r *jsonReader) advance(ctx context.Context, m *batchMaker) (some, end bool, err error) {
	for {
		if !r.rows.wanted(r.row) {
			if r.rows.none(r.row) {
				return false, true, nil
			}
			if err := r.skipLine(ctx); err == io.EOF {
				r.atEnd()
				return false, true, nil
			} else if err != nil {
				return false, false, err
			}
			continue
		}
		line, row, err := r.next(ctx)
		if err == io.EOF {
			r.atEnd()
			return false, true, nil
		}
		if err != nil {
			return false, false, err
		}
		if err := r.check(line, row, m); err != nil {
			return false, false, err
		}
		ok, err := r.doc.parse(line, row)
		if ok && err == nil {
			if err := r.doc.twice(r.src.name, row); err != nil {
				return false, false, err
			}
			err = r.doc.values()
		}
		if ok && err == nil {
			err = r.wholeLine(line, row)
		}
		switch {
		case err != nil && !r.skip:
			return false, false, r.src.fault(ErrRecord, place{line: row + 1}, err)
		case err != nil:
			m.bad = append(m.bad, Bad{Ordinal(r.file, row), err.Error()})
			if m.full() {
				return false, false, nil
			}
		case ok:
			r.at = row
			return true, false, nil
		}
	}
}

// atEnd tells of the bytes that were read.
func (r *jsonReader) atEnd() {
	if r.bytes != nil {
		r.bytes(ByteSum{File: r.file, From: r.from, End: r.from + r.seen.n, Sum: r.seen.h.Sum64()})
	}
}

// wholeLine takes what is wanted of the line beside its fields.
func (r *jsonReader) wholeLine(line []byte, row int64) error {
	before, added, behind, err := r.doc.parts(line, row)
	if err != nil {
		return err
	}
	r.added = added
	if r.hash {
		r.hasher.Reset()
		_, _ = r.hasher.Write(before) // a hash takes every byte
		_, _ = r.hasher.Write(behind)
		r.sum = r.hasher.Sum64()
	}
	return nil
}

// check accounts for the memory that a line takes.
func (r *jsonReader) check(line []byte, row int64, m *batchMaker) error {
	n := int64(len(line))
	held := int64(r.lines.buf.Len()) + n + n/4
	if n > int64(m.bytes) {
		held += n
	}
	r.peak = max(r.peak, held, r.lines.peak)
	if r.limit > 0 && held > r.limit && n > lineBuffer {
		return &TooLargeError{Name: r.src.name, Row: row, Need: lineNeed(n), Text: n, Limit: r.limit}
	}
	return nil
}

func (r *jsonReader) add(m *batchMaker, text []byte, null bool) error {
	if r.doc.text != nil {
		if err := m.addText(text, null); err != nil {
			return err
		}
	}
	if r.doc.keep != nil {
		m.keep = append(m.keep, r.doc.key)
	}
	switch {
	case r.doc.id == nil:
	case r.doc.idKind == IntIDs:
		m.ints = append(m.ints, r.doc.num)
	default:
		if err := m.strs.add(r.doc.id.value.raw); err != nil {
			return err
		}
	}
	if err := m.addRow(r.sum, r.added); err != nil {
		return err
	}
	m.ord = append(m.ord, Ordinal(r.file, r.at))
	return nil
}

func (r *jsonReader) largest() int64 { return r.peak }
