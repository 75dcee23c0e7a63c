package corpus

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func paths(s *Set) []string {
	var p []string
	for i, f := range s.Files {
		if f.Index != i {
			panic("index")
		}
		p = append(p, f.Path)
	}
	return p
}

const doc = `{"text":"a"}` + "\n"

func TestResolvePaths(t *testing.T) {
	names := []string{
		"d/a.jsonl", "d/b.json.gz", "d/c.ndjson.zst", "d/sub/a.jsonl", "d/sub/deep/e.JSONL", "d/README.md", "d/.hidden.jsonl", "d/_tmp/x.jsonl",
		"d/_SUCCESS", "d/.git/x.jsonl", "d/sub/_part.jsonl", "e/a.jsonl", "e/f.json", "x/d/z.jsonl", "star/[1].jsonl", "star/1.jsonl",
		"m/1.jsonl", "m/2.parquet.gz", "txt/a.txt", "txt/b", "txt/sub/__init__.py", "txt/.git/c",
	}
	files := map[string]string{}
	for _, n := range names {
		files[n] = doc
		if strings.HasSuffix(n, ".gz") {
			files[n] = gzipped(t, doc)
		} else if strings.HasSuffix(n, ".zst") {
			files[n] = zstded(t, doc)
		}
	}
	mem := newMemFS(files)
	dir := t.TempDir()
	for n, data := range files {
		writeFile(t, filepath.Join(dir, n), data)
	}
	t.Chdir(dir)
	for _, c := range []struct {
		format Format
		inputs string
		want   string // paths, or an error behind "!"
	}{
		{"", "d", "a.jsonl b.json.gz c.ndjson.zst sub/a.jsonl sub/deep/e.JSONL"},
		{"", "d/", "a.jsonl b.json.gz c.ndjson.zst sub/a.jsonl sub/deep/e.JSONL"},
		{"", "./d d", "a.jsonl b.json.gz c.ndjson.zst sub/a.jsonl sub/deep/e.JSONL"},
		{"", "d/sub/../../e", "a.jsonl f.json"},
		{"", "d/a.jsonl", "a.jsonl"},
		{"", "d/a.jsonl d/sub/a.jsonl", "a.jsonl sub/a.jsonl"},
		{"", "d/a.jsonl e/a.jsonl", "d/a.jsonl e/a.jsonl"},
		{"", "d/_tmp/x.jsonl", "x.jsonl"},
		{"", "d/_tmp", "x.jsonl"},
		{"", "d e", "d/a.jsonl d/b.json.gz d/c.ndjson.zst d/sub/a.jsonl d/sub/deep/e.JSONL e/a.jsonl e/f.json"},
		// A file that several inputs hold is taken once, from the outermost; inputs left without files do not count.
		{"", "d d/a.jsonl d/sub d/s*/*.jsonl", "a.jsonl b.json.gz c.ndjson.zst sub/a.jsonl sub/deep/e.JSONL"},
		{"", "d/sub e/f.json", "e/f.json sub/a.jsonl sub/deep/e.JSONL"},
		// Globs.
		{"", "d/*.jsonl", "a.jsonl"},
		{"", "d/*", "a.jsonl b.json.gz c.ndjson.zst sub/a.jsonl sub/deep/e.JSONL"},
		{"", "d/**", "a.jsonl b.json.gz c.ndjson.zst sub/a.jsonl sub/deep/e.JSONL"},
		{"", "d/**/*.jsonl", "a.jsonl sub/a.jsonl"},
		{"", "d/**/_*.jsonl", "sub/_part.jsonl"},
		{"", "d/**/_*/*.jsonl", "_tmp/x.jsonl"},
		{"", "d/.*.jsonl", ".hidden.jsonl"},
		{"", "*/a.jsonl", "d/a.jsonl e/a.jsonl"},
		{"", "{d,e}/a.jsonl", "d/a.jsonl e/a.jsonl"},
		{"", "d/?.json*", "a.jsonl b.json.gz"},
		{"", "d/*/*.jsonl e/*.json", "d/sub/a.jsonl e/f.json"},
		{"", "star/[1].jsonl", "[1].jsonl"},
		{"", "star/[0-9].jsonl", "1.jsonl"},
		// Formats.
		{JSONL, "d/a.jsonl d/README.md", "README.md a.jsonl"},
		{JSONL, "d/*.md", "README.md"},
		{JSONL, "d/*.jsonl", "a.jsonl"},
		{Files, "txt", "a.txt b sub/__init__.py"},
		{Files, "txt/**/*.py", "sub/__init__.py"},
		{Files, "d/sub/**", "_part.jsonl a.jsonl deep/e.JSONL"},
		// What is refused.
		{"", "", "!no input is given"},
		{"", "nowhere", "!nowhere does not exist"},
		{"", "nowhere/*.jsonl", "!nowhere/*.jsonl matches nothing: nowhere is not a folder"},
		{"", "d/*.csv", "!d/*.csv matches nothing"},
		{"", "d/*.md", "!d/*.md: the name of d/README.md does not say what it is; give --format"},
		{"", "d/README.md", "!d/README.md: its name does not say what it is; give --format"},
		{"", "d/[", "!d/[ is not a valid glob"},
		{"", "txt", "!txt has no Parquet or JSON Lines files in it, only others such as txt/a.txt; --format files takes each file as a document"},
		{Parquet, "d", "!d has no parquet files in it, only others such as d/README.md"},
		{"csv", "d", `!unknown format "csv"; the formats are parquet, jsonl and files`},
	} {
		for _, fsys := range []FS{mem, Local()} {
			in := strings.Fields(c.inputs)
			s, err := Resolve(context.Background(), fsys, in, Options{Format: c.format})
			if strings.HasPrefix(c.want, "!") {
				wantError(t, err, ErrInput, c.want[1:])
				continue
			}
			if err != nil {
				t.Errorf("%T %s: %v", fsys, c.inputs, err)
				continue
			}
			if got := strings.Join(paths(s), " "); got != c.want {
				t.Errorf("%T %s: got\n%s\nwant\n%s", fsys, c.inputs, got, c.want)
			}
			slices.Reverse(in)
			again := mustResolve(t, fsys, Options{Format: c.format}, in...)
			if !reflect.DeepEqual(s.Files, again.Files) {
				t.Errorf("%T %s: depends on the order of the inputs", fsys, c.inputs)
			}
		}
	}
	// Two folders of one name collide only where they hold files of one path.
	s := mustResolve(t, mem, Options{}, "d", "x/d")
	if got := paths(s); !slices.Contains(got, "d/z.jsonl") {
		t.Errorf("%v", got)
	}
	mem.put("x/d/a.jsonl", []byte(doc))
	_, err := Resolve(context.Background(), mem, []string{"x/d", "d"}, Options{})
	wantError(t, err, ErrInput, "d/a.jsonl and x/d/a.jsonl would both become d/a.jsonl; rename one, or give a folder that holds both as the input")
	mem.put("q/p/a", []byte(doc))
	mem.put("q/w/p/a/b", []byte(doc))
	_, err = Resolve(context.Background(), mem, []string{"q/p", "q/w/p"}, Options{Format: Files})
	wantError(t, err, ErrInput, "q/p/a would become p/a, and q/w/p/a/b the folder of that name; rename one")
	mem.put("m/p.parquet", makeTexts(t, []string{"a"}, 0, 1, 0))
	_, err = Resolve(context.Background(), mem, []string{"m"}, Options{})
	wantError(t, err, ErrInput, "the formats are mixed: m/1.jsonl is jsonl, m/p.parquet is not; give --format to choose, or run once for each")
	if got := paths(mustResolve(t, mem, Options{Format: JSONL}, "m")); !slices.Equal(got, []string{"1.jsonl"}) {
		t.Errorf("%v", got)
	}
	_, err = Resolve(context.Background(), mem, []string{"txt"}, Options{Format: Files, IDField: "id"})
	wantError(t, err, ErrInput, "have no fields")
}

func TestResolveLinks(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	writeFile(t, "real/a.jsonl", doc)
	writeFile(t, "real/sub/b.jsonl", doc)
	writeFile(t, "else/where/c.jsonl", doc)
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, name); err != nil {
			t.Skip(err)
		}
	}
	link("sub", "real/again")           // a second way to a folder
	link(".", "real/loop")              // a loop
	link("../../real", "real/sub/back") // another
	link("a.jsonl", "real/z.jsonl")     // a second name of a file
	link("../else/where", "real/far")   // a folder elsewhere
	link("nowhere", "real/dangling.txt")
	link("real", "alias")
	s := mustResolve(t, Local(), Options{}, "real")
	if got, want := paths(s), []string{"a.jsonl", "far/c.jsonl", "sub/b.jsonl"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := []Alias{{"real/z.jsonl", "real/a.jsonl"}}; !slices.Equal(s.Aliases, want) {
		t.Errorf("aliases %v, want %v", s.Aliases, want)
	}
	if got := paths(mustResolve(t, Local(), Options{}, "real", "alias")); len(got) != 3 {
		t.Errorf("through a link: %v", got)
	}
	if got := paths(mustResolve(t, Local(), Options{}, "alias/sub/../../else/where")); !slices.Equal(got, []string{"c.jsonl"}) {
		t.Errorf("through a link and back: %v", got)
	}
	if got := paths(mustResolve(t, Local(), Options{Format: Files}, "real")); !slices.Equal(got, []string{"a.jsonl", "sub/b.jsonl"}) {
		t.Errorf("files: %v", got)
	}
	link("nowhere", "real/dangling.jsonl")
	_, err := Resolve(t.Context(), Local(), []string{"real"}, Options{})
	wantError(t, err, ErrInput, "real/dangling.jsonl is a link that leads nowhere")
}

func TestResolveOddFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "d/a.txt", "x")
	l, err := net.Listen("unix", "d/socket")
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	s := mustResolve(t, Local(), Options{Format: Files}, "d")
	if got := paths(s); !slices.Equal(got, []string{"a.txt"}) {
		t.Errorf("%v", got)
	}
	_, err = Resolve(t.Context(), Local(), []string{"d/socket"}, Options{Format: Files})
	wantError(t, err, ErrInput, "d/socket is neither a file nor a folder")
	if err := os.MkdirAll("empty/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = Resolve(t.Context(), Local(), []string{"empty"}, Options{})
	wantError(t, err, ErrInput, "empty has no files in it")
	if os.Getuid() == 0 {
		return // may read everything
	}
	if err := os.Chmod("d", 0); err != nil {
		t.Fatal(err)
	}
	_, err = Resolve(t.Context(), Local(), []string{"d"}, Options{})
	wantError(t, err, fs.ErrPermission, "d cannot be listed")
	if err := os.Chmod("d", 0o755); err != nil {
		t.Fatal(err)
	}
}

// A file system that refuses, as a disk does to a user without permission.
type refusing struct {
	FS
	list, open string
}

func (r refusing) List(ctx context.Context, name string) ([]Info, error) {
	if name == r.list {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return r.FS.List(ctx, name)
}

func (r refusing) Open(ctx context.Context, name string) (Object, error) {
	if name == r.open {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return r.FS.Open(ctx, name)
}

func TestResolvePermission(t *testing.T) {
	m := newMemFS(map[string]string{"d/a.jsonl": doc, "d/s/b.jsonl": doc})
	_, err := Resolve(t.Context(), refusing{FS: m, list: "d/s"}, []string{"d"}, Options{})
	wantError(t, err, fs.ErrPermission, "corpus: input cannot be used: d/s cannot be listed: open d/s: permission denied")
	_, err = Resolve(t.Context(), refusing{FS: m, open: "d/s/b.jsonl"}, []string{"d"}, Options{})
	wantError(t, err, fs.ErrPermission, "corpus: open d/s/b.jsonl: permission denied")
}

func TestChanged(t *testing.T) {
	t.Chdir(t.TempDir())
	pq := makeTexts(t, []string{"a", "b"}, 0, 1, 0)
	for name, data := range map[string]string{"a.jsonl": doc, "b.parquet": string(pq), "c.txt": "text"} {
		writeFile(t, name, data)
		o := Options{}
		if name == "c.txt" {
			o.Format = Files
		}
		s := mustResolve(t, Local(), o, name)
		if err := s.Changed(t.Context(), 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		mtime := s.Files[0].ModTime
		touch := func(to time.Time) {
			t.Helper()
			if err := os.Chtimes(name, to, to); err != nil {
				t.Fatal(err)
			}
		}
		touch(mtime.Add(time.Second))
		wantError(t, s.Changed(t.Context(), 0), ErrChanged, name+": the file changed since the run began: it was last changed at")
		bent := []byte(data)
		bent[len(bent)-10%len(bent)-1] ^= 1
		writeFile(t, name, string(bent))
		touch(mtime)
		wantError(t, s.Changed(t.Context(), 0), ErrChanged, name+": the file changed since the run began: its contents are others")
		writeFile(t, name, data+" ")
		touch(mtime)
		wantError(t, s.Changed(t.Context(), 0), ErrChanged, fmt.Sprintf("%s: the file changed since the run began: its size is %d bytes, it was %d", name, len(data)+1, len(data)))
		_, err := readSplit(t, s, Split{}, ReadOptions{})
		wantError(t, err, ErrChanged, name)
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		wantError(t, s.Changed(t.Context(), 0), fs.ErrNotExist, name)
	}
}

func TestWarnings(t *testing.T) {
	m := newMemFS(map[string]string{"a.jsonl": `{"body":"a","id":1}` + "\n", "b.jsonl": `{"body":1,"text":null}`})
	s := mustResolve(t, m, Options{}, "a.jsonl", "b.jsonl")
	want := []string{`field "text" is in none of the first 1 documents of a.jsonl; the first has ["body" "id"]`}
	if !slices.Equal(s.Warnings, want) {
		t.Errorf("%q", s.Warnings)
	}
	if s := mustResolve(t, m, Options{}, "b.jsonl"); len(s.Warnings) != 0 {
		t.Errorf("%q", s.Warnings)
	}
}

// Splits cover every row once, whatever their size, and survive JSON, as does the set.
func TestSplits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	m := newMemFS(nil)
	var want []row
	m.put("d/0.jsonl", nil)
	m.put("d/z.jsonl", []byte("\n\n\n"))
	for i := 1; i < 6; i++ {
		lines, rows := manyLines(rnd, 10*i*i)
		name := fmt.Sprintf("d/%d.jsonl", i)
		switch i {
		case 2:
			name += ".gz"
			lines = gzipped(t, lines)
		case 3:
			lines = strings.TrimSuffix(lines, "\n")
		}
		m.put(name, []byte(lines))
		for _, r := range rows {
			r.Ord += Ordinal(i, 0)
			want = append(want, r)
		}
	}
	s := mustResolve(t, m, Options{Workers: 3}, "d")
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	back := &Set{FS: m}
	if err := json.Unmarshal(data, back); err != nil {
		t.Fatal(err)
	}
	for _, target := range []int64{1, 10, 333, 1000, 20_000, 1 << 40} {
		splits, err := s.Splits(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		again, err := back.Splits(t.Context(), target)
		if err != nil || !reflect.DeepEqual(splits, again) {
			t.Errorf("target %d: other splits the second time (%v)", target, err)
		}
		for _, sp := range splits {
			if sp.First == sp.Last && sp.End > 0 && sp.Size > target+600 {
				t.Errorf("target %d: %+v", target, sp)
			}
		}
		if target == 1<<40 && len(splits) != 1 {
			t.Errorf("%d splits of everything", len(splits))
		}
		if got := readAll(t, back, target, ReadOptions{BatchRows: 50}); !slices.Equal(got, want) {
			t.Errorf("target %d: %d rows, want %d", target, len(got), len(want))
		}
	}
	for _, sp := range []Split{{First: -1}, {Last: 9}, {First: 2, Last: 1}, {Offset: 5, End: 2}, {End: 1 << 40}} {
		if _, err := s.Open(sp, ReadOptions{}); err == nil {
			t.Errorf("%+v was opened", sp)
		}
	}
	if _, err := s.Splits(t.Context(), 0); err == nil {
		t.Error("splits of no bytes")
	}
}

func TestSplitsParquet(t *testing.T) {
	f := loadFixtures(t)
	s := mustResolve(t, Local(), fixtureOptions, fixturePath("plain_none_v1.parquet"), fixturePath("dict_none_v1.parquet"))
	splits, err := s.Splits(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(splits) != 6 || splits[4].FirstGroup != 1 || splits[4].EndGroup != 2 {
		t.Errorf("%+v", splits)
	}
	var want []row
	for i, name := range []string{"dict_none_v1.parquet", "plain_none_v1.parquet"} {
		for _, r := range f.want(name) {
			r.Ord += Ordinal(i, 0)
			want = append(want, r)
		}
	}
	for _, target := range []int64{1, 2000, 1 << 30} {
		if got := readAll(t, s, target, ReadOptions{}); !slices.Equal(got, want) {
			t.Errorf("target %d: got\n%v\nwant\n%v", target, got, want)
		}
	}
}

func TestReadFiles(t *testing.T) {
	m := newMemFS(map[string]string{"d/a": "one", "d/b": "", "d/c": "\xff\x00", "d/e": strings.Repeat("x", 5000)})
	s := mustResolve(t, m, Options{Format: Files}, "d")
	want := []row{{Ord: 0, Text: "one"}, {Ord: 1 << 32}, {Ord: 2 << 32, Text: "\xff\x00"}, {Ord: 3 << 32, Text: strings.Repeat("x", 5000)}}
	for _, o := range []ReadOptions{{}, {BatchRows: 1}, {BatchBytes: 4}} {
		if got := readAll(t, s, 10, o); !slices.Equal(got, want) {
			t.Errorf("%+v: %v", o, got)
		}
	}
	before := m.readBytes("d/a")
	got, err := readSplit(t, s, Split{Last: 3}, ReadOptions{Select: these(1<<32, 3<<32)})
	if err != nil || len(got) != 2 || m.readBytes("d/a") != before {
		t.Errorf("%d rows, %v", len(got), err)
	}
	_, err = readSplit(t, s, Split{Last: 3}, ReadOptions{BatchBytes: 10, MaxBytes: 100})
	wantError(t, err, err, "corpus: d/e: row 0 needs 5000 bytes to be read, the limit is 100")
}
