package corpus

import "github.com/dovetail-dedup/dovetail/mem"

// Batch is a run of documents in the order of their ordinals. Its columns have the same number of rows.
type Batch struct {
	// Ord holds the ordinals.
	Ord []uint64
	// Text is the column of texts; its buffers are nil if ColumnText was not wanted.
	Text mem.Strings
	// Keep holds a value for each document; of two documents the one with the larger value is to be kept.
	// The values are compared as unsigned numbers; 0 stands for null and NaN. It is nil if not wanted.
	Keep []uint64
	// IDs holds the user's ids; nil if not wanted.
	IDs *IDs
	// Bad are the records that were left out because of Options.SkipRecords, by ordinal; they have no row in the
	// columns. A batch may have nothing else.
	Bad []Bad
}

// Bad is a record that was left out.
type Bad struct {
	Ord    uint64
	Reason string // what is wrong with it, without its place
}

// IDs is a column of document ids of one kind.
type IDs struct {
	Kind   IDKind
	Int    []int64     // for IntIDs, and for UintIDs their bits
	String mem.Strings // for all others
}

// Release gives back the memory of the batch. It may be called again and on nil.
func (b *Batch) Release() {
	if b == nil {
		return
	}
	b.Text.Release()
	if b.IDs != nil {
		b.IDs.String.Release()
	}
	*b = Batch{}
}

// batchMaker collects the documents of a batch.
type batchMaker struct {
	bytes, rows int // when a batch is full
	columns     Columns
	idKind      IDKind

	ord  []uint64
	text stringBuilder
	keep []uint64
	ints []int64
	strs stringBuilder
	bad  []Bad
}

// room reports whether a document with n bytes of text may join the batch. The first one always may.
func (m *batchMaker) room(n int) bool {
	if len(m.ord) == 0 {
		return len(m.bad) < m.rows
	}
	return len(m.ord)+len(m.bad) < m.rows && (m.columns&ColumnText == 0 || m.text.n+n <= m.bytes)
}

func (m *batchMaker) full() bool { return len(m.ord)+len(m.bad) >= m.rows || m.text.n >= m.bytes }

func (m *batchMaker) empty() bool { return len(m.ord)+len(m.bad) == 0 }

// addText appends a text; the caller appends the other columns of the document, too.
func (m *batchMaker) addText(text []byte, null bool) error {
	if null {
		return m.text.addNull()
	}
	return m.text.add(text)
}

// finish returns the batch and starts the next.
func (m *batchMaker) finish() (*Batch, error) {
	b := &Batch{Ord: m.ord, Bad: m.bad}
	m.ord, m.bad = nil, nil
	var err error
	if m.columns&ColumnText != 0 {
		if b.Text, err = m.text.finish(); err != nil {
			return nil, err
		}
	}
	if m.columns&ColumnKeep != 0 {
		b.Keep, m.keep = m.keep, nil
	}
	if m.columns&ColumnID != 0 {
		b.IDs = &IDs{Kind: m.idKind}
		if m.idKind.Ints() {
			b.IDs.Int, m.ints = m.ints, nil
		} else if b.IDs.String, err = m.strs.finish(); err != nil {
			b.Release()
			return nil, err
		}
	}
	return b, nil
}

func (m *batchMaker) release() {
	m.text.release()
	m.strs.release()
	m.ord, m.keep, m.ints, m.bad = nil, nil, nil, nil
}
