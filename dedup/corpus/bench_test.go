//go:build unix

package corpus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/dovetail-dedup/dovetail/mem"
)

// benchBytes is the text that every benchmark reads.
const benchBytes = 32 << 20

// benchTexts returns documents of about 2.5 KB: prose of a vocabulary with Zipf's frequencies, with a line break
// every dozen words, or code, in which every twelfth byte must be written as an escape in JSON.
var benchTexts = sync.OnceValue(func() map[string][]string {
	rnd := rand.New(rand.NewPCG(42, 1))
	words := make([]string, 20_000)
	for i := range words {
		words[i] = strings.TrimSpace(strings.Map(func(r rune) rune {
			if r == '\n' || r == ' ' {
				return 'e'
			}
			return r
		}, prose(rnd, 2+rnd.IntN(9))))
	}
	zipf := rand.NewZipf(rnd, 1.1, 4, uint64(len(words)-1))
	texts := map[string][]string{}
	for kind, seps := range map[string]string{"prose": "           \n", "code": " \n\t\"" + `\` + ". "} {
		for total := 0; total < benchBytes; {
			var b strings.Builder
			for n := 500 + rnd.IntN(4000); b.Len() < n; {
				b.WriteString(words[zipf.Uint64()])
				b.WriteByte(seps[rnd.IntN(len(seps))])
			}
			texts[kind] = append(texts[kind], b.String())
			total += b.Len()
		}
	}
	return texts
})

// processorTime reports megabytes for each second of processor time, of all threads, from now to the end of the
// benchmark. It is what to compare on a machine that is shared.
func processorTime(b *testing.B, bytes int64) (report func()) {
	b.SetBytes(bytes)
	used := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	}
	start := used()
	return func() { b.ReportMetric(float64(bytes)*float64(b.N)/1e6/(used()-start), "MB/cpu-s") }
}

func textBytes(texts []string) (n int64) {
	for _, s := range texts {
		n += int64(len(s))
	}
	return n
}

// benchSet writes a file and resolves it.
func benchSet(b *testing.B, name string, data []byte) *Set {
	b.Helper()
	path := writeFile(b, filepath.Join(b.TempDir(), name), string(data))
	return mustResolve(b, Local(), Options{}, path)
}

// drain reads a set and returns the bytes of text.
func drain(b *testing.B, s *Set, o ReadOptions) (n int64) {
	b.Helper()
	r, err := s.Open(Split{Last: len(s.Files) - 1, Size: 1 << 30}, o)
	if err != nil {
		b.Fatal(err)
	}
	for {
		batch, err := r.Next(context.Background())
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		n += batch.Text.OffsetValues()[batch.Text.Rows]
		batch.Release()
	}
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	return n
}

var benchCodecs = []compress.Compression{
	compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd, compress.Codecs.Lz4Raw, compress.Codecs.Gzip, compress.Codecs.Brotli,
}

func codecName(c compress.Compression) string { return strings.ToLower(c.String()) }

// benchParquet is the file that readers are compared on: pages of about 1 MiB, plain, as pyarrow writes them.
func benchParquet(b *testing.B, codec compress.Compression) []byte {
	return makeTexts(b, benchTexts()["prose"], codec, 400, parquet.DataPageV1)
}

func benchEachCodec(b *testing.B, read func(b *testing.B, path string, s *Set) int64) {
	want := textBytes(benchTexts()["prose"])
	for _, codec := range benchCodecs {
		b.Run(codecName(codec), func(b *testing.B) {
			s := benchSet(b, "x.parquet", benchParquet(b, codec))
			b.ReportAllocs()
			defer processorTime(b, want)()
			for b.Loop() {
				if n := read(b, s.Files[0].Name, s); n != want {
					b.Fatalf("read %d bytes, want %d", n, want)
				}
			}
		})
	}
}

// BenchmarkParquet is this package's reader.
func BenchmarkParquet(b *testing.B) {
	benchEachCodec(b, func(b *testing.B, _ string, s *Set) int64 { return drain(b, s, ReadOptions{}) })
}

// BenchmarkParquetReadBatch is the library's ReadBatch, which copies each value to the heap.
func BenchmarkParquetReadBatch(b *testing.B) {
	benchEachCodec(b, func(b *testing.B, path string, _ *Set) (n int64) {
		r, err := file.OpenParquetFile(path, false)
		if err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		out := make([]byte, 0, defaultBatchBytes)
		values := make([]parquet.ByteArray, 512)
		for g := range r.NumRowGroups() {
			c, err := r.RowGroup(g).Column(0)
			if err != nil {
				b.Fatal(err)
			}
			for c.HasNext() {
				_, k, err := c.(*file.ByteArrayColumnChunkReader).ReadBatch(512, values, nil, nil)
				if err != nil {
					b.Fatal(err)
				}
				for _, v := range values[:k] {
					if len(out)+len(v) > cap(out) {
						out = out[:0]
					}
					out = append(out, v...)
					n += int64(len(v))
				}
			}
		}
		return n
	})
}

// BenchmarkRewriteParquet keeps nine rows of ten.
func BenchmarkRewriteParquet(b *testing.B) {
	for _, codec := range []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd} {
		b.Run(codecName(codec), func(b *testing.B) {
			s := benchSet(b, "x.parquet", benchParquet(b, codec))
			defer processorTime(b, textBytes(benchTexts()["prose"]))()
			for b.Loop() {
				if _, err := s.Rewrite(b.Context(), 0, func(r int64) bool { return r%10 != 0 }, Sink{W: io.Discard}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// jsonDocs returns documents with a text, an id and two fields more, one to a line.
func jsonDocs(b *testing.B, kind string) []byte {
	var out bytes.Buffer
	for i, text := range benchTexts()[kind] {
		quoted, err := json.Marshal(text)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(&out, `{"id":%d,"text":%s,"meta":{"source":"web","lang":"en"},"score":0.5}`+"\n", i, quoted)
	}
	return out.Bytes()
}

func benchEachText(b *testing.B, extract func(b *testing.B, line, dst []byte) []byte) {
	for _, kind := range []string{"prose", "code"} {
		b.Run(kind, func(b *testing.B) {
			data := jsonDocs(b, kind)
			want := textBytes(benchTexts()[kind])
			b.ReportAllocs()
			dst := make([]byte, 0, defaultBatchBytes)
			defer processorTime(b, int64(len(data)))()
			for b.Loop() {
				n := int64(0)
				for rest := data; len(rest) > 0; {
					i := bytes.IndexByte(rest, '\n')
					if len(dst) > cap(dst)-64<<10 {
						dst = dst[:0]
					}
					before := len(dst)
					dst = extract(b, rest[:i], dst)
					n += int64(len(dst) - before)
					rest = rest[i+1:]
				}
				if n != want {
					b.Fatalf("%d bytes of text, want %d", n, want)
				}
			}
		})
	}
}

// BenchmarkJSON is this package's scanner.
func BenchmarkJSON(b *testing.B) {
	f := newJSONField("text")
	p := jsonLine{fields: []*jsonField{f}}
	benchEachText(b, func(b *testing.B, line, dst []byte) []byte {
		if err := p.scan(line); err != nil {
			b.Fatal(err)
		}
		return append(dst, f.value.raw...)
	})
}

// BenchmarkJSONL is the whole reader, from files.
func BenchmarkJSONL(b *testing.B) {
	for _, kind := range []string{"prose", "code"} {
		data := jsonDocs(b, kind)
		for name, file := range map[string]string{"plain": string(data), "gz": gzipped(b, string(data)), "zst": zstded(b, string(data))} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				ext := map[string]string{"plain": "", "gz": ".gz", "zst": ".zst"}[name]
				s := benchSet(b, "x.jsonl"+ext, []byte(file))
				b.ReportAllocs()
				defer processorTime(b, int64(len(data)))()
				for b.Loop() {
					if n := drain(b, s, ReadOptions{}); n != textBytes(benchTexts()[kind]) {
						b.Fatalf("%d bytes", n)
					}
				}
			})
		}
	}
}

// BenchmarkCountLines is what Splits does with large plain JSON Lines files.
func BenchmarkCountLines(b *testing.B) {
	data := jsonDocs(b, "prose")
	s := benchSet(b, "x.jsonl", data)
	defer processorTime(b, int64(len(data)))()
	for b.Loop() {
		if _, err := s.CountLines(b.Context(), Split{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCopy is copying the text once, what the others are to be compared with.
func BenchmarkCopy(b *testing.B) {
	texts := benchTexts()["prose"]
	buf, err := mem.Host().Alloc(defaultBatchBytes)
	if err != nil {
		b.Fatal(err)
	}
	defer buf.Release()
	defer processorTime(b, textBytes(texts))()
	for b.Loop() {
		at := 0
		for _, s := range texts {
			if at+len(s) > buf.Len() {
				at = 0
			}
			at += copy(buf.Bytes()[at:], s)
		}
	}
}
