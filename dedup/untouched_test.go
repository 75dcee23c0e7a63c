package dedup

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A Parquet file that loses no document is copied byte for byte, whether its texts are in memory or not; one that does is written anew.
func TestUntouchedFile(t *testing.T) {
	dir := t.TempDir()
	first := writeParquet(t, filepath.Join(dir, "in", "a.parquet"), 2, textColumn(t, "one text", "another"))
	second := writeParquet(t, filepath.Join(dir, "in", "b.parquet"), 3, textColumn(t, "a third", "one text", "a fourth"))
	for _, e := range []Exec{{}, {TextMemory: -1}, {Ranks: 2, SplitBytes: 1, TextMemory: -1}} {
		untouched(t, filepath.Join(dir, "in"), e, map[string]bool{first: true, second: false})
	}
}

func untouched(t *testing.T, in string, e Exec, files map[string]bool) {
	t.Helper()
	out, r := testRun(t, in, DefaultSpec(), e)
	if r.Steps.Kept != 4 || r.Steps.Removed != 1 {
		t.Fatalf("%d kept, %d removed", r.Steps.Kept, r.Steps.Removed)
	}
	for path, same := range files {
		in, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(filepath.Join(out, "kept", filepath.Base(path)))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(in, kept) != same {
			t.Errorf("%s: the same bytes: %v, want %v", filepath.Base(path), !same, same)
		}
	}
	if v, err := Verify(t.Context(), VerifyOptions{Dir: out, Sample: -1}); err != nil || v.Digest != r.Digest {
		t.Errorf("%+v, %v", v, err)
	}
}
