package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// An event log that cannot be written is said to be incomplete, also to who wants no progress, and stops nothing.
func TestEventLogFull(t *testing.T) {
	dir := t.TempDir()
	in := writeFile(t, filepath.Join(dir, "in", "a.jsonl"), "{\"text\":\"a\"}\n")
	for _, progress := range []string{"none", "plain", "json"} {
		code, _, stderr := dovetail("dedup", "--progress", progress, "--input", in, "--output", filepath.Join(dir, progress), "--event-log", "/dev/full")
		if code != 0 || strings.Count(stderr, "the log is incomplete, the result is not affected") != 1 || !strings.Contains(stderr, "no space left") {
			t.Errorf("%s: exit code %d, %q", progress, code, stderr)
		}
	}
}
