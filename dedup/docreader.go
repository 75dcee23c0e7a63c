package dedup

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// outcome is what became of one document.
type outcome struct {
	ord       uint64
	text      lsh.Hash128 // of the raw text
	line      uint64      // hash of the line, if lines are written
	bytes     uint64
	id        userID
	clustered bool
	member    member // if clustered
}

func (o *outcome) removed() bool { return o.clustered && o.member.evidence != 0 }

// docReader joins the sign files and removal files of consecutive splits, document by document.
type docReader struct {
	*run
	ctx      context.Context // of the attempt that reads
	signs    [][]string
	removals []string
	sign     *flow.ColumnReader // of the split in hand, nil between splits
	members  *memberReader      // likewise
	member   member             // the next one, by ordinal
	some     bool               // there is one
	block    []outcome
	at       int // the next of block
}

// next returns the next document if it is one of the file, and nil otherwise. It is valid until the call
// after next. Files are asked for in ascending order.
func (d *docReader) next(file int) (*outcome, error) {
	for d.at == len(d.block) {
		if more, err := d.read(); err != nil || !more {
			return nil, err
		}
	}
	o := &d.block[d.at]
	if f, _ := corpus.SplitOrdinal(o.ord); f != file {
		return nil, nil
	}
	d.at++
	return o, nil
}

// unread undoes the last next that returned a document.
func (d *docReader) unread() { d.at-- }

// read takes the next block of a sign file, and reports whether there was one.
func (d *docReader) read() (bool, error) {
	for {
		if d.sign == nil {
			if len(d.signs) == 0 {
				return false, nil
			}
			if err := d.openNext(); err != nil {
				return false, err
			}
		}
		if d.sign.Next() {
			return true, d.fill()
		}
		err := d.sign.Err
		if err == nil && d.some {
			err = fmt.Errorf("dedup: document %d was decided on and is not in its split", d.member.doc)
		}
		err = errors.Join(err, d.sign.Close(), d.members.Close())
		d.sign, d.members = nil, nil
		if err != nil {
			return false, err
		}
	}
}

// openNext opens the files of the next split.
func (d *docReader) openNext() error {
	sign, err := flow.OpenColumns(d.ctx, d.work, d.signs[0]...)
	if err != nil {
		return err
	}
	members, err := d.openMembers(d.ctx, d.removals[0])
	if err != nil {
		return errors.Join(err, sign.Close())
	}
	d.sign, d.members = sign, members
	d.signs, d.removals = d.signs[1:], d.removals[1:]
	d.member, d.some, err = members.pull()
	return err
}

// fill makes documents of the block in hand.
func (d *docReader) fill() error {
	f := d.sign
	ords, hi, lo, size := f.Uint64("ord"), f.Uint64("row_hi"), f.Uint64("row_lo"), f.Uint64("bytes")
	id, err := userIDs(f, d.set.IDKind)
	if err != nil {
		return err
	}
	var lines []uint64
	if d.writesLines() {
		lines = f.Uint64("line")
	}
	if f.Err != nil {
		return f.Err
	}
	d.block, d.at = d.block[:0], 0
	for i, ord := range ords {
		o := outcome{ord: ord, text: lsh.Hash128{Hi: hi[i], Lo: lo[i]}, bytes: size[i], id: id(i)}
		if lines != nil {
			o.line = lines[i]
		}
		if d.some && d.member.doc == ord {
			o.clustered, o.member = true, d.member
			if d.member, d.some, err = d.members.pull(); err != nil {
				return err
			}
		}
		d.block = append(d.block, o)
	}
	return nil
}

// finished reports documents that no file asked for.
func (d *docReader) finished() error {
	more, err := d.at < len(d.block), error(nil)
	if !more {
		more, err = d.read()
	}
	if err == nil && more {
		err = errors.New("dedup: documents are left over after the last file of their splits")
	}
	return err
}

func (d *docReader) close() {
	if d.sign != nil { // after a failure that is reported already
		_ = d.sign.Close()
		_ = d.members.Close()
	}
}
