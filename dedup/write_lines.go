package dedup

import (
	"cmp"
	"slices"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// copied copies a file of JSON Lines of which every document is kept and to which nothing is added, byte for byte: compressed
// as it is, with the lines that are no documents. It reports false if the file is not such a one.
func (w *fileWriter) copied(index int) (bool, error) {
	if w.set.Format != corpus.JSONL || w.annotator != nil || w.touched[index-w.in.First] {
		return false, nil
	}
	var sums []corpus.ByteSum
	for _, split := range w.in.Splits {
		all := w.signs[split].Bytes
		if i, ok := slices.BinarySearchFunc(all, index, func(s corpus.ByteSum, file int) int { return cmp.Compare(s.File, file) }); ok {
			sums = append(sums, all[i])
		}
	}
	if err := w.unwritten(index); err != nil {
		return true, err
	}
	dst, err := w.place(w.spec.folder() + "/" + w.set.Files[index].Path)
	if err != nil {
		return true, err
	}
	n, err := w.set.Copy(w.ctx, index, sums, dst)
	if cerr := dst.Close(); err == nil { // which says the same again if writing failed
		err = cerr
	}
	if err != nil {
		return true, err
	}
	w.res.Bytes += n
	w.out.Progress(n)
	return true, nil
}

// lineCheck returns what is called for every line that is written, right after it was asked for: last is what became of it.
// It is nil unless lines are written.
func (w *fileWriter) lineCheck(index int, last **outcome, shown *int64) func(row int64, sum uint64) error {
	if !w.writesLines() {
		return nil
	}
	return func(row int64, sum uint64) error {
		if d := *last; rowOf(d.ord) != row || d.line != sum {
			return w.changed(corpus.Ordinal(index, row))
		}
		*shown++
		return nil
	}
}
