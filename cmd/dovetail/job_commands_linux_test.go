package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// startCommand starts a command as a job of several processes.
func startCommand(t *testing.T, size int, args ...string) []*rank {
	t.Helper()
	addr := freeAddr(t)
	ranks := make([]*rank, size)
	for r := range ranks {
		k := &rank{done: make(chan error, 1)}
		k.Cmd = child(t, append(slices.Clone(args), "--workers", "2", "--size", fmt.Sprint(size), "--rank", fmt.Sprint(r), "--root", addr)...)
		k.Stdout, k.Stderr = &k.out, &k.err
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { k.done <- k.Wait() }()
		ranks[r] = k
	}
	return ranks
}

// inJob runs a command as a job, in which only rank 0 may speak, and returns what it says.
func inJob(t *testing.T, size int, args ...string) string {
	t.Helper()
	ranks := startCommand(t, size, args...)
	for r, k := range ranks {
		if err := k.wait(t, 3*time.Minute); err != nil {
			t.Fatalf("%s: rank %d: %v: %s", args[0], r, err, k.err.String())
		}
		if r > 0 && k.out.Len()+k.err.Len() > 0 {
			t.Errorf("%s: rank %d speaks too: %q %q", args[0], r, k.out.String(), k.err.String())
		}
	}
	return ranks[0].out.String()
}

// filesBelow returns the contents of the files below a folder, but for those that say when and how they were made.
func filesBelow(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".manifest" || d.Name() == "run.json" {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// sameFiles fails the test unless two folders hold the same, byte for byte.
func sameFiles(t *testing.T, what, got, want string) {
	t.Helper()
	a, b := filesBelow(t, got), filesBelow(t, want)
	if len(a) != len(b) || len(a) == 0 {
		t.Errorf("%s: %d files, want %d", what, len(a), len(b))
	}
	for name, data := range b {
		if !bytes.Equal(a[name], data) {
			t.Errorf("%s: %s differs from what one process makes, or is missing", what, name)
		}
	}
}

// TestCommandsAsJobs: Curator's stages, its workflow, and shuffle do in three processes what they do in one, and leave nothing else.
func TestCommandsAsJobs(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	for i := range 4 {
		writeDocs(t, filepath.Join(in, fmt.Sprintf("%d.jsonl", i)), 200+i)
		writeDocs(t, filepath.Join(in, fmt.Sprintf("%d-again.jsonl", i)), 200+i)
	}
	// Names of files depend on paths, as Curator's do, so both write to one place, one after the other.
	root, one := filepath.Join(dir, "root"), filepath.Join(dir, "one")
	at := func(name ...string) string { return filepath.Join(append([]string{root}, name...)...) }
	commands := [][]string{
		{"minhash", "--input", in, "--output", at("cache"), "--num-hashes", "12", "--id-generator", at("ids.json")},
		{"lsh", "--input", at("cache", "MinHashStage"), "--output", at("cache"), "--num-bands", "4", "--minhashes-per-band", "3", "--bands-per-iteration", "2", "--total-nparts", "5"},
		{"components", "--input", at("cache", "LSHStage"), "--cache", at("cache"), "--output", at("out"), "--components-files", "3"},
		{"exact", "--input", in, "--output", at("exact"), "--total-nparts", "4"},
		{"remove", "--input", in, "--ids-to-remove", at("exact", "ExactDuplicateIds"), "--output", at("clean")},
		{"shuffle", "--input", at("cache", "MinHashStage"), "--on", "_curator_dedup_id", "--total-nparts", "7", "--output", at("hashed")},
		{"shuffle", "--input", at("cache", "MinHashStage"), "--on", "_curator_dedup_id", "--total-nparts", "7", "--partition", "range", "--sort", "--output", at("sorted")},
		{"dedup", "--compat", "curator", "--input", in, "--cache", at("cache2"), "--output", at("out2"), "--num-bands", "4", "--minhashes-per-band", "3", "--bands-per-iteration", "2"},
	}
	if err := os.Mkdir(root, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, args := range commands {
		if code, _, stderr := dovetail(append(args, "--progress", "none")...); code != 0 {
			t.Fatalf("%q: %s", args, stderr)
		}
	}
	if err := errors.Join(os.Rename(root, one), os.Mkdir(root, 0o777)); err != nil {
		t.Fatal(err)
	}
	for _, args := range commands {
		for range 2 { // the second time it is done already
			if out := inJob(t, 3, append(args, "--progress", "none")...); out == "" {
				t.Errorf("%s says nothing", args[0])
			}
		}
	}
	sameFiles(t, "all", root, one)
	if left, _ := filepath.Glob(filepath.Join(root, "*.*")); len(left) != 1 { // ids.json
		t.Errorf("left: %q", left)
	}
}

// TestVerifyAsJob: three processes verify what one does, and find what is wrong.
func TestVerifyAsJob(t *testing.T) {
	in, _, _ := jobInput(t)
	out := filepath.Join(t.TempDir(), "out")
	if code, _, stderr := dovetail("dedup", "--progress", "none", "--input", in, "--output", out); code != 0 {
		t.Fatalf("%d %q", code, stderr)
	}
	verify := []string{"verify", out, "--sample", "all", "--progress", "none"}
	code, want, stderr := dovetail(verify...)
	if code != 0 {
		t.Fatalf("%d %q", code, stderr)
	}
	if got := inJob(t, 3, verify...); got != want {
		t.Errorf("three processes say\n%s\none says\n%s", got, want)
	}
	bad := filepath.Join(out, "kept", "3.jsonl")
	data, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, bad, strings.Replace(string(data), "w", "v", 1))
	ranks := startCommand(t, 3, verify...)
	for r, k := range ranks {
		if k.wait(t, 3*time.Minute) == nil || r == 0 && !strings.Contains(k.out.String(), "3.jsonl") {
			t.Errorf("rank %d: %q %q", r, k.out.String(), k.err.String())
		}
	}
}

// TestCommandsRefuseStrangers: a rank with other options is refused by name.
func TestCommandsRefuseStrangers(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	writeDocs(t, filepath.Join(in, "a.jsonl"), 20)
	addr := freeAddr(t)
	var ranks []*rank
	for r, grams := range []string{"24", "25"} {
		k := &rank{done: make(chan error, 1)}
		k.Cmd = child(t, "minhash", "--input", in, "--output", filepath.Join(dir, "cache"), "--char-ngrams", grams, "--progress", "none", "--size", "2",
			"--rank", fmt.Sprint(r), "--root", addr, "--join-timeout", "5s")
		k.Stdout, k.Stderr = &k.out, &k.err
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { k.done <- k.Wait() }()
		ranks = append(ranks, k)
	}
	if err := ranks[1].wait(t, 3*time.Minute); err == nil || !strings.Contains(ranks[1].err.String(), "other options") {
		t.Errorf("rank 1: %v, %q", err, ranks[1].err.String())
	}
	if err := ranks[0].wait(t, 3*time.Minute); err == nil || !strings.Contains(ranks[0].err.String(), "misses rank 1") {
		t.Errorf("rank 0: %v, %q", err, ranks[0].err.String())
	}
}
