package kernelstest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// Texts returns texts that kernels have reason to get wrong: null (nil) and empty ones, several scripts, bytes
// that are no valid UTF-8, few different windows, and lengths around a block's. They are the same in every
// run.
func Texts() [][]byte {
	r := rand.New(rand.NewPCG(2024, 3))
	texts := [][]byte{
		nil,
		{},
		[]byte("a"),
		{0},
		[]byte("The quick brown fox jumps over the lazy dog"),
		[]byte("Съешь же ещё этих мягких французских булок, да выпей чаю"),
		[]byte("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳"),
		[]byte("نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر"),
		[]byte("😀😃😄😁😆😅🤣😂🙂🙃😉😊😇🥰😍🤩😘😗😚😙🥲😋😛😜🤪😝🤑👩‍👩‍👧‍👦"),
		nil,
		{0x80},
		{0xff, 0xfe, 0xc3, 0x28, 0xe2, 0x82, 0x28, 0xf0, 0x9f, 0x98, 0xed, 0xa0, 0x80, 0xf4, 0x90, 0x80, 0x80, 0xc0, 0x80},
		[]byte("ascii that ends in the middle of a code point \xe4\xb8"),
		[]byte("ascii \xc3 with \xe2\x82 some \xf0\x9f\x98 bytes \xff that are wrong, and a long end that is right"),
		bytes.Repeat([]byte("a"), 5000),
		bytes.Repeat([]byte("ab"), 3000),
		bytes.Repeat([]byte("0123456789abcdefghijklmn"), 300),
		bytes.Repeat([]byte("é"), 2500),
		[]byte("\ufffd\ufffd\ufffd a replacement character is a code point like others \ufffd"),
		nil,
	}
	random := func(n int, alphabet string) {
		points := []rune(alphabet)
		var text []byte
		for range n {
			text = append(text, string(points[r.IntN(len(points))])...)
		}
		texts = append(texts, text)
	}
	random(100, "ACGT")
	random(5000, "ACGT")
	random(900, "01")
	random(3000, "abcdefghijklmnopqrstuvwxyz ,.")
	random(7000, "abc déf жук 漢字仮名 😀😃")
	random(2048+23, "abcdefghijklmnopqrstuvwxyz")
	random(2048+24, "abcdefghijklmnopqrstuvwxyz")
	random(4096+23, "abcdefghijklmnopqrstuvwxyz漢")
	noise := make([]byte, 4000) // three fifths of it no valid UTF-8
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	texts = append(texts, noise)
	var consecutive []byte
	for c := rune(0x4e00); c < 0x4e00+1000; c++ {
		consecutive = append(consecutive, string(c)...)
	}
	texts = append(texts, consecutive)
	var numbers []byte
	for i := range 1500 {
		numbers = fmt.Appendf(numbers, "%05d,", i)
	}
	return append(texts, numbers)
}
