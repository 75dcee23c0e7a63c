package corpus

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// place drops files that were found more than once and gives the others their paths and indexes.
func (r *resolver) place(s *Set) error {
	r.nameRoot()
	// Who comes first has the file: the outermost root, and in it the name that is not a link.
	slices.SortFunc(r.found, func(a, b found) int {
		ra, rb := &r.roots[a.root], &r.roots[b.root]
		return cmp.Or(
			cmp.Compare(strings.Count(ra.name, "/"), strings.Count(rb.name, "/")),
			cmp.Compare(ra.name, rb.name),
			cmp.Compare(btoi(a.linked), btoi(b.linked)),
			cmp.Compare(a.rel, b.rel),
		)
	})
	first := make(map[string]*found, len(r.found))
	used := make(map[int]bool)
	var taken []*found
	for i := range r.found {
		f := &r.found[i]
		if of := first[f.canon]; of != nil {
			if f.place != of.place {
				s.Aliases = append(s.Aliases, Alias{Name: f.name, Of: of.name})
			}
			continue
		}
		first[f.canon] = f
		used[f.root] = true
		taken = append(taken, f)
	}
	if len(taken) > MaxFiles {
		return inputError("%d files, more than %d", len(taken), int64(MaxFiles))
	}
	for _, f := range taken {
		p := f.rel
		if len(used) > 1 {
			p = path.Join(r.roots[f.root].label, p)
		}
		s.Files = append(s.Files, File{
			Path: p, Name: f.name, Format: f.format, Compression: f.comp, Rows: -1,
			Size: f.info.Size, ModTime: f.info.ModTime, Mode: f.info.Mode.Perm(),
		})
	}
	slices.SortFunc(s.Files, func(a, b File) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Aliases, func(a, b Alias) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Of, b.Of))
	})
	s.Aliases = slices.Compact(s.Aliases)
	for i := range s.Files {
		s.Files[i].Index = i
	}
	return checkPaths(s.Files)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// nameRoot makes the longest folder that the files named outright share their root.
func (r *resolver) nameRoot() {
	if len(r.named) == 0 {
		return
	}
	dir := path.Dir(r.found[r.named[0]].place)
	for _, i := range r.named {
		for p := r.found[i].place; dir != "/" && !strings.HasPrefix(p, dir+"/"); {
			dir = path.Dir(dir)
		}
	}
	label := path.Base(dir)
	if label == "/" || label == "." {
		label = "root"
	}
	r.roots = append(r.roots, root{name: dir, label: label})
	for _, i := range r.named {
		f := &r.found[i]
		f.root = len(r.roots) - 1
		f.rel = strings.TrimPrefix(strings.TrimPrefix(f.place, dir), "/")
	}
}

// checkPaths refuses two files with one path, and a file whose path is that of a folder of another.
func checkPaths(files []File) error {
	at := make(map[string]int, len(files))
	for i := range files {
		f := &files[i]
		if j, ok := at[f.Path]; ok {
			return inputError(
				"%s and %s would both become %s; rename one, or give a folder that holds both as the input",
				files[j].Name, f.Name, f.Path)
		}
		at[f.Path] = i
	}
	for i := range files {
		for dir := path.Dir(files[i].Path); dir != "."; dir = path.Dir(dir) {
			if j, ok := at[dir]; ok {
				return inputError("%s would become %s, and %s the folder of that name; rename one",
					files[j].Name, files[j].Path, files[i].Name)
			}
		}
	}
	return nil
}
