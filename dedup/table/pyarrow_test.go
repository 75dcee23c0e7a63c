package table

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Tables of every type that pyarrow writes come out as pyarrow and DuckDB expect, if DOVETAIL_PYTHON names a Python that has
// them.
func TestPyarrow(t *testing.T) {
	python := os.Getenv("DOVETAIL_PYTHON")
	if python == "" {
		t.Skip("DOVETAIL_PYTHON is not set")
	}
	in := filepath.Join(t.TempDir(), "in")
	run := func(args ...string) {
		out, err := exec.Command(python, append([]string{"testdata/verify.py"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Logf("%s", out)
	}
	run("make", in)
	for _, on := range []string{"k", "deep", "dict", "vec", "view"} {
		for _, how := range []string{Hash, Range} {
			s := smallSpec(on)
			s.Partition = how
			_, out := runTable(t, Options{Spec: s, Inputs: []string{in}, Exec: Exec{SplitBytes: 20 << 10}})
			run("check", in, out)
		}
	}
}
