package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBench measures one workload, small, writes all forms of the table and reads it back; a second run of another workload
// keeps the first.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	command := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := run(append([]string{"bench"}, args...), &out, &errs); got != want {
			t.Fatalf("%q: exit code %d, %s", args, got, errs.String())
		}
		return out.String() + errs.String()
	}
	common := []string{"run", "--dir", dir, "--quick", "--without-rivals", "--rounds", "2", "--json", at("t.json"), "--markdown", at("t.md"), "--gobench", at("t.txt")}
	out := command(0, append(common, "--only", "partition")...)
	if !strings.Contains(out, "| hash-partition 16-byte rows, P = 256, of memcpy | >= 0.4 |") {
		t.Errorf("no row in\n%s", out)
	}
	command(0, append(common, "--only", "gpu|ucx")...)
	out = command(0, "table", "--json", at("t.json"))
	for _, want := range []string{"hash-partition", "| gpu |", "| ucx |"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	page, err := os.ReadFile(at("t.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(page), out) {
		t.Errorf("the page is\n%s\nand the table\n%s", page, out)
	}
	turns, err := os.ReadFile(at("t.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(turns), "BenchmarkRatios/partition/partition-by-memcpy/"); n != 2 {
		t.Errorf("%d turns in\n%s", n, turns)
	}
	if left, err := filepath.Glob(at("scratch-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, wrong := range [][]string{
		{"run", "--dir", dir, "--rounds", "0"}, {"run", "--dir", dir, "--only", "nothing"}, {"run", "--dir", dir, "--only", "("},
		{"data", "--dir", dir, "--size", "huge"}, {"scale", "--dir", dir, "--first", "0"}, {"table"},
	} {
		command(2, wrong...)
	}
	command(1, "table", "--json", at("none.json"))
}
