package dedup

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/klauspost/compress/zstd"
)

// testDoc is a document of a test corpus.
type testDoc struct {
	Text  *string  `json:"text"`
	ID    int64    `json:"id"`
	Score *float64 `json:"score,omitempty"`

	// bad, if not empty, is the line that stands in the place of the document, which cannot be used; if it is cutOff,
	// the file is compressed and ends too early.
	bad string
}

const cutOff = "cut off"

// spoil puts lines that are no documents into the files of a corpus, and adds files that are damaged.
func (c testCorpus) spoil(rng *rand.Rand) testCorpus {
	lines := []string{"{\"text\":", "[]", "{\"text\":7,\"id\":1}", "{\"id\":2} {}", "\x00"}
	for i := range c {
		for range rng.IntN(4) {
			at := rng.IntN(len(c[i]) + 1)
			c[i] = slices.Insert(c[i], at, testDoc{bad: lines[rng.IntN(len(lines))]})
		}
	}
	for range 1 + rng.IntN(3) {
		whole := slices.Clone(c[rng.IntN(len(c))])
		c = slices.Insert(c, rng.IntN(len(c)+1), append(whole, testDoc{bad: cutOff}))
	}
	return c
}

// isCut reports whether a file is damaged.
func isCut(docs []testDoc) bool { return len(docs) > 0 && docs[len(docs)-1].bad == cutOff }

// name is the path of a file of a corpus.
func fileName(i int, docs []testDoc) string {
	name := fmt.Sprintf("sub%d/f%03d.jsonl", i%2, i)
	switch {
	case isCut(docs) || i >= 4 && i%2 == 0:
		name += ".gz"
	case i >= 4:
		name += ".zst"
	}
	return name
}

// testCorpus is files of documents.
type testCorpus [][]testDoc

// makeCorpus invents documents: random ones, edited copies of earlier ones, exact copies, empties and nulls. With
// letters few, windows repeat and texts collide more.
func makeCorpus(rng *rand.Rand, files, docs int) testCorpus {
	c := make(testCorpus, files)
	var all []string
	words := strings.Fields("the a shuffle interleaves two halves of deck and every card finds its place 数据 去重 文档 данные повтор 🂡 é naïve x y z 0 1 2")
	for range docs {
		var t string
		switch k := rng.IntN(20); {
		case k == 0:
			t = ""
		case k < 5 && len(all) > 0:
			t = all[rng.IntN(len(all))]
		case k < 14 && len(all) > 0:
			t = edit(rng, all[rng.IntN(len(all))], words)
		default:
			n := 1 + rng.IntN(60)
			if rng.IntN(10) == 0 {
				n = 1 + rng.IntN(400)
			}
			for range n {
				t += words[rng.IntN(len(words))] + " "
			}
		}
		if rng.IntN(40) == 0 {
			t += string([]byte{0xff, 0xc3, 0x28}[:1+rng.IntN(3)])
		}
		t = strings.ToValidUTF8(t, "\uFFFD") // JSON cannot carry anything else; corpus tests do
		all = append(all, t)
		d := testDoc{Text: &t, ID: rng.Int64()}
		if rng.IntN(30) == 0 {
			d.Text = nil
		}
		if rng.IntN(10) > 0 {
			s := float64(rng.IntN(5))
			d.Score = &s
		}
		f := rng.IntN(files)
		c[f] = append(c[f], d)
	}
	return c
}

// edit changes a few words of a text.
func edit(rng *rand.Rand, text string, words []string) string {
	w := strings.Split(text, " ")
	for range 1 + rng.IntN(3) {
		i := rng.IntN(len(w))
		switch rng.IntN(3) {
		case 0:
			w[i] = words[rng.IntN(len(words))]
		case 1:
			w = slices.Insert(w, i, words[rng.IntN(len(words))])
		default:
			if len(w) > 1 {
				w = slices.Delete(w, i, i+1)
			}
		}
	}
	return strings.Join(w, " ")
}

// write puts the corpus into a folder as JSON Lines.
func (c testCorpus) write(t fataler, dir string) {
	t.Helper()
	for i, docs := range c {
		var b bytes.Buffer
		for _, d := range docs {
			line, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if d.bad != "" {
				line = []byte(d.bad)
			}
			b.Write(append(line, '\n'))
		}
		b = *bytes.NewBuffer(compressed(t, fileName(i, docs), b.Bytes()))
		if isCut(docs) {
			b.Truncate(b.Len() - 1)
		}
		path := filepath.Join(dir, filepath.FromSlash(fileName(i, docs)))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// compressed compresses the contents of a file as its name says, in two members or frames.
func compressed(t fataler, name string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, part := range [][]byte{data[:len(data)/3], data[len(data)/3:]} {
		var w io.WriteCloser
		var err error
		switch filepath.Ext(name) {
		case ".gz":
			w = gzip.NewWriter(&b)
		case ".zst":
			w, err = zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		default:
			return data
		}
		if err == nil {
			_, err = w.Write(part)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// plain is the inverse of compressed.
func plain(t fataler, name string, data []byte) []byte {
	t.Helper()
	var r io.Reader
	var err error
	switch filepath.Ext(name) {
	case ".gz":
		r, err = gzip.NewReader(bytes.NewReader(data))
	case ".zst":
		var z *zstd.Decoder
		z, err = zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1))
		defer z.Close()
		r = z
	default:
		return data
	}
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ordered returns the documents of the corpus by ordinal: files sort by their path.
func (c testCorpus) ordered() map[uint64]testDoc { return c.orderedFrom(0) }

// orderedFrom is ordered for files that come behind some others.
func (c testCorpus) orderedFrom(first int) map[uint64]testDoc {
	type file struct {
		path string
		docs []testDoc
	}
	var files []file
	for i, docs := range c {
		files = append(files, file{fileName(i, docs), docs})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	out := make(map[uint64]testDoc)
	for i, f := range files {
		for row, d := range f.docs {
			if isCut(f.docs) {
				d.bad = cutOff
			}
			out[corpus.Ordinal(first+i, int64(row))] = d
		}
	}
	return out
}

// expected returns the digest and the verdicts that the reference gives.
func (c testCorpus) expected(t fataler, s Spec) (string, map[uint64]Verdict) {
	t.Helper()
	return c.expectedAgainst(t, nil, s)
}

// expectedAgainst is expected with a reference set.
func (c testCorpus) expectedAgainst(t fataler, ref testCorpus, s Spec) (string, map[uint64]Verdict) {
	t.Helper()
	what, err := lsh.ParseNormalization(s.Normalize)
	if err != nil {
		t.Fatal(err)
	}
	norm := lsh.NewNormalizer(what)
	byOrd := c.orderedFrom(len(ref))
	maps.Copy(byOrd, ref.ordered())
	isReference := func(ord uint64) bool { return ord < corpus.Ordinal(len(ref), 0) }
	var docs []Document
	for ord, d := range byOrd {
		doc := Document{Ordinal: ord, Skipped: d.bad != "", Reference: isReference(ord)}
		if d.Text != nil {
			doc.Text = string(norm.Apply([]byte(*d.Text)))
		}
		switch s.Keep {
		case KeepLongest:
			doc.KeepKey = uint64(1<<40 - len([]rune(doc.Text)))
		case KeepFirst:
		default:
			doc.KeepKey = 1 << 40 // no score comes last
			if d.Score != nil {
				doc.KeepKey = uint64(1000 - *d.Score)
			}
		}
		docs = append(docs, doc)
	}
	verdicts, err := Reference(docs, s)
	if err != nil {
		t.Fatal(err)
	}
	id := func(ord uint64) docID {
		if s.IDField != "" {
			return docID{kind: corpus.IntIDs, num: uint64(byOrd[ord].ID)}
		}
		return docID{num: ord}
	}
	var digest Digest
	var buf []byte
	var sorted []string
	for _, part := range []testCorpus{ref, c} {
		var paths []string
		for i, docs := range part {
			paths = append(paths, fileName(i, docs))
		}
		slices.Sort(paths)
		sorted = append(sorted, paths...)
	}
	for ord, d := range byOrd {
		file, _ := corpus.SplitOrdinal(ord)
		switch {
		case d.bad == cutOff && sorted[file] != "": // once for the file
			digest.skippedFile(file, sorted[file])
			sorted[file] = ""
		case d.bad != "" && d.bad != cutOff:
			digest.skippedRecord(ord)
		}
	}
	for ord, v := range verdicts {
		text, null := "", byOrd[ord].Text == nil
		if !null {
			text = *byOrd[ord].Text
		}
		verdict := byte(verdictKept)
		if v.Kept != ord {
			verdict = verdictRemoved
		} else if isReference(ord) {
			verdict = verdictReference
		}
		buf = digest.add(line{
			id: id(ord), keptID: id(v.Kept), verdict: verdict, inter: v.Intersection, union: v.Union, text: textHash([]byte(text), null),
		}, buf)
	}
	return digest.String(), verdicts
}

// testRun runs the pipeline over dir into a new folder and returns it with the result.
func testRun(t testing.TB, dir string, s Spec, e Exec) (string, *Result) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	res, err := Run(t.Context(), Options{Spec: s, Exec: e, Inputs: []string{dir}, Output: out})
	if err != nil {
		t.Fatal(err)
	}
	return out, res
}

// smallSpec catches similar short texts, so that small corpora have many candidates.
func smallSpec() Spec {
	s := DefaultSpec()
	s.NumBands, s.MinhashesPerBand, s.CharNgrams = 10, 3, 5
	return s
}

func TestAgainstReference(t *testing.T) {
	specs := map[string]func(*Spec){
		"default":     func(s *Spec) { *s = DefaultSpec() },
		"small":       func(*Spec) {},
		"low":         func(s *Spec) { s.Threshold = "0.3"; s.MinhashesPerBand = 2 },
		"longest":     func(s *Spec) { s.Keep = KeepLongest; s.Threshold = "0.5" },
		"field":       func(s *Spec) { s.Keep = "field:score"; s.Threshold = "0.5" },
		"empty":       func(s *Spec) { s.Empty = EmptyDedup },
		"none":        func(s *Spec) { s.Verify = VerifyNone },
		"nonelongest": func(s *Spec) { s.Verify = VerifyNone; s.Keep = KeepLongest },
		"curator32":   func(s *Spec) { s.Sketch = "curator32" },
		"curator64":   func(s *Spec) { s.Sketch = "curator64"; s.Seed = 7 },
		"normalized":  func(s *Spec) { s.Normalize = "lower,whitespace"; s.Empty = EmptyDedup },
		"ids":         func(s *Spec) { s.IDField = "id" },
	}
	for name, change := range specs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, uint64(len(name))))
			c := makeCorpus(rng, 5, 300)
			dir := t.TempDir()
			c.write(t, dir)
			s := smallSpec()
			change(&s)
			want, verdicts := c.expected(t, s)
			removed := 0
			for ord, v := range verdicts {
				if v.Kept != ord {
					removed++
				}
			}
			if removed < 20 {
				t.Errorf("only %d documents are removed: the test shows little", removed)
			}
			out, res := testRun(t, dir, s, Exec{Workers: 2})
			if res.Digest != want || res.Steps.Removed != int64(removed) {
				t.Errorf("digest %s with %d removed, the reference has %s with %d", res.Digest, res.Steps.Removed, want, removed)
			}
			checkOutput(t, c, out, verdicts)
		})
	}
}

// checkOutput compares the kept files with what the verdicts say, line by line.
func checkOutput(t *testing.T, c testCorpus, out string, verdicts map[uint64]Verdict) {
	t.Helper()
	kept := 0
	for ord := range c.ordered() {
		if v, ok := verdicts[ord]; ok && v.Kept == ord {
			kept++
		}
	}
	lines := 0
	err := filepath.WalkDir(filepath.Join(out, "kept"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			lines += bytes.Count(plain(t, path, data), []byte{'\n'})
		}
		return err
	})
	if err != nil || lines != kept {
		t.Errorf("%d lines kept, want %d (%v)", lines, kept, err)
	}
}

func TestEmptyInput(t *testing.T) {
	dir := t.TempDir()
	testCorpus{{}, {}}.write(t, dir)
	out, res := testRun(t, dir, DefaultSpec(), Exec{})
	if res.Steps.Documents != 0 || res.Digest != (Digest{}).String() {
		t.Errorf("%+v", res.Steps)
	}
	if _, err := os.Stat(filepath.Join(out, "kept", "sub0", "f000.jsonl")); err != nil {
		t.Error(err)
	}
}

func TestRunTwiceAndRefusals(t *testing.T) {
	c := makeCorpus(rand.New(rand.NewPCG(3, 3)), 2, 50)
	dir := t.TempDir()
	c.write(t, dir)
	out := filepath.Join(t.TempDir(), "out")
	o := Options{Spec: smallSpec(), Inputs: []string{dir}, Output: out}
	first, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Run(t.Context(), o)
	if err != nil || !again.AlreadyDone || again.Digest != first.Digest {
		t.Errorf("the same run again: %v", err)
	}
	refuse := func(what string, o Options, is error, words ...string) {
		t.Helper()
		_, err := Run(t.Context(), o)
		if !errors.Is(err, is) {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", what, err, w)
			}
		}
	}
	gone := filepath.Join(out, "kept", "sub1", "f001.jsonl")
	if err := os.Rename(gone, gone+".moved"); err != nil {
		t.Fatal(err)
	}
	refuse("a file of the result is gone", o, ErrOutput, "kept/sub1/f001.jsonl is missing")
	if err := os.Rename(gone+".moved", gone); err != nil {
		t.Fatal(err)
	}
	other := o
	other.Spec.Threshold = "0.7"
	refuse("other options", other, ErrOutput, "--threshold was 0.8 and is now 0.7")
	if err := os.WriteFile(filepath.Join(dir, "sub0", "f000.jsonl"), []byte("{\"text\":\"new\"}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	refuse("changed input", o, ErrOutput, "sub0/f000.jsonl")
	full := o
	full.Output = t.TempDir()
	if err := os.WriteFile(filepath.Join(full.Output, "precious"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	refuse("a folder that holds something else", full, ErrOutput, full.Output)
	inside := o
	inside.Output = dir
	refuse("output over the input", inside, ErrOutput)
}

// seedOf returns a seed for a random test: fixed in short runs, else from the environment or the clock, and
// printed.
func seedOf(t *testing.T, fixed uint64) uint64 {
	t.Helper()
	if s := os.Getenv("DOVETAIL_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if !testing.Short() {
		fixed = rand.Uint64()
	}
	t.Logf("DOVETAIL_SEED=%d", fixed)
	return fixed
}

// fataler is what helpers need of a test: of testing's and of rapid's.
type fataler interface {
	Helper()
	Fatal(args ...any)
}
