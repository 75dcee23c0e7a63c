//go:build !cgo

package corpus

import (
	"io"

	"github.com/klauspost/compress/zstd"
)

// ZstdImplementation says what compresses Parquet pages and JSON Lines with zstd.
const ZstdImplementation = "in Go"

// newZstdWriter returns a writer of one frame with a checksum, which Close ends and which must be closed.
func newZstdWriter(w io.Writer, level int) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)))
}
