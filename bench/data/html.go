package data

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// blocks are elements that end a line.
var blocks = map[atom.Atom]bool{
	atom.P: true, atom.Div: true, atom.Br: true, atom.Li: true, atom.Tr: true, atom.H1: true, atom.H2: true, atom.H3: true,
	atom.H4: true, atom.H5: true, atom.H6: true, atom.Dt: true, atom.Dd: true, atom.Pre: true, atom.Table: true, atom.Ul: true,
	atom.Ol: true, atom.Title: true, atom.Section: true,
}

// hidden are elements whose text is not shown.
var hidden = map[atom.Atom]bool{atom.Script: true, atom.Style: true, atom.Head: true}

// stripHTML returns the text of a page, runs of blanks as one and lines without text left out.
func stripHTML(page string) string {
	var b strings.Builder
	skip := atom.Atom(0)
	for z := html.NewTokenizer(strings.NewReader(page)); ; {
		switch z.Next() {
		case html.ErrorToken:
			return squeeze(b.String())
		case html.TextToken:
			if skip == 0 {
				b.Write(z.Text())
			}
		case html.StartTagToken:
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			if skip == 0 && hidden[tag] {
				skip = tag
			}
			b.WriteString(separator(tag))
		case html.EndTagToken, html.SelfClosingTagToken:
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			if tag == skip {
				skip = 0
			}
			b.WriteString(separator(tag))
		}
	}
}

func separator(tag atom.Atom) string {
	if blocks[tag] {
		return "\n"
	}
	return " "
}

// squeeze makes one blank of each run within a line and leaves empty lines out.
func squeeze(s string) string {
	var out []string
	for line := range strings.SplitSeq(s, "\n") {
		if words := strings.Fields(line); len(words) > 0 {
			out = append(out, strings.Join(words, " "))
		}
	}
	return strings.Join(out, "\n")
}
