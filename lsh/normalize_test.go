package lsh

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	"pgregory.net/rapid"
)

func TestNormalize(t *testing.T) {
	for _, c := range []struct{ what, in, want string }{
		{"none", " A\tb! ", " A\tb! "},
		{"lower", "Straße ÀÉ ЖУК ΣΑΣ İ K", "straße àé жук σασ i k"},
		{"whitespace", "  a \t\n b\u00a0\u3000\u2028c\v\f\r", "a b c"},
		{"whitespace", " \t ", ""},
		{"whitespace", "a b", "a b"},
		{"whitespace", "a  b c   d", "a b c d"},
		{"punct", "a.b-c_d (e) «f» 、g。 $+<=>^`|~", "abcd e f g $+<=>^`|~"},
		{"nfc", "e\u0301 \u212b", "\u00e9 \u00c5"},
		{"nfc", "\ufb01 \u2460", "\ufb01 \u2460"},
		{"nfkc", "\ufb01 \u2460 e\u0301 \uff21", "fi 1 \u00e9 A"},
		{"punct,whitespace", " ! a ? ! b . ", "a b"},
		{"punct", " ! a ", "  a "},
		{"whitespace,lower", "A  B", "a b"},
		{"lower,nfkc", "\u2121 \uff21", "tel a"}, // composed first: the other order would leave capitals
		{"lower,punct,whitespace", "Hello,  World!", "hello world"},
		{"nfc,lower,punct,whitespace", "\tE\u0301t\u00c9, \u2014 x.", "\u00e9t\u00e9 x"},
		// Bytes that are no valid encoding stay where they are, and so does what follows them.
		{"nfkc,lower,punct,whitespace", "\xff A\xc3 !\xe2\x82 \xa0\x85 ", "\xff a\xc3 \xe2\x82 \xa0\x85"},
		{"nfc", "\xffe\u0301\xc3", "\xff\u00e9\xc3"},
		{"lower,whitespace", "\ufffdA  \ufffd", "\ufffda \ufffd"},
		{"lower,punct,whitespace", "", ""},
	} {
		what, err := ParseNormalization(c.what)
		if err != nil {
			t.Fatal(err)
		}
		in := []byte(c.in)
		got := NewNormalizer(what).Apply(in)
		if string(got) != c.want {
			t.Errorf("%s of %q is %q, want %q", c.what, c.in, got, c.want)
		}
		if string(in) != c.in {
			t.Errorf("%s changed its input %q to %q", c.what, c.in, in)
		}
	}
}

// TestStreamSafe pins a property of the library that FORMAT.md mentions.
func TestStreamSafe(t *testing.T) {
	text := []byte("q" + strings.Repeat("\u0301\u0316", 20) + "x")
	got := NewNormalizer(NormalizeNFC).Apply(text)
	if n := bytes.Count(got, []byte("\u034f")); n != 1 {
		t.Errorf("%d grapheme joiners among 40 combining marks, want 1", n)
	}
}

func TestNormalizeCopiesNothing(t *testing.T) {
	n := NewNormalizer(NormalizeNFC | NormalizeLower | NormalizePunct | NormalizeWhitespace)
	inside := func(part, whole []byte) bool {
		p, w := uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
		return p >= w && p+uintptr(len(part)) <= w+uintptr(len(whole))
	}
	for _, s := range []string{"a plain text", "  spaces only at the ends\n", "été жук 漢字", "\xff bytes \xc3"} {
		text := []byte(s)
		if got := n.Apply(text); !inside(got, text) {
			t.Errorf("%q is copied", s)
		}
	}
	text := []byte("Capitals, and  more of them: É")
	n.Apply(text)
	if allocs := testing.AllocsPerRun(10, func() { n.Apply(text) }); allocs != 0 {
		t.Errorf("%v allocations when used again", allocs)
	}
}

func TestParseNormalization(t *testing.T) {
	for n := range Normalization(32) {
		if n&NormalizeNFC != 0 && n&NormalizeNFKC != 0 {
			continue
		}
		raw, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		var back Normalization
		if err := json.Unmarshal(raw, &back); err != nil || back != n {
			t.Errorf("%d becomes %s and %d, %v", n, raw, back, err)
		}
	}
	if n, err := ParseNormalization("whitespace,nfc,lower"); err != nil || n.String() != "nfc,lower,whitespace" {
		t.Errorf("%s, %v", n, err)
	}
	for _, s := range []string{"nfc,nfkc", "upper", "lower,", ",", "lower whitespace", "none,lower", "LOWER"} {
		if n, err := ParseNormalization(s); !errors.Is(err, ErrNormalization) {
			t.Errorf("%q is read as %s, error %v", s, n, err)
		}
	}
	if NormalizationTables() == "" {
		t.Error("no table versions")
	}
}

// TestNormalizeOrder checks that all changes at once are the same as one after another in the declared order,
// whatever the text, and that nothing that is no valid UTF-8 comes or goes.
func TestNormalizeOrder(t *testing.T) {
	special := rapid.SampledFrom([]string{" ", "  ", "\t", "\u00a0", "!", "—", "A", "É", "e\u0301", "\ufb01", "İ", "\xff", "\xc3", "\u0345", "ß", "Σ"})
	rapid.Check(t, func(t *rapid.T) {
		what := Normalization(rapid.IntRange(0, 31).Draw(t, "what"))
		if what&NormalizeNFKC != 0 {
			what &^= NormalizeNFC
		}
		var text []byte
		for _, s := range rapid.SliceOfN(rapid.OneOf(special, rapid.StringN(0, 4, -1)), 0, 20).Draw(t, "text") {
			text = append(text, s...)
		}
		want := bytes.Clone(text)
		for _, known := range normalizationNames {
			if what&known.flag != 0 {
				want = bytes.Clone(NewNormalizer(known.flag).Apply(want))
			}
		}
		n := NewNormalizer(what)
		n.Apply([]byte("Something ELSE before, to leave traces "))
		got := n.Apply(text)
		if !bytes.Equal(got, want) {
			t.Fatalf("%s of %q is %q, want %q", what, text, got, want)
		}
		if a, b := invalidBytes(text), invalidBytes(got); !bytes.Equal(a, b) {
			t.Fatalf("%s of %q is %q: invalid bytes %x became %x", what, text, got, a, b)
		}
	})
}

func invalidBytes(text []byte) (bad []byte) {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			bad = append(bad, text[0])
		}
		text = text[size:]
	}
	return bad
}

func FuzzNormalize(f *testing.F) {
	f.Add([]byte("Héllo,  wörld!\xff"), uint8(30))
	f.Fuzz(func(t *testing.T, text []byte, what uint8) {
		n := NewNormalizer(Normalization(what & 31))
		once := bytes.Clone(n.Apply(text))
		// Composing can make what lower case and punctuation are about, and so can bytes that come together
		// where a code point between them was dropped.
		if Normalization(what)&(NormalizeNFC|NormalizeNFKC) != 0 || !utf8.Valid(text) {
			return
		}
		if twice := n.Apply(once); !bytes.Equal(once, twice) {
			t.Fatalf("%s of %q is %q, and again %q", Normalization(what&31), text, once, twice)
		}
	})
}
