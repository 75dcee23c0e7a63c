package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Mistakes get one line and an exit code that says whose they are, and leave nothing.
func TestCuratorMistakes(t *testing.T) {
	dir := t.TempDir()
	good := writeFile(t, filepath.Join(dir, "in", "good.jsonl"), "{\"text\":\"a\"}\n")
	bad := writeFile(t, filepath.Join(dir, "bad", "bad.jsonl"), "{\"text\":\"a\"}\n{\"text\":\n")
	out := filepath.Join(dir, "out")
	dedup := func(args ...string) []string {
		return append([]string{"dedup", "--progress", "none", "--input", good, "--output", out}, args...)
	}
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{dedup("--cache", "x"), 2, []string{"--cache", "--compat curator"}},
		{dedup("--compat", "spark"), 2, []string{`"spark"`}},
		{dedup("--compat", "curator"), 2, []string{"--cache"}},
		{dedup("--compat", "curator", "--cache", out+"c", "--threshold", "0.9"), 2, []string{"--threshold", "--compat curator"}},
		{[]string{"minhash", "--input", good, "--output", out, "--char-ngrams", "1"}, 2, []string{"--char-ngrams 1"}},
		{[]string{"lsh", "--input", good, "--output", out, "--bands-per-iteration", "21"}, 2, []string{"--bands-per-iteration 21"}},
		{[]string{"components", "--input", filepath.Join(dir, "nowhere"), "--cache", out, "--output", out}, 1, []string{"nowhere"}},
		{[]string{"exact", "--input", bad, "--output", out, "--progress", "none"}, 1, []string{"bad.jsonl:2"}},
		{[]string{"remove", "--input", good, "--output", out}, 2, []string{"--ids-to-remove"}},
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

// The commands one after the other, and the workflow in one, make the same files.
func TestCurator(t *testing.T) {
	dir := t.TempDir()
	fox := "the quick brown fox jumps over the lazy dog"
	in := filepath.Join(dir, "in")
	writeFile(t, filepath.Join(in, "a.jsonl"), "{\"text\":\""+fox+"\",\"n\":1}\n{\"text\":\"two\"}\n")
	writeFile(t, filepath.Join(in, "b.jsonl"), "{\"text\":\""+fox+"\",\"n\":2}\n{\"text\":\"three\"}\n{\"text\":\"two\"}\n")
	cache, out := filepath.Join(dir, "cache"), filepath.Join(dir, "out")
	stages := [][]string{
		{"minhash", "--input", in, "--output", cache, "--num-hashes", "12", "--id-generator", filepath.Join(out, "fuzzy_id_generator.json")},
		{"lsh", "--input", filepath.Join(cache, "MinHashStage"), "--output", cache, "--num-bands", "4", "--minhashes-per-band", "3", "--bands-per-iteration", "2"},
		{"components", "--input", filepath.Join(cache, "LSHStage"), "--cache", cache, "--output", out},
	}
	whole := []string{"dedup", "--compat", "curator", "--input", in, "--cache", cache, "--output", out, "--num-bands", "4", "--minhashes-per-band", "3",
		"--bands-per-iteration", "2"}
	contents := func() string {
		var b strings.Builder
		for _, root := range []string{cache, out} {
			err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
				if err == nil && !d.IsDir() && filepath.Ext(path) != ".manifest" {
					data, err := os.ReadFile(path)
					b.WriteString(path + ": " + string(data) + "\n")
					return err
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return b.String()
	}
	for _, args := range stages {
		if code, _, stderr := dovetail(append(args, "--progress", "none")...); code != 0 {
			t.Fatalf("%q: %s", args, stderr)
		}
	}
	byStages := contents()
	for _, root := range []string{cache, out} {
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := dovetail(append(whole, "--progress", "none")...)
	if code != 0 || !strings.Contains(stdout, "duplicates 2") {
		t.Fatalf("%d %q %q", code, stdout, stderr)
	}
	if got := contents(); got != byStages {
		t.Errorf("the workflow makes\n%q\nthe stages\n%q", got, byStages)
	}
	clean := filepath.Join(dir, "clean")
	code, stdout, stderr = dovetail("remove", "--input", in, "--ids-to-remove", filepath.Join(out, "FuzzyDuplicateIds"), "--output", clean, "--progress", "none")
	if code != 0 || !strings.Contains(stdout, "kept       3 documents") {
		t.Fatalf("%d %q %q", code, stdout, stderr)
	}
	if got, err := os.ReadFile(filepath.Join(clean, "b.jsonl")); err != nil || string(got) != "{\"text\":\"three\"}\n" {
		t.Errorf("%q (%v)", got, err)
	}
	code, stdout, stderr = dovetail("exact", "--input", in, "--output", out, "--progress", "none")
	if code != 0 || !strings.Contains(stdout, "duplicates 2") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
}
