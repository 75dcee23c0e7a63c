package limit

import (
	"bytes"
	"context"
	_ "embed" // scalar.c
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/lsh"
)

//go:embed c/scalar.c
var scalarC string

// ErrNoCompiler is wrapped where there is no C compiler.
var ErrNoCompiler = errors.New("no C compiler")

// Scalar is NeMo Curator's 32-bit signature in plain C, compiled without vector instructions.
type Scalar struct {
	program string
	params  []byte // multipliers and addends
}

// NewScalar compiles the program into a folder. The error wraps ErrNoCompiler if there is no cc.
func NewScalar(ctx context.Context, dir string) (*Scalar, error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCompiler, err)
	}
	s := &Scalar{program: filepath.Join(dir, "scalar")}
	cmd := exec.CommandContext(ctx, cc, "-O2", "-fno-tree-vectorize", "-o", s.program, "-x", "c", "-")
	cmd.Stdin = strings.NewReader(scalarC)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cc scalar.c: %w: %s", err, out)
	}
	p := lsh.DefaultParams()
	p.Sketch = lsh.Curator32
	a, b := p.Permutations()
	for _, v := range append(a, b...) {
		s.params = binary.NativeEndian.AppendUint32(s.params, uint32(v))
	}
	return s, nil
}

// Sign returns the signature of an ASCII text of at most 1 MiB and the processor time that it takes.
func (s *Scalar) Sign(ctx context.Context, text string) ([]uint32, time.Duration, error) {
	cmd := exec.CommandContext(ctx, s.program)
	cmd.Stdin = bytes.NewReader(append(bytes.Clone(s.params), text...))
	out, err := cmd.Output()
	if err != nil {
		return nil, 0, fmt.Errorf("scalar.c: %w", err)
	}
	var ns int64
	var slots []uint32
	for i, f := range strings.Fields(string(out)) {
		var v uint32
		if i == 0 {
			_, err = fmt.Sscan(f, &ns)
		} else if _, err = fmt.Sscan(f, &v); err == nil {
			slots = append(slots, v)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("scalar.c printed %q: %w", f, err)
		}
	}
	return slots, time.Duration(ns), nil
}

// Instructions runs what the permutations of n windows take at least, a vector multiply, add and minimum for every 16 or 8
// slots, with no loads, stores or dependencies to wait for. It returns which instructions they are; "" means that it has
// none for this machine and did nothing.
func Instructions(n int) string { return instructions(n) }
