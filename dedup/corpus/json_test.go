package corpus

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSONValues(t *testing.T) {
	deep := strings.Repeat("[", maxJSONDepth-1) + strings.Repeat("]", maxJSONDepth-1)
	for _, c := range []struct {
		field, line string
		kind        jsonKind
		want        string
	}{
		{"text", `{"text":"a"}`, jsonString, "a"},
		{"text", ` { "text" : "a" } ` + "\r\n", jsonString, "a"},
		{"text", `{}`, jsonMissing, ""},
		{"text", `{"a":1}`, jsonMissing, ""},
		{"text", `{"text":null}`, jsonNull, "null"},
		{"text", `{"text":""}`, jsonString, ""},
		{"text", `{"text":12.5e+3}`, jsonNumber, "12.5e+3"},
		{"text", `{"text":-0}`, jsonNumber, "-0"},
		{"text", `{"text":true}`, jsonBool, "true"},
		{"text", `{"text":[1,"x",{}]}`, jsonArray, `[1,"x",{}]`},
		{"text", `{"text":{"a":[]}}`, jsonObject, `{"a":[]}`},
		{"text", `{"a":"text","text":"b","c":["text"]}`, jsonString, "b"},
		{"text", `{"a":{"text":"no"},"b":[{"text":"no"}]}`, jsonMissing, ""},
		// Escapes.
		{"text", `{"text":"\"\\\/\b\f\n\r\t"}`, jsonString, "\"\\/\b\f\n\r\t"},
		{"text", `{"text":"\u0041\u00e9\u6f22\u0000"}`, jsonString, "Aé漢\x00"},
		{"text", `{"text":"\ud83d\ude42 \uD83D\uDE42"}`, jsonString, "🙂 🙂"},
		{"text", `{"te\u0078t":"x"}`, jsonString, "x"},
		{"a\"b", `{"a\"b":"x"}`, jsonString, "x"},
		{"text", `{"text":"long enough for words \n and\tmore than one of them \\"}`, jsonString, "long enough for words \n and\tmore than one of them \\"},
		// A surrogate alone is a replacement character each.
		{"text", `{"text":"a\ud83dz"}`, jsonString, "a\ufffdz"},
		{"text", `{"text":"a\ude42z"}`, jsonString, "a\ufffdz"},
		{"text", `{"text":"\ud83d\ud83d\ude42"}`, jsonString, "\ufffd🙂"},
		{"text", `{"text":"\ud83d\u0041"}`, jsonString, "\ufffdA"},
		{"text", `{"text":"\ud83d"}`, jsonString, "\ufffd"},
		{"text", `{"text":"\ud83d\n"}`, jsonString, "\ufffd\n"},
		// Bytes that are not UTF-8 stay.
		{"text", "{\"text\":\"\xff\xfe a\\n\"}", jsonString, "\xff\xfe a\n"},
		// The last of several counts, whatever it is.
		{"text", `{"text":"a","text":"b"}`, jsonString, "b"},
		{"text", `{"text":"a\n","text":"b\t"}`, jsonString, "b\t"},
		{"text", `{"text":"a\n","text":null}`, jsonNull, "null"},
		// Dotted names.
		{"meta.text", `{"meta":{"text":"in"}}`, jsonString, "in"},
		{"meta.text", `{"meta":{"text":"in\n"},"z":"\t"}`, jsonString, "in\n"},
		{"meta.text", `{"meta":{"text":"in"},"meta.text":"out"}`, jsonString, "out"},
		{"meta.text", `{"meta.text":null,"meta":{"text":"in"}}`, jsonNull, "null"},
		{"meta.text", `{"meta":{"text":"a"},"meta":{"text":"b"}}`, jsonString, "b"},
		{"meta.text", `{"meta":{"text":"a"},"meta":{}}`, jsonMissing, ""},
		{"meta.text", `{"meta":"text"}`, jsonMissing, ""},
		{"a.b.c", `{"a":{"b":{"c":"1"}}}`, jsonString, "1"},
		{"a.b.c", `{"a":{"b.c":"2"}}`, jsonString, "2"},
		{"a.b.c", `{"a":{"b":7}}`, jsonMissing, ""},
		{"text", `{"x":` + deep + `,"text":"deep"}`, jsonString, "deep"},
	} {
		f := newJSONField(c.field)
		p := jsonLine{fields: []*jsonField{f}}
		for range 2 { // the second time with what the first left behind
			if err := p.scan([]byte(c.line)); err != nil {
				t.Errorf("%.80s: %v", c.line, err)
			} else if f.value.kind != c.kind || string(f.value.raw) != c.want {
				t.Errorf("%.80s: %s is %s %q, want %s %q", c.line, c.field, f.value.kind, f.value.raw, c.kind, c.want)
			}
		}
	}
}

func TestJSONFaults(t *testing.T) {
	deep := strings.Repeat("[", maxJSONDepth)
	for line, want := range map[string]string{
		`{`:                     "the line ends inside a JSON value",
		`{"text"`:               "the line ends inside a JSON value",
		`{"text":`:              "the line ends inside a JSON value",
		`{"text":"a`:            "the line ends inside a JSON value",
		`{"text":"a\`:           "the line ends inside a JSON value",
		`{"text":"a"`:           "the line ends inside a JSON value",
		`{"text":"a",`:          "the line ends inside a JSON value",
		`{"text":[1`:            "the line ends inside a JSON value",
		`{"text":-`:             "the line ends inside a JSON value",
		`{"text":"\u12`:         `unexpected "\\u12" at byte 10 that begins no escape`,
		`{"text":"\u12x4"}`:     `unexpected "\\u12x4\"}" at byte 10 that begins no escape`,
		`{"text":"\x"}`:         `unexpected "\\x\"}" at byte 10 that begins no escape`,
		"{\"text\":\"a\tb\"}":   `unexpected "\tb\"}" at byte 11 in a string; it must be written as an escape`,
		"{\"t\":\"\\n\x01\"}":   `unexpected "\x01\"}" at byte 9 in a string; it must be written as an escape`,
		`"text"`:                `not a JSON object: "\"text\"" at byte 1`,
		`[{"text":"a"}]`:        `not a JSON object: "[{\"text\":\"a\"" at byte 1`,
		`{"text":"a"} {"x":1}`:  `unexpected "{\"x\":1}" at byte 14 after the object`,
		`{"text":"a" "x":1}`:    `unexpected "\"x\":1}" at byte 13 instead of a comma or }`,
		`{"text":"a",}`:         `unexpected "}" at byte 13 instead of the name of a field`,
		`{,}`:                   `unexpected ",}" at byte 2 instead of the name of a field`,
		`{text:"a"}`:            `unexpected "text:\"a\"}" at byte 2 instead of the name of a field`,
		`{"text" "a"}`:          `unexpected "\"a\"}" at byte 9 instead of a colon`,
		`{"text":NaN}`:          `unexpected "NaN}" at byte 9 instead of a value`,
		`{"text":nul}`:          `unexpected "nul}" at byte 9 instead of a value`,
		`{"text":01}`:           `unexpected "1}" at byte 10 instead of a comma or }`,
		`{"text":1.}`:           `unexpected "}" at byte 11 instead of a value`,
		`{"text":1e}`:           `unexpected "}" at byte 11 instead of a value`,
		`{"text":.5}`:           `unexpected ".5}" at byte 9 instead of a value`,
		`{"text":+5}`:           `unexpected "+5}" at byte 9 instead of a value`,
		`{"text":[1,]}`:         `unexpected "]}" at byte 12 instead of a value`,
		`{"text":[1 2]}`:        `unexpected "2]}" at byte 12 instead of a comma or ]`,
		`{"text":` + deep:       "nested deeper than 10000 levels",
		`{"a":{"b":1,},"t":"a"`: `unexpected "},\"t\":\"a\"" at byte 13 instead of the name of a field`,
	} {
		p := jsonLine{fields: []*jsonField{newJSONField("text")}}
		if err := p.scan([]byte(line)); err == nil || err.Error() != want {
			t.Errorf("%.60s: %v, want %s", line, err, want)
		}
	}
}

// FuzzJSONLine compares the scanner with encoding/json, which differs in two documented points: bytes that
// are not UTF-8, and the case of names.
func FuzzJSONLine(f *testing.F) {
	for _, s := range []string{
		`{"text":"a"}`, `{"text":null,"text":"\ud83d\ude42"}`, `{"a":{"text":[1,2.5e-7,{}]}}`, `{"text":"\ud83d\n"}`, ` {"text" : true } `,
		`{"meta":{"text":"\u00e9"},"text":"abcdefgh\\ijklmnop\"q"}`, `{"text":"a`, `[]`, `{"text":-0.0}`, "{\"text\":\"\xff\"}", `{"\u0074ext":""}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		text, nested := newJSONField("text"), newJSONField("meta.text")
		p := jsonLine{fields: []*jsonField{text, nested}}
		err := p.scan(line)
		if bytes.Count(line, []byte("[")) >= 1000 || bytes.Count(line, []byte("{")) >= 1000 {
			return // the two count levels differently at the limit
		}
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal(line, &want)
		if wantErr == nil && want == nil {
			wantErr = errTest // null is no object
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, encoding/json: %v", line, err, wantErr)
		}
		if err != nil || !utf8.Valid(line) {
			return
		}
		compareField(t, line, text.value, want["text"])
		if exact, ok := want["meta.text"]; ok {
			compareField(t, line, nested.value, exact)
			return
		}
		var meta map[string]json.RawMessage
		if json.Unmarshal(want["meta"], &meta) != nil {
			meta = nil
		}
		compareField(t, line, nested.value, meta["text"])
	})
}

func compareField(t *testing.T, line []byte, got jsonValue, want json.RawMessage) {
	t.Helper()
	switch got.kind {
	case jsonMissing:
		if want != nil {
			t.Fatalf("%q: missing, want %s", line, want)
		}
	case jsonString:
		var s string
		if err := json.Unmarshal(want, &s); err != nil || s != string(got.raw) {
			t.Fatalf("%q: %q, want %s (%v)", line, got.raw, want, err)
		}
	default:
		if !bytes.Equal(got.raw, want) {
			t.Fatalf("%q: %s %q, want %s", line, got.kind, got.raw, want)
		}
	}
}
