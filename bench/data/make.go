package data

import (
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"
)

// Sizes say how large sets are.
type Sizes struct {
	// Code and Prose are the part of the paths that these sets take, in thousandths.
	Code, Prose int
	// CodeSample and ProseSample are the same for the sets of which all pairs are compared.
	CodeSample, ProseSample int
	// Rows is the number of rows of table, Copies that of the cluster in stress.
	Rows, Copies int
}

// Full is 600 MB of code and 400 MB of prose, Small 200 MB of each.
var (
	Full  = Sizes{Code: 340, Prose: 1000, CodeSample: 15, ProseSample: 40, Rows: 20_000_000, Copies: 100_000}
	Small = Sizes{Code: 120, Prose: 500, CodeSample: 15, ProseSample: 40, Rows: 5_000_000, Copies: 100_000}
)

// Names lists the sets that can be made.
func Names() []string {
	return []string{"code", "code-sample", "prose", "prose-sample", "perturbed", "stress", "table", "skewed"}
}

// recipe is the version of how sets are made.
const recipe = "1"

// Make makes sets below dir, those that are not there yet, and tells note what it does.
func Make(ctx context.Context, dir string, names []string, z Sizes, note func(string)) error {
	m := &maker{ctx: ctx, dir: dir, z: z, note: note}
	for _, name := range names {
		s := &Set{Name: name, Recipe: m.recipe(name)}
		if old, err := Open(dir, name); err == nil && old.Recipe == s.Recipe {
			note(old.String() + ", made before")
			continue
		}
		if err := m.make(s); err != nil {
			return fmt.Errorf("data set %s: %w", name, err)
		}
		note(s.String())
	}
	return nil
}

type maker struct {
	ctx  context.Context
	dir  string
	z    Sizes
	note func(string)
}

func (m *maker) recipe(name string) string {
	switch name {
	case "code":
		return paths(m.z.Code)
	case "code-sample":
		return paths(m.z.CodeSample)
	case "prose", "perturbed":
		return paths(m.z.Prose)
	case "prose-sample":
		return paths(m.z.ProseSample)
	case "stress":
		return fmt.Sprintf("%s, %d copies", recipe, m.z.Copies)
	case "table", "skewed":
		return fmt.Sprintf("%s, %d rows", recipe, m.z.Rows)
	}
	return recipe
}

func paths(share int) string { return fmt.Sprintf("%s, %d of 1000 paths", recipe, share) }

func (m *maker) make(s *Set) error {
	switch s.Name {
	case "code":
		return m.fromPackages(s, kernels, m.z.Code, m.codeDocs)
	case "code-sample":
		return m.fromPackages(s, kernels, m.z.CodeSample, m.codeDocs)
	case "prose":
		return m.fromPackages(s, pages, m.z.Prose, m.proseDocs)
	case "prose-sample":
		return m.fromPackages(s, pages, m.z.ProseSample, m.proseDocs)
	case "perturbed":
		return m.perturbed(s)
	case "stress":
		return s.write(m.dir, shuffled(stress(m.z.Copies)))
	case "table", "skewed":
		return s.writeTable(m.dir, m.z.Rows)
	}
	return fmt.Errorf("there is none of this name; there are %s", strings.Join(Names(), ", "))
}

// fromPackages writes the documents of packages whose key is within a share.
func (m *maker) fromPackages(s *Set, names []string, share int, docs func(Package, int) ([]Doc, error)) (err error) {
	if s.Packages, s.Missing, err = fetch(m.ctx, m.dir, names, m.note); err != nil {
		return err
	}
	if len(s.Packages) < 2 {
		return fmt.Errorf("of its packages, too few can be had: %s are missing", strings.Join(s.Missing, ", "))
	}
	var all []Doc
	for _, p := range s.Packages {
		d, err := docs(p, share)
		if err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
		all = append(all, d...)
	}
	return s.write(m.dir, shuffled(all))
}

// within says whether a key is among a share, in thousandths, of all. A smaller share is part of a larger one.
func within(key string, share int) bool { return xxh3.HashString(key)%1000 < uint64(share) }

// maxSource is the size above which a source file is left out: tables that were generated.
const maxSource = 256 << 10

func (m *maker) codeDocs(p Package, share int) (docs []Doc, err error) {
	err = sourceFiles(m.ctx, p, func(name string, size int64, r io.Reader) error {
		if size == 0 || size > maxSource || !within(name, share) {
			return nil
		}
		_, content, err := text(name, r)
		docs = append(docs, Doc{p.Name + "/" + name, content})
		return err
	})
	return docs, err
}

// Shorter pages say nothing, longer ones are books and are cut.
const (
	minPage  = 50
	maxPage  = 200_000
	pagePart = 20_000
)

func (m *maker) proseDocs(p Package, share int) (docs []Doc, err error) {
	err = entries(m.ctx, p, func(name string, _ int64, r io.Reader) error {
		if !isPage(name) || !within(pageKey(name), share) {
			return nil
		}
		base, content, err := text(name, r)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if slices.Contains([]string{".html", ".htm", ".page", ".xhtml"}, path.Ext(base)) {
			content = stripHTML(content)
		}
		source := p.Name + "/" + name
		if len(content) > maxPage {
			for i, part := range cut(content, pagePart) {
				docs = append(docs, Doc{fmt.Sprintf("%s@%d", source, i), part})
			}
		} else if len(content) >= minPage {
			docs = append(docs, Doc{source, content})
		}
		return nil
	})
	return docs, err
}

// isPage says whether a file is documentation that people read.
func isPage(name string) bool {
	base := strings.TrimSuffix(name, ".gz")
	switch path.Ext(base) {
	case ".html", ".htm", ".page", ".xhtml", ".txt", ".rst", ".md", ".pod":
		return true
	}
	return strings.Contains(name, "/man/")
}

// languages are the folders that tell the translations of a page apart.
var languages = regexp.MustCompile(`/(help|man)/([a-z]{2,3}([_@-][A-Za-z-]+)?)/`)

// pageKey is the name of a page in all languages.
func pageKey(name string) string { return languages.ReplaceAllString(name, "/$1/") }

// cut cuts a text into parts of n bytes and what is left of the code point there.
func cut(s string, n int) (parts []string) {
	for len(s) > n {
		end := n
		for end < len(s) && !utf8.RuneStart(s[end]) {
			end++
		}
		parts, s = append(parts, s[:end]), s[end:]
	}
	if s != "" {
		parts = append(parts, s)
	}
	return parts
}
