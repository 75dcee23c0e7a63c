package corpus

import "context"

// Join makes one set of the documents of two: those of a reference set, which come first in the order of ordinals
// and are marked, and those of in. The formats may differ; the kinds of ids may not, and no file may be in both.
// The set is otherwise that of in: Format and Options are its own, and Path is unique only among the files of
// each. Neither argument may be used any more.
func Join(ctx context.Context, reference, in *Set) (*Set, error) {
	if reference.IDKind != NoIDs && in.IDKind != NoIDs && reference.IDKind != in.IDKind {
		return nil, inputError("the ids in %q are %s in the input and %s in the reference set %s; ids of both stand in one table",
			in.Options.IDField, in.IDKind, reference.IDKind, reference.Files[0].Name)
	}
	if in.IDKind == NoIDs {
		in.IDKind = reference.IDKind
	}
	if len(reference.Files)+len(in.Files) > MaxFiles {
		return nil, inputError("%d files, more than %d", len(reference.Files)+len(in.Files), int64(MaxFiles))
	}
	names := make(map[string]string, len(reference.Files))
	for i := range reference.Files {
		f := &reference.Files[i]
		f.Reference = true
		canon, err := reference.FS.Canonical(ctx, f.Name)
		if err != nil {
			return nil, inputError("%s cannot be used: %w", f.Name, err)
		}
		names[canon] = f.Name
	}
	for i := range in.Files {
		canon, err := in.FS.Canonical(ctx, in.Files[i].Name)
		if err != nil {
			return nil, inputError("%s cannot be used: %w", in.Files[i].Name, err)
		}
		if name, ok := names[canon]; ok {
			return nil, inputError("%s is both in the input and in the reference set, as %s: all of it would be removed",
				in.Files[i].Name, name)
		}
	}
	in.References = len(reference.Files)
	in.Files = append(reference.Files, in.Files...)
	for i := range in.Files {
		in.Files[i].Index = i
	}
	in.Aliases = append(reference.Aliases, in.Aliases...)
	in.Warnings = append(reference.Warnings, in.Warnings...)
	return in, nil
}

// optionsOf returns the options for a file. What documents are preferred by says nothing of those of a reference
// set, and they need not have it.
func (s *Set) optionsOf(file int) Options {
	o := s.Options
	if s.Files[file].Reference {
		o.KeepField = ""
	}
	return o
}

// IsReference reports whether the document with an ordinal belongs to a reference set.
func (s *Set) IsReference(ord uint64) bool { return ord < Ordinal(s.References, 0) }
