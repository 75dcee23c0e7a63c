package lsh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func mustReference(t tb, p Params) *Reference {
	t.Helper()
	r, err := NewReference(p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustCPU(t tb, p Params, l *loops) *CPU {
	t.Helper()
	c, err := newCPU(p, l)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// chosen returns the loops that the environment of the tests chooses.
func chosen(t tb) *loops {
	t.Helper()
	l, err := currentLoops()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// checkSign compares every set of loops with the reference.
func checkSign(t tb, p Params, text []byte) {
	t.Helper()
	want := mustReference(t, p).Sign(text)
	for _, l := range availableLoops() {
		got := signCPU(t, mustCPU(t, p, l), text)
		if !slices.Equal(got, want) {
			j := 0
			for got[j] == want[j] {
				j++
			}
			t.Fatalf("%s, %+v, %d bytes %.60q: slot %d is %#x, want %#x", l.name, p, len(text), text, j, got[j], want[j])
		}
	}
}

func FuzzSign(f *testing.F) {
	add := func(text string, width, hashes uint16, sketch uint8, seed uint64) {
		f.Add([]byte(text), width, hashes, sketch, seed)
	}
	add("", 24, 260, 0, 42)
	add("a", 1, 1, 0, 0)
	add("The quick brown fox jumps over the lazy dog", 24, 260, 1, 42)
	add("The quick brown fox jumps over the lazy dog", 13, 100, 2, 42)
	add("Съешь ещё этих мягких французских булок", 5, 77, 0, 1)
	add("\xff\xfe\xc3(\xe2\x82(\xf0\x9f\x98\xed\xa0\x80 and more of it \xc3", 3, 30, 1, 9)
	add(strings.Repeat("漢字😀abcdefghijklmnopqrstuvwxyz", 9), 25, 64, 0, math.MaxUint64)
	add(strings.Repeat("ab", 2000), 24, 20, 0, 2)
	add(strings.Repeat("0123456789", 300)+"é", 48, 20, 1, 2)
	f.Fuzz(func(t *testing.T, text []byte, width, hashes uint16, sketch uint8, seed uint64) {
		p := Params{
			Sketch:     Sketches()[int(sketch)%3],
			NumBands:   1 + int(hashes)%400,
			CharNgrams: 1 + int(width)%120, MinhashesPerBand: 1, Seed: seed,
		}
		if p.Sketch != Fast {
			p.Seed &= math.MaxUint32
		}
		checkSign(t, p, text)
	})
}

// drawText draws text of a few kinds of code points, with and without bytes that are no valid UTF-8.
func drawText(t *rapid.T) []byte {
	piece := rapid.OneOf(
		rapid.StringMatching(`[a-z ]{0,40}`),
		rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 0, 60, -1),
		rapid.StringOfN(rapid.RuneFrom([]rune("абвгд漢字仮名😀é")), 0, 30, -1),
		rapid.StringN(0, 10, -1),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(1, 60), func(n int) string { return strings.Repeat("0123456789", n) }),
	)
	return []byte(strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), ""))
}

func TestSignEqualsReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Params{
			Sketch:           rapid.SampledFrom(Sketches()).Draw(t, "sketch"),
			NumBands:         rapid.IntRange(1, 40).Draw(t, "bands"),
			MinhashesPerBand: rapid.IntRange(1, 13).Draw(t, "rows"),
			CharNgrams:       rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(1, 200)).Draw(t, "width"),
			Seed:             uint64(rapid.Uint32().Draw(t, "seed")),
		}
		checkSign(t, p, drawText(t))
	})
}

// TestBlocks signs texts around multiples of a block, with signatures so long that not even a text of
// several blocks fills every slot in the mapped rounds.
func TestBlocks(t *testing.T) {
	source := goTree(t)
	for _, p := range []Params{
		{Fast, 2000, 1, 24, 1}, {Fast, 4, 1, 24, 1}, {Fast, 2000, 1, 5, 1}, {Fast, 2, 1, 600, 1},
		{Curator32, 4, 1, 24, 1}, {Curator64, 4, 1, 24, 1}, {Curator32, 2, 1, 600, 1},
	} {
		for _, blocks := range []int{1, 2, 3} {
			if slow() && (p.NumBands > 1000 || blocks > 2) {
				continue
			}
			for extra := -1; extra <= 1; extra++ {
				windows := blocks*max(blockWindows, 4*p.CharNgrams) + extra
				text := source[:windows+p.CharNgrams-1]
				checkSign(t, p, text)
				if extra == 0 {
					// One code point that is not ASCII at the seam.
					mixed := append(append(slices.Clone(text[:blockWindows-1]), "é"...), text[blockWindows-1:]...)
					checkSign(t, p, mixed)
				}
			}
		}
	}
}

// TestSeeds checks that every slot depends on the seed, whatever the width.
func TestSeeds(t *testing.T) {
	text := []byte("The quick brown fox jumps over the lazy dog")
	for _, sketch := range Sketches() {
		for _, width := range []int{1, 2, 3, 4, 24, 100} {
			p := Params{sketch, 20, 13, width, 42}
			q := p
			q.Seed = 43
			a, b := mustReference(t, p).Sign(text), mustReference(t, q).Sign(text)
			if e := Estimate(a, b); e > 0.01 {
				t.Errorf("%s, width %d: seeds 42 and 43 agree in %v of the slots", sketch, width, e)
			}
		}
	}
	p := Params{Fast, 20, 13, 24, 42}
	q := p
	q.Seed |= 1 << 32
	if slices.Equal(mustReference(t, p).Sign(text), mustReference(t, q).Sign(text)) {
		t.Error("the high half of the seed has no effect")
	}
}

// TestUnion checks that a signature is a minimum over windows: with windows of one code point, the signature
// of two texts one after the other is the least of their signatures, slot by slot.
func TestUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Params{rapid.SampledFrom(Sketches()).Draw(t, "sketch"), 16, 4, 1, 5}
		// Only valid texts: two bytes that are none can form a code point where the texts meet.
		a := []byte(rapid.StringN(1, 300, -1).Draw(t, "a"))
		b := []byte(rapid.StringN(1, 300, -1).Draw(t, "b"))
		c := mustCPU(t, p, chosen(t))
		sa, sb := signCPU(t, c, a), signCPU(t, c, b)
		for j, v := range signCPU(t, c, append(slices.Clone(a), b...)) {
			if v != min(sa[j], sb[j]) {
				t.Fatalf("slot %d of the union is %#x, of the parts %#x and %#x", j, v, sa[j], sb[j])
			}
		}
	})
}

// TestInvalidBytes checks what doc.go promises about bytes that are no valid UTF-8.
func TestInvalidBytes(t *testing.T) {
	seen := map[uint32]bool{}
	for b := 0x80; b < 0x100; b++ {
		p, size := nextPoint([]byte{byte(b), 'a'})
		if size != 1 || p <= utf8.MaxRune || seen[p] {
			t.Errorf("byte %#x is code point %#x of %d bytes", b, p, size)
		}
		seen[p] = true
	}
	if p, size := nextPoint([]byte("\ufffd")); p != utf8.RuneError || size != 3 {
		t.Errorf("U+FFFD is code point %#x of %d bytes", p, size)
	}
	distinct := []string{"\xff", "\xfe", "\ufffd", "\xef\xbf", "\xc3", "Ã", "\xed\xa0\x80", "\xf4\x90\x80\x80"}
	for _, sketch := range Sketches() {
		for _, width := range []int{1, 2, 5, 24} {
			r := mustReference(t, Params{sketch, 20, 13, width, 42})
			var signatures [][]uint64
			for _, s := range distinct {
				signatures = append(signatures, r.Sign([]byte(s+s+s)))
			}
			for i, a := range signatures {
				for j, b := range signatures[:i] {
					if slices.Equal(a, b) {
						t.Errorf("%s, width %d: %q and %q have one signature", sketch, width, distinct[i], distinct[j])
					}
				}
			}
		}
	}
}

// TestDecode compares the block decoder with nextPoint.
func TestDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawText(t)
		var want []uint32
		for rest := text; len(rest) > 0; {
			p, size := nextPoint(rest)
			want = append(want, p)
			rest = rest[size:]
		}
		if n := countPoints(text); n != len(want) {
			t.Fatalf("%d code points counted, want %d", n, len(want))
		}
		most := rapid.SampledFrom([]int{1, 20, 50, 200}).Draw(t, "most")
		for _, l := range availableLoops() {
			var got []uint32
			rest := text
			for len(rest) > 0 {
				block := make([]uint32, rapid.IntRange(1, most).Draw(t, "block"))
				n, size := l.decode(block, rest)
				if n == 0 {
					t.Fatalf("%s: no progress at %q", l.name, rest)
				}
				got = append(got, block[:n]...)
				rest = rest[size:]
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s: code points %x, want %x", l.name, got, want)
			}
		}
		run := 0
		for run < len(text) && text[run] < utf8.RuneSelf {
			run++
		}
		if got := asciiRun(text); got != run {
			t.Fatalf("%d bytes of ASCII, want %d", got, run)
		}
	})
}

func TestSignAllocatesNothing(t *testing.T) {
	texts := [][]byte{[]byte("short"), bytes.Repeat([]byte("ab"), 3000), goTree(t)[:20000], []byte(strings.Repeat("漢字", 900))}
	for _, sketch := range Sketches() {
		p := DefaultParams()
		p.Sketch = sketch
		s := mustCPU(t, p, chosen(t)).signers.Get().(signer)
		row := make([]byte, p.SignatureBytes(1))
		allocs := testing.AllocsPerRun(3, func() {
			for _, text := range texts {
				if err := s.sign(context.Background(), row, text); err != nil {
					t.Fatal(err)
				}
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations for %d texts", sketch, allocs, len(texts))
		}
	}
}

// TestCPUConcurrent signs from several goroutines at once; it means most under the race detector.
func TestCPUConcurrent(t *testing.T) {
	source := goTree(t)
	for _, sketch := range Sketches() {
		p := Params{sketch, 5, 4, 24, 42}
		c := mustCPU(t, p, chosen(t))
		var want [][]uint64
		for i := range 20 {
			want = append(want, signCPU(t, c, source[i*500:i*700+500]))
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i, w := range want {
					if got := signCPU(t, c, source[i*500:i*700+500]); !slices.Equal(got, w) {
						t.Errorf("%s: text %d has another signature when signed at the same time as others", sketch, i)
					}
				}
			})
		}
		wg.Wait()
	}
}

// countedContext ends after it was looked at a number of times.
type countedContext struct {
	context.Context
	left int
}

func (c *countedContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestSignStops checks that one long text does not keep a cancelled run waiting.
func TestSignStops(t *testing.T) {
	text := goTree(t)[:100*blockWindows]
	for _, sketch := range Sketches() {
		p := Params{sketch, 2, 2, 24, 42}
		s := mustCPU(t, p, chosen(t)).signers.Get().(signer)
		row := make([]byte, p.SignatureBytes(1))
		ctx := &countedContext{context.Background(), 3}
		if err := s.sign(ctx, row, text); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v after the context ended", sketch, err)
		}
		if ctx.left < -4 {
			t.Errorf("%s: went on for %d blocks after the context ended", sketch, -ctx.left)
		}
		// The next text must not be affected.
		if err := s.sign(context.Background(), row, text[:3000]); err != nil {
			t.Fatal(err)
		}
		if got, want := view[uint32](row)[0], mustReference(t, p).Sign(text[:3000])[0]; got != uint32(want) {
			t.Errorf("%s: slot 0 is %#x after a cancelled text, want %#x", sketch, got, want)
		}
	}
}

func TestParams(t *testing.T) {
	if err := DefaultParams().Validate(); err != nil {
		t.Error(err)
	}
	var zero Params
	zero.EnsureDefaults()
	want := DefaultParams()
	want.Seed = 0
	if zero != want {
		t.Errorf("defaults of a zero value are %+v", zero)
	}
	for _, c := range []struct {
		p      Params
		faults []string
	}{
		{Params{"fast", 20, 13, 24, 1 << 40}, nil},
		{Params{"curator32", 20, 13, 24, 1 << 32}, []string{"seed 4294967296"}},
		{Params{"md5", 0, -1, 0, 0}, []string{`sketch "md5"`, "num_bands 0", "minhashes_per_band -1", "char_ngrams 0"}},
		{Params{"fast", 1000, 1000, 5000, 0}, []string{"num_bands 1000 x minhashes_per_band 1000", "char_ngrams 5000"}},
		{Params{"fast", math.MaxInt, math.MaxInt, 1, 0}, []string{"at most 65536"}},
	} {
		err := c.p.Validate()
		if (err == nil) != (c.faults == nil) || err != nil && !errors.Is(err, ErrParams) {
			t.Errorf("%+v: error %v", c.p, err)
		}
		for _, fault := range c.faults {
			if !strings.Contains(fmt.Sprint(err), fault) {
				t.Errorf("%+v: error %q does not mention %q", c.p, err, fault)
			}
		}
		if _, cpuErr := NewCPU(c.p); (cpuErr == nil) != (err == nil) {
			t.Errorf("%+v: NewCPU returns %v", c.p, cpuErr)
		}
	}
	p := DefaultParams()
	if p.NumHashes() != 260 || p.SignatureBytes(3) != 3120 || p.BandKeyBytes(3) != 480 || p.Format() != "fast/1" {
		t.Errorf("%d hashes, %d and %d bytes, format %s", p.NumHashes(), p.SignatureBytes(3), p.BandKeyBytes(3), p.Format())
	}
}
