package corpus

import (
	"context"
	"io"

	"github.com/dovetail-dedup/dovetail/mem"
)

// wholeFile is the docReader of a file that is one document.
type wholeFile struct {
	set   *Set
	file  int
	alloc mem.Allocator
	limit int64
	peak  int64
}

func (w *wholeFile) fill(ctx context.Context, m *batchMaker) (end bool, err error) {
	f := &w.set.Files[w.file]
	n := f.Size
	if !m.room(int(n)) {
		return false, nil
	}
	if m.columns&ColumnText != 0 {
		if n > int64(m.bytes) {
			w.peak = n
			if w.limit > 0 && n > w.limit {
				return false, &TooLargeError{Name: f.Name, Need: n, Text: n, Limit: w.limit}
			}
		}
		if err := w.read(ctx, m, int(n)); err != nil {
			return false, err
		}
	}
	if err := m.addRow(0, nil); err != nil {
		return false, err
	}
	m.ord = append(m.ord, Ordinal(w.file, 0))
	return true, nil
}

func (w *wholeFile) read(ctx context.Context, m *batchMaker, n int) (err error) {
	src, err := w.set.open(ctx, w.file)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, src.Close()) }()
	if err := m.text.reserve(n); err != nil {
		return err
	}
	if _, err := io.ReadFull(src.section(0, int64(n)), m.text.tail(n)); err != nil {
		return src.fault(ErrChanged, place{}, err)
	}
	m.text.end(n)
	return m.text.mark(false)
}

func (w *wholeFile) largest() int64 { return w.peak }
func (w *wholeFile) close() error   { return nil }
