package dedup

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"pgregory.net/rapid"
)

// TestOneDigest runs random corpora under random Specs and ways of running, and compares each digest with the
// reference's. A failure is shrunk and printed with the seed that makes it again.
func TestOneDigest(t *testing.T) {
	dirs := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		base := filepath.Join(dirs, fmt.Sprint(n))
		defer os.RemoveAll(base)
		files := rapid.IntRange(1, 6).Draw(t, "files")
		docs := rapid.IntRange(0, 120).Draw(t, "docs")
		c := makeCorpus(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "corpus"), 1)), files, docs)
		// Documents none of which has a text are refused, and are not what this is about.
		text := ""
		for i := range c {
			if len(c[i]) > 0 {
				c[i][0].Text = &text
			}
		}

		if rapid.Bool().Draw(t, "spoiled") {
			c = c.spoil(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "faults"), 1)))
		}

		s := DefaultSpec()
		s.OnBadFile, s.OnBadRecord = OnBadSkip, OnBadSkip // which make no difference where nothing is bad
		s.Sketch = rapid.SampledFrom([]string{"fast", "fast", "curator32", "curator64"}).Draw(t, "sketch")
		s.NumBands = rapid.IntRange(1, 24).Draw(t, "bands")
		s.MinhashesPerBand = rapid.IntRange(1, 4).Draw(t, "rows")
		s.CharNgrams = rapid.SampledFrom([]int{1, 3, 5, 13, 24}).Draw(t, "ngrams")
		s.Threshold = rapid.SampledFrom([]string{"0.01", "0.5", "0.8", "2/3", "1"}).Draw(t, "threshold")
		s.Keep = rapid.SampledFrom([]string{KeepFirst, KeepLongest, "field:score"}).Draw(t, "keep")
		s.Empty = rapid.SampledFrom([]string{EmptyKeep, EmptyDedup}).Draw(t, "empty")
		s.Verify = rapid.SampledFrom([]string{VerifyExact, VerifyExact, VerifyNone}).Draw(t, "verify")
		s.IDField = rapid.SampledFrom([]string{"", "id"}).Draw(t, "id")
		s.Write = rapid.SampledFrom([]string{WriteKept, WriteAnnotate, WriteIDs}).Draw(t, "write")
		e := Exec{
			Ranks:             rapid.SampledFrom([]int{1, 2, 3, 8}).Draw(t, "ranks"),
			Workers:           rapid.SampledFrom([]int{1, 2, 4}).Draw(t, "workers"),
			MemoryLimit:       rapid.SampledFrom([]int64{0, 1, 256 << 20}).Draw(t, "memory"),
			BandsPerIteration: min(s.NumBands, rapid.SampledFrom([]int{1, 5, 20}).Draw(t, "bpi")),
			SplitBytes:        rapid.SampledFrom([]int64{0, 200, 5000}).Draw(t, "split"),
			TextMemory:        rapid.SampledFrom([]int64{-1, 0, 2000}).Draw(t, "texts"),
			BatchBytes:        rapid.SampledFrom([]int64{0, 100, 3000}).Draw(t, "batch"),
			onDisk:            rapid.Bool().Draw(t, "components on disk"),
		}
		if e.MemoryLimit == 1 {
			e.MemoryLimit = flow.MinMemoryLimit(e.actors()) + max(0, e.TextMemory)
		}
		var ref testCorpus
		if n := rapid.IntRange(-2, 3).Draw(t, "reference files"); n > 0 {
			n = min(n, len(c)-1)
			ref, c = c[:n], c[n:]
		}
		want, verdicts := c.expectedAgainst(t, ref, s)

		in := filepath.Join(base, "in")
		c.write(t, in)
		inputs := []string{in}
		var against []string
		if len(ref) > 0 {
			against = []string{filepath.Join(base, "reference")}
			ref.write(t, against[0])
		}
		if rapid.Bool().Draw(t, "listed") && len(c) > 1 { // the files one by one, in any order; one alone would have another path
			inputs = inputs[:0]
			for i := range c {
				inputs = append(inputs, filepath.Join(in, filepath.FromSlash(fileName(i, c[i]))))
			}
			rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 1))
			rng.Shuffle(len(inputs), func(i, j int) { inputs[i], inputs[j] = inputs[j], inputs[i] })
		}
		res, err := Run(t.Context(), Options{Spec: s, Exec: e, Inputs: inputs, Against: against, Output: filepath.Join(base, "out")})
		if err != nil {
			t.Fatal(err)
		}
		if res.Digest != want {
			t.Errorf("digest %s, the reference has %s", res.Digest, want)
		}
		for folder, write := range map[string]string{"kept": WriteKept, "annotated": WriteAnnotate} {
			if _, err := os.Stat(filepath.Join(base, "out", folder)); (err == nil) != (s.Write == write) {
				t.Errorf("%s/ with --write %s: %v", folder, s.Write, err)
			}
		}
		if s.Write == WriteAnnotate {
			c.checkAnnotated(t, filepath.Join(base, "out"), ref, s, verdicts)
		}
		v, err := Verify(t.Context(), VerifyOptions{Dir: filepath.Join(base, "out"), Inputs: inputs, Against: against, Sample: -1})
		if err != nil || !v.OK() || v.Digest != want {
			t.Errorf("verification: %+v, %v", v, err)
		}
		left, err := filepath.Glob(filepath.Join(base, "*"))
		slices.Sort(left)
		if err != nil || len(left) != 2+len(against) {
			t.Errorf("a finished run left %v", left)
		}
	})
}
