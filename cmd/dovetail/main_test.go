package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// dovetail runs a command line in this process.
func dovetail(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(args, &out, &err)
	return code, out.String(), err.String()
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every mistake gets one line that names it, and an exit code that says whose it is.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	good := writeFile(t, filepath.Join(dir, "in", "good.jsonl"), "{\"text\":\"a\"}\n")
	bad := writeFile(t, filepath.Join(dir, "bad", "bad.jsonl"), "{\"text\":\"a\"}\n{\"text\":\n")
	full := filepath.Dir(writeFile(t, filepath.Join(dir, "full", "precious"), ""))
	out := filepath.Join(dir, "out")
	dedup := func(args ...string) []string {
		return append([]string{"dedup", "--progress", "none", "--input", good, "--output", out}, args...)
	}
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"dedup"}, 2, []string{"--input", "--output"}},
		{[]string{"dedub"}, 2, []string{"dedub"}},
		{[]string{"verify"}, 2, []string{"name one output folder"}},
		{[]string{"verify", full}, 1, []string{"is not the output folder of a run"}},
		{[]string{"verify", full, "--sample", "some"}, 2, []string{"--sample \"some\"", "all"}},
		{dedup("--bogus"), 2, []string{"--bogus", "--help"}},
		{dedup("--num-bands", "x"), 2, []string{"--num-bands"}},
		{dedup("--num-bands", "0", "--keep", "best", "--threshold", "2"), 2, []string{"num_bands 0", `--keep "best"`, `"2"`}},
		{dedup("--threshold", "0.7", "--jaccard-threshold", "0.7"), 2, []string{"--threshold and --jaccard-threshold"}},
		{dedup("--num-bands", "5", "--jaccard-threshold", "0.7"), 2, []string{"--num-bands and --jaccard-threshold"}},
		{dedup("--limit-removed-per-source", "2"), 2, []string{"--limit-removed-per-source \"2\"", "0.5=error"}},
		{dedup("--write", "all"), 2, []string{"--write \"all\"", "annotate", "ids"}},
		{dedup("--write", "annotate", "--format", "files"), 2, []string{"--write annotate", "--format files"}},
		{dedup("--recall", "0.5"), 2, []string{"--recall"}},
		{dedup("--verify", "none", "--threshold", "0.7"), 2, []string{"--verify none"}},
		{dedup("--format", "files", "--text-field", "t"), 2, []string{"--text-field", "--format files"}},
		{dedup("--format", "files", "--keep", "field:q"), 2, []string{"--keep field:q", "--format files"}},
		{dedup("--keep", "field:"), 2, []string{"name the column"}},
		{dedup("--memory-limit", "much"), 2, []string{`"much"`, "8GiB"}},
		{dedup("--memory-limit", "1MiB", "--workers", "2"), 2, []string{"--memory-limit", "128MiB"}},
		{dedup("--bands-per-iteration", "21"), 2, []string{"--bands-per-iteration 21", "20"}},
		{dedup("--progress", "loud"), 2, []string{`"loud"`}},
		{dedup("--text-field", "body"), 1, []string{`"body"`, "--text-field"}},
		{[]string{"dedup", "--progress", "none", "--input", filepath.Join(dir, "nowhere"), "--output", out}, 1, []string{"nowhere"}},
		{[]string{"dedup", "--progress", "none", "--input", bad, "--output", out}, 1, []string{"bad.jsonl:2"}},
		{[]string{"dedup", "--progress", "none", "--input", good, "--output", full}, 1, []string{full, "something else"}},
		{[]string{"dedup", "--progress", "none", "--input", good, "--output", filepath.Dir(good)}, 1, []string{"outside of the input"}},
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
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%q left an output", c.args)
		}
	}
	if left, _ := filepath.Glob(out + "*"); len(left) > 0 {
		t.Errorf("mistakes left %v", left)
	}
}

func TestDedup(t *testing.T) {
	dir := t.TempDir()
	a := writeFile(t, filepath.Join(dir, "in", "a.jsonl"), "{\"text\":\"one\",\"n\":1}\n{\"text\":\"two\"}\n")
	b := writeFile(t, filepath.Join(dir, "in", "b.jsonl"), "{\"text\":\"one\",\"n\":2}\n{\"text\":\"three\"}")
	out := filepath.Join(dir, "out")
	code, stdout, stderr := dovetail("dedup", "--input", a, b, "--output", out, "--jaccard-threshold", "0.9")
	if code != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{"4 documents", "1 removed (25.0 %)", "kept       3 documents", "digest"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q does not say %q", stdout, want)
		}
	}
	if !strings.Contains(stderr, "similarity 0.9 is compared with probability") {
		t.Errorf("the chances are not told: %q", stderr)
	}
	for name, want := range map[string]string{"a.jsonl": "{\"text\":\"one\",\"n\":1}\n{\"text\":\"two\"}\n", "b.jsonl": "{\"text\":\"three\"}"} {
		got, err := os.ReadFile(filepath.Join(out, "kept", name))
		if err != nil || strings.TrimSuffix(string(got), "\n") != strings.TrimSuffix(want, "\n") {
			t.Errorf("%s: %q, want %q (%v)", name, got, want, err)
		}
	}
	report := filepath.Join(out, "report.html")
	if _, err := os.Stat(report); err != nil || !strings.Contains(stdout, "report     "+report+"\n") {
		t.Errorf("%q does not name the report (%v)", stdout, err)
	}
	first, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := dovetail("report", out); code != 0 || !strings.Contains(stdout, report) {
		t.Errorf("report: %d %q %q", code, stdout, stderr)
	}
	if again, err := os.ReadFile(report); err != nil || !bytes.Equal(first, again) {
		t.Errorf("the report drawn anew is another (%v)", err)
	}
	if code, _, stderr := dovetail("report", dir); code != 1 || !strings.Contains(stderr, "holds no report.html") {
		t.Errorf("report of a folder without one: %d %q", code, stderr)
	}
	without := filepath.Join(dir, "without")
	if code, stdout, _ := dovetail("dedup", "--input", a, b, "--output", without, "--report=false"); code != 0 || strings.Contains(stdout, "report") {
		t.Errorf("--report=false: %d %q", code, stdout)
	}
	if code, stdout, _ = dovetail("dedup", "--input", b, a, "--output", out, "--jaccard-threshold", "0.9"); code != 0 || !strings.Contains(stdout, "already done") {
		t.Errorf("the same again: %d %q", code, stdout)
	}
}

// A reference set is compared with and never written; the result verifies.
func TestAgainst(t *testing.T) {
	dir := t.TempDir()
	old := writeFile(t, filepath.Join(dir, "old", "a.jsonl"), "{\"text\":\"one\"}\n{\"text\":\"one\"}\n")
	in := writeFile(t, filepath.Join(dir, "in", "a.jsonl"), "{\"text\":\"one\",\"n\":1}\n{\"text\":\"two\",\"n\":9}\n{\"text\":\"two\",\"n\":10}\n")
	out := filepath.Join(dir, "out")
	args := []string{"dedup", "--progress", "none", "--input", in, "--against", old, "--keep", "field:n", "--output", out}
	code, stdout, stderr := dovetail(args...)
	if code != 0 || !strings.Contains(stdout, "2 of them from the reference set") || !strings.Contains(stdout, "kept       1 documents") {
		t.Fatalf("%d %q %q", code, stdout, stderr)
	}
	got, err := os.ReadFile(filepath.Join(out, "kept", "a.jsonl"))
	if err != nil || string(got) != "{\"text\":\"two\",\"n\":10}\n" {
		t.Errorf("%q %v", got, err)
	}
	if code, stdout, stderr = dovetail("verify", out, "--progress", "none", "--sample", "all"); code != 0 || !strings.Contains(stdout, "2 of the reference set") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	writeFile(t, filepath.Join(out, "kept", "a.jsonl"), "{\"text\":\"too\"}\n")
	if code, stdout, stderr = dovetail("verify", out, "--progress", "none"); code != 1 || !strings.Contains(stdout, "wrong ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	args[4] = old
	if code, _, stderr = dovetail(args...); code != 1 || !strings.Contains(stderr, "both in the input and in the reference set") {
		t.Errorf("%d %q", code, stderr)
	}
}

// A source that loses too much is named, and stops the run if so wished; what was finished is used then.
func TestSourceLimit(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "in", "good", "a.jsonl"), "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"three\"}\n")
	writeFile(t, filepath.Join(dir, "in", "poor", "b.jsonl"), "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"four\"}\n")
	out := filepath.Join(dir, "out")
	args := []string{"dedup", "--progress", "plain", "--input", filepath.Join(dir, "in"), "--output", out, "--limit-removed-per-source"}
	const says = "poor loses 2 of 3 documents (66.7 %)"
	code, _, stderr := dovetail(append(args, "0.5=error")...)
	if code != 1 || !strings.Contains(stderr, says) || strings.Contains(stderr, "good") {
		t.Errorf("%d %q", code, stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a run that stopped left an output")
	}
	code, stdout, stderr := dovetail(append(args, "0.5")...)
	if code != 0 || !strings.Contains(stderr, "warning: "+says) || strings.Contains(stdout, " 0 tasks reused") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	if data, err := os.ReadFile(filepath.Join(out, "run.json")); err != nil || !strings.Contains(string(data), says) {
		t.Errorf("run.json does not say it (%v)", err)
	}
}

func TestProgressJSON(t *testing.T) {
	dir := t.TempDir()
	in := writeFile(t, filepath.Join(dir, "in", "a.jsonl"), "{\"text\":\"one\"}\n{\"text\":\"one\"}\n")
	code, stdout, stderr := dovetail("dedup", "-i", in, "-o", filepath.Join(dir, "out"), "--progress", "json")
	if code != 0 || stdout != "" {
		t.Fatalf("%d %q %q", code, stdout, stderr)
	}
	events := make(map[string]int)
	for line := range strings.Lines(stderr) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events[e.Event]++
	}
	if events["stage_started"] < 5 || events["stage_started"] != events["stage_finished"] {
		t.Errorf("%v", events)
	}
}

func TestCPUPath(t *testing.T) {
	t.Cleanup(func() {
		if err := lsh.UsePath(""); err != nil {
			t.Error(err)
		}
	})
	_, list, _ := dovetail("info", "--paths")
	paths := strings.Fields(list)
	if !slices.Equal(paths, lsh.Paths()) {
		t.Fatalf("info --paths prints %q", list)
	}
	last := paths[len(paths)-1]
	code, stdout, stderr := dovetail("info", "--cpu", last)
	if code != 0 || !strings.Contains(stdout, "signatures with "+last+",") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	for _, p := range paths {
		if !regexp.MustCompile(p + ` +fast [0-9]+, curator32 [0-9]+, curator64 [0-9]+\n`).MatchString(stdout) {
			t.Errorf("no measured speed of %s in %q", p, stdout)
		}
	}
	code, _, stderr = dovetail("info", "--cpu", "mmx")
	if code != 2 || !strings.Contains(stderr, `--cpu: there is no CPU path "mmx": choose one of auto, `) {
		t.Errorf("%d %q", code, stderr)
	}
	t.Setenv(lsh.PathVariable, "mmx")
	if err := lsh.UsePath(""); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = dovetail("dedup", "--input", "nowhere", "--output", "nowhere-else")
	if code != 2 || !strings.Contains(stderr, lsh.PathVariable) {
		t.Errorf("%d %q", code, stderr)
	}
}

func TestInfoAndHelp(t *testing.T) {
	for _, c := range []struct{ args, say string }{
		{"info", "sketches"}, {"--help", "dedup"}, {"dedup --help", "--memory-limit"}, {"--version", "dovetail version"},
	} {
		code, stdout, stderr := dovetail(strings.Fields(c.args)...)
		if code != 0 || !strings.Contains(stdout, c.say) {
			t.Errorf("%s: %d %q %q", c.args, code, stdout, stderr)
		}
	}
}

// Annotated files have all documents and say what became of each, and verify compares them with the tables.
func TestAnnotate(t *testing.T) {
	dir := t.TempDir()
	in := writeFile(t, filepath.Join(dir, "in", "a.jsonl"), "{\"text\":\"one\",\"id\":\"a\"}\n{\"id\":\"b\",\"text\":\"one\"} \n{\"text\":\"two\",\"id\":\"c\"}")
	out := filepath.Join(dir, "out")
	if code, _, stderr := dovetail("dedup", "--progress", "none", "--input", in, "--output", out, "--id-field", "id", "--write", "annotate"); code != 0 {
		t.Fatalf("%d %q", code, stderr)
	}
	name := filepath.Join(out, "annotated", "a.jsonl")
	want := `{"text":"one","id":"a","dovetail_removed":false,"dovetail_kept_id":null,"dovetail_cluster_size":2,"dovetail_similarity":null,"dovetail_evidence":null}
{"id":"b","text":"one","dovetail_removed":true,"dovetail_kept_id":"a","dovetail_cluster_size":2,"dovetail_similarity":1.0,"dovetail_evidence":"exact"} 
{"text":"two","id":"c","dovetail_removed":false,"dovetail_kept_id":null,"dovetail_cluster_size":1,"dovetail_similarity":null,"dovetail_evidence":null}`
	if got, err := os.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("got\n%s\nwant\n%s\n(%v)", got, want, err)
	}
	if code, stdout, stderr := dovetail("verify", out, "--progress", "none"); code != 0 || !strings.Contains(stdout, "annotated  3 rows") || !strings.Contains(stdout, "columns    3 rows") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	writeFile(t, name, strings.Replace(want, "exact", "jaccard", 1))
	if code, stdout, _ := dovetail("verify", out, "--progress", "none"); code != 1 || !strings.Contains(stdout, name+":2 says {") {
		t.Errorf("%d %q", code, stdout)
	}
	if code, _, stderr := dovetail("dedup", "--progress", "none", "--input", name, "--output", out+"2", "--write", "annotate"); code != 1 ||
		!strings.Contains(stderr, name+":1: it has a field \"dovetail_removed\" already") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("%d %q", code, stderr)
	}
}
