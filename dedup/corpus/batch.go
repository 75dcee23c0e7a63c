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
	// Hash holds a hash over all columns of each row; nil if not wanted. It has a meaning within one format: of JSON
	// Lines it is over the bytes of the line, of Parquet over values, levels, and the types and names of the columns,
	// however they are encoded; 0 where ReadOptions.Hash does not want it, and for [Files]. Added columns are left out.
	Hash []uint64
	// Added holds what the columns ReadOptions.Added have in each row, as [AppendAdded] puts it, or, of JSON Lines, as
	// the line does. It has no rows if nothing is wanted.
	Added mem.Strings
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
	b.Added.Release()
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

	wantHash, wantAdded bool
	hash                []uint64
	added               stringBuilder
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

// addRow appends the hash of a row and what its added columns have.
func (m *batchMaker) addRow(hash uint64, added []byte) error {
	if m.wantHash {
		m.hash = append(m.hash, hash)
	}
	if m.wantAdded {
		return m.added.add(added)
	}
	return nil
}

// finish returns the batch and starts the next.
func (m *batchMaker) finish() (*Batch, error) {
	b := &Batch{Ord: m.ord, Bad: m.bad}
	b.Hash = m.hash
	m.ord, m.bad, m.hash = nil, nil, nil
	var err error
	if m.wantAdded {
		if b.Added, err = m.added.finish(); err != nil {
			return nil, err
		}
	}
	if m.columns&ColumnText != 0 {
		if b.Text, err = m.text.finish(); err != nil {
			b.Release()
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
	m.added.release()
	m.ord, m.keep, m.ints, m.bad, m.hash = nil, nil, nil, nil, nil
}
