package dedup

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// checkAnnotated compares annotated/ with what the verdicts say, byte for byte. The documents of the corpus come behind
// those of so many reference files.
func (c testCorpus) checkAnnotated(t fataler, out string, ref testCorpus, s Spec, verdicts map[uint64]Verdict) {
	t.Helper()
	docs := c.orderedFrom(len(ref))
	for ord, d := range ref.ordered() {
		docs[ord] = d
	}
	sizes := make(map[uint64]int)
	for _, v := range verdicts {
		sizes[v.Kept]++
	}
	id := func(ord uint64) string {
		if s.IDField != "" {
			return strconv.FormatInt(docs[ord].ID, 10)
		}
		return strconv.FormatUint(ord, 10)
	}
	text := func(ord uint64) string {
		if docs[ord].Text == nil {
			return ""
		}
		return *docs[ord].Text
	}
	sorted := slices.Clone(c)
	paths := make([]string, len(c))
	for i := range c {
		paths[i] = fileName(i, c[i])
	}
	slices.Sort(paths)
	for i := range c {
		at, _ := slices.BinarySearch(paths, fileName(i, c[i]))
		sorted[at] = c[i]
	}
	for i, path := range paths {
		var want bytes.Buffer
		for row, d := range sorted[i] {
			if d.bad != "" {
				continue
			}
			line, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			ord := corpus.Ordinal(len(ref)+i, int64(row))
			v, removed, kept, similarity, evidence := verdicts[ord], "false", "null", "null", "null"
			if v.Kept != ord {
				removed, kept, evidence = "true", id(v.Kept), `"candidate"`
				switch {
				case v.Union > 0:
					evidence = `"jaccard"`
					if similarity = strconv.FormatFloat(float64(v.Intersection)/float64(v.Union), 'g', -1, 64); similarity == "1" {
						similarity = "1.0"
					}
				case text(ord) == text(v.Kept):
					similarity, evidence = "1.0", `"exact"`
				}
			}
			fmt.Fprintf(&want, `%s,"dovetail_removed":%s,"dovetail_kept_id":%s,"dovetail_cluster_size":%d,"dovetail_similarity":%s,"dovetail_evidence":%s}`+"\n",
				line[:len(line)-1], removed, kept, sizes[v.Kept], similarity, evidence)
		}
		got, err := os.ReadFile(filepath.Join(out, "annotated", filepath.FromSlash(path)))
		if isCut(sorted[i]) && os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got = plain(t, path, got); !bytes.Equal(got, want.Bytes()) {
			t.Fatal(fmt.Sprintf("%s: got\n%s\nwant\n%s", path, got, want.Bytes()))
		}
	}
}

// annotatedRows reads the columns of a Parquet file as one string for each row.
func annotatedRows(t *testing.T, path string) (rows []string) {
	t.Helper()
	set, err := corpus.Resolve(t.Context(), corpus.Local(), []string{path}, corpus.Options{TextField: "text", IDField: "id"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := set.Open(corpus.Split{}, corpus.ReadOptions{Added: annotations(set.IDKind)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		b, err := r.Next(t.Context())
		if err == io.EOF {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Ord {
			rows = append(rows, strings.ReplaceAll(string(b.Added.At(i)), "dovetail_", ""))
		}
		b.Release()
	}
}

// Ids in annotated Parquet files have the type of the input's.
func TestAnnotateTypesOfIDs(t *testing.T) {
	uuids := []parquet.FixedLenByteArray{[]byte("0123456789abcdef"), []byte("\x00#23456789abcdef")}
	for name, c := range map[string]struct {
		col  parquetColumn
		want string
	}{
		"int32":  {parquetColumn{primitive(t, "id", parquet.Types.Int32, nil, -1), []int32{-7, 9}, nil}, "-7"},
		"uint64": {parquetColumn{primitive(t, "id", parquet.Types.Int64, schema.NewIntLogicalType(64, false), -1), []int64{-1, 9}, nil}, "18446744073709551615"},
		"string": {parquetColumn{primitive(t, "id", parquet.Types.ByteArray, schema.StringLogicalType{}, -1), []parquet.ByteArray{[]byte("é\""), []byte("a")}, nil}, `"é\""`},
		"binary": {parquetColumn{primitive(t, "id", parquet.Types.ByteArray, nil, -1), []parquet.ByteArray{[]byte("a\xff"), {}}, nil}, "\"a\xff\""},
		"uuid":   {parquetColumn{primitive(t, "id", parquet.Types.FixedLenByteArray, schema.UUIDLogicalType{}, 16), uuids, nil}, `"0123456789abcdef"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeParquet(t, filepath.Join(dir, "x.parquet"), 2, textColumn(t, "the same text", "the same text"), c.col)
			s := DefaultSpec()
			s.IDField, s.Write = "id", WriteAnnotate
			out, _ := testRun(t, dir, s, Exec{Workers: 1})
			want := []string{
				`"removed":false,"kept_id":null,"cluster_size":2,"similarity":null,"evidence":null`,
				`"removed":true,"kept_id":` + c.want + `,"cluster_size":2,"similarity":1.0,"evidence":"exact"`,
			}
			if got := annotatedRows(t, filepath.Join(out, "annotated", "x.parquet")); !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if v, err := Verify(t.Context(), VerifyOptions{Dir: out}); err != nil || !v.OK() || v.Whole != 0 {
				t.Errorf("%+v %v", v, err)
			}
			if v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: 1}); err != nil || !v.OK() || v.Whole != 2 {
				t.Errorf("%+v %v", v, err)
			}
		})
	}
}

// A Parquet file of several row groups is annotated with the same bytes however the run is cut up, and but for the
// columns that are added it has the row groups of the input.
func TestAnnotateParquet(t *testing.T) {
	dir := t.TempDir()
	for i, tag := range []string{"one", "two", "one"} {
		manyGroups(t, filepath.Join(dir, fmt.Sprintf("%d.parquet", i)), 6, tag)
	}
	s := smallSpec()
	_, kept := testRun(t, dir, s, Exec{Workers: 1})
	s.Write = WriteAnnotate
	var first [][]byte
	for i, e := range []Exec{{Workers: 1}, {Workers: 3, SplitBytes: 1}, {Ranks: 2, SplitBytes: 3000, BatchBytes: 50, MemoryLimit: 256 << 20}} {
		out, res := testRun(t, dir, s, e)
		if res.Digest != kept.Digest || res.Steps.Removed < 100 {
			t.Errorf("digest %s, with kept %s; %+v", res.Digest, kept.Digest, res.Steps)
		}
		for f := range 3 {
			name := fmt.Sprintf("%d.parquet", f)
			data, err := os.ReadFile(filepath.Join(out, "annotated", name))
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = append(first, data)
			} else if !bytes.Equal(data, first[f]) {
				t.Errorf("%s has other bytes with %+v", name, e)
			}
			r, err := file.NewParquetReader(bytes.NewReader(data))
			if err != nil || r.NumRowGroups() != 6 || r.RowGroup(5).NumRows() != 20 {
				t.Errorf("%d row groups (%v)", r.NumRowGroups(), err)
			}
		}
		if v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: -1}); err != nil || !v.OK() || v.Whole != 360 || v.Annotated != 360 {
			t.Errorf("%+v %v", v, err)
		}
		page, err := os.ReadFile(filepath.Join(out, reportName))
		if err != nil || !bytes.Contains(page, []byte("--write annotate")) || res.Spec.Write != WriteAnnotate {
			t.Errorf("the report does not say how it was written (%v)", err)
		}
	}
}

func TestAnnotateRefusals(t *testing.T) {
	dir := t.TempDir()
	col := parquetColumn{primitive(t, "dovetail_evidence", parquet.Types.Int32, nil, -1), []int32{1, 2}, nil}
	path := writeParquet(t, filepath.Join(dir, "p", "x.parquet"), 2, textColumn(t, "a", "b"), col)
	lines := filepath.Join(dir, "j", "x.jsonl")
	if err := os.MkdirAll(filepath.Dir(lines), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lines, []byte("{\"text\":\"a\"}\n\n{\"text\":\"b\",\"dovetail_removed\":false}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, in, format string
		says             string
	}{
		{"files", filepath.Join(dir, "j"), "files", "--write annotate has no meaning with --format files"},
		{"column", filepath.Join(dir, "p"), "", path + ": it has a column \"dovetail_evidence\" already, which would be added; rename it or drop it"},
		{"field", filepath.Join(dir, "j"), "", lines + ":3: it has a field \"dovetail_removed\" already, which would be added; rename it or drop it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := DefaultSpec()
			s.Write, s.Format, s.OnBadFile, s.OnBadRecord = WriteAnnotate, c.format, OnBadSkip, OnBadSkip
			out := filepath.Join(t.TempDir(), "out")
			_, err := Run(t.Context(), Options{Spec: s, Exec: Exec{Workers: 1, SplitBytes: 10}, Inputs: []string{c.in}, Output: out})
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			if left, _ := filepath.Glob(out + "*"); len(left) > 0 {
				t.Errorf("left %v", left)
			}
			// Documents of a reference set are not written, and may have such columns.
			if c.format == "" {
				in := filepath.Join(t.TempDir(), "in")
				testCorpus{{{Text: new(string)}}}.write(t, in)
				if _, err := Run(t.Context(), Options{Spec: s, Inputs: []string{in}, Against: []string{c.in}, Output: out}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// bendOther writes a file of manyGroups anew with the other column changed in one row.
func bendOther(t *testing.T, path, tag string, group, row int) {
	t.Helper()
	writeGroups(t, path, 6, func(g, r int) (string, string) {
		other := strings.Repeat(fmt.Sprint(g, r), 30)
		if g == group && r == row {
			other = "X" + other[1:]
		}
		return fmt.Sprintf("a text of group %d, in row %d of %s", g, r, tag), other
	})
}

// Verify names the file and the row in which a column that is no text was changed, or a column that says what became
// of a document.
func TestVerifyColumns(t *testing.T) {
	replaced := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
	}
	for name, c := range map[string]struct {
		write, file string
		change      func([]byte) []byte
		says        string
	}{
		"score":        {WriteKept, "kept/sub0/f000.jsonl", replaced(`"score":1`, `"score":2`), "kept/sub0/f000.jsonl:"},
		"space":        {WriteKept, "kept/sub0/f002.jsonl", replaced(`,"id"`, ` ,"id"`), "kept/sub0/f002.jsonl:1 has the text of"},
		"annotated":    {WriteAnnotate, "annotated/sub0/f000.jsonl", replaced(`"score":1`, `"score":2`), "annotated/sub0/f000.jsonl:"},
		"removed":      {WriteAnnotate, "annotated/sub1/f001.jsonl", replaced(`_removed":true`, `_removed":false`), "says {\"dovetail_removed\":false"},
		"cluster size": {WriteAnnotate, "annotated/sub1/f001.jsonl", replaced(`_cluster_size":1`, `_cluster_size":7`), "annotated/sub1/f001.jsonl:"},
		"kept id":      {WriteAnnotate, "annotated/sub1/f001.jsonl", replaced(`_kept_id":null`, `_kept_id":7`), "says {"},
		"similarity":   {WriteAnnotate, "annotated/sub1/f001.jsonl", replaced(`_similarity":0.`, `_similarity":0.1`), "removed/ and clusters/ say"},
		"evidence":     {WriteAnnotate, "annotated/sub1/f003.jsonl", replaced(`"exact"`, `"jaccard"`), "removed/ and clusters/ say"},
		"no column":    {WriteAnnotate, "annotated/sub1/f003.jsonl", replaced(`dovetail_removed`, `dovetail_x`), "it has no field \"dovetail_removed\""},
		"last line":    {WriteAnnotate, "annotated/sub1/f003.jsonl", func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] }, "is missing in annotated/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := t.TempDir()
			makeCorpus(rand.New(rand.NewPCG(5, 5)), 4, 400).write(t, in)
			s := smallSpec()
			s.Threshold, s.Write = "0.6", c.write
			out, _ := testRun(t, in, s, Exec{Workers: 2})
			changeFile(t, filepath.Join(out, c.file), func(b []byte) []byte {
				changed := c.change(b)
				if bytes.Equal(changed, b) {
					t.Fatal("nothing was changed: the test shows little")
				}
				return changed
			})
			v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: 5}) // of JSON Lines all lines are compared
			if err != nil || len(v.Problems) != 1 || !strings.Contains(v.Problems[0], c.says) {
				t.Errorf("%q, want one that says %q (%v)", v.Problems, c.says, err)
			}
		})
	}
	for _, write := range []string{WriteKept, WriteAnnotate} {
		t.Run("parquet "+write, func(t *testing.T) {
			dir := t.TempDir()
			for i, tag := range []string{"one", "two", "one"} {
				bendOther(t, filepath.Join(dir, fmt.Sprintf("%d.parquet", i)), tag, -1, 0)
			}
			s := smallSpec()
			s.Write = write
			out, _ := testRun(t, dir, s, Exec{})
			bendOther(t, filepath.Join(dir, "0.parquet"), "one", 0, 0)
			v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: -1})
			if err != nil || len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "0.parquet: row 0 (counted from 0), but not what its other columns have") ||
				!strings.Contains(v.Problems[0], s.folder()+"/0.parquet: row 0 ") {
				t.Errorf("%q (%v)", v.Problems, err)
			}
			// In a sample of one row one file is read as a whole; which it is, is for the seed to say.
			found := 0
			for seed := range uint64(20) {
				v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: 1, Seed: seed})
				if err != nil || v.Whole > 120 {
					t.Fatalf("%+v %v", v, err)
				}
				if !v.OK() {
					found++
				}
			}
			if found == 0 || found == 20 {
				t.Errorf("found in %d of 20 samples of a file of three", found)
			}
		})
	}
}

// Whatever run.json says that can be counted again is compared.
func TestVerifyFindings(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	c := makeCorpus(rng, 6, 400).spoil(rng)
	in := t.TempDir()
	c.write(t, in)
	s := smallSpec()
	s.Threshold, s.OnBadFile, s.OnBadRecord = "0.6", OnBadSkip, OnBadSkip
	out, res := testRun(t, in, s, Exec{Workers: 2})
	if res.Skipped == nil || len(res.Skipped.Files) == 0 || len(res.Skipped.Examples) == 0 {
		t.Fatal("nothing was skipped: the test shows little")
	}
	whole, err := os.ReadFile(filepath.Join(out, resultName))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Result){
		"":                     func(*Result) {},
		"empty":                func(r *Result) { r.Steps.Empty++ },
		"text_bytes":           func(r *Result) { r.Steps.TextBytes-- },
		"longest_bytes":        func(r *Result) { r.Steps.LongestBytes++ },
		"removed_exact":        func(r *Result) { r.Steps.RemovedExact++ },
		"removed_text_bytes":   func(r *Result) { r.Steps.RemovedTextBytes++ },
		"clusters":             func(r *Result) { r.Steps.Clusters++ },
		"largest_cluster":      func(r *Result) { r.Steps.LargestCluster++ },
		"output_bytes":         func(r *Result) { r.Steps.OutputBytes++ },
		"skipped_files":        func(r *Result) { r.Steps.SkippedFiles++ },
		"skipped_records":      func(r *Result) { r.Steps.SkippedRecords++ },
		"files":                func(r *Result) { r.Steps.Files++ },
		"was left out":         func(r *Result) { r.Skipped.Files[0].Path += "x" },
		"as skipped":           func(r *Result) { r.Skipped.Examples[1].Row++ },
		"records":              func(r *Result) { r.Skipped.Records++ },
		"similarities.removed": func(r *Result) { r.Findings.Similarities.Removed[150]++ },
		"cluster_sizes":        func(r *Result) { r.Findings.ClusterSizes[0].Clusters++ },
		"sources":              func(r *Result) { r.Findings.Sources.Rows[1].Bytes++ },
	} {
		changeFile(t, filepath.Join(out, resultName), func([]byte) []byte { return whole })
		changeResult(t, out, change)
		v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: 0})
		if err != nil {
			t.Fatal(err)
		}
		if name == "" && !v.OK() || name != "" && (len(v.Problems) != 1 || !strings.Contains(v.Problems[0], name)) {
			t.Errorf("%s: %q", name, v.Problems)
		}
	}
	// A file that was left out and can be read is no reason to leave it out.
	changeFile(t, filepath.Join(out, resultName), func([]byte) []byte { return whole })
	bad := filepath.Join(in, filepath.FromSlash(res.Skipped.Files[0].Path))
	changeFile(t, bad, func([]byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte("{\"text\":\"fine\"}\n")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	})
	v, err := Verify(t.Context(), VerifyOptions{Dir: out})
	if err != nil || len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "was left out") || !strings.Contains(v.Problems[0], "and can be read") {
		t.Errorf("%q (%v)", v.Problems, err)
	}
}
