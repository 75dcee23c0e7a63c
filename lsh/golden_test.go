package lsh

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// The vectors come from testdata/golden.py, which implements the definitions a second time. To make them
// again after a change of a format's version, run
//
//	python3 lsh/testdata/golden.py
type goldenFile struct {
	Texts   map[string]textRule
	Vectors []goldenVector
}

type goldenVector struct {
	Text            string
	Params          Params
	First           []string
	Last            string
	SignatureSHA256 string `json:"signature_sha256"`
	FirstBandKey    string `json:"first_band_key"`
	BandKeysSHA256  string `json:"band_keys_sha256"`
	FirstBucket     string `json:"first_bucket"`
	LastBucket      string `json:"last_bucket"`
}

// textRule says how to make a text. Exactly one of its fields is set, but for Times, which goes with Repeat.
type textRule struct {
	Text   *string
	Hex    *string
	LCG    *lcgRule
	Repeat *textRule
	Times  int
	Concat []textRule
}

type lcgRule struct {
	Seed     uint64
	Count    int
	Alphabet string
}

func (r textRule) build(t testing.TB) []byte {
	t.Helper()
	var out []byte
	switch {
	case r.Text != nil:
		return []byte(*r.Text)
	case r.Hex != nil:
		var err error
		if out, err = hex.DecodeString(removeSpaces(*r.Hex)); err != nil {
			t.Fatal(err)
		}
	case r.LCG != nil:
		alphabet := []rune(r.LCG.Alphabet)
		x := r.LCG.Seed
		for range r.LCG.Count {
			x = x*6364136223846793005 + 1442695040888963407
			out = append(out, string(alphabet[(x>>33)%uint64(len(alphabet))])...)
		}
	case r.Repeat != nil:
		unit := r.Repeat.build(t)
		for range r.Times {
			out = append(out, unit...)
		}
	default:
		for _, part := range r.Concat {
			out = append(out, part.build(t)...)
		}
	}
	return out
}

func removeSpaces(s string) string {
	var out []byte
	for _, c := range []byte(s) {
		if c != ' ' {
			out = append(out, c)
		}
	}
	return string(out)
}

func readGolden(t testing.TB, name string) (texts map[string][]byte, vectors []goldenVector) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var f goldenFile
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	texts = make(map[string][]byte)
	for name, rule := range f.Texts {
		texts[name] = rule.build(t)
	}
	return texts, f.Vectors
}

func TestGolden(t *testing.T) {
	for _, file := range []string{"curator.json", "fast.json"} {
		texts, vectors := readGolden(t, file)
		if len(vectors) < 100 {
			t.Fatalf("%s has %d vectors", file, len(vectors))
		}
		for i, v := range vectors {
			if slow() && i%5 != 0 {
				continue
			}
			text := texts[v.Text]
			name := fmt.Sprintf("%s/%s/%dx%d/width %d", v.Params.Sketch, v.Text, v.Params.NumBands,
				v.Params.MinhashesPerBand, v.Params.CharNgrams)
			// The reference needs minutes for megabytes; there the other paths still face the golden file.
			if len(text) < 1<<20 {
				r, err := NewReference(v.Params)
				if err != nil {
					t.Fatal(err)
				}
				v.compare(t, name+"/reference", r.Sign(text))
			}
			for _, l := range availableLoops() {
				c, err := newCPU(v.Params, l)
				if err != nil {
					t.Fatal(err)
				}
				v.compare(t, name+"/"+l.name, signCPU(t, c, text))
			}
		}
	}
}

func (v *goldenVector) compare(t *testing.T, name string, slots []uint64) {
	t.Helper()
	size := v.Params.SlotBytes()
	var raw []byte
	for _, s := range slots {
		raw = append(raw, binary.LittleEndian.AppendUint64(nil, s)[:size]...)
	}
	for i, want := range v.First {
		if got := strconv.FormatUint(slots[i], 10); got != want {
			t.Errorf("%s: slot %d is %s, want %s", name, i, got, want)
		}
	}
	if got := strconv.FormatUint(slots[len(slots)-1], 10); got != v.Last {
		t.Errorf("%s: last slot is %s, want %s", name, got, v.Last)
	}
	if got := sha256Hex(raw); got != v.SignatureSHA256 {
		t.Errorf("%s: signature has SHA-256 %s, want %s", name, got, v.SignatureSHA256)
	}
	r, err := NewReference(v.Params)
	if err != nil {
		t.Fatal(err)
	}
	keys := r.BandKeys(slots)
	raw = raw[:0]
	for _, k := range keys {
		raw = binary.LittleEndian.AppendUint64(raw, k)
	}
	if got := fmt.Sprintf("%016x", keys[0]); got != v.FirstBandKey {
		t.Errorf("%s: first band key is %s, want %s", name, got, v.FirstBandKey)
	}
	if got := sha256Hex(raw); got != v.BandKeysSHA256 {
		t.Errorf("%s: band keys have SHA-256 %s, want %s", name, got, v.BandKeysSHA256)
	}
	rows, last := v.Params.MinhashesPerBand, v.Params.NumBands-1
	bucket := func(band int) string {
		if size == 8 {
			return CuratorBucket(band, slots[band*rows:(band+1)*rows])
		}
		var narrow []uint32
		for _, s := range slots[band*rows : (band+1)*rows] {
			narrow = append(narrow, uint32(s))
		}
		if BandKey(band, narrow) != keys[band] {
			t.Errorf("%s: band %d has another key from 32-bit slots", name, band)
		}
		return CuratorBucket(band, narrow)
	}
	if got := bucket(0); got != v.FirstBucket {
		t.Errorf("%s: first bucket is %s, want %s", name, got, v.FirstBucket)
	}
	if got := bucket(last); got != v.LastBucket {
		t.Errorf("%s: last bucket is %s, want %s", name, got, v.LastBucket)
	}
}

// signCPU returns one signature widened to 64 bits.
func signCPU(t tb, c *CPU, text []byte) []uint64 {
	t.Helper()
	s := c.signers.Get().(signer)
	defer c.signers.Put(s)
	row := make([]byte, c.params.SignatureBytes(1))
	if err := s.sign(context.Background(), row, text); err != nil {
		t.Fatal(err)
	}
	if c.params.SlotBytes() == 8 {
		return append([]uint64(nil), view[uint64](row)...)
	}
	var slots []uint64
	for _, v := range view[uint32](row) {
		slots = append(slots, uint64(v))
	}
	return slots
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// TestCuratorPublished holds the values that were worked out from NeMo Curator and cuDF themselves, apart from
// any code here.
func TestCuratorPublished(t *testing.T) {
	const (
		pangram = "The quick brown fox jumps over the lazy dog"
		zeros32 = "256fb9c4796b15a7ec4b0d5319e9e493"
	)
	p32, p64 := DefaultParams(), DefaultParams()
	p32.Sketch, p64.Sketch = Curator32, Curator64

	a, b := p32.Permutations()
	var raw []byte
	for i := range a {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(a[i]))
		raw = binary.LittleEndian.AppendUint32(raw, uint32(b[i]))
	}
	if got, want := sha256Hex(raw), "7dde2d1607eb20cc4ee93c4d8f11cc2fa486206f9ddcd644e905dbdddf84afe6"; got != want {
		t.Errorf("32-bit permutations have SHA-256 %s, want %s", got, want)
	}
	if a[0] != 1608637543 || b[0] != 1273642419 || a[259] != 417369880 || b[259] != 897299057 {
		t.Errorf("32-bit permutations are %d %d ... %d %d", a[0], b[0], a[259], b[259])
	}
	a, b = p64.Permutations()
	raw = raw[:0]
	for i := range a {
		raw = binary.LittleEndian.AppendUint64(raw, a[i])
		raw = binary.LittleEndian.AppendUint64(raw, b[i])
	}
	if got, want := sha256Hex(raw), "4d5b693e063a001d1a0579fe36e1a375d94b2edca5ef5ed64601ad4980096b01"; got != want {
		t.Errorf("64-bit permutations have SHA-256 %s, want %s", got, want)
	}

	for _, c := range []struct {
		params Params
		text   string
		first  []uint64
		sha    string // prefix of the hash of all slots
		bucket string
	}{
		{p32, pangram, []uint64{288489571, 231969616, 175714076, 264915830, 237531717},
			"131d4cece5bc14cd121257c6797116f3", "b0_9157f7358b4aae34ec516333ea649e7b"},
		{p32, "", []uint64{0, 0, 0, 0, 0}, zeros32, "b0_469aa816010c9c8639a9176f625189af"},
		{p64, pangram, []uint64{85252469346526341, 37955072032026315, 58433058984581802}, "",
			"b0_6e1129ec3b77b838ec56856a56afac03"},
		{p64, "", []uint64{0, 0, 0}, "", "b0_3189de1ff1f8afed0f70e352dfcd2abb"},
	} {
		r, err := NewReference(c.params)
		if err != nil {
			t.Fatal(err)
		}
		slots := r.Sign([]byte(c.text))
		for i, want := range c.first {
			if slots[i] != want {
				t.Errorf("%s %q: slot %d is %d, want %d", c.params.Sketch, c.text, i, slots[i], want)
			}
		}
		var raw []byte
		var narrow []uint32
		for _, s := range slots {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(s))
			narrow = append(narrow, uint32(s))
		}
		bucket := CuratorBucket(0, slots[:13])
		if c.params.Sketch == Curator32 {
			bucket = CuratorBucket(0, narrow[:13])
			if got := sha256Hex(raw)[:len(c.sha)]; got != c.sha {
				t.Errorf("%s %q: SHA-256 starts %s, want %s", c.params.Sketch, c.text, got, c.sha)
			}
		}
		if bucket != c.bucket {
			t.Errorf("%s %q: bucket %s, want %s", c.params.Sketch, c.text, bucket, c.bucket)
		}
	}
}
