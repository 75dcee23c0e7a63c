//go:build !cgo

package corpus

// ZstdImplementation says what compresses the zstd pages of Parquet files.
const ZstdImplementation = "in Go"
