package lsh

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Normalization is a set of changes made to a text before it is compared. They never change what is written
// to the output. The zero value changes nothing.
//
// However they are listed, they are applied in the order in which they are declared here, once each.
// Bytes that are no valid UTF-8 pass through unchanged and count as letters; where a code point between two of
// them is dropped, they may form a valid encoding afterwards, which is then left as it is.
type Normalization uint8

// The changes.
const (
	// NormalizeNFC applies Unicode's canonical composition.
	NormalizeNFC Normalization = 1 << iota
	// NormalizeNFKC applies Unicode's compatibility composition, which includes canonical composition.
	NormalizeNFKC
	// NormalizeLower maps every code point to lower case by Unicode's simple, context-free mapping.
	NormalizeLower
	// NormalizePunct drops code points of the general category P. Symbols such as + and $ stay.
	NormalizePunct
	// NormalizeWhitespace turns every run of code points with the property White_Space into one space and
	// drops it at both ends.
	NormalizeWhitespace
)

var normalizationNames = []struct {
	flag Normalization
	name string
}{
	{NormalizeNFC, "nfc"}, {NormalizeNFKC, "nfkc"}, {NormalizeLower, "lower"},
	{NormalizePunct, "punct"}, {NormalizeWhitespace, "whitespace"},
}

// ErrNormalization is wrapped by the errors of [ParseNormalization].
var ErrNormalization = errors.New("invalid normalization")

// ParseNormalization reads names separated by commas, in any order: nfc or nfkc, lower, punct and whitespace.
// An empty string and "none" mean no change.
func ParseNormalization(s string) (Normalization, error) {
	var n Normalization
	if s == "" || s == "none" {
		return n, nil
	}
next:
	for name := range strings.SplitSeq(s, ",") {
		for _, known := range normalizationNames {
			if name == known.name {
				n |= known.flag
				continue next
			}
		}
		return 0, fmt.Errorf("lsh: %w %q: %q is none of nfc, nfkc, lower, punct, whitespace", ErrNormalization, s, name)
	}
	if n&NormalizeNFC != 0 && n&NormalizeNFKC != 0 {
		return 0, fmt.Errorf("lsh: %w %q: nfkc includes nfc; choose one", ErrNormalization, s)
	}
	return n, nil
}

// String returns the names in the order in which the changes are applied, or "none". It parses to the same
// value.
func (n Normalization) String() string {
	var names []string
	for _, known := range normalizationNames {
		if n&known.flag != 0 {
			names = append(names, known.name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ",")
}

// MarshalText makes a Normalization a string in JSON.
func (n Normalization) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what [ParseNormalization] does.
func (n *Normalization) UnmarshalText(text []byte) error {
	parsed, err := ParseNormalization(string(text))
	if err == nil {
		*n = parsed
	}
	return err
}

// NormalizationTables names the Unicode versions of the tables that decide a Normalization. They come with the
// compiler, so a result is reproducible only where they agree; a run records them.
func NormalizationTables() string {
	return "unicode " + unicode.Version + ", norm " + norm.Version
}

// Normalizer applies a [Normalization] to one text after another. It keeps memory as large as the largest
// text it had to change, twice that with a composition, and serves one goroutine.
type Normalizer struct {
	what     Normalization
	ascii    [utf8.RuneSelf]byte // what becomes of an ASCII byte: itself, another, dropped or space
	composed []byte
	mapped   []byte
}

// Marks in Normalizer.ascii, which no ASCII byte equals.
const (
	asciiDrop  = 0x80
	asciiSpace = 0x81
)

// NewNormalizer returns a Normalizer for what.
func NewNormalizer(what Normalization) *Normalizer {
	n := &Normalizer{what: what}
	for b := range n.ascii {
		r := rune(b)
		switch {
		case what&NormalizeWhitespace != 0 && unicode.IsSpace(r):
			n.ascii[b] = asciiSpace
		case what&NormalizePunct != 0 && unicode.IsPunct(r):
			n.ascii[b] = asciiDrop
		case what&NormalizeLower != 0:
			n.ascii[b] = byte(unicode.ToLower(r))
		default:
			n.ascii[b] = byte(b)
		}
	}
	return n
}

// Apply returns the normalized text. It is text itself, or a part of it, if nothing else had to change, and
// otherwise memory of the Normalizer that is valid until the next call. text is never written to.
func (n *Normalizer) Apply(text []byte) []byte {
	switch {
	case n.what&NormalizeNFKC != 0:
		text = n.compose(norm.NFKC, text)
	case n.what&NormalizeNFC != 0:
		text = n.compose(norm.NFC, text)
	}
	if n.what&(NormalizeLower|NormalizePunct|NormalizeWhitespace) == 0 {
		return text
	}
	if n.what&NormalizeWhitespace != 0 {
		text = bytes.TrimSpace(text)
	}
	same := n.unchanged(text)
	if same == len(text) {
		return text
	}
	n.mapped = n.mapPoints(append(n.mapped[:0], text[:same]...), text[same:])
	return n.mapped
}

func (n *Normalizer) compose(form norm.Form, text []byte) []byte {
	if form.QuickSpan(text) == len(text) {
		return text
	}
	n.composed = form.Append(n.composed[:0], text...)
	if bytes.Equal(n.composed, text) {
		return text
	}
	return n.composed
}

// unchanged returns the length of the longest prefix of text that needs no change but at its end.
func (n *Normalizer) unchanged(text []byte) int {
	space := true // whether one more space would be one too many
	for i := 0; i < len(text); {
		b := text[i]
		if b < utf8.RuneSelf {
			if becomes := n.ascii[b]; becomes != b && (becomes != asciiSpace || b != ' ' || space) {
				return i
			}
			space = b == ' '
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		if becomes, keep := n.point(r); becomes != r || !keep {
			return i
		}
		space = false
		i += size
	}
	return len(text)
}

// point returns what becomes of a code point above ASCII, ' ' for white space, and whether it stays.
func (n *Normalizer) point(r rune) (becomes rune, keep bool) {
	switch {
	case n.what&NormalizeWhitespace != 0 && unicode.IsSpace(r):
		return ' ', true
	case n.what&NormalizePunct != 0 && unicode.IsPunct(r):
		return r, false
	case n.what&NormalizeLower != 0:
		return unicode.ToLower(r), true
	}
	return r, true
}

// mapPoints appends text with the changes that look at one code point at a time. All of them are made in one
// pass, which gives what one pass after another would: none makes work for an earlier one.
func (n *Normalizer) mapPoints(out, text []byte) []byte {
	collapse := n.what&NormalizeWhitespace != 0
	space := func() {
		if len(out) > 0 && out[len(out)-1] != ' ' {
			out = append(out, ' ')
		}
	}
	for i := 0; i < len(text); {
		if b := text[i]; b < utf8.RuneSelf {
			switch becomes := n.ascii[b]; becomes {
			case asciiSpace:
				space()
			case asciiDrop:
			default:
				out = append(out, becomes)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		becomes, keep := n.point(r)
		switch {
		case !keep:
		case becomes == r:
			out = append(out, text[i:i+size]...) // also a byte that is no valid encoding
		case becomes == ' ' && collapse:
			space()
		default:
			out = utf8.AppendRune(out, becomes)
		}
		i += size
	}
	if collapse {
		out = bytes.TrimSuffix(out, []byte{' '})
	}
	return out
}
