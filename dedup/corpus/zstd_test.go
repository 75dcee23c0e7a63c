package corpus

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/klauspost/compress/zstd"
)

// TestZstd: what the registered codec compresses, at every level and into buffers of every size, the Go library reads.
func TestZstd(t *testing.T) {
	codec, err := compress.GetCodec(compress.Codecs.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := codec.(compress.StreamingCodec); !ok {
		t.Error("large pages cannot be read piece by piece any more")
	}
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 100, 128<<10 - 1, 1 << 20} {
		text := make([]byte, n)
		for i := range text {
			text[i] = "etaoin shr"[rng.IntN(10)]
		}
		for _, level := range []int{compress.DefaultCompressionLevel, 1, 3, 9} {
			for _, dst := range [][]byte{nil, make([]byte, n/4), make([]byte, codec.CompressBound(int64(n)))} {
				packed := codec.EncodeLevel(dst, text, level)
				got, err := r.DecodeAll(packed, nil)
				if err != nil || !bytes.Equal(got, text) {
					t.Errorf("%d bytes at level %d: %d bytes come back: %v", n, level, len(got), err)
				}
			}
		}
	}
}
