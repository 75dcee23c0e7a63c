package data

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStripHTML(t *testing.T) {
	for page, want := range map[string]string{
		"<html><head><title>no</title></head><body><h1>A  title</h1><p>One &amp;\n two<br>three</p></body>": "A title\nOne &\ntwo\nthree",
		"<p>a<script>if (1 < 2) {}</script>b<style>p{}</style>c":                                            "a b c",
		"plain <b>bold</b> text": "plain bold text",
		"":                       "",
	} {
		if got := stripHTML(page); got != want {
			t.Errorf("%q: %q, want %q", page, got, want)
		}
	}
}

func TestPageKey(t *testing.T) {
	for _, same := range [][]string{
		{"usr/share/man/man1/ls.1.gz", "usr/share/man/de/man1/ls.1.gz", "usr/share/man/pt_BR/man1/ls.1.gz", "usr/share/man/zh_CN/man1/ls.1.gz"},
		{"usr/share/libreoffice/help/de/text/a.html", "usr/share/libreoffice/help/pt-BR/text/a.html"},
	} {
		want := pageKey(same[0])
		for _, name := range same[1:] {
			if got := pageKey(name); got != want {
				t.Errorf("%s: %s, and %s: %s", name, got, same[0], want)
			}
		}
	}
	if pageKey("usr/share/man/man1/ls.1.gz") == pageKey("usr/share/man/man1/cp.1.gz") {
		t.Error("pages of different names have one key")
	}
}

func TestCut(t *testing.T) {
	parts := cut("aé漢b", 2)
	if got := strings.Join(parts, "|"); got != "aé|漢|b" {
		t.Errorf("%q", got)
	}
	if strings.Join(cut(strings.Repeat("漢字", 1000), 100), "") != strings.Repeat("漢字", 1000) {
		t.Error("the parts are not the whole")
	}
}

// What is written is what is read, and the manifest finds a file that changed.
func TestSet(t *testing.T) {
	dir := t.TempDir()
	var docs []Doc
	for _, text := range []string{"one", "", "three, with 漢字", "four", "five"} {
		docs = append(docs, Doc{"source of " + text, text})
	}
	want := make(map[string]string)
	for _, d := range docs {
		want[d.Source] = d.Text
	}
	s := &Set{Name: "x", Recipe: "test"}
	if err := s.write(dir, shuffled(docs)); err != nil {
		t.Fatal(err)
	}
	got, err := Open(dir, "x")
	if err != nil {
		t.Fatal(err)
	}
	if got.Documents != 5 || got.TextBytes != 3+18+4+4 || len(got.Files) != setFiles {
		t.Errorf("%+v", got)
	}
	n := 0
	if err := got.Each(func(d Doc) bool {
		if n++; want[d.Source] != d.Text {
			t.Errorf("%q: %q", d.Source, d.Text)
		}
		return true
	}); err != nil || n != 5 {
		t.Errorf("%d documents: %v", n, err)
	}
	if err := os.WriteFile(filepath.Join(got.Dir(), got.Files[0].Name), []byte("short"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, "x"); err == nil || !strings.Contains(err.Error(), "part-00000.parquet has 5 bytes") {
		t.Errorf("error %v", err)
	}
	if _, err := Open(dir, "y"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestDifferences(t *testing.T) {
	a := &Set{Name: "s", Recipe: "1", Packages: []Package{{Name: "p", Version: "1"}, {Name: "q", Version: "1"}, {Name: "r", Version: "1"}}}
	b := &Set{Name: "s", Recipe: "1", Packages: []Package{{Name: "p", Version: "2"}, {Name: "q", Version: "1"}, {Name: "t", Version: "5"}}}
	want := "s: p 1 and 2\ns: r 1 and none\ns: t none and 5"
	if got := strings.Join(Differences(a, b), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The stress set has what its name promises, and is the same each time.
func TestStress(t *testing.T) {
	docs := stress(1000)
	kinds := make(map[string]int)
	var bucket []string
	for _, d := range docs {
		kind, _, _ := strings.Cut(d.Source, "/")
		kinds[kind]++
		if kind == "bucket" {
			bucket = append(bucket, d.Text)
		}
	}
	if kinds["cluster"] != 1000 || kinds["zipf"] != 20_000 {
		t.Error(kinds)
	}
	if share := float64(len(bucket)) / float64(len(docs)); share < 0.09 || share > 0.12 {
		t.Errorf("the bucket has %.3f of all rows", share)
	}
	again := stress(1000)
	for i := range docs {
		if docs[i] != again[i] {
			t.Fatalf("document %d is another the second time", i)
		}
	}
}

func TestTable(t *testing.T) {
	s := &Set{Name: "table"}
	if err := s.writeTable(t.TempDir(), 1003); err != nil {
		t.Fatal(err)
	}
	if s.Documents != 1003 || len(s.Files) != tableFiles || s.TextBytes < 1003*38 {
		t.Errorf("%+v", s)
	}
}
