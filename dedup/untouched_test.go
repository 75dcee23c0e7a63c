package dedup

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A Parquet file that loses no document is copied byte for byte; one that does is written anew.
func TestUntouchedFile(t *testing.T) {
	dir := t.TempDir()
	first := writeParquet(t, filepath.Join(dir, "in", "a.parquet"), 2, textColumn(t, "one text", "another"))
	second := writeParquet(t, filepath.Join(dir, "in", "b.parquet"), 3, textColumn(t, "a third", "one text", "a fourth"))
	out := filepath.Join(dir, "out")
	r, err := Run(t.Context(), Options{Spec: DefaultSpec(), Inputs: []string{filepath.Join(dir, "in")}, Output: out})
	if err != nil {
		t.Fatal(err)
	}
	if r.Steps.Kept != 4 || r.Steps.Removed != 1 {
		t.Fatalf("%d kept, %d removed", r.Steps.Kept, r.Steps.Removed)
	}
	for path, same := range map[string]bool{first: true, second: false} {
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
