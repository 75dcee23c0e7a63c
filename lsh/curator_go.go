package lsh

import (
	"context"
	"encoding/binary"
	"unicode/utf8"
)

// curatorSigner makes signatures of [Curator32] (T = uint32) and [Curator64] (T = uint64). The minima over all
// permutations are most of the work; hashing windows is the rest.
type curatorSigner[T Slot] struct {
	a, b      []T
	none      []T // a signature of the largest values
	affineMin func(least, a, b, hashes []T)
	blocks    pointBlocks
	starts    []int32 // of code points in a block, and its end
	hashes    []T
	repeats   repeats[T]

	// hashBytes sets dst[i] to the hash of text[i:i+width], and hashPoints to that of text[starts[i]:starts[i+width]].
	// Both put 1 for 0, as cuDF does.
	hashBytes  func(dst []T, text []byte, width int)
	hashPoints func(dst []T, text []byte, starts []int32, width int)
}

func newCurator32Signer(p Params, l *loops) *curatorSigner[uint32] {
	s := newCuratorSigner[uint32](p, l)
	m := &murmurBlocks{loops: l, seed: s.a[0]}
	s.hashBytes, s.hashPoints, s.affineMin = m.bytes, m.points, l.minima32
	return s
}

func newCurator64Signer(p Params, l *loops) *curatorSigner[uint64] {
	s := newCuratorSigner[uint64](p, l)
	seed := s.a[0]
	s.hashBytes = func(dst []uint64, text []byte, width int) {
		for i := range dst {
			dst[i] = max(murmur64(text[i:i+width], seed), 1)
		}
	}
	s.hashPoints = func(dst []uint64, text []byte, starts []int32, width int) {
		for i := range dst {
			dst[i] = max(murmur64(text[starts[i]:starts[i+width]], seed), 1)
		}
	}
	s.affineMin = l.affineMin64
	return s
}

func newCuratorSigner[T Slot](p Params, l *loops) *curatorSigner[T] {
	a, b := p.Permutations()
	s := &curatorSigner[T]{a: make([]T, len(a)), b: make([]T, len(b)), none: make([]T, len(a)), blocks: newPointBlocks(p.CharNgrams, l)}
	for i := range a {
		s.a[i], s.b[i], s.none[i] = T(a[i]), T(b[i]), ^T(0)
	}
	s.hashes = make([]T, s.blocks.most())
	s.starts = make([]int32, len(s.blocks.points)+1)
	return s
}

func (s *curatorSigner[T]) sign(ctx context.Context, row []byte, text []byte) error {
	slots := view[T](row)
	if len(text) == 0 {
		clear(slots)
		return nil
	}
	copy(slots, s.none)
	drop := len(text) >= worthLooking
	if drop {
		s.repeats.reset()
	}
	s.blocks.reset(text)
	start := 0 // of the first code point of the block
	for points, width := s.blocks.next(); points != nil; points, width = s.blocks.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		block := text[start : len(text)-len(s.blocks.rest)]
		hashes := s.hashes[:len(points)-width+1]
		if len(block) == len(points) {
			s.hashBytes(hashes, block, width)
			start += len(hashes)
		} else {
			starts := pointStarts(s.starts, points)
			s.hashPoints(hashes, block, starts, width)
			start += int(starts[len(hashes)])
		}
		s.blocks.carry(points)
		if drop {
			hashes = s.repeats.drop(hashes)
		}
		s.affineMin(slots, s.a, s.b, hashes)
	}
	return nil
}

// pointStarts sets starts to the place of each code point and of the end, counted in bytes from the first.
func pointStarts(starts []int32, points []uint32) []int32 {
	starts = starts[:len(points)+1]
	at := int32(0)
	for i, p := range points {
		starts[i] = at
		switch {
		case p < utf8.RuneSelf || p >= invalidPoint:
			at++
		case p < 0x800:
			at += 2
		case p < 0x10000:
			at += 3
		default:
			at += 4
		}
	}
	starts[len(points)] = at
	return starts
}

// murmurBlocks hashes blocks of windows for [Curator32], with scratch memory of up to 8 bytes for each byte of a block.
type murmurBlocks struct {
	loops        *loops
	seed         uint32
	words, mixed []uint32
}

// room returns scratch with room for n values in both arrays.
func (m *murmurBlocks) room(n int) (words, mixed []uint32) {
	if len(m.words) < n {
		m.words, m.mixed = make([]uint32, n), make([]uint32, n)
	}
	return m.words[:n], m.mixed[:n]
}

func (m *murmurBlocks) bytes(dst []uint32, text []byte, width int) {
	words, mixed := m.room(len(text))
	m.loops.words(words, text)
	m.loops.mixWords(mixed, words, ^uint32(0))
	tails := words[:0]
	if width%4 > 0 {
		tails = words
		m.loops.mixWords(tails, words, 1<<(8*(width%4))-1)
	}
	m.loops.murmur(dst, mixed, tails, width/4, m.seed, uint32(width))
}

func (m *murmurBlocks) points(dst []uint32, text []byte, starts []int32, width int) {
	if m.loops.murmurPoints == nil {
		for i := range dst {
			dst[i] = max(murmur32(text[starts[i]:starts[i+width]], m.seed), 1)
		}
		return
	}
	words, mixed := m.room(len(text))
	m.loops.words(words, text)
	m.loops.mixWords(mixed, words, ^uint32(0))
	m.loops.murmurPoints(dst, mixed, words, starts, width, m.seed)
}

// wordsGo sets dst[i] to the little-endian word at text[i:], as if zeros followed text.
func wordsGo(dst []uint32, text []byte) {
	i := 0
	for ; i < len(dst) && i+4 <= len(text); i++ {
		dst[i] = binary.LittleEndian.Uint32(text[i:])
	}
	for ; i < len(dst); i++ {
		dst[i] = 0
		for k, b := range text[i:] {
			dst[i] |= uint32(b) << (8 * k)
		}
	}
}

func mixWordsGo(dst, words []uint32, mask uint32) {
	words = words[:len(dst)]
	for i := range dst {
		dst[i] = murmurWord(words[i] & mask)
	}
}

func murmurGo(dst, words, tails []uint32, full int, seed, length uint32) {
	for i := range dst {
		h := seed
		for k := range full {
			h = murmurStep(h, words[i+4*k])
		}
		if len(tails) > 0 {
			h ^= tails[i+4*full]
		}
		dst[i] = max(murmurFinal32(h^length), 1)
	}
}
