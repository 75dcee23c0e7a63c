//go:build unix

package rivals

import (
	"encoding/json"
	"io"
	"os"
	"testing"

	"github.com/bytedance/sonic"
	"github.com/minio/simdjson-go"
	parquetgo "github.com/parquet-go/parquet-go"
	"github.com/valyala/fastjson"

	"github.com/dovetail-dedup/dovetail/dedup/corpus/internal/benchtext"
)

// BenchmarkParquetGo reads the pages of parquet-go. It stops at LZ4_RAW, which it cannot read.
func BenchmarkParquetGo(b *testing.B) {
	benchtext.EachCodec(b, func(b *testing.B, path string) func() int64 {
		return func() int64 { return readPages(b, path) }
	})
}

func readPages(b *testing.B, path string) (n int64) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	r, err := parquetgo.OpenFile(f, st.Size(), parquetgo.SkipPageIndex(true), parquetgo.SkipBloomFilters(true), parquetgo.ReadBufferSize(256<<10))
	if err != nil {
		b.Fatal(err)
	}
	out := make([]byte, 0, benchtext.BufferBytes)
	for _, g := range r.RowGroups() {
		pages := g.ColumnChunks()[0].Pages()
		for {
			p, err := pages.ReadPage()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Skip(err)
			}
			values := p.Data()
			text, _ := values.ByteArray()
			if len(out)+len(text) > cap(out) {
				out = out[:0]
			}
			out = append(out, text...)
			n += int64(len(text))
			parquetgo.Release(p)
		}
		if err := pages.Close(); err != nil {
			b.Fatal(err)
		}
	}
	return n
}

type jsonText struct {
	Text *string `json:"text"`
}

func BenchmarkJSONStd(b *testing.B) {
	benchtext.EachText(b, func(b *testing.B, line, dst []byte) []byte {
		var d jsonText
		if err := json.Unmarshal(line, &d); err != nil {
			b.Fatal(err)
		}
		return append(dst, *d.Text...)
	})
}

// BenchmarkJSONSonic checks what encoding/json checks.
func BenchmarkJSONSonic(b *testing.B) {
	benchtext.EachText(b, func(b *testing.B, line, dst []byte) []byte {
		var d jsonText
		if err := sonic.ConfigStd.Unmarshal(line, &d); err != nil {
			b.Fatal(err)
		}
		return append(dst, *d.Text...)
	})
}

// BenchmarkJSONSonicFastest does not check strings.
func BenchmarkJSONSonicFastest(b *testing.B) {
	benchtext.EachText(b, func(b *testing.B, line, dst []byte) []byte {
		var d jsonText
		if err := sonic.ConfigFastest.Unmarshal(line, &d); err != nil {
			b.Fatal(err)
		}
		return append(dst, *d.Text...)
	})
}

// BenchmarkJSONFastjson does not check strings, and accepts numbers that are none.
func BenchmarkJSONFastjson(b *testing.B) {
	var p fastjson.Parser
	benchtext.EachText(b, func(b *testing.B, line, dst []byte) []byte {
		v, err := p.ParseBytes(line)
		if err != nil {
			b.Fatal(err)
		}
		return append(dst, v.GetStringBytes("text")...)
	})
}

func BenchmarkJSONSimdjson(b *testing.B) {
	if !simdjson.SupportedCPU() {
		b.Skip("not for this processor")
	}
	var parsed *simdjson.ParsedJson
	var found *simdjson.Element
	benchtext.EachText(b, func(b *testing.B, line, dst []byte) []byte {
		var err error
		if parsed, err = simdjson.Parse(line, parsed); err != nil {
			b.Fatal(err)
		}
		it := parsed.Iter()
		it.Advance()
		if found, err = it.FindElement(found, "text"); err != nil {
			b.Fatal(err)
		}
		text, err := found.Iter.StringBytes()
		if err != nil {
			b.Fatal(err)
		}
		return append(dst, text...)
	})
}
