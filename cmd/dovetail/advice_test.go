package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// An option that names a column which does not serve is named, with the columns that would; and nobody is told to leave out
// files or records where nothing would be left.
func TestUnsuitableColumns(t *testing.T) {
	good, wide := fixture(t, "parquet/dict_snappy_v1.parquet"), fixture(t, "parquet/wide_none.parquet")
	numbers := "{\"text\":1,\"id\":\"a\"}\n{\"text\":2,\"id\":\"b\"}\n"
	sets := map[string]map[string]string{
		"two":     {"a.parquet": good, "b.parquet": good},
		"other":   {"a.parquet": good, "w.parquet": wide},
		"numbers": {"a.jsonl": numbers, "b.jsonl": numbers},
		"mostly":  {"a.jsonl": "{\"text\":\"a\"}\n" + numbers},
		"text":    {"a.txt": "text"},
		"mixed":   {"a.jsonl": numbers, "b.parquet": good},
	}
	dir := t.TempDir()
	for name, files := range sets {
		in := badInput{files: files}
		in.write(t, filepath.Join(dir, name))
	}
	const skip = "skip"
	for _, c := range []struct {
		set, args string
		says      []string
		never     string
	}{
		{"two", "dedup --text-field body", []string{"--text-field: ", `no column "body"`, "of them could serve: text"}, skip},
		{"two", "dedup --text-field score", []string{"--text-field: ", `column "score" has type double`, "of them could serve: text"}, skip},
		{"two", "dedup --id-field score", []string{"--id-field: ", "of them could serve: text, id"}, skip},
		{"two", "dedup --keep field:text", []string{"--keep: ", "of them could serve: id, score"}, skip},
		{"two", "minhash --text-field id", []string{"--text-field: ", "of them could serve: text"}, skip},
		{"two", "exact --id-field score", []string{"--id-field: ", "of them could serve: text, id"}, skip},
		{"two", "remove --ids-to-remove two --id-field score", []string{"--id-field: ", "of them could serve: text, id"}, skip},
		{"two", "remove --ids-to-remove two --duplicate-id-field score", []string{"--duplicate-id-field: ", "could serve: id"}, skip},
		{"two", "lsh --id-field text", []string{"--id-field: ", `column "text" is not a column of plain 64-bit integers`, "could serve: id"}, skip},
		{"two", "lsh --id-field id --minhash-field text", []string{"--minhash-field: ", "none of its columns is: [text id score]"}, skip},
		{"two", "components --cache cache", []string{"--id-field: ", "a list of integers", "none of its columns is: [text id score]"}, skip},
		{"other", "dedup --keep field:i8", []string{"--keep: ", "a.parquet: no column", "--on-bad-file skip"}, "record"},
		{"other", "dedup --keep field:i9", []string{"--keep: ", `no column "i9"`}, skip},
		{"numbers", "dedup", []string{"--text-field: ", `field "text" is a number`, "the first 4 records"}, skip},
		{"numbers", "minhash", []string{"--text-field: ", `field "text" is a number`, "the first 4 records"}, skip},
		{"mostly", "dedup", []string{"a.jsonl:2: ", `field "text" is a number`, "--on-bad-record skip"}, "--text-field"},
		{"text", "dedup", []string{"--format files"}, skip},
		{"text", "minhash", []string{"no Parquet or JSON Lines files"}, "--format"},
		{"text", "exact", []string{"no Parquet or JSON Lines files"}, "--format"},
		{"text", "remove --ids-to-remove two", []string{"no Parquet or JSON Lines files"}, "--format"},
		{"text", "lsh", []string{"no Parquet files"}, "--format"},
		{"text", "components --cache cache", []string{"no Parquet files"}, "--format"},
		{"mixed", "minhash", []string{"formats are mixed", "--input-filetype"}, "--format"},
	} {
		t.Run(c.set+" "+c.args, func(t *testing.T) {
			args := append(strings.Fields(c.args), "--progress", "none", "--input", filepath.Join(dir, c.set), "--output", filepath.Join(t.TempDir(), "out"))
			for i, a := range args {
				if a == "two" || a == "cache" {
					args[i] = filepath.Join(dir, a)
				}
			}
			code, _, stderr := dovetail(args...)
			if code != 1 && code != 2 {
				t.Errorf("exit code %d", code)
			}
			checkLine(t, stderr, c.says)
			if strings.Contains(stderr, c.never) {
				t.Errorf("%q says %q", stderr, c.never)
			}
		})
	}
}

// What several tasks say in parallel is said once, the advice at the end.
func TestOneLine(t *testing.T) {
	advice := "repair the file, or leave it out"
	err := errors.Join(fmt.Errorf("corpus: a: cut off; %s", advice), fmt.Errorf("corpus: b: cut off; %s", advice), errors.New("corpus: b: cut off; "+advice))
	if got, want := oneLine(err), "a: cut off; b: cut off; "+advice; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestOneLineNamesFile: what a task is about is said once.
func TestOneLineNamesFile(t *testing.T) {
	for text, want := range map[string]string{
		`executor: stage "sign", task "split-00007" (in/a.jsonl, from line 9 on): rank is lost: the process of actor 1: it was killed`: "in/a.jsonl, from line 9 on: rank is lost: the process of actor 1: it was killed",
		`executor: stage "sign", task "split-00007" (in/a (1).jsonl): corpus: in/a (1).jsonl:3: no value`:                              "in/a (1).jsonl:3: no value",
		`executor: stage "decide", task "part-00007": panic in Extract: oh`:                                                            "panic in Extract: oh",
	} {
		if got := oneLine(errors.New(text)); got != want {
			t.Errorf("%s\nbecame %s\nwant   %s", text, got, want)
		}
	}
}
