package report

import (
	"bytes"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff/lcs"
	"github.com/clipperhouse/uax29/v2/words"
)

// Diff is two texts with their differences marked: the same parts once, in order. Long texts are cut to what
// differs and a little around it.
type Diff struct {
	// Same says that the texts are byte for byte the same.
	Same bool `json:"same"`
	// Compared is how many bytes of each text were looked at, where that is not all; else 0.
	Compared int64     `json:"compared,omitempty"`
	Segments []Segment `json:"segments"`
}

// Segment is a piece of two texts.
type Segment struct {
	// Op is "same" for what both have, "removed" and "kept" for what only that document has, and "gap" for
	// what is left out.
	Op   string `json:"op"`
	Text string `json:"text,omitempty" report:"text"`
	// Removed and Kept are the bytes of each text that a gap leaves out; Equal says that they are the same.
	Removed int64 `json:"removed_bytes,omitempty"`
	Kept    int64 `json:"kept_bytes,omitempty"`
	Equal   bool  `json:"equal,omitempty"`
}

// Values of [Segment].Op.
const (
	OpSame    = "same"
	OpRemoved = "removed"
	OpKept    = "kept"
	OpGap     = "gap"
)

// Sizes of what is shown of a pair of texts, in bytes.
const (
	wholeBytes   = 1200 // texts up to this long are shown whole
	contextBytes = 140  // on each side of a difference
	pieceBytes   = 500  // of one run of different text
	shownBytes   = 2600 // in all, of both texts
	windowBytes  = 4 << 10
)

// Compare marks the differences of two texts. Its cost is linear in their length: what both begin and end with is
// passed over as bytes, and words are compared in windows of a few KB until enough is shown. So it is not always
// the smallest difference; for short texts that have much in common it is.
func Compare(removed, kept []byte) Diff {
	d := differ{a: removed, b: kept}
	if bytes.Equal(removed, kept) {
		d.same(len(removed), true)
		return Diff{Same: true, Segments: d.out}
	}
	d.run()
	return Diff{Segments: d.out}
}

type differ struct {
	a, b  []byte // what is still to come
	out   []Segment
	shown int
	whole bool // nothing is left out
}

func (d *differ) run() {
	d.whole = max(len(d.a), len(d.b)) <= wholeBytes
	tail := commonSuffix(d.a, d.b)
	end := d.a[len(d.a)-tail:]
	d.a, d.b = d.a[:len(d.a)-tail], d.b[:len(d.b)-tail]
	for len(d.a)+len(d.b) > 0 {
		if n := commonPrefix(d.a, d.b); n > 0 {
			d.same(n, len(d.a)+len(d.b) == 2*n)
			continue
		}
		if d.shown >= shownBytes {
			d.emit(Segment{Op: OpGap, Removed: int64(len(d.a)), Kept: int64(len(d.b))})
			break
		}
		d.window()
	}
	d.a, d.b = end, end
	d.same(len(end), true)
}

// window compares the next few KB word by word, and takes what it found up to the last words in common: what comes
// after them may find its match only beyond the window.
func (d *differ) window() {
	cut := func(t []byte) []byte { return t[:boundary(t, min(len(t), windowBytes))] }
	x, y := tokens(cut(d.a)), tokens(cut(d.b))
	edits := lcs.DiffLines(x, y)
	rest := textLen(x) < len(d.a) || textLen(y) < len(d.b)
	if rest && len(edits) > 1 {
		edits = edits[:len(edits)-1]
	}
	edits = mergeEdits(edits, x)
	atX := 0
	for _, e := range edits {
		if n := textLen(x[atX:e.Start]); n > 0 {
			d.same(n, false)
		}
		del, ins := textLen(x[e.Start:e.End]), textLen(y[e.ReplStart:e.ReplEnd])
		d.piece(OpRemoved, d.a[:del])
		d.piece(OpKept, d.b[:ins])
		d.a, d.b = d.a[del:], d.b[ins:]
		atX = e.End
		if d.shown >= shownBytes {
			return
		}
	}
}

// mergeEdits joins edits with nothing but one space, or one sign, between them: a changed phrase reads better as
// one than word by word.
func mergeEdits(edits []lcs.Diff, x []string) []lcs.Diff {
	var out []lcs.Diff
	for _, e := range edits {
		if k := len(out) - 1; k >= 0 && e.Start-out[k].End <= 1 && textLen(x[out[k].End:e.Start]) <= 1 {
			out[k].End, out[k].ReplEnd = e.End, e.ReplEnd
			continue
		}
		out = append(out, e)
	}
	return out
}

// same passes over n bytes that both texts go on with. last says that nothing comes after them.
func (d *differ) same(n int, last bool) {
	t := d.a[:n]
	d.a, d.b = d.a[n:], d.b[n:]
	if n == 0 {
		return
	}
	head, tail := contextBytes, contextBytes
	if len(d.out) == 0 {
		head = 0 // nothing to be near to
	}
	if last {
		tail = 0
	}
	if head+tail == 0 { // the two texts are the same
		head = wholeBytes
	}
	if d.whole || n <= head+tail+64 {
		d.emit(Segment{Op: OpSame, Text: string(t)})
		return
	}
	head = boundary(t, head)
	from := n - tail
	if i := bytes.IndexAny(t[from:min(n, from+40)], " \n\t"); i >= 0 {
		from += i + 1
	}
	for from < n && !utf8.RuneStart(t[from]) {
		from++
	}
	if head > 0 {
		d.emit(Segment{Op: OpSame, Text: string(t[:head])})
	}
	d.emit(Segment{Op: OpGap, Removed: int64(from - head), Kept: int64(from - head), Equal: true})
	if from < n {
		d.emit(Segment{Op: OpSame, Text: string(t[from:])})
	}
}

// piece emits text that one document has alone.
func (d *differ) piece(op string, t []byte) {
	if len(t) <= pieceBytes+64 || d.whole {
		if len(t) > 0 {
			d.emit(Segment{Op: op, Text: string(t)})
		}
		return
	}
	n := boundary(t, pieceBytes)
	d.emit(Segment{Op: op, Text: string(t[:n])})
	gap := Segment{Op: OpGap, Removed: int64(len(t) - n)}
	if op == OpKept {
		gap.Removed, gap.Kept = 0, gap.Removed
	}
	d.emit(gap)
}

func (d *differ) emit(s Segment) {
	d.shown += len(s.Text)
	if k := len(d.out) - 1; k >= 0 && d.out[k].Op == s.Op && s.Op != OpGap {
		d.out[k].Text += s.Text
		return
	}
	d.out = append(d.out, s)
}

// maxToken is the longest run of text without a break that is compared as one word; longer ones (a hash, a line
// of base64) are compared character by character.
const maxToken = 40

// tokens cuts a text into words and what is between them (UAX #29).
func tokens(t []byte) []string {
	var out []string
	for w := words.FromString(string(t)); w.Next(); {
		v := w.Value()
		if len(v) <= maxToken {
			out = append(out, v)
			continue
		}
		for len(v) > 0 {
			_, n := utf8.DecodeRuneInString(v)
			out = append(out, v[:n])
			v = v[n:]
		}
	}
	return out
}

func textLen(tokens []string) int {
	n := 0
	for _, t := range tokens {
		n += len(t)
	}
	return n
}

// boundary returns the last place up to n where a text may be cut: behind a space if there is one near, and never
// inside of a code point.
func boundary(t []byte, n int) int {
	if n >= len(t) {
		return len(t)
	}
	if i := bytes.LastIndexAny(t[max(0, n-40):n], " \n\t"); i >= 0 {
		return max(0, n-40) + i + 1
	}
	for k := 0; n > 0 && k < utf8.UTFMax && !utf8.RuneStart(t[n]); k++ {
		n--
	}
	return n
}

// wordStart is how far back from a difference the word that it lies in may begin.
const wordStart = 40

// commonPrefix is the length of what both texts begin with, up to the beginning of the word in which they differ. If
// that is all within one long word, it ends at a code point.
func commonPrefix(a, b []byte) int {
	n, most := 0, min(len(a), len(b))
	for n+8 <= most && string(a[n:n+8]) == string(b[n:n+8]) {
		n += 8
	}
	for n < most && a[n] == b[n] {
		n++
	}
	if n == len(a) && n == len(b) {
		return n
	}
	return wordBack(a, b, n)
}

// wordBack moves a place where two texts part back to where a word begins in both.
func wordBack(a, b []byte, n int) int {
	for k := n; k > 0 && n-k < wordStart; k-- {
		if space(a[k-1]) {
			return k
		}
	}
	if n < wordStart {
		return 0
	}
	for k := 0; k < utf8.UTFMax && (n < len(a) && !utf8.RuneStart(a[n]) || n < len(b) && !utf8.RuneStart(b[n])); k++ {
		n--
	}
	return n
}

// commonSuffix is the length of what both texts end with, from the beginning of a word on.
func commonSuffix(a, b []byte) int {
	n, most := 0, min(len(a), len(b))
	for n < most && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	if n == len(a) && n == len(b) {
		return n
	}
	for k := n; k > 0 && n-k < wordStart; k-- {
		if space(a[len(a)-k]) {
			return k
		}
	}
	if n < wordStart {
		return 0
	}
	for k := 0; k < utf8.UTFMax && !utf8.RuneStart(a[len(a)-n]); k++ {
		n--
	}
	return n
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
