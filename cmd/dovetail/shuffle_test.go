package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/dovetail-dedup/dovetail/dedup/table"
)

func writeParquet(t *testing.T, path string, keys ...string) string {
	t.Helper()
	b := array.NewStringBuilder(memory.DefaultAllocator)
	b.AppendValues(keys, nil)
	schema := arrow.NewSchema([]arrow.Field{{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(schema, f, nil, pqarrow.DefaultWriterProps())
	if err == nil {
		err = w.Write(array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, int64(len(keys))))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestShuffle(t *testing.T) {
	dir := t.TempDir()
	a := writeParquet(t, filepath.Join(dir, "in", "a.parquet"), "A", "b", "A")
	b := writeParquet(t, filepath.Join(dir, "in", "b.parquet"), "c")
	out := filepath.Join(dir, "out")
	args := []string{"shuffle", "--input", a, b, "--on", "key", "--total-nparts", "4", "--output", out, "--progress", "none"}
	code, stdout, stderr := dovetail(args...)
	if code != 0 || stderr != "" {
		t.Fatal(code, stderr)
	}
	for _, want := range []string{"4 rows, 2 files", "4 rows, 4 files", "digest"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q does not say %q", stdout, want)
		}
	}
	res, err := table.ReadResult(out)
	if err != nil {
		t.Fatal(err)
	}
	// cuDF hashes "A" to 1423767502, which is 2 modulo 4.
	if res.Partitions[2].Rows < 2 || res.Ledger.Written != 4 {
		t.Errorf("%+v", res.Partitions)
	}
	if code, stdout, _ = dovetail(args...); code != 0 || !strings.Contains(stdout, "already done") {
		t.Errorf("the same again: %d %q", code, stdout)
	}
}

func TestShuffleMistakes(t *testing.T) {
	dir := t.TempDir()
	good := writeParquet(t, filepath.Join(dir, "in", "a.parquet"), "x")
	text := writeFile(t, filepath.Join(dir, "text", "a.parquet"), "no table at all")
	out := filepath.Join(dir, "out")
	with := func(args ...string) []string {
		return append([]string{"shuffle", "--progress", "none", "--output", out}, args...)
	}
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"shuffle"}, 2, []string{"--input", "--output", "--on", "--total-nparts"}},
		{with("--input", good, "--on", "key", "--total-nparts", "2", "--partition", "best"), 2, []string{`"best"`, "hash or range"}},
		{with("--input", good, "--on", "key,key", "--total-nparts", "2"), 2, []string{"named twice"}},
		{with("--input", good, "--on", "key", "--total-nparts", "2", "--memory-limit", "1MiB"), 2, []string{"--memory-limit", "smallest"}},
		{with("--input", good, "--on", "key", "--total-nparts", "2", "--row-group-size", "big"), 2, []string{"--row-group-size", `"big"`}},
		{with("--input", good, "--on", "kee", "--total-nparts", "2"), 1, []string{`"kee"`, "key (utf8)"}},
		{with("--input", text, "--on", "key", "--total-nparts", "2"), 1, []string{text, "not a Parquet file"}},
		{with("--input", filepath.Join(dir, "nowhere"), "--on", "key", "--total-nparts", "2"), 1, []string{"nowhere"}},
	} {
		code, _, stderr := dovetail(c.args...)
		if code != c.code || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "dovetail: ") {
			t.Errorf("%q: exit code %d, want %d, with one line: %q", c.args, code, c.code, stderr)
		}
		for _, s := range c.says {
			if !strings.Contains(stderr, s) {
				t.Errorf("%q: %q does not say %q", c.args, stderr, s)
			}
		}
	}
	if left, _ := filepath.Glob(out + "*"); len(left) > 0 {
		t.Errorf("mistakes left %v", left)
	}
}
