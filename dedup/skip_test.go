package dedup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// flipped is the local disk, but that some bytes of a file are others, or that reading them fails.
type flipped struct {
	corpus.FS
	name string
	from int64 // bytes from here on are bent
	err  error // or, if it is not nil, cannot be read
}

type flippedObject struct {
	corpus.Object
	f *flipped
}

func (f *flipped) ReadAt(o corpus.Object, p []byte, off int64) (int, error) {
	n, err := o.ReadAt(p, off)
	for i := range p[:n] {
		if at := off + int64(i); at >= f.from && at < f.from+16 {
			if f.err != nil {
				return 0, f.err
			}
			p[i] ^= 0x55
		}
	}
	return n, err
}

func (o flippedObject) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(o.Object, p, off) }

// manyGroups writes a Parquet file of row groups of 20 rows and returns where the pages of the column "other" of the
// last one are.
func manyGroups(t *testing.T, path string, groups int, tag string) (other int64) {
	t.Helper()
	return writeGroups(t, path, groups, func(g, row int) (string, string) {
		return fmt.Sprintf("a text of group %d, in row %d of %s", g, row, tag), strings.Repeat(fmt.Sprint(g, row), 30)
	})
}

// A Parquet file of several splits in which one byte is wrong, of the text or of a column that is only copied, is
// left out as a whole, and it makes no difference how it was cut.
func TestBadFileInManySplits(t *testing.T) {
	dir := t.TempDir()
	for i, tag := range []string{"one", "two", "one", "three"} {
		manyGroups(t, filepath.Join(dir, fmt.Sprintf("%d.parquet", i)), 6, tag)
	}
	bad := filepath.Join(dir, "1.parquet")
	st, err := os.Stat(bad)
	if err != nil {
		t.Fatal(err)
	}
	other := manyGroups(t, bad, 6, "two")
	s := smallSpec()
	s.OnBadFile = OnBadSkip
	for name, at := range map[string]int64{"text": st.Size() / 8, "other": other + 40} {
		digests := make(map[string]bool)
		for _, e := range []Exec{{Workers: 1}, {Workers: 3, SplitBytes: 1}, {Ranks: 2, SplitBytes: 3000, BatchBytes: 50}, {Workers: 2, SplitBytes: 12000}} {
			out := filepath.Join(t.TempDir(), "out")
			o := Options{Spec: s, Exec: e, Inputs: []string{dir}, Output: out, FS: bentFS{&flipped{FS: corpus.Local(), name: bad, from: at}}}
			res, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			digests[res.Digest] = true
			if res.Steps.Documents != 360 || res.Steps.SkippedFiles != 1 || res.Steps.Removed < 120 {
				t.Errorf("%s: %+v", name, res.Steps)
			}
			if k := res.Skipped; k == nil || len(k.Files) != 1 || k.Files[0].Index != 1 || k.Files[0].Path != "1.parquet" || k.Files[0].Reason == "" {
				t.Errorf("%s: %+v", name, k)
			}
			kept, err := filepath.Glob(filepath.Join(out, "kept", "*"))
			if err != nil || len(kept) != 3 || slices.Contains(kept, filepath.Join(out, "kept", "1.parquet")) {
				t.Errorf("%s: kept %v (%v)", name, kept, err)
			}
			again, err := Run(t.Context(), o)
			if err != nil || !again.AlreadyDone || again.Steps.SkippedFiles != 1 {
				t.Errorf("%s: the same again: %v", name, err)
			}

			// Without the option, the file is named and what can be done.
			o.Spec.OnBadFile, o.Output = OnBadError, filepath.Join(t.TempDir(), "out")
			if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), bad+": row group ") || !strings.Contains(err.Error(), "--on-bad-file skip") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(digests) != 1 {
			t.Errorf("%s: digests %v", name, digests)
		}
	}
}

// What is not the fault of a file's contents is no reason to leave it out.
func TestNothingElseIsSkipped(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "1.parquet")
	manyGroups(t, filepath.Join(dir, "0.parquet"), 3, "one")
	other := manyGroups(t, bad, 3, "two")
	s := smallSpec()
	s.OnBadFile, s.OnBadRecord = OnBadSkip, OnBadSkip
	for _, fault := range []error{errors.New("disk is broken"), fs.ErrPermission, errors.New("connection reset")} {
		out := filepath.Join(t.TempDir(), "out")
		_, err := Run(t.Context(), Options{Spec: s, Inputs: []string{dir}, Output: out, FS: bentFS{&flipped{corpus.Local(), bad, other + 40, fault}}})
		if !errors.Is(err, fault) {
			t.Errorf("%v: %v", fault, err)
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("there is an output")
		}
	}
}

func TestAllFilesBad(t *testing.T) {
	dir := t.TempDir()
	c := testCorpus{{{bad: cutOff}}, {{bad: "x"}, {bad: cutOff}}}
	c.write(t, dir)
	s := smallSpec()
	s.OnBadFile = OnBadSkip
	s.OnBadRecord = OnBadSkip
	out := filepath.Join(t.TempDir(), "out")
	_, err := Run(t.Context(), Options{Spec: s, Inputs: []string{dir}, Output: out})
	if err == nil || !strings.Contains(err.Error(), "all 2 files are bad") {
		t.Error(err)
	}
	if left, _ := filepath.Glob(out + "*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// Records are left out for what is wrong with the text, the id or the value to compare by, in every format.
func TestBadRecords(t *testing.T) {
	dir := t.TempDir()
	lines := `{"text":"one","id":1,"score":1}
{"text":"two","id":null,"score":1}
{"text":"three","id":3,"score":"high"}
{"text":["four"],"id":4,"score":1}
{"text":"five","id":5

{"text":"one","id":6,"score":2}
{"text":"seven","id":"7"}`
	if err := os.WriteFile(filepath.Join(dir, "a.jsonl"), []byte(lines), 0o666); err != nil {
		t.Fatal(err)
	}
	s := smallSpec()
	s.IDField, s.Keep, s.OnBadRecord = "id", "field:score", OnBadSkip
	out, res := testRun(t, dir, s, Exec{SplitBytes: 40})
	if res.Steps.Documents != 2 || res.Steps.SkippedRecords != 5 || len(res.Skipped.Examples) != 5 || res.Skipped.Examples[4].Row != 7 || res.Skipped.Examples[4].Line != 8 {
		t.Errorf("%+v, %+v", res.Steps, res.Skipped)
	}
	got, err := os.ReadFile(filepath.Join(out, "kept", "a.jsonl"))
	if want := "{\"text\":\"one\",\"id\":6,\"score\":2}\n"; err != nil || string(got) != want {
		t.Errorf("kept %q, want %q (%v)", got, want, err)
	}

	dir = t.TempDir()
	ids := parquetColumn{primitive(t, "id", 2, nil, -1), []int64{1, 4}, []int{1, 2}}
	writeParquet(t, filepath.Join(dir, "a.parquet"), 4, textColumn(t, "w", "x", "y", "z"), ids)
	s.Keep = KeepFirst
	_, res = testRun(t, dir, s, Exec{BatchBytes: 1})
	if res.Steps.Documents != 2 || res.Steps.Kept != 2 || res.Steps.SkippedRecords != 2 || res.Skipped.Examples[0].Row != 1 {
		t.Errorf("%+v, %+v", res.Steps, res.Skipped)
	}
}

// A file with nothing but bad records does not hold them all in memory, and does not end in nothing.
func TestOnlyBadRecords(t *testing.T) {
	dir := t.TempDir()
	c := makeCorpus(rand.New(rand.NewPCG(4, 4)), 1, 20)
	var bad []testDoc
	for range 5000 {
		bad = append(bad, testDoc{bad: "no"})
	}
	c = append(c, bad)
	c.write(t, dir)
	s := smallSpec()
	s.OnBadRecord = OnBadSkip
	want, _ := c.expected(t, s)
	_, res := testRun(t, dir, s, Exec{SplitBytes: 1000, MemoryLimit: 256 << 20})
	if res.Digest != want || res.Steps.SkippedRecords != 5000 || len(res.Skipped.Examples) != badExamples {
		t.Errorf("digest %s, want %s; %+v", res.Digest, want, res.Skipped)
	}
}

// bentFS opens the file of a flipped bent.
type bentFS struct{ *flipped }

func (f bentFS) Open(ctx context.Context, name string) (corpus.Object, error) {
	o, err := f.FS.Open(ctx, name)
	if err != nil || name != f.name {
		return o, err
	}
	return flippedObject{o, f.flipped}, nil
}
