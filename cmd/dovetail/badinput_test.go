package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func fixture(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "dedup", "corpus", "testdata", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func gzipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstded(t *testing.T, s string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(true))
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(s), nil))
}

// bent returns s with some bytes in the middle changed.
func bent(s string) string {
	b := []byte(s)
	for i := len(b) / 2; i < len(b)/2+8; i++ {
		b[i] ^= 0x5a
	}
	return string(b)
}

// badInput is an input that has something wrong with it, and what the program makes of it.
type badInput struct {
	name  string
	files map[string]string
	links map[string]string
	args  []string
	says  []string // nothing: it is no error
	// skips is what --on-bad-file skip --on-bad-record skip makes of it, beside a good file: the exit code.
	skips int
}

func badInputs(t *testing.T) []badInput {
	good := fixture(t, "parquet/dict_snappy_v1.parquet")
	var lines strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&lines, "{\"text\":\"this is text number %d\"}\n", i*i)
	}
	gz, zst := gzipped(t, lines.String()), zstded(t, lines.String())
	sums := fixture(t, "sums/none.parquet")
	one := func(name, data string) map[string]string { return map[string]string{name: data} }
	id := []string{"--id-field", "id"}
	return []badInput{
		{"parquet cut off", one("x.parquet", good[:len(good)/2]), nil, nil, []string{"x.parquet", "cut off", "--on-bad-file skip"}, 3},
		{"parquet without a start", one("x.parquet", good[len(good)/2:]), nil, nil, []string{"x.parquet", "--on-bad-file skip"}, 3},
		{"parquet with a hole", one("x.parquet", good[:60]+strings.Repeat("\x00", 300)+good[360:]), nil, nil, []string{"x.parquet: row group 0", "--on-bad-file skip"}, 3},
		{"parquet with a wrong checksum", one("x.parquet", strings.Replace(sums, "sat mat", "sat mau", 1)), nil, nil, []string{"x.parquet: row group ", `column "text": page 0: the checksum does not match`}, 3},
		{"parquet of nothing", one("x.parquet", ""), nil, nil, []string{"x.parquet", "0 bytes"}, 3},
		{"parquet that is something else", one("x.parquet", lines.String()), nil, nil, []string{"x.parquet", "not a Parquet file"}, 3},
		{"parquet of no rows", one("x.parquet", fixture(t, "parquet/empty.parquet")), nil, nil, nil, 0},
		{"gzip cut off", one("x.jsonl.gz", gz[:len(gz)/2]), nil, nil, []string{"x.jsonl.gz", "ends too early", "--on-bad-file skip"}, 3},
		{"gzip without a trailer", one("x.jsonl.gz", gz[:len(gz)-8]), nil, nil, []string{"x.jsonl.gz", "ends too early"}, 3},
		{"gzip damaged", one("x.jsonl.gz", bent(gz)), nil, nil, []string{"x.jsonl.gz", "cannot be decompressed"}, 3},
		{"gzip of nothing", one("x.jsonl.gz", ""), nil, nil, []string{"x.jsonl.gz", "empty"}, 3},
		{"no gzip", one("x.jsonl.gz", lines.String()), nil, nil, []string{"x.jsonl.gz", "gzip"}, 3},
		{"zstd cut off", one("x.jsonl.zst", zst[:len(zst)/2]), nil, nil, []string{"x.jsonl.zst", "ends too early"}, 3},
		{"zstd damaged", one("x.jsonl.zst", bent(zst)), nil, nil, []string{"x.jsonl.zst", "cannot be decompressed"}, 3},
		{"zstd of nothing", one("x.jsonl.zst", ""), nil, nil, []string{"x.jsonl.zst", "empty"}, 3},
		{"no zstd", one("x.jsonl.zst", lines.String()), nil, nil, []string{"x.jsonl.zst", "cannot be decompressed"}, 3},
		{"a line that is no JSON", one("x.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\"\n"), nil, nil, []string{"x.jsonl:3: ", "--on-bad-record skip"}, 3},
		{"a line cut off", one("x.jsonl", "{\"text\":\"a\"}\n{\"te"), nil, nil, []string{"x.jsonl:2: "}, 3},
		{"a text that is a number", one("x.jsonl", "{\"text\":\"a\"}\n{\"text\":1}"), nil, nil, []string{"x.jsonl:2: ", `field "text" is a number`}, 3},
		{"ids of two types", one("x.jsonl", "{\"text\":\"a\",\"id\":1}\n{\"text\":\"b\",\"id\":\"2\"}"), nil, id, []string{"x.jsonl:2: ", `field "id" is a string`}, 3},
		{"a null id", one("x.jsonl", "{\"text\":\"a\",\"id\":1}\n{\"text\":\"b\"}"), nil, id, []string{"x.jsonl:2: ", `field "id" is missing`}, 3},
		{"one id twice", one("x.jsonl", "{\"text\":\"a\",\"id\":1}\n{\"text\":\"b\",\"id\":1}"), nil, id, []string{"id 1 ", "x.jsonl:1 and ", "x.jsonl:2", "--on-duplicate-id warn"}, 1},
		{"no such column", one("x.parquet", fixture(t, "parquet/empty.parquet")), nil, []string{"--text-field", "body"}, []string{"x.parquet", `no column "body"`, "the columns are text (string), id (int64)"}, 1},
		{"a column of numbers", one("x.parquet", good), nil, []string{"--text-field", "score"}, []string{"x.parquet", `column "score" has type double`}, 1},
		{"a list", one("x.parquet", fixture(t, "parquet/wide_none.parquet")), nil, []string{"--text-field", "tags"}, []string{"x.parquet", `column "tags" has type list`}, 1},
		{"a column in one file only", map[string]string{"a.parquet": fixture(t, "parquet/wide_none.parquet"), "b.parquet": good}, nil, []string{"--keep", "field:i8"}, []string{"b.parquet", `no column "i8"`}, 3},
		{"string, large, dictionary and binary", map[string]string{
			"a.parquet": good, "b.parquet": fixture(t, "parquet/text_large_string.parquet"), "c.parquet": fixture(t, "parquet/text_dictionary.parquet"),
			"d.parquet": fixture(t, "parquet/text_binary.parquet"), "e.parquet": fixture(t, "parquet/all_null.parquet"), "f.parquet": fixture(t, "parquet/required.parquet"),
		}, nil, nil, nil, 0},
		{"nothing", nil, nil, nil, []string{"has no files"}, 0},
		{"a file of nothing", one("x.jsonl", ""), nil, nil, nil, 0},
		{"not UTF-8", one("x.jsonl", "{\"text\":\"a\xff\xfeb\"}\n{\"text\":\"caf\xc3\"}\n"), nil, nil, nil, 0},
		{"a NUL in a text", one("x.jsonl", "{\"text\":\"a\\u0000b\"}\n"), nil, nil, nil, 0},
		{"a broken link", nil, map[string]string{"x.jsonl": "nowhere"}, nil, []string{"x.jsonl", "leads nowhere"}, 1},
		{"a link to itself", nil, map[string]string{"x.jsonl": "x.jsonl"}, nil, []string{"x.jsonl", "leads nowhere"}, 1},
		{"a folder in itself", one("x.jsonl", "{\"text\":\"a\"}\n"), map[string]string{"again": "."}, nil, nil, 0},
	}
}

func (b *badInput) write(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, data := range b.files {
		writeFile(t, filepath.Join(dir, name), data)
	}
	for name, to := range b.links {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
}

// checkLine looks at what is printed about a failure: one line that says everything.
func checkLine(t *testing.T, stderr string, says []string) {
	t.Helper()
	if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "dovetail: ") {
		t.Errorf("not one line: %q", stderr)
	}
	for _, s := range says {
		if !strings.Contains(stderr, s) {
			t.Errorf("%q does not say %q", stderr, s)
		}
	}
}

// Whatever is wrong with the input, one line names it, and there is no output.
func TestBadInput(t *testing.T) {
	for _, b := range badInputs(t) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
			b.write(t, in)
			code, _, stderr := dovetail(append([]string{"dedup", "--progress", "none", "--input", in, "--output", out}, b.args...)...)
			left, err := filepath.Glob(out + "*")
			if err != nil {
				t.Fatal(err)
			}
			if len(b.says) == 0 {
				if code != 0 || stderr != "" || len(left) != 1 {
					t.Errorf("exit code %d, left %v: %s", code, left, stderr)
				}
				return
			}
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			checkLine(t, stderr, b.says)
			for _, path := range left {
				if path != out+".work" {
					t.Errorf("left %s", path)
				}
			}
		})
	}
}

// The same, beside a good file, with leave to leave out what is bad.
func TestBadInputSkipped(t *testing.T) {
	for _, b := range badInputs(t) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
			b.write(t, in)
			name, data := "zz.jsonl", "{\"text\":\"good\",\"id\":77}\n"
			for f := range b.files {
				if strings.HasSuffix(f, ".parquet") {
					name, data = "zz.parquet", fixture(t, "parquet/wide_none.parquet")
				}
			}
			writeFile(t, filepath.Join(in, name), data)
			code, _, stderr := dovetail(append([]string{"dedup", "--progress", "none", "--on-bad-file", "skip", "--on-bad-record", "skip", "--input", in, "--output", out}, b.args...)...)
			if code != b.skips {
				t.Fatalf("exit code %d, want %d: %s", code, b.skips, stderr)
			}
			if code == 0 {
				return
			}
			if code == 1 {
				checkLine(t, stderr, nil)
				return
			}
			checkLine(t, stderr, []string{"done, but", "left out", "run.json"})
			run, err := os.ReadFile(filepath.Join(out, "run.json"))
			if err != nil || !strings.Contains(string(run), `"reason": "`) {
				t.Errorf("run.json does not say why (%v)", err)
			}
			if _, err := os.Stat(filepath.Join(out, "kept", name)); err != nil {
				t.Error(err)
			}
			code, _, stderr = dovetail(append([]string{"dedup", "--progress", "none", "--on-bad-file", "skip", "--on-bad-record", "skip", "--input", in, "--output", out}, b.args...)...)
			if code != 3 {
				t.Errorf("the same again: exit code %d: %s", code, stderr)
			}
		})
	}
}

func TestNoPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	for _, c := range []struct{ locked, says string }{{"in/x.jsonl", "in/x.jsonl: permission denied"}, {"in", "cannot be listed"}} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "in", "x.jsonl"), "{\"text\":\"a\"}\n")
		path := filepath.Join(dir, filepath.FromSlash(c.locked))
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(path, 0o700) // so that the folder can be removed
		code, _, stderr := dovetail("dedup", "--progress", "none", "--on-bad-file", "skip", "--input", filepath.Join(dir, "in"), "--output", filepath.Join(dir, "out"))
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
		checkLine(t, stderr, []string{c.says})
	}
}
