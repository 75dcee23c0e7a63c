package dedup

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// changeFile replaces a file by what f makes of it.
func changeFile(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(data), 0o666); err != nil {
		t.Fatal(err)
	}
}

// changeRemoved rewrites a removed table.
func changeRemoved(t *testing.T, path string, f func([]removedRow) []removedRow) {
	t.Helper()
	r, err := openTable(t.Context(), path, removedFields(corpus.NoIDs))
	if err != nil {
		t.Fatal(err)
	}
	var rows []removedRow
	for err = r.next(); err == nil; err = r.next() {
		row, err := r.removedRow(corpus.NoIDs)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := newTableWriter(&b, removedFields(corpus.NoIDs), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range f(rows) {
		if err := w.removed(row.id, row.kept, member{inter: row.inter, union: row.union, evidence: row.evidence}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyNotices changes a result or its input in every way that matters and expects to be told.
func TestVerifyNotices(t *testing.T) {
	s := smallSpec()
	s.Threshold = "0.6"
	lines := func(f func([][]byte) [][]byte) func([]byte) []byte {
		return func(b []byte) []byte {
			return bytes.Join(f(bytes.SplitAfter(b, []byte{'\n'})), nil)
		}
	}
	first := func(rows []removedRow, e evidence) int {
		for i, r := range rows {
			if r.evidence == e {
				return i
			}
		}
		t.Fatal("no row with that evidence: the test shows little")
		return 0
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, in, out string)
		says   string // "" if nothing is wrong
	}{
		"nothing": {func(*testing.T, string, string) {}, ""},
		"times": {func(t *testing.T, in, _ string) {
			changeFile(t, filepath.Join(in, "sub0/f000.jsonl"), func(b []byte) []byte { return b })
		}, ""},
		"kept line lost": {func(t *testing.T, _, out string) {
			changeFile(t, filepath.Join(out, "kept/sub0/f000.jsonl"), lines(func(l [][]byte) [][]byte { return append(l[:3], l[4:]...) }))
		}, "which has another text there"},
		"last kept line lost": {func(t *testing.T, _, out string) {
			changeFile(t, filepath.Join(out, "kept/sub1/f003.jsonl"), lines(func(l [][]byte) [][]byte { return l[:len(l)-2] }))
		}, "neither removed nor kept"},
		"kept lines swapped": {func(t *testing.T, _, out string) {
			changeFile(t, filepath.Join(out, "kept/sub0/f002.jsonl"), lines(func(l [][]byte) [][]byte { l[2], l[3] = l[3], l[2]; return l }))
		}, "which has another text there"},
		"kept line added": {func(t *testing.T, _, out string) {
			changeFile(t, filepath.Join(out, "kept/sub1/f003.jsonl"), func(b []byte) []byte { return append(b, "{\"text\":\"new\"}\n"...) })
		}, "has documents that the input has not"},
		"kept file added": {func(t *testing.T, _, out string) {
			if err := os.WriteFile(filepath.Join(out, "kept/new.jsonl"), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}, "belongs to no input file"},
		"kept file lost": {func(t *testing.T, _, out string) {
			if err := os.Remove(filepath.Join(out, "kept/sub1/f001.jsonl")); err != nil {
				t.Fatal(err)
			}
		}, "in kept/ is missing"},
		"kept file is not JSON": {func(t *testing.T, _, out string) {
			changeFile(t, filepath.Join(out, "kept/sub0/f000.jsonl"), func(b []byte) []byte { return b[:len(b)-3] })
		}, "f000.jsonl"},
		"input text changed": {func(t *testing.T, in, _ string) {
			changeFile(t, filepath.Join(in, "sub0/f000.jsonl"), func(b []byte) []byte { return bytes.Replace(b, []byte("shuffle"), []byte("muffler"), 1) })
		}, ""}, // anything but OK, see below
		"removed row lost": {func(t *testing.T, _, out string) {
			changeRemoved(t, filepath.Join(out, "removed/part-00000.parquet"), func(r []removedRow) []removedRow { return r[1:] })
		}, "is not removed and should be the next document"},
		"removed for another": {func(t *testing.T, _, out string) {
			changeRemoved(t, filepath.Join(out, "removed/part-00000.parquet"), func(r []removedRow) []removedRow {
				r[0].kept.num++
				return r
			})
		}, "clusters/ does not say so"},
		"other similarity": {func(t *testing.T, _, out string) {
			changeRemoved(t, filepath.Join(out, "removed/part-00000.parquet"), func(r []removedRow) []removedRow {
				i := first(r, evidenceJaccard)
				r[i].inter, r[i].union = r[i].inter+1, r[i].union+1
				return r
			})
		}, "computed again"},
		"below the threshold": {func(t *testing.T, _, out string) {
			changeRemoved(t, filepath.Join(out, "removed/part-00000.parquet"), func(r []removedRow) []removedRow {
				r[first(r, evidenceJaccard)].inter = 1
				return r
			})
		}, "below the threshold"},
		"not identical": {func(t *testing.T, _, out string) {
			changeRemoved(t, filepath.Join(out, "removed/part-00000.parquet"), func(r []removedRow) []removedRow {
				i := first(r, evidenceJaccard)
				r[i].evidence, r[i].inter, r[i].union = evidenceExact, 0, 0
				return r
			})
		}, "removed as identical"},
		"unlikely counts": {func(t *testing.T, _, out string) {
			changeRemoved(t, filepath.Join(out, "removed/part-00000.parquet"), func(r []removedRow) []removedRow {
				r[0].evidence, r[0].inter, r[0].union = evidenceJaccard, 9, 5
				return r
			})
		}, "do not fit one another"},
		"table lost": {func(t *testing.T, _, out string) {
			if err := os.Remove(filepath.Join(out, "removed/part-00000.parquet")); err != nil {
				t.Fatal(err)
			}
		}, "part-00000.parquet is missing"},
		"table damaged": {func(t *testing.T, _, out string) {
			changeFile(t, filepath.Join(out, "clusters/part-00000.parquet"), func(b []byte) []byte { return b[:len(b)/2] })
		}, "part-00000.parquet"},
		"digest": {func(t *testing.T, _, out string) {
			changeResult(t, out, func(r *Result) { r.Digest = strings.Repeat("0", 32) })
		}, "run.json says 0000"},
		"stray table": {func(t *testing.T, _, out string) {
			data, err := os.ReadFile(filepath.Join(out, "removed/part-00000.parquet"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(out, "removed/part-00099.parquet"), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}, "part-00099.parquet is no table of this run"},
		"steps": {func(t *testing.T, _, out string) {
			changeResult(t, out, func(r *Result) { r.Steps.Removed++ })
		}, "does not agree with itself"},
		"spec": {func(t *testing.T, _, out string) {
			changeResult(t, out, func(r *Result) { r.Spec.Threshold = "0.5" })
		}, "does not agree with itself"},
		"ledger": {func(t *testing.T, _, out string) {
			changeResult(t, out, func(r *Result) { r.Ledger.Hash.A++ })
		}, "ledger"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := t.TempDir()
			makeCorpus(rand.New(rand.NewPCG(5, 5)), 4, 400).write(t, in)
			out, _ := testRun(t, in, s, Exec{Workers: 2})
			c.change(t, in, out)
			v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: -1})
			if err != nil {
				t.Fatal(err)
			}
			if ok := name == "nothing" || name == "times"; v.OK() != ok || ok && (v.Replayed < 50 || v.Digest != v.Recorded) {
				t.Errorf("%+v", v)
			}
			// One fault is told once: what cannot be told because of it is not held against others.
			if most := 2; len(v.Problems) > most {
				t.Errorf("%d problems: %q", len(v.Problems), v.Problems)
			}
			if !strings.Contains(strings.Join(v.Problems, "\n"), c.says) {
				t.Errorf("%q does not say %q", v.Problems, c.says)
			}
		})
	}
}

func changeResult(t *testing.T, out string, f func(*Result)) {
	t.Helper()
	changeFile(t, filepath.Join(out, resultName), func(b []byte) []byte {
		r := new(Result)
		if err := json.Unmarshal(b, r); err != nil {
			t.Fatal(err)
		}
		f(r)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

// TestVerifySample checks that a sample has the size it should and is the same each time.
func TestVerifySample(t *testing.T) {
	in := t.TempDir()
	makeCorpus(rand.New(rand.NewPCG(6, 6)), 3, 500).write(t, in)
	s := smallSpec()
	s.IDField, s.Normalize = "id", "lower,whitespace"
	out, res := testRun(t, in, s, Exec{})
	for _, ranks := range []int{1, 3} {
		v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: 20, Seed: 3, Exec: Exec{Ranks: ranks}})
		if err != nil || !v.OK() || v.Replayed != 20 || v.Removed != res.Steps.Removed {
			t.Fatalf("%+v %v", v, err)
		}
		if want := 1 - math.Pow(0.05, 1.0/20); math.Abs(v.Bound-want) > 1e-9 {
			t.Errorf("bound %v, want %v", v.Bound, want)
		}
	}
}

// TestUpperBound compares with published values of the Clopper-Pearson limit.
func TestUpperBound(t *testing.T) {
	for _, c := range []struct {
		k, n int64
		want float64
	}{{0, 1, 0.95}, {0, 10, 0.258866}, {1, 10, 0.394163}, {0, 1000, 0.00299125}, {5, 100, 0.102253}, {10, 10, 1}} {
		if got := upperBound(c.k, c.n, 0.95); math.Abs(got-c.want) > 1e-5 {
			t.Errorf("%d of %d: %v, want %v", c.k, c.n, got, c.want)
		}
	}
}
