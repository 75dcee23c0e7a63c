//go:build cgo

package corpus

import (
	"bufio"
	"encoding/binary"
	"io"
	"sync"

	"github.com/DataDog/zstd"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/cespare/xxhash/v2"
)

// ZstdImplementation says what compresses Parquet pages and JSON Lines with zstd.
const ZstdImplementation = "by libzstd, in C"

// cZstd has Facebook's library compress the pages of Parquet files: for each second of processor time it takes 1.6 to
// 2.4 times as much text as the Go library at its fastest, and makes as many bytes of it. Decompressing is left to the
// Go library, which does it piece by piece about as fast. Builds without a C compiler have it do both.
type cZstd struct{ zstdCodec }

// zstdCodec is what the Parquet library's own codec can do.
type zstdCodec interface {
	compress.ErrorCodec
	compress.StreamingCodec
}

// The library keeps its codecs in a table of the process, which may only be changed before it is used.
func init() {
	codec, err := compress.GetCodec(compress.Codecs.Zstd)
	if err != nil {
		return
	}
	if c, ok := codec.(zstdCodec); ok {
		compress.RegisterCodec(compress.Codecs.Zstd, cZstd{c})
	}
}

// zstdContexts are what the C library keeps from page to page, below 2 MiB each at level 1.
var zstdContexts = sync.Pool{New: func() any { return zstd.NewCtx() }}

func (cZstd) CompressBound(n int64) int64 { return int64(zstd.CompressBound(int(n))) }

func (c cZstd) Encode(dst, src []byte) []byte {
	return c.EncodeLevel(dst, src, compress.DefaultCompressionLevel)
}

func (c cZstd) EncodeLevel(dst, src []byte, level int) []byte {
	if level == compress.DefaultCompressionLevel {
		level = defaultZstdLevel // the binding's is 5
	}
	ctx := zstdContexts.Get().(zstd.Ctx)
	defer zstdContexts.Put(ctx)
	out, err := ctx.CompressLevel(dst, src, level)
	if err != nil { // C has no memory for a context
		return c.zstdCodec.EncodeLevel(dst, src, level)
	}
	return out
}

// zstdWriter compresses a stream. The binding has no way to ask for a checksum of the content, so it is added here: a flag in the
// header of the frame, and the lowest four bytes of XXH64 behind it (RFC 8878, section 3.1.1).
type zstdWriter struct {
	in    *bufio.Writer // a call of C costs as much as compressing some hundred bytes
	z     *zstd.Writer
	frame flaggedFrame
	sum   *xxhash.Digest
}

// newZstdWriter returns a writer of one frame with a checksum, which Close ends and which must be closed.
func newZstdWriter(w io.Writer, level int) (io.WriteCloser, error) {
	c := &zstdWriter{frame: flaggedFrame{w: w}, sum: xxhash.New()}
	c.z = zstd.NewWriterLevel(&c.frame, level)
	c.in = bufio.NewWriterSize(c.z, 128<<10)
	return c, nil
}

func (c *zstdWriter) Write(b []byte) (int, error) {
	_, _ = c.sum.Write(b) // a hash takes every byte
	return c.in.Write(b)
}

func (c *zstdWriter) Close() error {
	err := c.in.Flush()
	if err = firstError(err, c.z.Close()); err != nil { // which frees C's memory
		return err
	}
	_, err = c.frame.w.Write(binary.LittleEndian.AppendUint32(nil, uint32(c.sum.Sum64())))
	return err
}

// flaggedFrame passes on a frame, with the flag in its header that says that a checksum follows.
type flaggedFrame struct {
	w    io.Writer
	seen int
}

const (
	frameDescriptor = 4 // where it is: behind the magic number
	checksumFlag    = 1 << 2
)

func (f *flaggedFrame) Write(b []byte) (int, error) {
	at := frameDescriptor - f.seen
	f.seen = min(f.seen+len(b), frameDescriptor+1)
	if at < 0 || at >= len(b) {
		return f.w.Write(b)
	}
	for _, part := range [][]byte{b[:at], {b[at] | checksumFlag}, b[at+1:]} {
		if _, err := f.w.Write(part); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
