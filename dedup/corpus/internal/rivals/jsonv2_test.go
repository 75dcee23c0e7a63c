//go:build unix && goexperiment.jsonv2

package rivals

import (
	"bytes"
	"encoding/json/jsontext"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/corpus/internal/benchtext"
)

// BenchmarkJSONText is the tokenizer of encoding/json v2 (GOEXPERIMENT=jsonv2).
func BenchmarkJSONText(b *testing.B) {
	var r bytes.Reader
	options := []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
	d := jsontext.NewDecoder(&r, options...)
	benchtext.EachText(b, func(b *testing.B, line, dst []byte) []byte {
		r.Reset(line)
		d.Reset(&r, options...)
		if _, err := d.ReadToken(); err != nil {
			b.Fatal(err)
		}
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				b.Fatal(err)
			}
			if name.String() != "text" {
				if err := d.SkipValue(); err != nil {
					b.Fatal(err)
				}
				continue
			}
			v, err := d.ReadValue()
			if err == nil {
				dst, err = jsontext.AppendUnquote(dst, v)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		return dst
	})
}
