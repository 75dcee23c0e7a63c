package corpus

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// ByteSum is the hash of the bytes [From, End) of a file of the set.
type ByteSum struct {
	File int    `json:"file"`
	From int64  `json:"from,omitempty"`
	End  int64  `json:"end"`
	Sum  uint64 `json:"sum"` // XXH3
}

// GroupSum is the hash of the bytes that the texts of a row group of a Parquet file are in.
type GroupSum struct {
	File  int    `json:"file"`
	Group int    `json:"group"`
	Sum   uint64 `json:"sum"` // XXH3
}

// Copy writes a file to w as it is, and returns how many bytes it has. sums are what ReadOptions.Bytes was told when its
// documents were read, in order, from its first byte to its last: bytes that have another hash now are a [FileError] that wraps
// [ErrChanged], and what was written then is of no use.
func (s *Set) Copy(ctx context.Context, file int, sums []ByteSum, w io.Writer) (n int64, err error) {
	src, err := s.open(ctx, file)
	if err != nil {
		return 0, err
	}
	defer func() { err = firstError(err, src.Close()) }()
	buf := make([]byte, lineBuffer)
	for _, sum := range sums {
		if sum.File != file || sum.From != n || sum.End < n {
			return n, fmt.Errorf("corpus: %s: hashes of other bytes than those of the file", src.name)
		}
		h, in := xxh3.New(), src.section(n, sum.End)
		for n < sum.End {
			b := buf[:min(int64(len(buf)), sum.End-n)]
			if _, err := io.ReadFull(in, b); err != nil {
				return n, src.fault(ErrChanged, place{}, err)
			}
			_, _ = h.Write(b) // a hash takes every byte
			if _, err := w.Write(b); err != nil {
				return n, fmt.Errorf("corpus: copying %s: %w", src.name, err)
			}
			n += int64(len(b))
		}
		if h.Sum64() != sum.Sum {
			return n, changed(&s.Files[file], "it holds other bytes than when it was read")
		}
	}
	if n != s.Files[file].Size {
		return n, errors.New("corpus: " + src.name + ": no hashes of all its bytes")
	}
	return n, nil
}

// hashedStream hashes what is read through it.
type hashedStream struct {
	r io.Reader
	n int64
	h xxh3.Hasher
}

func (s *hashedStream) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	_, _ = s.h.Write(b[:n])
	s.n += int64(n)
	return n, err
}
