package corpus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/dovetail-dedup/dovetail/mem"
)

// addedOf returns a column of each type, and the values that they have.
func addedOf() (columns []Added, value func(row int64, column int) AddedValue) {
	columns = []Added{
		{Name: "new_bool", Type: AddedBool}, {Name: "new_int", Type: AddedType(IntIDs)},
		{Name: "new_uint", Type: AddedType(UintIDs), Nullable: true}, {Name: "new_double", Type: AddedDouble, Nullable: true},
		{Name: "new \"string\"", Type: AddedType(StringIDs), Nullable: true}, {Name: "new_fixed", Type: AddedType(fixedIDs(3))},
	}
	value = func(row int64, column int) AddedValue {
		v := AddedValue{Null: columns[column].Nullable && row%3 == 0}
		switch {
		case v.Null:
		case column == 0:
			v.Int = row % 2
		case column == 1:
			v.Int = -row << 40
		case column == 2:
			v.Int = -row
		case column == 3:
			v.Double = float64(row) / 7
		case column == 4:
			v.Bytes = []byte(fmt.Sprintf("\"\\\x01\n\xff é %d", row))
		default:
			v.Bytes = []byte(fmt.Sprintf("%03d", row))
		}
		return v
	}
	for i := range columns {
		columns[i].Value = func(row int64) (AddedValue, error) { return value(row, i), nil }
	}
	return columns, value
}

// whole is what a reader says of a row as a whole.
type whole struct {
	hash  uint64
	added string
}

func readWhole(t testing.TB, s *Set, columns []Added) []whole {
	t.Helper()
	checked := mem.NewChecked(nil, mem.Host())
	defer func() {
		if leaks := checked.Leaks(); leaks != "" {
			t.Error(leaks)
		}
	}()
	r, err := s.Open(Split{Last: len(s.Files) - 1}, ReadOptions{Alloc: checked, Added: columns, BatchRows: 7, Hash: func(int) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []whole
	for {
		b, err := r.Next(context.Background())
		if err != nil {
			if len(out) == 0 || err.Error() != "EOF" {
				t.Fatal(err)
			}
			return out
		}
		if len(b.Hash) != len(b.Ord) {
			t.Fatalf("%d hashes of %d rows", len(b.Hash), len(b.Ord))
		}
		for i := range b.Ord {
			w := whole{hash: b.Hash[i]}
			if len(columns) > 0 {
				w.added = string(b.Added.At(i))
			}
			out = append(out, w)
		}
		b.Release()
	}
}

// Columns are added to files of every kind, and nothing else about these files changes.
func TestAddToParquet(t *testing.T) {
	columns, value := addedOf()
	for name, fx := range loadFixtures(t).Files {
		for _, how := range []string{"all", "some", "none"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				keep := keepers[how]
				s := mustResolve(t, Local(), Options{}, fixturePath(name))
				checked := mem.NewChecked(nil, mem.Host())
				var buf bytes.Buffer
				_, err := s.Rewrite(t.Context(), 0, keep, Sink{W: &buf, Alloc: checked, Add: columns})
				if leaks := checked.Leaks(); leaks != "" || err != nil {
					t.Fatal(leaks, err)
				}
				compareOwn(t, fixturePath(name), buf.Bytes(), keep, len(columns))
				if how == "none" || fx.Rows == 0 {
					return
				}
				path := filepath.Join(t.TempDir(), "x.parquet")
				writeFile(t, path, buf.String())
				got := readWhole(t, mustResolve(t, Local(), Options{}, path), columns)
				var want []whole
				for row, w := range readWhole(t, s, nil) {
					if keep(int64(row)) {
						var values []AddedValue
						for c := range columns {
							values = append(values, value(int64(row), c))
						}
						want = append(want, whole{w.hash, string(AppendAdded(nil, columns, values...))})
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("got\n%v\nwant\n%v", got, want)
				}
				_, err = Resolve(t.Context(), Local(), []string{path}, Options{SkipFiles: true, Adds: []string{"x", "new_int"}})
				if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), path+": it has a column \"new_int\" already") {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// compareOwn compares a file but for the last columns with what was kept of another.
func compareOwn(t *testing.T, name string, out []byte, keep func(int64) bool, added int) {
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
	a, b := in.MetaData().Schema, got.MetaData().Schema
	if b.NumColumns() != a.NumColumns()+added {
		t.Fatalf("%d columns, want %d and %d", b.NumColumns(), a.NumColumns(), added)
	}
	for i := range a.Root().NumFields() {
		if !a.Root().Field(i).Equals(b.Root().Field(i)) {
			t.Errorf("field %d is %v, want %v", i, b.Root().Field(i), a.Root().Field(i))
		}
	}
	if x, y := in.MetaData().KeyValueMetadata(), got.MetaData().KeyValueMetadata(); !slices.Equal(x.Keys(), y.Keys()) {
		t.Errorf("metadata\n%v\nwant\n%v", y, x)
	}
	g, row := 0, int64(0)
	for from := range in.NumRowGroups() {
		n := in.RowGroup(from).NumRows()
		if slices.ContainsFunc(slices.Collect(func(yield func(int64) bool) {
			for i := range n {
				if !yield(row + i) {
					return
				}
			}
		}), keep) {
			for c := range a.NumColumns() {
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

// pyarrow and DuckDB read files with added columns, and the others with the types they had.
func TestAddToParquetPyarrow(t *testing.T) {
	python := os.Getenv("DOVETAIL_PYTHON")
	if python == "" {
		t.Skip("DOVETAIL_PYTHON is not set")
	}
	columns, _ := addedOf()
	dir := t.TempDir()
	for name := range loadFixtures(t).Files {
		s := mustResolve(t, Local(), Options{}, fixturePath(name))
		var buf bytes.Buffer
		if _, err := s.Rewrite(t.Context(), 0, keepers["all"], Sink{W: &buf, Add: append(columns[:4:4], columns[5])}); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), buf.String())
	}
	if out, err := exec.Command(python, "testdata/verify_added.py", dir).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

func TestAddToJSONL(t *testing.T) {
	columns, value := addedOf()
	lines := []string{
		"\xef\xbb\xbf{\"text\": \"one\"}\r\n", "\n", "{ }\n", "{\"text\":\"}\",\"a\":{}} \n", " {\"text\":null ,\"b\":[{}]\t}\n", "{}\n", "{\"text\":\"{\"}",
	}
	plain := strings.Join(lines, "")
	fsys := newMemFS(map[string]string{"a/plain.jsonl": plain, "a/gzip.jsonl.gz": gzipped(t, plain)})
	s := mustResolve(t, fsys, Options{}, "a")
	for i := range s.Files {
		var buf bytes.Buffer
		done, err := s.Rewrite(t.Context(), i, keepers["all"], Sink{W: &buf, Add: columns})
		if err != nil || done.Rows != 6 || done.Kept != 6 {
			t.Fatalf("%+v %v", done, err)
		}
		var want []string
		var rows []whole
		before := readWhole(t, mustResolve(t, fsys, Options{}, s.Files[i].Name), nil)
		for row, l := range lines {
			if l == "\n" {
				want = append(want, l)
				continue
			}
			var values []AddedValue
			for c := range columns {
				values = append(values, value(int64(row), c))
			}
			fields := string(AppendAdded(nil, columns, values...))
			rows = append(rows, whole{before[len(rows)].hash, fields})
			at := strings.LastIndex(l, "}")
			comma := ","
			if strings.Trim(l[:at], " {") == "" {
				comma = ""
			}
			want = append(want, l[:at]+comma+fields+l[at:])
			if !json.Valid([]byte(strings.TrimPrefix(want[row], "\xef\xbb\xbf"))) {
				t.Errorf("not JSON: %s", want[row])
			}
		}
		r, free, err := decompress(s.Files[i].Compression, bytes.NewReader(buf.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := got.ReadFrom(r); err != nil || free() != nil {
			t.Fatal(err)
		}
		if got.String() != strings.Join(want, "") {
			t.Fatalf("got\n%q\nwant\n%q", got.String(), want)
		}
		name := filepath.Base(s.Files[i].Name)
		again := newMemFS(map[string]string{name: buf.String()})
		if got := readWhole(t, mustResolve(t, again, Options{}, name), columns); !slices.Equal(got, rows) {
			t.Errorf("got\n%v\nwant\n%v", got, rows)
		}
	}
}

func TestAppendAdded(t *testing.T) {
	columns := []Added{{Name: "a", Type: AddedDouble}, {Name: "b", Type: AddedType(UintIDs)}, {Name: "c", Type: AddedBool}}
	for want, v := range map[string]AddedValue{
		`"a":1.0,"b":1,"c":true`:                                  {Double: 1, Int: 1},
		`"a":0.8,"b":18446744073709551615,"c":true`:               {Double: 0.8, Int: -1},
		`"a":1e-07,"b":0,"c":false`:                               {Double: 1e-7},
		`"a":null,"b":0,"c":false`:                                {Double: math.NaN()},
		`"a":0.9999999999999999,"b":9223372036854775807,"c":true`: {Double: 1 - 1.0/(1<<53), Int: math.MaxInt64},
	} {
		if got := string(AppendAdded(nil, columns, v, v, v)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A field that would be there twice is refused when its line is met, whatever may be skipped.
func TestAddTwice(t *testing.T) {
	o := Options{Adds: []string{"new", "newer"}, SkipFiles: true, SkipRecords: true}
	for text, says := range map[string]string{
		"{\"text\":\"a\"}\n{\"text\":\"b\",\"x\":{\"new\":1},\"new.er\":2}\n": "",
		"{\"text\":\"a\"}\n{\"text\":\"b\",\"n\\u0065w\":null}\n":             "x.jsonl:2: it has a field \"new\" already",
		"{\"newer\":1,\"text\":\"a\"}\n":                                      "x.jsonl:1: it has a field \"newer\" already",
	} {
		s, err := Resolve(t.Context(), newMemFS(map[string]string{"x.jsonl": text}), []string{"x.jsonl"}, o)
		if err == nil {
			_, err = readSplit(t, s, Split{}, ReadOptions{})
		}
		if says == "" && err != nil || says != "" && (!errors.Is(err, ErrInput) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A value of any column that is another makes another hash of its row, and of no other.
func TestRowHash(t *testing.T) {
	fsys := newMemFS(map[string]string{
		"a.jsonl": "{\"text\":\"a\",\"n\":1}\n{\"text\":\"b\",\"n\":1}\n", "b.jsonl": "{\"text\":\"a\",\"n\":1}\n{\"text\":\"b\",\"n\":2}\n",
	})
	a, b := readWhole(t, mustResolve(t, fsys, Options{}, "a.jsonl"), nil), readWhole(t, mustResolve(t, fsys, Options{}, "b.jsonl"), nil)
	if a[0] != b[0] || a[1] == b[1] {
		t.Errorf("%v and %v", a, b)
	}
	seen := make(map[uint64]bool)
	rows := 0
	for _, w := range readWhole(t, mustResolve(t, Local(), Options{}, fixturePath("wide_none.parquet")), nil) {
		seen[w.hash] = true
		rows++
	}
	if len(seen) != rows {
		t.Errorf("%d hashes of %d rows", len(seen), rows)
	}
}

// What is added to a line is taken from it again, and in between every line is one that encoding/json reads with the
// fields it had and those that were added.
func FuzzAddToLine(f *testing.F) {
	for _, s := range []string{"{}", " { \t} \r\n", `{"a":{}}`, `{"text":"}","b":[{}]}` + "\n", `{"b":1,"b":2 }`, "{\"a\":\"\xff\"}"} {
		f.Add(s, "id", int64(-7))
	}
	columns := []Added{{Name: "new", Type: AddedType(IntIDs)}, {Name: "newer", Type: AddedType(StringIDs)}}
	f.Fuzz(func(t *testing.T, line, id string, n int64) {
		d := newJSONDoc(Options{TextField: "text", Adds: []string{"new", "newer"}}, ColumnText, NoIDs, nil)
		if ok, err := d.parse([]byte(line), 1); !ok || err != nil || d.twice("", 1) != nil {
			return
		}
		fields := AppendAdded(nil, columns, AddedValue{Int: n}, AddedValue{Bytes: []byte(id)})
		var b bytes.Buffer
		if err := addToLine(&b, []byte(line), fields); err != nil {
			t.Fatal(err)
		}
		d = newJSONDoc(Options{}, ColumnText, NoIDs, columns)
		if ok, err := d.parse(b.Bytes(), 1); !ok || err != nil {
			t.Fatalf("%q became %q: %v", line, b.Bytes(), err)
		}
		before, added, behind, err := d.parts(b.Bytes(), 1)
		if err != nil || string(before)+string(behind) != line || !bytes.Equal(added, fields) {
			t.Fatalf("%q became %q, and again %q %q %q (%v)", line, b.Bytes(), before, added, behind, err)
		}
		var was, is map[string]any
		if json.Unmarshal([]byte(line), &was) != nil {
			return // a depth or a number that encoding/json refuses
		}
		if err := json.Unmarshal(b.Bytes(), &is); err != nil || len(is) != len(was)+2 || is["newer"] != strings.ToValidUTF8(id, "\uFFFD") && utf8.ValidString(id) {
			t.Fatalf("%q became %q, with %v (%v)", line, b.Bytes(), is, err)
		}
	})
}
