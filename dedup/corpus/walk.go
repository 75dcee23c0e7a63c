package corpus

import (
	"cmp"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// hasMeta reports whether a name has characters that mean something in a glob.
func hasMeta(name string) bool { return strings.ContainsAny(name, `*?[{\`) }

// splitGlob splits a glob into a folder without wildcards and a pattern.
func splitGlob(in string) (base, pattern string, err error) {
	if !doublestar.ValidatePattern(in) {
		return "", "", doublestar.ErrBadPattern
	}
	base, pattern = doublestar.SplitPattern(in)
	return base, pattern, nil
}

// walk collects the files below one root.
type walk struct {
	*resolver
	pattern  string // the glob relative to the root; "" takes the whole folder
	outright bool   // the pattern says more about the names of files than that there are some
	deep     bool   // the pattern can match at any depth
	depth    int    // the number of parts of the pattern otherwise

	root    int
	entered map[string]bool // canonical names of folders
	links   []folder        // links to folders, entered when all real ones were

	taken   int
	files   int    // files seen, taken or not
	example string // one that was not taken
}

// folder is a folder to enter.
type folder struct {
	name, rel, canon string
	linked           bool // reached through a link
	matched          bool // everything below is wanted
	depth            int
}

func (w *walk) run(dir string) error {
	index, canon, err := w.addRoot(dir)
	if err != nil {
		return err
	}
	if strings.Contains(dir, "..") {
		dir = canon // joining names would resolve it without regard to links
	}
	w.root, w.entered = index, make(map[string]bool)
	w.outright = w.pattern != "" && strings.Trim(path.Base(w.pattern), "*") != ""
	w.deep = strings.Contains(w.pattern, "**") || strings.Contains(w.pattern, "{")
	w.depth = strings.Count(w.pattern, "/") + 1
	if err := w.enter(folder{name: dir, canon: canon, matched: w.pattern == ""}); err != nil {
		return err
	}
	// Real folders were entered first, so that what links reach a second time has its real path.
	for len(w.links) > 0 {
		links := w.links
		w.links = nil
		slices.SortFunc(links, func(a, b folder) int { return cmp.Compare(a.rel, b.rel) })
		for _, f := range links {
			if err := w.enter(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) enter(f folder) error {
	if w.entered[f.canon] {
		return nil
	}
	w.entered[f.canon] = true
	entries, err := w.fs.List(w.ctx, f.name)
	if err != nil {
		return inputError("%s cannot be listed: %w", f.name, err)
	}
	slices.SortFunc(entries, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	for _, e := range entries {
		if err := w.visit(f, e); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) visit(parent folder, e Info) error {
	if w.hidden(e.Name) {
		return nil
	}
	at := folder{
		name: path.Join(parent.name, e.Name), rel: path.Join(parent.rel, e.Name),
		canon: path.Join(parent.canon, e.Name), linked: parent.linked, matched: parent.matched, depth: parent.depth + 1,
	}
	if !at.matched && w.pattern != "" {
		at.matched = doublestar.MatchUnvalidated(w.pattern, at.rel)
	}
	place := at.canon
	if e.Mode&fs.ModeSymlink != 0 {
		if w.o.Format == Files {
			return nil
		}
		target, err := w.fs.Stat(w.ctx, at.name)
		if err != nil {
			if !at.matched || formatIsUnknown(e.Name) {
				return nil // a dangling link that is no business of ours
			}
			return inputError("%s is a link that leads nowhere: %w", at.name, err)
		}
		if at.canon, err = w.fs.Canonical(w.ctx, at.name); err != nil {
			return inputError("%s cannot be used: %w", at.name, err)
		}
		at.linked = true
		target.Name = e.Name
		e = target
	}
	switch {
	case e.Mode.IsDir():
		if !at.matched && !w.deep && at.depth >= w.depth {
			return nil
		}
		if at.linked && !parent.linked {
			w.links = append(w.links, at)
			return nil
		}
		return w.enter(at)
	case e.Mode.IsRegular() && at.matched:
		w.take(at, e, place)
	}
	return nil
}

func formatIsUnknown(name string) bool {
	format, _ := formatOf(name)
	return format == ""
}

// hidden reports whether an entry is passed over because of its name.
func (w *walk) hidden(name string) bool {
	c := name[0]
	if c != '.' && (c != '_' || w.o.Format == Files) {
		return false
	}
	// A glob finds such names if one of its parts starts like them.
	return !strings.HasPrefix(w.pattern, name[:1]) && !strings.Contains(w.pattern, "/"+name[:1])
}

func (w *walk) take(file folder, e Info, place string) {
	w.files++
	f := found{
		root: w.root, rel: file.rel, name: file.name, place: place, canon: file.canon, info: e, linked: file.linked,
	}
	switch {
	case w.o.Format == Files:
		f.format = Files
	case w.outright && doublestar.MatchUnvalidated(w.pattern, file.rel):
		f.format, f.comp = w.resolver.formatOf(e.Name)
	default:
		f.format, f.comp = formatOf(e.Name)
	}
	if f.format == "" || w.o.Format != "" && f.format != w.o.Format {
		if w.example == "" {
			w.example = file.name
		}
		return
	}
	w.taken++
	w.found = append(w.found, f)
}
