package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/dovetail-dedup/dovetail/mem"
)

// keepers are the choices of rows that rewriting is tested with.
var keepers = map[string]func(int64) bool{
	"all":   func(int64) bool { return true },
	"none":  func(int64) bool { return false },
	"odd":   func(r int64) bool { return r%2 == 1 },
	"first": func(r int64) bool { return r == 0 },
	"last":  func(r int64) bool { return r == 39 },
	"group": func(r int64) bool { return r >= 16 && r < 32 },
	"some":  func(r int64) bool { return r%7 == 3 || r > 30 },
}

// rewrite rewrites a file with a leak-checked allocator and checks the calls it makes.
func rewrite(t testing.TB, s *Set, file int, keep func(int64) bool) ([]byte, error) {
	t.Helper()
	return rewriteTo(t, s, file, keep, Sink{})
}

// rewriteTo is rewrite with a sink whose other fields are set.
func rewriteTo(t testing.TB, s *Set, file int, keep func(int64) bool, sink Sink) ([]byte, error) {
	t.Helper()
	checked := mem.NewChecked(nil, mem.Host())
	var buf bytes.Buffer
	var kept []row
	var asked []int64
	sink.W, sink.Alloc = &buf, checked
	sink.Kept = func(r int64, text []byte, null bool) error {
		kept = append(kept, row{Ord: Ordinal(file, r), Text: string(text), Null: null})
		return nil
	}
	const notShown = "copied and not shown"
	sink.Copied = func(r, n int64) error {
		for i := range n {
			kept = append(kept, row{Ord: Ordinal(file, r+i), Text: notShown})
		}
		return nil
	}
	done, err := s.Rewrite(context.Background(), file, func(r int64) bool {
		asked = append(asked, r)
		return keep(r)
	}, sink)
	if leaks := checked.Leaks(); leaks != "" {
		t.Error(leaks)
	}
	if err != nil {
		return nil, err
	}
	var want []row
	var rows []int64
	all, err := readSplit(t, s, Split{First: file, Last: file}, ReadOptions{Columns: ColumnText})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		_, n := SplitOrdinal(r.Ord)
		rows = append(rows, n)
		if keep(n) {
			want = append(want, r)
		}
	}
	for i := range min(len(kept), len(want)) {
		if kept[i].Ord == want[i].Ord && kept[i].Text == notShown && sink.Sum != nil {
			kept[i] = want[i]
		}
	}
	if !slices.Equal(kept, want) {
		t.Errorf("called for\n%v\nwant\n%v", kept, want)
	}
	if !slices.Equal(asked, rows) {
		t.Errorf("asked for rows %v, want %v", asked, rows)
	}
	if done.Rows != int64(len(rows)) || done.Kept != int64(len(want)) || done.Bytes != int64(buf.Len()) {
		t.Errorf("counted %+v, want %d rows, %d kept, %d bytes", done, len(rows), len(want), buf.Len())
	}
	return buf.Bytes(), nil
}

// rawColumn reads the levels and values of a column of a row group as strings, one for each row.
func rawColumn(t testing.TB, r *file.Reader, group, column int) []string {
	t.Helper()
	c, err := r.RowGroup(group).Column(column)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var rows []string
	n := int64(1)
	for tries := 0; c.HasNext() || tries < 20; {
		if !c.HasNext() {
			tries++ // a page without a value, or the end
			continue
		}
		var value any
		var def, rep [1]int16
		switch c := c.(type) {
		case *file.BooleanColumnChunkReader:
			value = readOne(t, c.ReadBatch, def[:], rep[:], n)
		case *file.Int32ColumnChunkReader:
			value = readOne(t, c.ReadBatch, def[:], rep[:], n)
		case *file.Int64ColumnChunkReader:
			value = readOne(t, c.ReadBatch, def[:], rep[:], n)
		case *file.Int96ColumnChunkReader:
			value = readOne(t, c.ReadBatch, def[:], rep[:], n)
		case *file.Float32ColumnChunkReader:
			value = readOne(t, c.ReadBatch, def[:], rep[:], n)
		case *file.Float64ColumnChunkReader:
			value = readOne(t, c.ReadBatch, def[:], rep[:], n)
		case *file.ByteArrayColumnChunkReader:
			value = readOne(t, c.ReadBatch, def[:], rep[:], n)
		case *file.FixedLenByteArrayColumnChunkReader:
			value = readOne(t, c.ReadBatch, def[:], rep[:], n)
		}
		s := fmt.Sprintf("(%d %d %v)", rep[0], def[0], value)
		if rep[0] == 0 {
			rows = append(rows, s)
		} else {
			rows[len(rows)-1] += s
		}
	}
	return rows
}

func readOne[T any](t testing.TB, read func(int64, []T, []int16, []int16) (int64, int, error), def, rep []int16, n int64) any {
	t.Helper()
	v := make([]T, 1)
	_, k, err := read(n, v, def, rep)
	if err != nil {
		t.Fatal(err)
	}
	if k == 0 {
		return nil
	}
	return v[0]
}

// Every column of every row of a rewritten file is what it was, and so is all that describes the file.
func TestRewriteParquet(t *testing.T) {
	for name, fx := range loadFixtures(t).Files {
		for how, keep := range keepers {
			if !strings.HasPrefix(name, "wide") && how != "some" && how != "none" {
				continue
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				s := mustResolve(t, Local(), Options{}, fixturePath(name))
				out, err := rewrite(t, s, 0, keep)
				if err != nil {
					t.Fatal(err)
				}
				compareParquet(t, fixturePath(name), out, fx, keep)
			})
		}
	}
}

// Texts that the caller has are written as if they had been read, whatever the type of their column and whichever row groups
// they are of.
func TestRewriteKnownTexts(t *testing.T) {
	for name, fx := range loadFixtures(t).Files {
		s := mustResolve(t, Local(), Options{}, fixturePath(name))
		sums := make(map[int]uint64)
		rows := readAll(t, s, 1<<30, ReadOptions{Columns: ColumnText, Chunk: func(s GroupSum) { sums[s.Group] = s.Sum }})
		if in, err := file.OpenParquetFile(fixturePath(name), false); err != nil || len(sums) > 0 && in.NumRowGroups() != len(sums) {
			t.Errorf("%s: hashes of %d row groups: %v", name, len(sums), err)
		} else {
			in.Close()
		}
		for how, keep := range keepers {
			asked := 0
			texts := func(group int, from int64) *GroupTexts {
				if group%3 == 2 {
					return nil
				}
				return &GroupTexts{At: func(r int64) ([]byte, bool, error) {
					if asked++; rows[r].Ord != Ordinal(0, r) {
						return nil, false, fmt.Errorf("row %d is %v", r, rows[r])
					}
					return []byte(rows[r].Text), rows[r].Null, nil
				}}
			}
			known := func(group int, _ int64) (uint64, bool) {
				sum, ok := sums[group]
				return sum, ok && group%2 == 0
			}
			out, err := rewriteTo(t, s, 0, keep, Sink{Texts: texts, Sum: known})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			compareParquet(t, fixturePath(name), out, fx, keep)
			if how == "all" {
				data, err := os.ReadFile(fixturePath(name))
				if err != nil {
					t.Fatal(err)
				}
				if out, err = rewriteTo(t, s, 0, keep, Sink{Texts: texts, Sum: known, Whole: true}); err != nil || !bytes.Equal(out, data) {
					t.Errorf("%s was not copied: %v", name, err)
				}
			}
			if asked == 0 && how == "some" && strings.HasPrefix(name, "wide") {
				t.Errorf("%s: its texts were read, though they were known", name)
			}
			if t.Failed() {
				t.Fatal(name, how)
			}
		}
	}
}

// Row groups of which every row is kept are copied as bytes, and others beside them are not.
func TestRewriteCopiesRowGroups(t *testing.T) {
	copied := 0
	for name, fx := range loadFixtures(t).Files {
		in, err := file.OpenParquetFile(fixturePath(name), false)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(fixturePath(name))
		if err != nil {
			t.Fatal(err)
		}
		s := mustResolve(t, Local(), Options{}, fixturePath(name))
		for whole := range in.NumRowGroups() { // it is kept whole, and every second row of the others
			first := int64(0)
			for g := range whole {
				first += in.RowGroup(g).NumRows()
			}
			n := in.RowGroup(whole).NumRows()
			keep := func(r int64) bool { return r >= first && r < first+n || r%2 == 0 }
			out, err := rewrite(t, s, 0, keep)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			compareParquet(t, fixturePath(name), out, fx, keep)
			for c := range in.MetaData().Schema.NumColumns() {
				m, err := in.MetaData().RowGroup(whole).ColumnChunk(c)
				if err != nil {
					t.Fatal(err)
				}
				from := chunkStart(m)
				if n > 0 && !bytes.Contains(out, data[from:from+m.TotalCompressedSize()]) {
					t.Errorf("%s: column %d of row group %d was not copied", name, c, whole)
				}
				copied++
			}
		}
		in.Close()
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if copied < 100 {
		t.Errorf("%d chunks were copied", copied)
	}
}

// A file that is kept whole is the same bytes, and its texts are shown all the same.
func TestRewriteWhole(t *testing.T) {
	for name := range loadFixtures(t).Files {
		s := mustResolve(t, Local(), Options{}, fixturePath(name))
		out, err := rewriteTo(t, s, 0, keepers["all"], Sink{Whole: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := os.ReadFile(fixturePath(name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out, want) {
			t.Errorf("%s: %d bytes, want the %d of the input", name, len(out), len(want))
		}
		if _, err := rewriteTo(t, s, 0, keepers["odd"], Sink{Whole: true}); err == nil && s.Files[0].Rows > 0 {
			t.Errorf("%s: rows are not kept, and nobody says so", name)
		}
	}
}

// What is copied must be what was decoded.
func TestRewriteWholeChanged(t *testing.T) {
	data, err := os.ReadFile("testdata/sums/snappy.parquet")
	if err != nil {
		t.Fatal(err)
	}
	fsys := newMemFS(map[string]string{"x.parquet": string(data)})
	s := mustResolve(t, fsys, fixtureOptions, "x.parquet")
	pages := bodies(t, data)
	_, err = s.Rewrite(t.Context(), 0, keepers["all"], Sink{W: io.Discard, Whole: true, Kept: func(row int64, _ []byte, _ bool) error {
		if row == s.Files[0].Rows-1 {
			for _, p := range pages {
				fsys.files["/x.parquet"].data[p[0]] ^= 1
			}
		}
		return nil
	}})
	wantError(t, err, ErrChanged, "x.parquet: the file changed since the run began: it holds other texts than when they were read")
}

// Row groups whose hash is known are copied without being read, and must have it, in files that are kept whole and in others.
func TestRewriteKnownSums(t *testing.T) {
	data, err := os.ReadFile(fixturePath("plain_none_v1.parquet")) // without checksums
	if err != nil {
		t.Fatal(err)
	}
	fsys := newMemFS(map[string]string{"x.parquet": string(data)})
	s := mustResolve(t, fsys, fixtureOptions, "x.parquet")
	sums := make(map[int]uint64)
	readAll(t, s, 1<<30, ReadOptions{Chunk: func(s GroupSum) { sums[s.Group] = s.Sum }})
	in, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil || len(sums) != in.NumRowGroups() || len(sums) < 2 {
		t.Fatalf("%d hashes: %v", len(sums), err)
	}
	column := in.MetaData().Schema.ColumnIndexByName("text")
	for _, how := range []string{"all", "group"} {
		rewrite := func() (rows int64, out []byte, err error) {
			var b bytes.Buffer
			_, err = s.Rewrite(t.Context(), 0, keepers[how], Sink{
				W: &b, Whole: how == "all", Kept: func(int64, []byte, bool) error { return errors.New("shown") },
				Sum:    func(group int, _ int64) (uint64, bool) { return sums[group], true },
				Copied: func(_, n int64) error { rows += n; return nil },
			})
			return rows, b.Bytes(), err
		}
		if rows, out, err := rewrite(); err != nil || rows != map[string]int64{"all": 40, "group": 16}[how] || how == "all" && !bytes.Equal(out, data) {
			t.Fatalf("%s: %d rows, %v", how, rows, err)
		}
		for g := range in.NumRowGroups() {
			m, err := in.MetaData().RowGroup(g).ColumnChunk(column)
			if err != nil {
				t.Fatal(err)
			}
			for at := chunkStart(m); at < chunkStart(m)+m.TotalCompressedSize(); at++ {
				bent := slices.Clone(data)
				bent[at] ^= 4
				fsys.put("x.parquet", bent)
				_, _, err := rewrite()
				if touched := how == "all" || g == 1; touched != (err != nil) {
					t.Fatalf("%s: byte %d of row group %d: %v", how, at-chunkStart(m), g, err)
				} else if touched {
					wantError(t, err, ErrChanged, "x.parquet: the file changed since the run began: it holds other texts than when they were read")
				}
			}
			fsys.put("x.parquet", data)
		}
	}
	wrong := errors.New("not these")
	_, err = s.Rewrite(t.Context(), 0, keepers["all"], Sink{
		W: io.Discard, Whole: true, Sum: func(g int, _ int64) (uint64, bool) { return sums[g], true }, Copied: func(int64, int64) error { return wrong },
	})
	if !errors.Is(err, wrong) {
		t.Error(err)
	}
}

func compareParquet(t *testing.T, name string, out []byte, fx fixture, keep func(int64) bool) {
	t.Helper()
	in, err := file.OpenParquetFile(name, false)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, err := file.NewParquetReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := in.MetaData().Schema.String(), got.MetaData().Schema.String(); a != b {
		t.Errorf("schema\n%s\nwant\n%s", b, a)
	}
	if a, b := in.MetaData().KeyValueMetadata(), got.MetaData().KeyValueMetadata(); !slices.Equal(a.Keys(), b.Keys()) || !slices.Equal(a.Values(), b.Values()) {
		t.Errorf("metadata\n%v\nwant\n%v", b, a)
	}
	g, row := 0, int64(0)
	for from := range in.NumRowGroups() {
		n := in.RowGroup(from).NumRows()
		kept := 0
		for i := range n {
			if keep(row + i) {
				kept++
			}
		}
		if kept > 0 {
			if g >= got.NumRowGroups() || got.RowGroup(g).NumRows() != int64(kept) {
				t.Fatalf("row group %d of %d does not have the %d rows kept of row group %d", g, got.NumRowGroups(), kept, from)
			}
			for c := range fx.leaves(in) {
				compareChunk(t, in, got, from, g, c, row, keep)
			}
			g++
		}
		row += n
	}
	if g != got.NumRowGroups() {
		t.Errorf("%d row groups, want %d", got.NumRowGroups(), g)
	}
}

func (fixture) leaves(r *file.Reader) int { return r.MetaData().Schema.NumColumns() }

func compareChunk(t *testing.T, in, got *file.Reader, from, to, column int, row int64, keep func(int64) bool) {
	t.Helper()
	path := in.MetaData().Schema.Column(column).Path()
	var want []string
	for i, v := range rawColumn(t, in, from, column) {
		if keep(row + int64(i)) {
			want = append(want, v)
		}
	}
	if have := rawColumn(t, got, to, column); !slices.Equal(have, want) {
		t.Errorf("column %s: got\n%v\nwant\n%v", path, have, want)
	}
	a, _ := in.MetaData().RowGroup(from).ColumnChunk(column)
	b, _ := got.MetaData().RowGroup(to).ColumnChunk(column)
	if a.Compression() != b.Compression() {
		t.Errorf("column %s: codec %s, want %s", path, b.Compression(), a.Compression())
	}
	if a.Type() == parquet.Types.Int96 {
		return // the library writes no dictionaries of these
	}
	if a.HasDictionaryPage() != b.HasDictionaryPage() {
		t.Errorf("column %s: dictionary %v, want %v", path, b.HasDictionaryPage(), a.HasDictionaryPage())
	}
	for _, e := range a.Encodings() {
		if e != parquet.Encodings.Plain && !slices.Contains(b.Encodings(), e) && !strings.HasPrefix(path, "meta") {
			t.Errorf("column %s: encodings %v, want %v", path, b.Encodings(), a.Encodings())
		}
	}
}

// TestRewriteParquetPyarrow lets pyarrow compare tables, if DOVETAIL_PYTHON names a Python that has it.
func TestRewriteParquetPyarrow(t *testing.T) {
	python := os.Getenv("DOVETAIL_PYTHON")
	if python == "" {
		t.Skip("DOVETAIL_PYTHON is not set")
	}
	dir := t.TempDir()
	for name := range loadFixtures(t).Files {
		s := mustResolve(t, Local(), Options{}, fixturePath(name))
		for how, keep := range keepers {
			out, err := rewrite(t, s, 0, keep)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, how, name), string(out))
		}
	}
	if out, err := exec.Command(python, "testdata/verify.py", dir).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

func TestRewriteJSONL(t *testing.T) {
	lines := []string{
		"\xef\xbb\xbf{\"text\": \"one\"}\r\n", "\n", " \t\r\n", `{"text":null, "x": 1e400}` + "\n", `{"y": [1, 2]}` + "\n",
		`  {"text": "🙂 \ud83d\ude42 \u00e9"}  ` + "\n", `{"text": ""}`,
	}
	rows := []int64{0, 3, 4, 5, 6}
	plain := strings.Join(lines, "")
	fsys := newMemFS(map[string]string{
		"a/plain.jsonl": plain, "a/gzip.jsonl.gz": gzipped(t, plain[:40], plain[40:]), "a/zstd.json.zst": zstded(t, plain[:40], plain[40:]),
	})
	s := mustResolve(t, fsys, Options{}, "a")
	for i := range s.Files {
		for mask := range 1 << len(rows) {
			keep := func(r int64) bool { return mask>>slices.Index(rows, r)&1 == 1 }
			out, err := rewrite(t, s, i, keep)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			for k, r := range rows {
				if mask>>k&1 == 1 {
					want += lines[r]
				}
			}
			r, free, err := decompress(s.Files[i].Compression, bytes.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := free(); err != nil {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Fatalf("%s, rows %b: got\n%q\nwant\n%q", s.Files[i].Name, mask, got, want)
			}
		}
	}
}

func gzipped(t testing.TB, members ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, m := range members {
		z := gzip.NewWriter(&b)
		_, err := io.WriteString(z, m)
		if err = errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func zstded(t testing.TB, frames ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, f := range frames {
		z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(z, f)
		if err = errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestRewriteFiles(t *testing.T) {
	fsys := newMemFS(map[string]string{"d/a.bin": "\x00\xff\n", "d/empty": ""})
	s := mustResolve(t, fsys, Options{Format: Files}, "d")
	for i, want := range []string{"\x00\xff\n", ""} {
		out, err := rewrite(t, s, i, keepers["all"])
		if err != nil || string(out) != want {
			t.Errorf("got %q, %v, want %q", out, err, want)
		}
		if out, err := rewrite(t, s, i, keepers["none"]); err != nil || len(out) != 0 {
			t.Errorf("got %q, %v, want nothing", out, err)
		}
		var b bytes.Buffer
		if _, err := s.Rewrite(t.Context(), i, keepers["all"], Sink{W: &b}); err != nil || b.String() != want {
			t.Errorf("got %q, %v, want %q", b.String(), err, want)
		}
	}
}

// failAfter fails once n bytes were written.
type failAfter struct{ n int }

func (f *failAfter) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errTest
	}
	return len(p), nil
}

// The errors of whoever takes the output come back as they are, and are not blamed on the file.
func TestRewriteSinkErrors(t *testing.T) {
	fsys := newMemFS(map[string]string{"x.jsonl": `{"text":"a"}` + "\n", "x.jsonl.gz": gzipped(t, `{"text":"a"}`), "x.jsonl.zst": zstded(t, `{"text":"a"}`)})
	data, err := os.ReadFile(fixturePath("wide_lz4.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	fsys.put("x.parquet", data)
	for name := range fsys.files {
		s := mustResolve(t, fsys, Options{}, name)
		for _, n := range []int{0, 3, 500, 20000} {
			checked := mem.NewChecked(t, mem.Host())
			done, err := s.Rewrite(t.Context(), 0, keepers["all"], Sink{W: &failAfter{n}, Alloc: checked})
			if int64(n) < done.Bytes && err == nil {
				t.Errorf("%s, %d bytes: no error", name, n)
			}
			if err != nil && (!errors.Is(err, errTest) || errors.Is(err, ErrCorrupt)) {
				t.Errorf("%s, %d bytes: %v", name, n, err)
			}
		}
		_, err := s.Rewrite(t.Context(), 0, keepers["all"], Sink{W: io.Discard, Kept: func(int64, []byte, bool) error { return errTest }})
		if err != errTest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Lists that run over many pages and batches survive.
func TestRewriteParquetManyLevels(t *testing.T) {
	data := makeLists(t, rand.New(rand.NewPCG(1, 2)), 1000)
	fsys := newMemFS(nil)
	fsys.put("lists.parquet", data)
	s := mustResolve(t, fsys, Options{}, "lists.parquet")
	keep := func(r int64) bool { return r%3 != 1 }
	out, err := rewrite(t, s, 0, keep)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	compareParquet(t, writeFile(t, filepath.Join(dir, "in"), string(data)), out, fixture{}, keep)
}
