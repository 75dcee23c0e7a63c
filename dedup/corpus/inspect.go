package corpus

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/mem"
)

// inspect looks at each file: its fingerprint, for Parquet its columns and rows, and the kind of its ids.
func (s *Set) inspect(ctx context.Context) error {
	found := make([]parquetColumns, len(s.Files))
	err := inParallel(ctx, s.Options.Workers, len(s.Files), func(ctx context.Context, i int) (err error) {
		if found[i], err = s.inspectFile(ctx, i); err != nil && s.leaveOut(i, err) {
			err = s.fingerprintBad(ctx, i)
		}
		return err
	})
	if err != nil {
		return err
	}
	if s.Format == JSONL {
		return s.sniff(ctx)
	}
	for i := range found {
		if s.Files[i].Bad != "" {
			continue
		}
		if err := s.agree(i, found[i]); err != nil && !s.leaveOut(i, err) {
			return err
		}
	}
	return nil
}

// leaveOut reports whether a file is left out because of an error, and marks it.
func (s *Set) leaveOut(i int, err error) bool {
	fe, bad := BadFile(err)
	if bad = bad && s.Options.SkipFiles; bad {
		s.Files[i].Bad = fe.Reason()
	}
	return bad
}

// fingerprintBad fills in Footer for a file that is left out, and may have none.
func (s *Set) fingerprintBad(ctx context.Context, i int) error {
	src, err := s.open(ctx, i)
	if err != nil {
		return err
	}
	s.Files[i].Rows, s.Files[i].Work = -1, 0
	s.Files[i].Footer, err = fingerprint(src, "")
	return firstError(err, src.Close())
}

// agree makes the kinds of ids and keep values those of one more file.
func (s *Set) agree(i int, c parquetColumns) error {
	if s.IDKind == NoIDs {
		s.IDKind = c.idKind
	}
	if c.idKind != s.IDKind && c.idKind != NoIDs {
		return fault(s.Files[i].Name, ErrColumn, place{}, idKindError(s, c.idKind))
	}
	kept, ok := s.Keep.with(c.kept)
	if !ok {
		return fault(s.Files[i].Name, ErrColumn, place{}, fmt.Errorf(
			"column %q holds values of type %s, that of other files %s, which do not compare; make them one type",
			s.Options.KeepField, c.kept.Class, s.Keep.Class))
	}
	s.Keep = kept
	return nil
}

func (s *Set) inspectFile(ctx context.Context, i int) (c parquetColumns, err error) {
	f := &s.Files[i]
	src, err := s.open(ctx, i)
	if err != nil {
		return c, err
	}
	defer func() { err = firstError(err, src.Close()) }()
	f.Work = f.Size
	switch {
	case f.Format == Files:
		f.Rows = 1
	case f.Compression != Uncompressed:
		f.Work = f.Size * compressedWork
	case f.Format == Parquet:
		p, err := readFooter(src, s.Options)
		if err != nil {
			return c, err
		}
		if name := hasAdded(p.meta.Schema.Root(), s.Options.Adds); name != "" {
			return c, addsTwice(f.Name, "column", name)
		}
		f.Rows, f.Work, c = p.meta.GetNumRows(), 0, p.columns
		for g := range p.meta.NumRowGroups() {
			f.Work += p.groupWork(g)
		}
	}
	f.Footer, err = fingerprint(src, f.Format)
	return c, err
}

// compressedWork is the ratio of text that is assumed of compressed JSON Lines.
const compressedWork = 4

// copyBuffers are for files so small that making a buffer would take longer than reading them.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// fingerprint returns what File.Footer documents.
func fingerprint(src *source, format Format) (string, error) {
	h := sha256.New()
	size := src.obj.Size()
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	copyTo := func(from, to int64) error {
		n, err := io.CopyBuffer(h, src.section(from, to), *buf)
		if err == nil && n < to-from {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	var err error
	if format == Parquet {
		var n int64
		if n, err = footerSize(src); err == nil {
			err = copyTo(size-n, size)
		}
	} else {
		const edge = 64 << 10
		_ = binary.Write(h, binary.LittleEndian, size) // a hash takes every byte
		if err = copyTo(0, min(size, edge)); err == nil {
			err = copyTo(max(min(size, edge), size-edge), size)
		}
	}
	if err != nil {
		return "", src.fault(ErrCorrupt, place{}, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sniff reads the beginning of the first file that has a document: for the kind of the ids, and to warn of a
// text field that no document has.
func (s *Set) sniff(ctx context.Context) error {
	for i := range s.Files {
		if s.Files[i].Bad != "" {
			continue
		}
		done, err := s.sniffFile(ctx, i)
		if err != nil && s.leaveOut(i, err) {
			continue
		}
		if done || err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) sniffFile(ctx context.Context, i int) (done bool, err error) {
	l, err := s.openLines(ctx, i, 0, 0, 0, ReadOptions{Alloc: mem.Host()})
	if err != nil {
		return false, err
	}
	defer func() { err = firstError(err, l.close()) }()
	doc := newJSONDoc(s.Options, AllColumns, NoIDs, nil)
	docs, names := 0, []string(nil)
	for docs < sniffDocs {
		line, row, err := l.next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
		ok, err := doc.parse(line, row)
		if ok && err == nil {
			if err := doc.twice(l.src.name, row); err != nil {
				return false, err
			}
		}
		if ok && err == nil && doc.id != nil && s.IDKind == NoIDs {
			if s.IDKind = idKindOf(doc.id.value); s.IDKind == NoIDs {
				err = fmt.Errorf("field %q is %s, an id must be an integer or a string", doc.id.name, doc.id.value.kind)
			}
		}
		if err != nil && !s.Options.SkipRecords {
			return false, l.src.fault(ErrRecord, place{line: row + 1}, err)
		}
		if !ok || err != nil {
			continue
		}
		docs++
		if doc.text.value.kind != jsonMissing {
			return true, nil
		}
		if names == nil {
			names = fieldNames(line)
		}
	}
	if docs > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf(
			"field %q is in none of the first %d documents of %s; the first has %q",
			s.Options.TextField, docs, l.src.name, names))
	}
	return docs > 0, nil
}

// sniffDocs is how many documents without a text are looked at before the user is warned.
const sniffDocs = 100

// Changed reports, with an error that wraps [ErrChanged] and names the file and what differs, a file whose
// size, time of change or footer is not what Resolve saw.
func (s *Set) Changed(ctx context.Context, file int) error {
	if file < 0 || file >= len(s.Files) {
		return fmt.Errorf("corpus: file %d of a set of %d", file, len(s.Files))
	}
	f := &s.Files[file]
	info, err := s.FS.Stat(ctx, f.Name)
	if err != nil {
		return fmt.Errorf("corpus: %w", err)
	}
	if !info.ModTime.Equal(f.ModTime) {
		return changed(f, fmt.Sprintf("it was last changed at %s, not at %s",
			info.ModTime.UTC().Format(time.RFC3339Nano), f.ModTime.UTC().Format(time.RFC3339Nano)))
	}
	src, err := s.open(ctx, file)
	if err != nil {
		return err
	}
	sum, err := fingerprint(src, f.Format)
	if err = firstError(err, src.Close()); err != nil {
		return err
	}
	if sum != f.Footer {
		return changed(f, "its contents are others")
	}
	return nil
}

func changed(f *File, how string) error {
	return fault(f.Name, ErrChanged, place{}, fmt.Errorf("the file changed since the run began: %s", how))
}

// Fingerprints returns the size, time of change and footer hash of all files as lines, for the identity of
// a run.
func (s *Set) Fingerprints() []string {
	lines := make([]string, len(s.Files))
	for i := range s.Files {
		f := &s.Files[i]
		lines[i] = fmt.Sprintf("%q %d %d %s", f.Path, f.Size, f.ModTime.UnixNano(), f.Footer)
	}
	return lines
}
