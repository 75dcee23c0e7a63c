// Package advice finds out, after a failure, what can be done about an option that names a column which does not serve:
// which option it is, which columns would do, and whether any of the files or records can be used as it stands.
package advice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/mem"
)

// option is an option that names a column.
type option struct {
	flag string
	only func(o corpus.Options, column string) corpus.Options // o with this option alone, set to column
	name string                                               // of the column; "" if the option is not used
}

func optionsOf(o corpus.Options) []option {
	o.SkipFiles, o.SkipRecords = false, false
	return []option{
		{"--text-field", func(o corpus.Options, c string) corpus.Options {
			o.TextField, o.KeepField, o.IDField = c, "", ""
			return o
		}, o.TextField},
		{"--keep", func(o corpus.Options, c string) corpus.Options {
			o.KeepField, o.IDField = c, ""
			return o
		}, o.KeepField},
		{"--id-field", func(o corpus.Options, c string) corpus.Options {
			o.KeepField, o.IDField = "", c
			return o
		}, o.IDField},
	}
}

// Column adds to an error of reading the inputs, if it is about a column that one of the options names, the option and the
// columns that would do. everywhere says that not one file can be used with that option, or, of JSON Lines, not one of the
// first records: then leaving out what is bad would leave nothing. Other errors are returned as they are. It reads footers and
// the beginning of files.
func Column(ctx context.Context, fsys corpus.FS, inputs []string, o corpus.Options, err error) (explained error, everywhere bool) {
	var fe *corpus.FileError
	switch {
	case !errors.As(err, &fe):
		return err, false
	case errors.Is(fe.Kind, corpus.ErrColumn):
		return parquetColumn(ctx, fsys, inputs, o, fe, err)
	case errors.Is(fe.Kind, corpus.ErrRecord):
		return jsonField(ctx, fsys, inputs, o, fe, err)
	}
	return err, false
}

// parquetColumn asks Resolve, which knows best, by giving it one option at a time.
func parquetColumn(ctx context.Context, fsys corpus.FS, inputs []string, o corpus.Options, fe *corpus.FileError, err error) (error, bool) {
	suits := func(o corpus.Options) bool {
		o.Format, o.SkipFiles, o.SkipRecords = corpus.Parquet, false, false
		_, err := corpus.Resolve(ctx, fsys, []string{fe.Name}, o)
		return err == nil
	}
	for _, opt := range optionsOf(o) {
		if opt.name == "" || suits(opt.only(o, opt.name)) {
			continue
		}
		var would []string
		for _, c := range columnsOf(ctx, fsys, fe.Name) {
			if suits(opt.only(o, c)) {
				would = append(would, c)
			}
		}
		return explain(opt.flag, err, would), allBad(ctx, fsys, inputs, opt.only(o, opt.name))
	}
	return err, false // files that do not agree
}

// allBad reports whether no file of the inputs can be used.
func allBad(ctx context.Context, fsys corpus.FS, inputs []string, o corpus.Options) bool {
	o.SkipFiles = true
	set, err := corpus.Resolve(ctx, fsys, inputs, o)
	return err == nil && !slices.ContainsFunc(set.Files, func(f corpus.File) bool { return f.Bad == "" })
}

// maxColumns is how many columns are tried.
const maxColumns = 100

// columnsOf returns the paths of the leaf columns of a Parquet file, nil if it cannot be read.
func columnsOf(ctx context.Context, fsys corpus.FS, name string) (out []string) {
	set, err := corpus.Resolve(ctx, fsys, []string{name}, corpus.Options{Tables: true})
	if err != nil {
		return nil
	}
	t, err := set.OpenTable(ctx, 0)
	if err != nil {
		return nil
	}
	defer t.Close()
	for i := range min(t.Metadata().Schema.NumColumns(), maxColumns) {
		out = append(out, t.Metadata().Schema.Column(i).Path())
	}
	return out
}

func explain(flag string, err error, would []string) error {
	if len(would) == 0 {
		return fmt.Errorf("%s: %w; name a column that serves", flag, err)
	}
	const most = 10
	list := strings.Join(would[:min(len(would), most)], ", ")
	if n := len(would) - most; n > 0 {
		list += fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("%s: %w; of them could serve: %s", flag, err, list)
}

// Reading to find out whether a field serves stops after so many files and records.
const (
	maxFiles   = 20
	maxRecords = 100 // of a file
)

// jsonField looks whether the first records of the input all have a field of the wrong type.
func jsonField(ctx context.Context, fsys corpus.FS, inputs []string, o corpus.Options, fe *corpus.FileError, err error) (error, bool) {
	for _, opt := range optionsOf(o) {
		if opt.name == "" || !strings.Contains(fe.Err.Error(), fmt.Sprintf("field %q", opt.name)) {
			continue
		}
		bad, good := firstRecords(ctx, fsys, inputs, opt.only(o, opt.name))
		if good || bad < 2 {
			return err, false
		}
		return fmt.Errorf("%s: %w, and so are the first %d records; name a field that serves", opt.flag, err, bad), true
	}
	return err, false
}

// firstRecords counts the records at the beginning of the inputs that cannot be used, until there is one that can.
func firstRecords(ctx context.Context, fsys corpus.FS, inputs []string, o corpus.Options) (bad int, good bool) {
	o.SkipFiles, o.SkipRecords = true, true
	set, err := corpus.Resolve(ctx, fsys, inputs, o)
	if err != nil {
		return 0, false
	}
	for i := range min(len(set.Files), maxFiles) {
		b, err := firstBatch(ctx, set, i)
		if err != nil {
			continue // an end, or a fault that the run would have named
		}
		bad += len(b.Bad)
		good = len(b.Ord) > 0
		b.Release()
		if good {
			return bad, true
		}
	}
	return bad, false
}

func firstBatch(ctx context.Context, set *corpus.Set, file int) (_ *corpus.Batch, err error) {
	r, err := set.Open(corpus.Split{First: file, Last: file}, corpus.ReadOptions{
		Alloc: mem.Host(), BatchRows: maxRecords, BatchBytes: 1 << 20, MaxBytes: 16 << 20,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := r.Close(); err == nil && e != nil {
			err = e
		}
	}()
	b, err := r.Next(ctx)
	if err == io.EOF {
		return nil, errors.New("no records")
	}
	return b, err
}
