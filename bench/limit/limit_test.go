package limit

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// TestScalar holds the program to the specification: a limit that computes something else is none.
func TestScalar(t *testing.T) {
	s, err := NewScalar(t.Context(), t.TempDir())
	if errors.Is(err, ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("Only ASCII, because a window is of bytes here. ", 5)
	got, took, err := s.Sign(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	p := lsh.DefaultParams()
	p.Sketch = lsh.Curator32
	ref, err := lsh.NewReference(p)
	if err != nil {
		t.Fatal(err)
	}
	var want []uint32
	for _, v := range ref.Sign([]byte(text)) {
		want = append(want, uint32(v))
	}
	if !slices.Equal(got, want) || took <= 0 {
		t.Errorf("%v in %v, want %v", got, took, want)
	}
}

func TestMemory(t *testing.T) {
	src := []byte(strings.Repeat("x", 1000))
	if n := Copy(make([]byte, 1000), src); n != 1000 {
		t.Error(n)
	}
	if n := Read(src, 'y'); n != 1000 {
		t.Error(n)
	}
}

func BenchmarkInstructions(b *testing.B) {
	if Instructions(1) == "" {
		b.Skip("no loop for this machine")
	}
	b.SetBytes(1)
	Instructions(b.N)
}
