package corpus

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// Split is a unit of reading: one or more whole files, a range of row groups of one Parquet file, or a
// range of bytes of one plain JSON Lines file. It is a value without pointers and survives JSON.
type Split struct {
	// First and Last are file indexes, both included. If a range below is set they are equal.
	First int `json:"first"`
	Last  int `json:"last"`
	// FirstGroup and EndGroup are the row groups [FirstGroup, EndGroup) of a Parquet file; 0, 0 means all.
	FirstGroup int `json:"first_group,omitempty"`
	EndGroup   int `json:"end_group,omitempty"`
	// Offset and End are the bytes [Offset, End) of a plain JSON Lines file, which begin at the start of a
	// line and end after one; 0, 0 means all.
	Offset int64 `json:"offset,omitempty"`
	End    int64 `json:"end,omitempty"`
	// Row is the number of the first row or line of the split in file First.
	Row int64 `json:"row,omitempty"`
	// Size is about how many bytes of text and other wanted columns the split holds, for scheduling.
	Size int64 `json:"size"`
}

// Splits cuts the set into splits of about target bytes each, in the order of the files and rows; every row
// is in exactly one. A row group, a line and a compressed file are not cut. The result depends on the set
// and the target alone. Plain JSON Lines files larger than the target are read once, to count their lines, by
// up to Options.Workers goroutines.
func (s *Set) Splits(ctx context.Context, target int64) ([]Split, error) {
	if target <= 0 {
		return nil, fmt.Errorf("corpus: splits of %d bytes", target)
	}
	cut := make([][]Split, len(s.Files)) // of the files larger than the target
	err := inParallel(ctx, s.Options.Workers, len(s.Files), func(ctx context.Context, i int) (err error) {
		f := &s.Files[i]
		switch {
		case f.Work <= target || f.Bad != "":
		case f.Format == Parquet:
			cut[i], err = s.cutGroups(ctx, i, target)
		case f.Format == JSONL && f.Compression == Uncompressed:
			cut[i], err = s.cutLines(ctx, i, target)
		}
		return err
	})
	if err == nil {
		err = s.countLines(ctx, cut)
	}
	if err != nil {
		return nil, err
	}
	var splits []Split
	var open bool // the last split may take further whole files
	for i := range s.Files {
		if s.Files[i].Bad != "" {
			continue
		}
		if cut[i] != nil {
			splits, open = append(splits, cut[i]...), false
			continue
		}
		n := s.Files[i].Work
		if open && splits[len(splits)-1].Size+n <= target && i-splits[len(splits)-1].First < maxSplitFiles {
			splits[len(splits)-1].Last = i
			splits[len(splits)-1].Size += n
			continue
		}
		splits, open = append(splits, Split{First: i, Last: i, Size: n}), true
	}
	return splits, nil
}

// maxSplitFiles bounds the files of a split, because opening one costs even if it is empty.
const maxSplitFiles = 4096

// cutGroups cuts a Parquet file at row groups.
func (s *Set) cutGroups(ctx context.Context, file int, target int64) (splits []Split, err error) {
	src, err := s.open(ctx, file)
	if err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, src.Close()) }()
	p, err := readFooter(src, s.optionsOf(file))
	if err != nil {
		return nil, err
	}
	row := int64(0)
	for g := range p.meta.NumRowGroups() {
		n := p.groupWork(g)
		first := row
		row += p.meta.RowGroup(g).NumRows()
		if k := len(splits) - 1; k >= 0 && splits[k].Size+n <= target {
			splits[k].EndGroup, splits[k].Size = g+1, splits[k].Size+n
			continue
		}
		splits = append(splits, Split{First: file, Last: file, FirstGroup: g, EndGroup: g + 1, Row: first, Size: n})
	}
	return splits, nil
}

// cutLines cuts a plain JSON Lines file at the first line that starts at or after each multiple of the target.
func (s *Set) cutLines(ctx context.Context, file int, target int64) (splits []Split, err error) {
	src, err := s.open(ctx, file)
	if err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, src.Close()) }()
	size := s.Files[file].Size
	buf := make([]byte, 64<<10)
	from := int64(0)
	for from < size {
		to := (from/target + 1) * target
		if to < size {
			if to, err = lineStart(src, to, size, buf); err != nil {
				return nil, src.fault(ErrChanged, place{}, err)
			}
		}
		to = min(to, size)
		splits = append(splits, Split{First: file, Last: file, Offset: from, End: to, Size: to - from})
		from = to
	}
	return splits, nil
}

// lineStart returns where the first line starts at or after offset at > 0.
func lineStart(src *source, at, size int64, buf []byte) (int64, error) {
	for at--; at < size; {
		b := buf[:min(int64(len(buf)), size-at)]
		n, err := src.ReadAt(b, at)
		if n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			return at + int64(i) + 1, nil
		}
		at += int64(len(b))
	}
	return size, nil
}

// countLines fills in the first lines of the ranges of bytes.
func (s *Set) countLines(ctx context.Context, cut [][]Split) error {
	type part struct{ file, index int }
	var parts []part
	for file := range cut {
		if s.Files[file].Format == JSONL {
			for i := range cut[file] {
				parts = append(parts, part{file, i})
			}
		}
	}
	lines := make([]int64, len(parts))
	err := inParallel(ctx, s.Options.Workers, len(parts), func(ctx context.Context, i int) (err error) {
		sp := &cut[parts[i].file][parts[i].index]
		lines[i], err = s.CountLines(ctx, *sp)
		return err
	})
	if err != nil {
		return err
	}
	row := int64(0)
	for i, p := range parts {
		if p.index == 0 {
			row = 0
		}
		cut[p.file][p.index].Row = row
		if row += lines[i]; row > MaxRows {
			return fmt.Errorf("corpus: %s has more than %d lines; split it", s.Files[p.file].Name, int64(MaxRows))
		}
	}
	return nil
}

// CountLines returns the number of lines in a range of bytes of a plain JSON Lines file, counting a last one
// without an end.
func (s *Set) CountLines(ctx context.Context, sp Split) (lines int64, err error) {
	src, err := s.open(ctx, sp.First)
	if err != nil {
		return 0, err
	}
	defer func() { err = firstError(err, src.Close()) }()
	end := sp.End
	if end == 0 {
		end = s.Files[sp.First].Size
	}
	r := src.section(sp.Offset, end)
	buf := make([]byte, 256<<10)
	last := byte('\n')
	for left := end - sp.Offset; left > 0; {
		n, err := r.Read(buf)
		if n == 0 && err != nil {
			return 0, src.fault(ErrChanged, place{}, err)
		}
		lines += int64(bytes.Count(buf[:n], newline))
		last = buf[n-1]
		left -= int64(n)
	}
	if last != '\n' {
		lines++
	}
	return lines, nil
}

var newline = []byte{'\n'}
