// Package benchtext makes the texts that the readers of package corpus and the libraries that were not chosen are
// measured on, and measures them in the same way. The rivals are in a module of their own, package rivals.
package benchtext

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// Bytes is about how much text of each kind there is.
const Bytes = 32 << 20

// Kinds are the kinds of texts: prose of a vocabulary with Zipf's frequencies, with a line break every dozen words,
// and code, in which every twelfth byte must be written as an escape in JSON.
var Kinds = []string{"prose", "code"}

var separators = map[string]string{"prose": "           \n", "code": " \n\t\"" + `\` + ". "}

var texts = sync.OnceValue(func() map[string][]string {
	rnd := rand.New(rand.NewPCG(42, 1))
	words := make([]string, 20_000)
	for i := range words {
		words[i] = strings.TrimSpace(strings.Map(func(r rune) rune {
			if r == '\n' || r == ' ' {
				return 'e'
			}
			return r
		}, Prose(rnd, 2+rnd.IntN(9))))
	}
	zipf := rand.NewZipf(rnd, 1.1, 4, uint64(len(words)-1))
	out := map[string][]string{}
	for _, kind := range Kinds {
		for total := 0; total < Bytes; {
			var b strings.Builder
			for n := 500 + rnd.IntN(4000); b.Len() < n; {
				b.WriteString(words[zipf.Uint64()])
				b.WriteByte(separators[kind][rnd.IntN(len(separators[kind]))])
			}
			out[kind] = append(out[kind], b.String())
			total += b.Len()
		}
	}
	return out
})

// Texts returns documents of about 2.5 KB of a kind, always the same ones.
func Texts(kind string) []string { return texts()[kind] }

// Size returns the bytes of all texts together.
func Size(texts []string) (n int64) {
	for _, s := range texts {
		n += int64(len(s))
	}
	return n
}

// JSONLines returns the documents of a kind with a text, an id and two fields more, one to a line.
func JSONLines(kind string) ([]byte, error) {
	var out bytes.Buffer
	for i, text := range Texts(kind) {
		quoted, err := json.Marshal(text)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, `{"id":%d,"text":%s,"meta":{"source":"web","lang":"en"},"score":0.5}`+"\n", i, quoted)
	}
	return out.Bytes(), nil
}

// Parquet returns a file of one row group with the required column "text", in plain pages of perPage texts.
func Parquet(texts []string, codec compress.Compression, perPage int, version parquet.DataPageVersion) ([]byte, error) {
	node, err := schema.NewPrimitiveNodeLogical("text", parquet.Repetitions.Required, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1)
	if err != nil {
		return nil, err
	}
	root, err := schema.NewGroupNode("schema", parquet.Repetitions.Required, schema.FieldList{node}, -1)
	if err != nil {
		return nil, err
	}
	props := parquet.NewWriterProperties(
		parquet.WithCompression(codec), parquet.WithDictionaryDefault(false), parquet.WithDataPageVersion(version),
		parquet.WithDataPageSize(1<<30), parquet.WithBatchSize(1<<20), parquet.WithStats(false))
	var buf bytes.Buffer
	w, err := file.NewParquetWriterWithError(&buf, root, file.WithWriterProps(props))
	if err != nil {
		return nil, err
	}
	rg, err := w.AppendRowGroupChecked()
	if err != nil {
		return nil, err
	}
	c, err := rg.NextColumn()
	if err != nil {
		return nil, err
	}
	col, ok := c.(*file.ByteArrayColumnChunkWriter)
	if !ok {
		return nil, fmt.Errorf("a column of texts is a %T", c)
	}
	for i := 0; i < len(texts); i += perPage {
		var values []parquet.ByteArray
		for _, s := range texts[i:min(len(texts), i+perPage)] {
			values = append(values, parquet.ByteArray(s))
		}
		if _, err := col.WriteBatch(values, nil, nil); err != nil {
			return nil, err
		}
		if err := col.FlushCurrentPage(); err != nil {
			return nil, err
		}
	}
	if err := col.Close(); err != nil {
		return nil, err
	}
	if err := rg.Close(); err != nil {
		return nil, err
	}
	err = w.Close()
	return buf.Bytes(), err
}

// Prose makes n bytes of text like words.
func Prose(rnd *rand.Rand, n int) string {
	var b strings.Builder
	b.Grow(n + 16)
	for b.Len() < n {
		for range 2 + rnd.IntN(9) {
			b.WriteByte(byte('a' + rnd.IntN(26)*rnd.IntN(26)/26))
		}
		if rnd.IntN(12) == 0 {
			b.WriteByte('\n')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()[:n]
}
