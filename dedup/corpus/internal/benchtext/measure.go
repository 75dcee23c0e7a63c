//go:build unix

package benchtext

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
)

// Codecs are the codecs that Parquet readers are compared on.
var Codecs = []compress.Compression{
	compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd, compress.Codecs.Lz4Raw, compress.Codecs.Gzip, compress.Codecs.Brotli,
}

// CodecName is the name of a codec in those of benchmarks.
func CodecName(c compress.Compression) string { return strings.ToLower(c.String()) }

// BufferBytes is the size of the buffer that texts are copied to.
const BufferBytes = 8 << 20

// ProcessorTime reports megabytes for each second of processor time, of all threads, from now to the end of the
// benchmark. It is what to compare on a machine that is shared.
func ProcessorTime(b *testing.B, bytes int64) (report func()) {
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

// ParquetFile writes the file that readers are compared on, with pages of about 1 MiB, plain, as pyarrow writes them.
func ParquetFile(b *testing.B, codec compress.Compression) (path string) {
	data, err := Parquet(Texts("prose"), codec, 400, parquet.DataPageV1)
	if err != nil {
		b.Fatal(err)
	}
	path = filepath.Join(b.TempDir(), "x.parquet")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		b.Fatal(err)
	}
	return path
}

// EachCodec measures a reader of Parquet files. open is called once for a file, and what it returns reads all texts and
// returns their size.
func EachCodec(b *testing.B, open func(b *testing.B, path string) (read func() int64)) {
	want := Size(Texts("prose"))
	for _, codec := range Codecs {
		b.Run(CodecName(codec), func(b *testing.B) {
			read := open(b, ParquetFile(b, codec))
			b.ReportAllocs()
			defer ProcessorTime(b, want)()
			for b.Loop() {
				if n := read(); n != want {
					b.Fatalf("read %d bytes, want %d", n, want)
				}
			}
		})
	}
}

// EachText measures how fast the text is taken out of lines; extract appends that of one line to dst.
func EachText(b *testing.B, extract func(b *testing.B, line, dst []byte) []byte) {
	for _, kind := range Kinds {
		b.Run(kind, func(b *testing.B) {
			data, err := JSONLines(kind)
			if err != nil {
				b.Fatal(err)
			}
			want := Size(Texts(kind))
			b.ReportAllocs()
			dst := make([]byte, 0, BufferBytes)
			defer ProcessorTime(b, int64(len(data)))()
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
