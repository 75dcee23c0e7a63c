//go:build ucx && cgo && amd64

package cloop

import (
	"hash/crc32"
	"testing"
)

func TestCRC(t *testing.T) {
	data := make([]byte, 24*1000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for _, n := range []int{24, 240, len(data)} {
		if got, want := CRC(data[:n]), crc32.Checksum(data[:n], crc32.MakeTable(crc32.Castagnoli)); got != want {
			t.Errorf("%d bytes: %#x, want %#x", n, got, want)
		}
	}
}
