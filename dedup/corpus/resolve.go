package corpus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Resolve finds the files that the inputs name and looks at each of them. An input is a file, a folder, or
// a glob in which * and ? match within a name, ** matches any number of folders, and [a-z] and {a,b} are
// alternatives; an existing file whose name looks like a glob is that file.
//
// A folder gives the files below it whose names have an extension of the format, or all regular files for
// [Files]. Names that start with "." are passed over, and unless the format is Files names that start with "_";
// a glob finds them if it says so. A file named outright, or matched by a glob, is read in the format of the
// options whatever its name. Links are followed, but not by Files, which passes over everything below an
// input that is not a regular file or folder. A folder that is reached twice is entered once.
//
// File.Path is relative to the input: with one folder, or one glob, to that folder or to the part of the glob
// before the first wildcard; with explicit files to the longest folder they share. With several of these it
// starts with the last part of the name of the one the file came from. One physical file is taken once,
// under the outermost input that has it; inputs that then have no file left count no more. Two files that
// end up with one path are refused.
//
// The result does not depend on the order of the inputs. Errors in the inputs wrap [ErrInput], those in the
// bytes of files are [FileError].
func Resolve(ctx context.Context, fsys FS, inputs []string, o Options) (*Set, error) {
	if err := checkOptions(&o); err != nil {
		return nil, err
	}
	if len(inputs) == 0 {
		return nil, inputError("no input is given")
	}
	inputs = slices.Clone(inputs)
	slices.Sort(inputs)
	r := &resolver{ctx: ctx, fs: fsys, o: o}
	for _, in := range slices.Compact(inputs) {
		if err := r.add(in); err != nil {
			return nil, err
		}
	}
	if err := r.checkFormats(); err != nil {
		return nil, err
	}
	s := &Set{FS: fsys, Options: o}
	if err := r.place(s); err != nil {
		return nil, err
	}
	s.Format = s.Files[0].Format
	if err := s.inspect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func inputError(format string, args ...any) error {
	return fmt.Errorf("corpus: %w: %w", ErrInput, fmt.Errorf(format, args...))
}

func checkOptions(o *Options) error {
	o.TextField = cmp.Or(o.TextField, "text")
	if o.Tables {
		o.Format = Parquet
	}
	switch o.Format {
	case "", Parquet, JSONL:
	case Files:
		if o.IDField != "" || o.KeepField != "" {
			return inputError("files that are a document each have no fields for an id or a value; leave them out")
		}
	default:
		return inputError("unknown format %q; the formats are %s, %s and %s", o.Format, Parquet, JSONL, Files)
	}
	return nil
}

// formatOf says from its name what a file is.
func formatOf(name string) (Format, Compression) {
	name = strings.ToLower(name)
	c := Uncompressed
	switch {
	case strings.HasSuffix(name, ".gz"):
		c = Gzip
	case strings.HasSuffix(name, ".zst"):
		c = Zstd
	}
	if c != Uncompressed {
		name = name[:len(name)-1-len(c)]
	}
	switch path.Ext(name) {
	case ".parquet", ".pq":
		if c == Uncompressed {
			return Parquet, c
		}
	case ".jsonl", ".json", ".ndjson":
		return JSONL, c
	}
	return "", c
}

// root is a folder that paths are relative to.
type root struct {
	name  string // canonical, but for the last part, which is as the user wrote it
	label string // the last part of name
}

// found is a file that an input named.
type found struct {
	root   int
	rel    string // relative to the root
	name   string // for the file system and for messages
	place  string // canonical folder and last part of the name
	canon  string // canonical name
	info   Info
	linked bool // canon is not place, or a folder on the way was a link
	format Format
	comp   Compression
}

type resolver struct {
	ctx   context.Context
	fs    FS
	o     Options
	roots []root
	found []found
	named []int // indexes in found of the files named outright, which will share a root
}

// add finds the files of one input.
func (r *resolver) add(in string) error {
	if in == "" {
		return inputError("an input is empty")
	}
	info, err := r.fs.Stat(r.ctx, in)
	switch {
	case err == nil && info.Mode.IsDir():
		return r.addFolder(in)
	case err == nil:
		return r.addFile(in, info)
	case errors.Is(err, fs.ErrNotExist) && hasMeta(in):
		return r.addGlob(in)
	case errors.Is(err, fs.ErrNotExist):
		return inputError("%s does not exist", in)
	}
	return inputError("%s cannot be used: %w", in, err)
}

func (r *resolver) addFile(in string, info Info) error {
	if !info.Mode.IsRegular() {
		return inputError("%s is neither a file nor a folder", in)
	}
	f := found{name: in, info: info}
	if f.format, f.comp = r.formatOf(in); f.format == "" {
		return inputError("%s: its name does not say what it is; give --format", in)
	}
	dir, base := splitName(in)
	dir, err := r.fs.Canonical(r.ctx, dir)
	if err == nil {
		f.canon, err = r.fs.Canonical(r.ctx, in)
	}
	if err != nil {
		return inputError("%s cannot be used: %w", in, err)
	}
	f.place = path.Join(dir, base)
	f.linked = f.place != f.canon
	r.named = append(r.named, len(r.found))
	r.found = append(r.found, f)
	return nil
}

// formatOf returns how a file is read that was named outright or by a glob.
func (r *resolver) formatOf(name string) (Format, Compression) {
	format, comp := formatOf(name)
	switch r.o.Format {
	case JSONL:
		return JSONL, comp
	case Parquet, Files:
		return r.o.Format, Uncompressed
	}
	return format, comp
}

// splitName splits a name before its last part, without resolving ".." as package path does, which is wrong
// behind a link.
func splitName(name string) (dir, base string) {
	for len(name) > 1 && name[len(name)-1] == '/' {
		name = name[:len(name)-1]
	}
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return ".", name
	}
	return cmp.Or(name[:i], "/"), name[i+1:]
}

// addRoot returns the index of the root of a folder.
func (r *resolver) addRoot(dir string) (int, string, error) {
	canon, err := r.fs.Canonical(r.ctx, dir)
	if err != nil {
		return 0, "", inputError("%s cannot be used: %w", dir, err)
	}
	name := canon
	if outer, base := splitName(dir); base != "" && base != "." && base != ".." {
		if parent, err := r.fs.Canonical(r.ctx, outer); err == nil {
			name = path.Join(parent, base)
		}
	}
	label := path.Base(name)
	if label == "/" || label == "." {
		label = "root"
	}
	r.roots = append(r.roots, root{name: name, label: label})
	return len(r.roots) - 1, canon, nil
}

func (r *resolver) addFolder(in string) error {
	w := walk{resolver: r}
	if err := w.run(in); err != nil {
		return err
	}
	if w.taken > 0 {
		return nil
	}
	switch {
	case w.files == 0:
		return inputError("%s has no files in it", in)
	case r.o.Format != "":
		return inputError("%s has no %s files in it, only others such as %s", in, r.o.Format, w.example)
	}
	return inputError(
		"%s has no Parquet or JSON Lines files in it, only others such as %s; "+
			"--format %s takes each file as a document",
		in, w.example, Files)
}

func (r *resolver) addGlob(in string) error {
	base, pattern, err := splitGlob(in)
	if err != nil {
		return inputError("%s is not a valid glob: %w", in, err)
	}
	if info, err := r.fs.Stat(r.ctx, base); errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode.IsDir() {
		return inputError("%s matches nothing: %s is not a folder", in, base)
	}
	w := walk{resolver: r, pattern: pattern}
	if err := w.run(base); err != nil {
		return err
	}
	switch {
	case w.taken > 0:
		return nil
	case w.files > 0:
		return inputError("%s: the name of %s does not say what it is; give --format", in, w.example)
	}
	return inputError("%s matches nothing", in)
}

// checkFormats refuses a mixture of formats.
func (r *resolver) checkFormats() error {
	first := slices.MinFunc(r.found, func(a, b found) int { return cmp.Compare(a.name, b.name) })
	other := ""
	for _, f := range r.found {
		if f.format != first.format && (other == "" || f.name < other) {
			other = f.name
		}
	}
	if other == "" {
		return nil
	}
	return inputError("the formats are mixed: %s is %s, %s is not; give --format to choose, or run once for each",
		first.name, first.format, other)
}
