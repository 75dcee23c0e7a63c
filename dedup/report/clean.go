package report

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean replaces what cannot be shown, or would change how the rest is shown, by marks that can be seen: bytes
// that are no UTF-8 by U+FFFD, control characters by their pictures, and invisible characters, those that change the
// direction of writing included, by their code points. Line ends and tabs stay.
func clean(s string) string {
	if !strings.ContainsFunc(s, needsMark) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == '\r' && i < len(s) && s[i] == '\n':
			// the line end that follows says enough
		case !needsMark(r):
			b.WriteRune(r)
		case r == 0x7f:
			b.WriteRune('␡')
		case r < 0x20:
			b.WriteRune('␀' + r)
		case r == utf8.RuneError:
			b.WriteRune(utf8.RuneError)
		default:
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		}
	}
	return b.String()
}

func needsMark(r rune) bool {
	switch {
	case r == '\n' || r == '\t' || r == '\u200c' || r == '\u200d': // joiners belong to scripts and emoji
		return false
	case r == utf8.RuneError:
		return true // so that ContainsFunc notices bytes that are no UTF-8
	case r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029':
		return true
	case r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef: // never characters
		return true
	}
	return r >= 0xa0 && unicode.Is(unicode.Cf, r)
}

// Name returns a name, an id or a value as the page shows it: cleaned, and with the middle cut out if it is long.
// Doing it again changes nothing. Callers use it for what may be too long to be kept in full.
func Name(s string) string { return tidy(s, maxName) }

// tidy cuts before it cleans, which costs less, and after, because marks are longer than what they stand for.
func tidy(s string, most int) string { return shorten(clean(shorten(s, most)), most) }

// maxName is how many bytes of a name, an id or a value are shown.
const maxName = 240

// shorten cuts the middle out of what is longer than most bytes, which are at least 60.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	most -= 40 // for what is said instead
	head, tail := most*2/3, len(s)-most/3
	for head > 0 && !utf8.RuneStart(s[head]) {
		head--
	}
	for tail < len(s) && !utf8.RuneStart(s[tail]) {
		tail++
	}
	return fmt.Sprintf("%s ⋯ %d bytes ⋯ %s", s[:head], tail-head, s[tail:])
}

// cleanAll tidies every string that v, a pointer, leads to: to most bytes where the field has the tag report:"text",
// and to maxName elsewhere. Slices are copied first.
func cleanAll(v any, most int) { cleanValue(reflect.ValueOf(v).Elem(), maxName, most) }

func cleanValue(v reflect.Value, name, text int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(tidy(v.String(), name))
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(c, v)
		v.Set(c)
		for i := range v.Len() {
			cleanValue(v.Index(i), name, text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue // those of time.Time
			}
			most := name
			if f.Tag.Get("report") == "text" {
				most = text
			}
			cleanValue(v.Field(i), most, text)
		}
	}
}
