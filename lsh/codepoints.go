package lsh

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// invalidPoint is or-ed with a byte that belongs to no valid encoding; the results, 0x110080 to 0x1100ff,
// lie above every Unicode code point.
const invalidPoint = 0x110000

// nextPoint returns the code point at the start of text, which is not empty, and its length in bytes.
func nextPoint(text []byte) (point uint32, size int) {
	r, size := utf8.DecodeRune(text)
	if r == utf8.RuneError && size == 1 {
		return invalidPoint | uint32(text[0]), 1
	}
	return uint32(r), size
}

// nextEncoded is nextPoint where the first byte is not ASCII. Encodings of two and three bytes, all but the rarest, take
// a short way.
func nextEncoded(text []byte) (point uint32, size int) {
	b := uint32(text[0])
	if len(text) >= 3 {
		c, d := uint32(text[1]), uint32(text[2])
		if b-0xc2 < 0xe0-0xc2 && c&0xc0 == 0x80 {
			return b&0x1f<<6 | c&0x3f, 2
		}
		p := b&0xf<<12 | c&0x3f<<6 | d&0x3f
		if b&0xf0 == 0xe0 && c&0xc0 == 0x80 && d&0xc0 == 0x80 && p >= 0x800 && p&0xf800 != 0xd800 {
			return p, 3
		}
	}
	return nextPoint(text)
}

// ascii8 has the top bit of each of 8 bytes.
const ascii8 = 0x8080808080808080

// decodePoints fills dst with the code points of text from its start and returns how many it wrote and how
// many bytes they took. It stops when dst is full or text ends.
func decodePoints(dst []uint32, text []byte) (points, size int) {
	for points < len(dst) && size < len(text) {
		// Eight ASCII bytes at a time; most text is nothing else.
		for points+8 <= len(dst) && size+8 <= len(text) {
			w := binary.LittleEndian.Uint64(text[size:])
			if w&ascii8 != 0 {
				break
			}
			d := dst[points : points+8 : points+8]
			d[0], d[1], d[2], d[3] = uint32(w)&0xff, uint32(w>>8)&0xff, uint32(w>>16)&0xff, uint32(w>>24)&0xff
			d[4], d[5], d[6], d[7] = uint32(w>>32)&0xff, uint32(w>>40)&0xff, uint32(w>>48)&0xff, uint32(w>>56)
			points, size = points+8, size+8
		}
		// Then code points one by one to the end of a run that is not ASCII.
		for points < len(dst) && size < len(text) {
			if b := text[size]; b < utf8.RuneSelf {
				dst[points] = uint32(b)
				points, size = points+1, size+1
				if size&7 == 0 {
					break // look for eight ASCII bytes again
				}
				continue
			}
			p, n := nextEncoded(text[size:])
			dst[points] = p
			points, size = points+1, size+n
		}
	}
	return points, size
}

// asciiRun returns the number of bytes before the first that is not ASCII.
func asciiRun(text []byte) int {
	n := 0
	for ; n+32 <= len(text); n += 32 {
		t := text[n : n+32]
		w := binary.LittleEndian.Uint64(t) | binary.LittleEndian.Uint64(t[8:]) | binary.LittleEndian.Uint64(t[16:]) | binary.LittleEndian.Uint64(t[24:])
		if w&ascii8 != 0 {
			break
		}
	}
	for ; n+8 <= len(text); n += 8 {
		if w := binary.LittleEndian.Uint64(text[n:]) & ascii8; w != 0 {
			return n + bits.TrailingZeros64(w)/8
		}
	}
	for n < len(text) && text[n] < utf8.RuneSelf {
		n++
	}
	return n
}

// countPoints returns the number of code points in text.
func countPoints(text []byte) int {
	n := 0
	for len(text) > 0 {
		run := asciiRun(text)
		n += run
		text = text[run:]
		for len(text) > 0 && text[0] >= utf8.RuneSelf {
			_, size := nextPoint(text)
			text = text[size:]
			n++
		}
	}
	return n
}
