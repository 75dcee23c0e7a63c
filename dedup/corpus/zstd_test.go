package corpus

import (
	"bytes"
	"context"
	"errors"
	"io"
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

// What is written as a stream, in pieces of any size, is one frame with a checksum that the Go library verifies.
func TestZstdWriter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 100, 128<<10 - 1, 128 << 10, 3 << 20} {
		text := make([]byte, n)
		for i := range text {
			text[i] = "etaoin shr"[rng.IntN(10)]
		}
		for level := 1; level <= defaultZstdLevel; level++ {
			var b bytes.Buffer
			w, err := newZstdWriter(&b, level)
			if err != nil {
				t.Fatal(err)
			}
			for rest := text; len(rest) > 0; {
				k := min(len(rest), 1+rng.IntN(100_000))
				if m, err := w.Write(rest[:k]); m != k || err != nil {
					t.Fatal(m, err)
				}
				rest = rest[k:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			packed := b.Bytes()
			var h zstd.Header
			if err := h.Decode(packed); err != nil || !h.HasCheckSum && n > 0 {
				t.Fatalf("%d bytes at level %d: %+v, %v", n, level, h, err)
			}
			got, err := unzstd(packed)
			if err != nil || !bytes.Equal(got, text) {
				t.Fatalf("%d bytes at level %d: %d come back: %v", n, level, len(got), err)
			}
			if n == 0 {
				continue
			}
			for i := range 4 {
				packed[len(packed)-1-i] ^= 1
				if _, err := unzstd(packed); !errors.Is(err, zstd.ErrCRCMismatch) {
					t.Errorf("%d bytes at level %d: another checksum, and %v", n, level, err)
				}
				packed[len(packed)-1-i] ^= 1
			}
		}
	}
	w, err := newZstdWriter(failingWriter{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(make([]byte, 1<<20))
	if err = firstError(err, w.Close()); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

func unzstd(b []byte) ([]byte, error) {
	r, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// The level of a file is that of the frame it begins with, as far as can be seen.
func TestZstdLevel(t *testing.T) {
	for want, window := range map[int]int{1: 512 << 10, 2: 1 << 20, 3: 2 << 20} {
		var b bytes.Buffer
		z, err := zstd.NewWriter(&b, zstd.WithWindowSize(window))
		if err != nil {
			t.Fatal(err)
		}
		_, err = z.Write(make([]byte, 8<<20))
		if err = errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
		fsys := newMemFS(map[string]string{"a.zst": b.String(), "short.zst": b.String()[:3]})
		for name, want := range map[string]int{"a.zst": want, "short.zst": defaultZstdLevel} {
			src, err := openSource(context.Background(), fsys, name)
			if err != nil {
				t.Fatal(err)
			}
			if got := zstdLevel(src); got != want {
				t.Errorf("%s with a window of %d: level %d, want %d", name, window, got, want)
			}
		}
	}
}
