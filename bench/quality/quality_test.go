package quality

import (
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"

	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup"
)

// TestQuality holds every mode to its promises on real text: recall within sampling error of the S-curve, and with
// verification nothing removed below the threshold.
func TestQuality(t *testing.T) {
	docs := 2000
	if testing.Short() {
		docs = 250
	}
	s := dedup.DefaultSpec()
	c, err := Make(filepath.Join(goroot(t), "src"), docs, s.CharNgrams, 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "corpus.jsonl")
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	var results []*Result
	curators := 0
	for _, m := range Modes(s) {
		r, err := Measure(t.Context(), c, path, t.TempDir(), m)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, r)
		if r.Pairs < docs/10 {
			t.Fatalf("only %d pairs at the threshold: the test shows little", r.Pairs)
		}
		// Other similar documents can only add to what is found; a bucket with many can take a little away.
		sigma := math.Sqrt(r.Predicted * (1 - r.Predicted) / float64(r.Pairs))
		if r.Recall < r.Predicted-4*sigma {
			t.Errorf("%s: recall %.3f, the S-curve gives %.3f (sigma %.3f)", m.Name, r.Recall, r.Predicted, sigma)
		}
		switch verified := m.Spec.Verify == dedup.VerifyExact && !m.Curator; {
		case verified && r.Precision != 1:
			t.Errorf("%s: precision %v", m.Name, r.Precision)
		case !verified && (r.Precision == 1 || r.Precision < 0.8):
			t.Errorf("%s: precision %v of candidates that nobody verified", m.Name, r.Precision)
		}
		if m.Curator {
			curators++
			checkLikeUnverified(t, c, r, results)
		}
	}
	if curators != 2 {
		t.Errorf("%d modes of Curator's workflow", curators)
	}
	if err := Markdown(os.Stdout, results); err != nil {
		t.Fatal(err)
	}
}

// checkLikeUnverified sets Curator's workflow beside the mode that does the same in another package: one sketch, the
// components of the candidates, nothing verified. They may keep another document of a cluster, and dedup keeps all empty
// texts, where to Curator they are duplicates.
func checkLikeUnverified(t *testing.T, c *Corpus, r *Result, others []*Result) {
	t.Helper()
	for _, o := range others {
		if o.Curator || o.Spec.Sketch != r.Spec.Sketch || o.Spec.Verify != dedup.VerifyNone {
			continue
		}
		if !maps.Equal(clusters(c, o.keptFor), clusters(c, r.keptFor)) {
			t.Errorf("%s and %s find other clusters", r.Name, o.Name)
		}
		return
	}
	t.Errorf("no mode to compare %s with", r.Name)
}

// clusters returns the smallest document of its cluster for every document in one that is not of empty texts.
func clusters(c *Corpus, keptFor map[int64]int64) map[int64]int64 {
	smallest := make(map[int64]int64) // by the kept document
	for removed, kept := range keptFor {
		if at, ok := smallest[kept]; !ok {
			smallest[kept] = min(removed, kept)
		} else {
			smallest[kept] = min(at, removed)
		}
	}
	out := make(map[int64]int64)
	for removed, kept := range keptFor {
		if c.Texts[kept] != "" {
			out[removed], out[kept] = smallest[kept], smallest[kept]
		}
	}
	return out
}

// TestPerturb checks that a copy differs from its original and that similar seeds give equal corpora.
func TestPerturb(t *testing.T) {
	root := t.TempDir()
	for i, text := range []string{"one", "two", "three"} {
		text = strings.Repeat(text+" is a word among others; ", 40)
		if err := os.WriteFile(filepath.Join(root, string(rune('a'+i))), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	a, err := Make(root, 3, 5, 9)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Make(root, 3, 5, 9)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range a.Pairs {
		if a.Texts[p.Original] == a.Texts[p.Copy] {
			t.Errorf("copy %d (%s) is its original", i, p.Kind)
		}
		if p != b.Pairs[i] || a.Texts[p.Copy] != b.Texts[p.Copy] {
			t.Errorf("pair %d is another the second time", i)
		}
	}
	if _, err := Make(root, 4, 5, 9); err == nil {
		t.Error("more documents than there are")
	}
}

// goroot is where the Go distribution is, with text that is on any machine with Go.
func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
