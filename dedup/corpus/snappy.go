package corpus

import (
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/klauspost/compress/s2"
)

// fastSnappy compresses as Google's library does, and with it pyarrow and DuckDB. The codec of the Parquet
// library compresses an eighth better at half the speed, and compressing is most of the work of rewriting.
type fastSnappy struct{ compress.ErrorCodec }

func (fastSnappy) Encode(dst, src []byte) []byte { return s2.EncodeSnappy(dst, src) }

func (fastSnappy) EncodeLevel(dst, src []byte, _ int) []byte { return s2.EncodeSnappy(dst, src) }

// The library keeps its codecs in a table of the process, which may only be changed before it is used.
func init() {
	codec, err := compress.GetCodec(compress.Codecs.Snappy)
	if err != nil {
		return
	}
	if c, ok := codec.(compress.ErrorCodec); ok {
		compress.RegisterCodec(compress.Codecs.Snappy, fastSnappy{c})
	}
}
