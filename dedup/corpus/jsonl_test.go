package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/dovetail-dedup/dovetail/mem"
)

func TestJSONLDocuments(t *testing.T) {
	lines := "\xef\xbb\xbf{\"text\":\"one\",\"id\":7,\"n\":1}\r\n\n \t\r\n{\"id\":-8,\"n\":null}\n{\"text\":null,\"id\":9,\"n\":true}\n{\"text\":\"\\u00e9\",\"id\":10,\"n\":-1e999}"
	want := []row{
		{Ord: 0, Text: "one", Int: 7, Keep: numberKey(1)}, {Ord: 3, Null: true, Int: -8}, {Ord: 4, Null: true, Int: 9, Keep: numberKey(1)},
		{Ord: 5, Text: "é", Int: 10, Keep: numberKey(math.Inf(-1))},
	}
	fsys := newMemFS(map[string]string{
		"a.jsonl": lines, "b.json.gz": gzipped(t, lines), "c.ndjson.gz": gzipped(t, lines[:33], "", lines[33:]), "d.jsonl.zst": zstded(t, lines[:33], "", lines[33:]),
	})
	for name := range fsys.files {
		s := mustResolve(t, fsys, Options{IDField: "id", KeepField: "n"}, name)
		if s.IDKind != IntIDs {
			t.Errorf("ids of kind %q", s.IDKind)
		}
		for _, o := range []ReadOptions{{}, {BatchRows: 1}, {BatchBytes: 1}, {BatchBytes: 4}} {
			for target := int64(1); target < 200; target += 13 {
				if got := readAll(t, s, target, o); !slices.Equal(got, want) {
					t.Fatalf("%s, %+v, target %d: got\n%v\nwant\n%v", name, o, target, got, want)
				}
			}
		}
	}
}

func TestJSONLStringIDs(t *testing.T) {
	s := mustResolve(t, newMemFS(map[string]string{"a.jsonl": `{"text":"x","id":"\u0061"}` + "\n" + `{"text":"y","id":"b"}`}), Options{IDField: "id"}, "a.jsonl")
	got := readAll(t, s, 1, ReadOptions{})
	if s.IDKind != StringIDs || got[0].Str != "a" || got[1].Str != "b" {
		t.Errorf("%s %v", s.IDKind, got)
	}
}

func TestJSONLFaults(t *testing.T) {
	ok := `{"text":"a","id":1,"n":1}` + "\n"
	for _, c := range []struct{ lines, want string }{
		{"\n" + ok + `{"text":"a"`, "x.jsonl:3: the line ends inside a JSON value"},
		{ok + `{"text":1}`, `x.jsonl:2: field "text" is a number, a text must be a string or null`},
		{ok + `{"text":["a"]}`, `x.jsonl:2: field "text" is an array, a text must be a string or null`},
		{ok + `{"text":"a","id":1,"n":"2"}`, `x.jsonl:2: field "n" is a string, to compare documents by it it must be a number`},
		{ok + `{"text":"a","id":"1"}`, `x.jsonl:2: field "id" is a string, the ids before it are of type int64`},
		{ok + `{"text":"a","id":1.5}`, `x.jsonl:2: field "id" is 1.5, which is no 64-bit integer`},
		{ok + `{"text":"a","id":9223372036854775808}`, `x.jsonl:2: field "id" is 9223372036854775808, which is no 64-bit integer`},
		{ok + `{"text":"a"}`, `x.jsonl:2: field "id" is missing, an id must be an integer or a string`},
		{ok + `{"text":"a","id":null}`, `x.jsonl:2: field "id" is null, an id must be an integer or a string`},
		{"[\n" + ok, `x.jsonl:1: not a JSON object: "[\n" at byte 1; JSON Lines has one object to a line, for instance from jq -c '.[]'`},
		{"{\n  \"text\": \"a\"}\n", `x.jsonl:1: the line ends inside a JSON value; JSON Lines has one object to a line`},
		{gzipped(t, ok), "x.jsonl:1: not a JSON object"},
		{gzipped(t, ok), "the file looks like gzip: name it .jsonl.gz"},
		{zstded(t, ok), "the file looks like zstd: name it .jsonl.zst"},
	} {
		fsys := newMemFS(map[string]string{"x.jsonl": c.lines})
		s, err := Resolve(t.Context(), fsys, []string{"x.jsonl"}, Options{IDField: "id", KeepField: "n"})
		if err == nil {
			_, err = readSplit(t, s, Split{}, ReadOptions{})
		}
		wantError(t, err, ErrRecord, c.want)
		var fe *FileError
		if !errors.As(err, &fe) || fe.Name != "x.jsonl" || fe.Line == 0 {
			t.Errorf("%#v", err)
		}
	}
}

func TestCompressedFaults(t *testing.T) {
	text := strings.Repeat(`{"text":"some words that are not all the same `+"\\n"+`"}`+"\n", 3000)
	for name, data := range map[string]string{"x.jsonl.gz": gzipped(t, text, text), "x.jsonl.zst": zstded(t, text, text)} {
		for _, c := range []struct{ what, data string }{
			{"cut", data[:len(data)*2/3]}, {"cut by a byte", data[:len(data)-1]}, {"empty", ""}, {"other", text},
			{"bent", data[:len(data)/3] + string(data[len(data)/3]^0x10) + data[len(data)/3+1:]}, {"followed", data + "more"},
		} {
			fsys := newMemFS(map[string]string{name: c.data})
			s, err := Resolve(t.Context(), fsys, []string{name}, Options{})
			if err == nil {
				_, err = readSplit(t, s, Split{}, ReadOptions{})
			}
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, %s: %v", name, c.what, err)
			}
			t.Logf("%s, %s: %v", name, c.what, err)
		}
	}
}

// manyLines makes documents with blank lines between some of them.
func manyLines(rnd *rand.Rand, n int) (string, []row) {
	var b strings.Builder
	var rows []row
	for i := range n {
		if rnd.IntN(9) == 0 {
			b.WriteString("\n")
			continue
		}
		text := prose(rnd, rnd.IntN(300))
		fmt.Fprintf(&b, "{\"x\":%d,\"text\":%q}\n", i, text)
		rows = append(rows, row{Ord: uint64(i), Text: text})
	}
	return b.String(), rows
}

func TestJSONLSelect(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	lines, all := manyLines(rnd, 2000)
	fsys := newMemFS(map[string]string{"a.jsonl": lines, "a.jsonl.zst": zstded(t, lines)})
	for name := range fsys.files {
		s := mustResolve(t, fsys, Options{}, name)
		for _, share := range []int{1, 2, 30, 1000} {
			ords := []uint64{}
			var want []row
			for _, r := range all {
				if rnd.IntN(share) == 0 {
					ords, want = append(ords, r.Ord), append(want, r)
				}
			}
			if got := readEach(t, s, 50_000, func() ReadOptions { return ReadOptions{Select: these(ords...)} }); !slices.Equal(got, want) {
				t.Errorf("%s, one of %d: %d rows, want %d", name, share, len(got), len(want))
			}
		}
	}
	// A line that nobody wants is not parsed, and reading stops behind the last that is wanted.
	fsys.put("b.jsonl", []byte("{\"text\":\"a\"}\n{broken\n{\"text\":\"b\"}\n{broken\n"))
	s := mustResolve(t, fsys, Options{}, "b.jsonl")
	got, err := readSplit(t, s, Split{}, ReadOptions{Select: these(0, 2)})
	if err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	fsys.put("c.jsonl", []byte(lines))
	s = mustResolve(t, fsys, Options{}, "c.jsonl", "a.jsonl")
	before := fsys.readBytes("c.jsonl")
	if got, err := readSplit(t, s, Split{First: 0, Last: 1}, ReadOptions{Select: these(all[3].Ord)}); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if n := fsys.readBytes("c.jsonl") - before; n != 0 {
		t.Errorf("%d bytes read of a file without a selected row", n)
	}
}

// A line longer than all buffers is read if the limit allows it, and otherwise the reader says what would do.
func TestJSONLLongLines(t *testing.T) {
	long := strings.Repeat(prose(rand.New(rand.NewPCG(5, 6)), 1<<10), 3<<10)
	lines := fmt.Sprintf("{\"text\":\"a\"}\n{\"text\":%q}\n{\"text\":\"b\"}\n", long)
	fsys := newMemFS(map[string]string{"a.jsonl": lines, "a.jsonl.gz": gzipped(t, lines)})
	for name := range fsys.files {
		s := mustResolve(t, fsys, Options{}, name)
		got, err := readSplit(t, s, Split{}, ReadOptions{BatchBytes: 1 << 10})
		if err != nil || len(got) != 3 || got[1].Text != long {
			t.Fatalf("%s: %d rows, %v", name, len(got), err)
		}
		for _, limit := range []int64{1, 1 << 20, 4 << 20} {
			_, err = readSplit(t, s, Split{}, ReadOptions{BatchBytes: 1 << 10, MaxBytes: limit})
			var tl *TooLargeError
			if !errors.As(err, &tl) || tl.Row != 1 || tl.Limit != limit || tl.Need <= limit || !errors.Is(err, mem.ErrNoMemory) {
				t.Fatalf("%s, limit %d: %v", name, limit, err)
			}
			if got, err := readSplit(t, s, Split{}, ReadOptions{BatchBytes: 1 << 10, MaxBytes: tl.Need}); err != nil || len(got) != 3 {
				t.Errorf("%s, limit %d: %v", name, tl.Need, err)
			}
		}
		// Rows that are not wanted need no memory.
		got, err = readSplit(t, s, Split{}, ReadOptions{MaxBytes: 1, Select: these(0, 2)})
		if err != nil || len(got) != 2 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// An error of the file system is passed on and blamed on no file's contents.
func TestReadErrors(t *testing.T) {
	lines, _ := manyLines(rand.New(rand.NewPCG(7, 8)), 100)
	fsys := newMemFS(map[string]string{"a.jsonl": lines, "a.jsonl.gz": gzipped(t, lines), "a.jsonl.zst": zstded(t, lines)})
	fsys.put("a.parquet", makeTexts(t, []string{"a", "b"}, 0, 1, 0))
	for name := range fsys.files {
		s := mustResolve(t, fsys, Options{}, name)
		fsys.fail[name] = errTest
		_, err := readSplit(t, s, Split{}, ReadOptions{})
		if !errors.Is(err, errTest) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		delete(fsys.fail, name)
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errTest)
		r, err := s.Open(Split{}, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(ctx); !errors.Is(err, errTest) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A zstd file that asks for a large window is read if there is room for it, and refused with what it takes if not.
func TestZstdWindow(t *testing.T) {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, half := range []string{"{\"text\":", "\"a\"}"} { // written in two, so that the size is not known
		if _, err := w.Write([]byte(half)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := mustResolve(t, newMemFS(map[string]string{"a.jsonl.zst": b.String()}), Options{}, "a.jsonl.zst")
	var tl *TooLargeError
	if _, err := readSplit(t, s, Split{}, ReadOptions{MaxBytes: 10 << 20}); !errors.As(err, &tl) || tl.Need < 64<<20 {
		t.Fatalf("%v", err)
	}
	if got, err := readSplit(t, s, Split{}, ReadOptions{MaxBytes: tl.Need}); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}
