//go:build unix

package corpus

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/dovetail-dedup/dovetail/dedup/corpus/internal/benchtext"
	"github.com/dovetail-dedup/dovetail/mem"
)

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

// BenchmarkParquet is this package's reader.
func BenchmarkParquet(b *testing.B) {
	benchtext.EachCodec(b, func(b *testing.B, path string) func() int64 {
		s := mustResolve(b, Local(), Options{}, path)
		return func() int64 { return drain(b, s, ReadOptions{}) }
	})
}

// BenchmarkParquetReadBatch is the library's ReadBatch, which copies each value to the heap.
func BenchmarkParquetReadBatch(b *testing.B) {
	benchtext.EachCodec(b, func(b *testing.B, path string) func() int64 {
		return func() int64 { return readBatches(b, path) }
	})
}

func readBatches(b *testing.B, path string) (n int64) {
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
}

// BenchmarkRewriteParquet keeps nine rows of ten.
func BenchmarkRewriteParquet(b *testing.B) {
	for _, codec := range []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd} {
		b.Run(benchtext.CodecName(codec), func(b *testing.B) {
			s := mustResolve(b, Local(), Options{}, benchtext.ParquetFile(b, codec))
			defer benchtext.ProcessorTime(b, benchtext.Size(benchtext.Texts("prose")))()
			for b.Loop() {
				if _, err := s.Rewrite(b.Context(), 0, func(r int64) bool { return r%10 != 0 }, Sink{W: io.Discard}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func jsonDocs(b *testing.B, kind string) []byte {
	data, err := benchtext.JSONLines(kind)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// BenchmarkJSON is this package's scanner.
func BenchmarkJSON(b *testing.B) {
	f := newJSONField("text")
	p := jsonLine{fields: []*jsonField{f}}
	benchtext.EachText(b, func(b *testing.B, line, dst []byte) []byte {
		if err := p.scan(line); err != nil {
			b.Fatal(err)
		}
		return append(dst, f.value.raw...)
	})
}

// BenchmarkJSONL is the whole reader, from files.
func BenchmarkJSONL(b *testing.B) {
	for _, kind := range benchtext.Kinds {
		data := jsonDocs(b, kind)
		for name, file := range map[string]string{"plain": string(data), "gz": gzipped(b, string(data)), "zst": zstded(b, string(data))} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				ext := map[string]string{"plain": "", "gz": ".gz", "zst": ".zst"}[name]
				s := benchSet(b, "x.jsonl"+ext, []byte(file))
				b.ReportAllocs()
				defer benchtext.ProcessorTime(b, int64(len(data)))()
				for b.Loop() {
					if n := drain(b, s, ReadOptions{}); n != benchtext.Size(benchtext.Texts(kind)) {
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
	defer benchtext.ProcessorTime(b, int64(len(data)))()
	for b.Loop() {
		if _, err := s.CountLines(b.Context(), Split{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCopy is copying the text once, what the others are to be compared with.
func BenchmarkCopy(b *testing.B) {
	texts := benchtext.Texts("prose")
	buf, err := mem.Host().Alloc(defaultBatchBytes)
	if err != nil {
		b.Fatal(err)
	}
	defer buf.Release()
	defer benchtext.ProcessorTime(b, benchtext.Size(texts))()
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
