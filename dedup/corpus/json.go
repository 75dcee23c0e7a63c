package corpus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds how deep arrays and objects may be nested in a line, so that a line of brackets
// cannot exhaust the stack. encoding/json has the same bound.
const maxJSONDepth = 10000

// jsonKind is the type of a JSON value.
type jsonKind uint8

const (
	jsonMissing jsonKind = iota // there is no such field
	jsonNull
	jsonBool
	jsonNumber
	jsonString
	jsonArray
	jsonObject
)

func (k jsonKind) String() string {
	return [...]string{"missing", "null", "a bool", "a number", "a string", "an array", "an object"}[k]
}

// jsonValue is a value as it stands in a line.
type jsonValue struct {
	kind jsonKind
	// raw is the value's bytes. For a string it is what the string says, without quotes and escapes.
	raw []byte
}

// shortEscapes are the characters that a letter after a backslash stands for.
var shortEscapes = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// unicodeEscape returns the character of the escape \uXXXX, or of two that are a surrogate pair, that s begins
// with, and its length. A surrogate without its partner becomes U+FFFD, as in encoding/json. The length is 0 if
// it is no escape.
func unicodeEscape(s []byte) (rune, int) {
	if len(s) < 6 {
		return 0, 0
	}
	r := hex4(s[2:])
	if r < 0 {
		return 0, 0
	}
	if utf16.IsSurrogate(r) {
		if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
			if r = utf16.DecodeRune(r, hex4(s[8:])); r != utf8.RuneError {
				return r, 12
			}
		}
		return utf8.RuneError, 6
	}
	return r, 6
}

// hex4 returns the value of four hexadecimal digits, or -1.
func hex4(s []byte) rune {
	if len(s) < 4 {
		return -1
	}
	var r rune
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// jsonField is the name of a wanted field and what the last line had under it.
type jsonField struct {
	value jsonValue

	name  string       // as the user wrote it
	start int          // where in the line the field begins, with its name
	head  string       // the part before the first dot, or ""
	outer jsonValue    // the value of field head
	inner []*jsonField // the one field that is the rest of the name, to be looked up in outer
	buf   []byte       // holds the value if it is a string with escapes
}

func newJSONField(name string) *jsonField {
	f := &jsonField{name: name}
	if head, rest, dotted := strings.Cut(name, "."); dotted {
		f.head, f.inner = head, []*jsonField{newJSONField(rest)}
	}
	return f
}

// jsonLine takes single fields out of JSON objects (RFC 8259), one object to a line. It checks the syntax
// of the whole line. Of several fields with one name the last counts. A field "a.b" is the field of that
// name or, where there is none, field "b" of the object that is field "a".
//
// Bytes of strings that are not UTF-8 are passed on as they are, unlike in encoding/json, because the text of a
// document is what its file holds.
//
// No library found does this without building a tree or a string per field; docs/design/20261123-readers.md
// has the comparison. It reads strings eight bytes at a time and every byte once, but for those of outer
// objects of dotted names.
type jsonLine struct {
	b       []byte
	i       int
	fields  []*jsonField
	keyAt   int // where the last key begins
	keyBuf  []byte
	scratch []byte // for strings that nobody wants
}

var errJSONEnd = errors.New("the line ends inside a JSON value")

// scan finds the fields in a line. Their values may share its bytes and are good until the next scan.
func (p *jsonLine) scan(line []byte) error {
	if err := p.object(line, p.fields); err != nil {
		return err
	}
	for _, f := range p.fields {
		for at := f; at.value.kind == jsonMissing && at.outer.kind == jsonObject; {
			if err := p.object(at.outer.raw, at.inner); err != nil {
				return err
			}
			at = at.inner[0]
			f.value = at.value
		}
	}
	return nil
}

// object finds fields in an object.
func (p *jsonLine) object(b []byte, fields []*jsonField) error {
	p.b, p.i = b, 0
	for _, f := range fields {
		f.value, f.outer = jsonValue{}, jsonValue{}
	}
	if p.space(); p.i == len(p.b) {
		return errJSONEnd
	}
	if p.b[p.i] != '{' {
		return errors.New("not a JSON object: " + p.found())
	}
	p.i++
	for first := true; ; first = false {
		key, end, err := p.key(first, &p.keyBuf)
		if err != nil {
			return err
		}
		if end {
			break
		}
		// The buffer of one field serves all fields of that name.
		buf := &p.scratch
		for _, f := range fields {
			if string(key.raw) == f.name {
				buf = &f.buf
			}
		}
		start := p.keyAt
		v, err := p.value(buf, 1)
		if err != nil {
			return err
		}
		for _, f := range fields {
			if string(key.raw) == f.name {
				f.value, f.start = v, start
			} else if f.inner != nil && string(key.raw) == f.head {
				f.outer = v
			}
		}
	}
	if p.space(); p.i != len(p.b) {
		return p.unexpected("after the object")
	}
	return nil
}

// fieldNames returns the names of the fields of an object, up to 30, for messages. It must be one that scan
// accepts.
func fieldNames(line []byte) []string {
	p := jsonLine{b: bytes.TrimPrefix(line, bom)}
	p.space()
	p.i++
	var names []string
	for len(names) < 30 {
		key, end, err := p.key(len(names) == 0, &p.keyBuf)
		if end || err != nil {
			break
		}
		names = append(names, string(key.raw))
		if _, err := p.value(&p.scratch, 1); err != nil {
			break
		}
	}
	return names
}

// key reads what stands before a value in an object, up to and with the colon, or the end of the object.
func (p *jsonLine) key(first bool, buf *[]byte) (key jsonValue, end bool, err error) {
	p.space()
	if p.i < len(p.b) && p.b[p.i] == '}' && first {
		p.i++
		return key, true, nil
	}
	if !first {
		switch {
		case p.i == len(p.b):
			return key, false, errJSONEnd
		case p.b[p.i] == '}':
			p.i++
			return key, true, nil
		case p.b[p.i] != ',':
			return key, false, p.unexpected("instead of a comma or }")
		}
		p.i++
		p.space()
	}
	if p.i == len(p.b) {
		return key, false, errJSONEnd
	}
	if p.b[p.i] != '"' {
		return key, false, p.unexpected("instead of the name of a field")
	}
	p.keyAt = p.i
	if key, err = p.str(buf); err != nil {
		return key, false, err
	}
	if p.space(); p.i == len(p.b) {
		return key, false, errJSONEnd
	}
	if p.b[p.i] != ':' {
		return key, false, p.unexpected("instead of a colon")
	}
	p.i++
	return key, false, nil
}

// value reads a value of any type; buf takes the value of a string with escapes.
func (p *jsonLine) value(buf *[]byte, depth int) (jsonValue, error) {
	if p.space(); p.i == len(p.b) {
		return jsonValue{}, errJSONEnd
	}
	start := p.i
	switch c := p.b[p.i]; c {
	case '"':
		return p.str(buf)
	case 't':
		return p.literal("true", jsonBool)
	case 'f':
		return p.literal("false", jsonBool)
	case 'n':
		return p.literal("null", jsonNull)
	case '{', '[':
		if depth == maxJSONDepth {
			return jsonValue{}, fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
		}
		kind, err := jsonObject, error(nil)
		if p.i++; c == '{' {
			err = p.members(depth)
		} else {
			kind, err = jsonArray, p.elements(depth)
		}
		return jsonValue{kind, p.b[start:p.i]}, err
	}
	return p.number()
}

func (p *jsonLine) members(depth int) error {
	for first := true; ; first = false {
		_, end, err := p.key(first, &p.scratch)
		if err != nil || end {
			return err
		}
		if _, err := p.value(&p.scratch, depth+1); err != nil {
			return err
		}
	}
}

func (p *jsonLine) elements(depth int) error {
	if p.space(); p.i < len(p.b) && p.b[p.i] == ']' {
		p.i++
		return nil
	}
	for {
		if _, err := p.value(&p.scratch, depth+1); err != nil {
			return err
		}
		if p.space(); p.i == len(p.b) {
			return errJSONEnd
		}
		p.i++
		switch p.b[p.i-1] {
		case ']':
			return nil
		case ',':
		default:
			p.i--
			return p.unexpected("instead of a comma or ]")
		}
	}
}

func (p *jsonLine) literal(word string, kind jsonKind) (jsonValue, error) {
	rest := p.b[p.i:]
	if len(rest) < len(word) || string(rest[:len(word)]) != word {
		return jsonValue{}, p.unexpected("instead of a value")
	}
	p.i += len(word)
	return jsonValue{kind, rest[:len(word)]}, nil
}

func (p *jsonLine) number() (jsonValue, error) {
	start := p.i
	bad := func() (jsonValue, error) {
		if p.i == len(p.b) {
			return jsonValue{}, errJSONEnd
		}
		return jsonValue{}, p.unexpected("instead of a value")
	}
	digits := func() bool {
		from := p.i
		for p.i < len(p.b) && '0' <= p.b[p.i] && p.b[p.i] <= '9' {
			p.i++
		}
		return p.i > from
	}
	at := func(c byte) bool { return p.i < len(p.b) && p.b[p.i] == c }
	if at('-') {
		p.i++
	}
	if at('0') {
		p.i++
	} else if !digits() {
		return bad()
	}
	if at('.') {
		if p.i++; !digits() {
			return bad()
		}
	}
	if at('e') || at('E') {
		if p.i++; at('+') || at('-') {
			p.i++
		}
		if !digits() {
			return bad()
		}
	}
	return jsonValue{jsonNumber, p.b[start:p.i]}, nil
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special returns a word whose lowest set bit is in the first byte of w (little-endian) that is below
// 0x20, a quote or a backslash, and 0 if there is none. Bits above the lowest may be wrong, as the borrow of a
// subtraction can run into the next byte.
func special(w uint64) uint64 {
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	return ((w-ones*0x20)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
}

// str reads a string, whose opening quote is the next byte. If it has escapes, its value is written to buf,
// which grows as needed.
func (p *jsonLine) str(buf *[]byte) (jsonValue, error) {
	b, start := p.b, p.i+1
	i := start
	for {
		if len(b)-i < 8 {
			for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
				i++
			}
			break
		}
		if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			i += bits.TrailingZeros64(m) >> 3
			break
		}
		i += 8
	}
	if p.i = i; i < len(b) && b[i] == '"' {
		p.i++
		return jsonValue{jsonString, b[start:i]}, nil
	}
	if i == len(b) {
		return jsonValue{}, errJSONEnd
	}
	// The value is never longer than what is left of the line; the 8 bytes are for the last word written.
	dst := *buf
	if cap(dst) < len(b)-start+8 {
		dst = make([]byte, 0, len(b)-start+8+len(b)/4)
		*buf = dst
	}
	dst = dst[:cap(dst)]
	n := copy(dst, b[start:i])
	for {
		switch c := b[i]; c {
		case '"':
			p.i = i + 1
			return jsonValue{jsonString, dst[:n]}, nil
		case '\\':
			if i+1 == len(b) {
				return jsonValue{}, errJSONEnd
			}
			if e := shortEscapes[b[i+1]]; e != 0 {
				dst[n] = e
				n++
				i += 2
				break
			}
			r, k := rune(0), 0
			if b[i+1] == 'u' {
				r, k = unicodeEscape(b[i:])
			}
			if k == 0 {
				p.i = i
				return jsonValue{}, p.unexpected("that begins no escape")
			}
			n += utf8.EncodeRune(dst[n:n+4], r)
			i += k
		default:
			p.i = i
			return jsonValue{}, p.unexpected("in a string; it must be written as an escape")
		}
		// Copy in words up to the next special byte. The last word may write past it; what follows overwrites that.
		for {
			if len(b)-i < 8 {
				for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
					dst[n] = b[i]
					n++
					i++
				}
				break
			}
			w := binary.LittleEndian.Uint64(b[i:])
			binary.LittleEndian.PutUint64(dst[n:], w)
			if m := special(w); m != 0 {
				k := bits.TrailingZeros64(m) >> 3
				i += k
				n += k
				break
			}
			i += 8
			n += 8
		}
		if i == len(b) {
			return jsonValue{}, errJSONEnd
		}
	}
}

func (p *jsonLine) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\r', '\n':
			p.i++
		default:
			return
		}
	}
}

// found quotes what stands at the current place.
func (p *jsonLine) found() string {
	return fmt.Sprintf("%q at byte %d", p.b[p.i:min(len(p.b), p.i+12)], p.i+1)
}

func (p *jsonLine) unexpected(where string) error {
	if p.i >= len(p.b) {
		return errJSONEnd
	}
	return errors.New("unexpected " + p.found() + " " + where)
}
