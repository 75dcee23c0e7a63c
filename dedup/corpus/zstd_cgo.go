//go:build cgo

package corpus

import (
	"sync"

	"github.com/DataDog/zstd"
	"github.com/apache/arrow-go/v18/parquet/compress"
)

// ZstdImplementation says what compresses the zstd pages of Parquet files.
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
		level = 3 // zstd's default; the binding's is 5
	}
	ctx := zstdContexts.Get().(zstd.Ctx)
	defer zstdContexts.Put(ctx)
	out, err := ctx.CompressLevel(dst, src, level)
	if err != nil { // C has no memory for a context
		return c.zstdCodec.EncodeLevel(dst, src, level)
	}
	return out
}
