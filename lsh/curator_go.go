package lsh

import (
	"context"
	"encoding/binary"
)

// curatorSigner makes signatures of [Curator32] (T = uint32) and [Curator64] (T = uint64). The minima over all
// permutations are nineteen twentieths of the work; hashing windows is the rest.
type curatorSigner[T Slot] struct {
	width     int
	a, b      []T
	hash      func(window []byte) T
	affineMin func(least, a, b, hashes []T)
	hashASCII func(dst []T, text []byte) // len(text) = len(dst)+width-1; nil if there is none
	hashes    []T
	repeats   repeats[T]
}

func newCurator32Signer(p Params, l *loops) *curatorSigner[uint32] {
	s := newCuratorSigner[uint32](p)
	seed := s.a[0]
	s.hash = func(window []byte) uint32 { return murmur32(window, seed) }
	words := make([]uint32, 0, blockWindows+p.CharNgrams)
	s.hashASCII = func(dst []uint32, text []byte) { murmurASCII(dst, text, p.CharNgrams, seed, words) }
	s.affineMin = l.affineMin32
	return s
}

func newCurator64Signer(p Params, l *loops) *curatorSigner[uint64] {
	s := newCuratorSigner[uint64](p)
	seed := s.a[0]
	s.hash = func(window []byte) uint64 { return murmur64(window, seed) }
	s.affineMin = l.affineMin64
	return s
}

func newCuratorSigner[T Slot](p Params) *curatorSigner[T] {
	a, b := p.Permutations()
	s := &curatorSigner[T]{width: p.CharNgrams, a: make([]T, len(a)), b: make([]T, len(b))}
	for i := range a {
		s.a[i], s.b[i] = T(a[i]), T(b[i])
	}
	s.hashes = make([]T, blockWindows)
	return s
}

func (s *curatorSigner[T]) sign(ctx context.Context, row []byte, text []byte) error {
	slots := view[T](row)
	if len(text) == 0 {
		clear(slots)
		return nil
	}
	for j := range slots {
		slots[j] = ^T(0)
	}
	s.repeats.reset()
	for start, end := 0, s.firstEnd(text); start < len(text); {
		if err := ctx.Err(); err != nil {
			return err
		}
		var hashes []T
		hashes, start, end = s.block(text, start, end)
		for i, h := range hashes {
			hashes[i] = max(h, 1)
		}
		s.affineMin(slots, s.a, s.b, s.repeats.drop(hashes))
	}
	return nil
}

// firstEnd returns the end of the first window of text.
func (s *curatorSigner[T]) firstEnd(text []byte) int {
	end := 0
	for n := 0; n < s.width && end < len(text); n++ {
		_, size := nextPoint(text[end:])
		end += size
	}
	return end
}

// block returns the hashes of a block of windows, the first of which is text[start:end], and the place of the
// first window after it; start is len(text) at the end.
func (s *curatorSigner[T]) block(text []byte, start, end int) ([]T, int, int) {
	const (
		worthASCII = 16 // fewer windows in a run of ASCII are hashed one by one
		oneByOne   = 64 // windows hashed so before looking for ASCII again
	)
	dst := s.hashes[:0]
	for len(dst) < cap(dst) && start < len(text) {
		room := cap(dst) - len(dst)
		if s.hashASCII != nil {
			ahead := text[start:min(len(text), start+room+s.width-1)]
			if n := asciiRun(ahead) - s.width + 1; n >= worthASCII {
				dst = dst[:len(dst)+n]
				s.hashASCII(dst[len(dst)-n:], ahead[:n+s.width-1])
				start += n
				if end = start + s.width - 1; end == len(text) {
					return dst, len(text), end
				}
				_, size := nextPoint(text[end:])
				end += size
				continue
			}
		}
		for range min(room, oneByOne) {
			dst = append(dst, s.hash(text[start:end]))
			if end == len(text) {
				return dst, len(text), end
			}
			_, size := nextPoint(text[start:])
			start += size
			_, size = nextPoint(text[end:])
			end += size
		}
	}
	return dst, start, end
}

// murmurASCII hashes windows of width bytes. Each word of four bytes is prepared once and shared by the
// windows that contain it. words is scratch with room for as many words as text has bytes.
func murmurASCII(dst []uint32, text []byte, width int, seed uint32, words []uint32) {
	full, tail := width/4, width%4
	words = words[:0]
	for i := 0; i+4 <= len(text); i++ {
		words = append(words, murmurWord(binary.LittleEndian.Uint32(text[i:])))
	}
	for i := range dst {
		h := seed
		for k := range full {
			h = murmurStep(h, words[i+4*k])
		}
		if tail > 0 {
			var last uint32
			for k, c := range text[i+4*full : i+width] {
				last |= uint32(c) << (8 * k)
			}
			h ^= murmurWord(last)
		}
		dst[i] = murmurFinal32(h ^ uint32(width))
	}
}
