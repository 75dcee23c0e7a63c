package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/bench/data"
	"github.com/dovetail-dedup/dovetail/bench/limit"
	"github.com/dovetail-dedup/dovetail/bench/process"
	"github.com/dovetail-dedup/dovetail/bench/rivals"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// docBytes is the size of the documents that signatures are measured on.
const docBytes = 2500

// column puts texts into a column, which the caller releases.
func column(texts []string) (*mem.Strings, error) {
	total := 0
	for _, t := range texts {
		total += len(t)
	}
	offsets, err := mem.Host().Alloc(8 * (len(texts) + 1))
	if err != nil {
		return nil, err
	}
	chars, err := mem.Host().Alloc(total)
	if err != nil {
		offsets.Release()
		return nil, err
	}
	s := &mem.Strings{Rows: len(texts), Offsets: offsets, Data: chars}
	at, ends := 0, mem.Int64s(offsets)
	ends[0] = 0
	for i, t := range texts {
		at += copy(chars.Bytes()[at:], t)
		ends[i+1] = int64(at)
	}
	return s, nil
}

// pieces cuts texts into documents of docBytes, ASCII only, so that a byte is a code point to every side.
func pieces(docs []data.Doc, most int) (out []string) {
	for _, d := range docs {
		for t := d.Text; len(t) >= docBytes; t = t[docBytes:] {
			if p := t[:docBytes]; strings.IndexFunc(p, func(r rune) bool { return r >= 0x80 }) < 0 {
				out = append(out, p)
			}
			if len(out) == most {
				return out
			}
		}
	}
	return out
}

// signing is one sketch on one column.
type signing struct {
	kernels    *lsh.CPU
	texts      *mem.Strings
	signatures *mem.Buffer
}

func newSigning(sketch lsh.Sketch, texts *mem.Strings) (*signing, error) {
	p := lsh.DefaultParams()
	p.Sketch = sketch
	k, err := lsh.NewCPU(p)
	if err != nil {
		return nil, err
	}
	out, err := mem.Host().Alloc(p.SignatureBytes(texts.Rows))
	return &signing{k, texts, out}, err
}

// run signs the column once, on one thread.
func (s *signing) run(ctx context.Context) (Sample, error) {
	took, err := onThread(func() error {
		f, err := s.kernels.Sign(ctx, s.texts, s.signatures)
		if err != nil {
			return err
		}
		return f.Wait(ctx)
	})
	return perCPU(bytesOf(s.texts), took), err
}

func bytesOf(s *mem.Strings) int64 { return s.OffsetValues()[s.Rows] }

func perCPU(n int64, took time.Duration) Sample {
	return Sample{PerCPU: float64(n) / 1e6 / took.Seconds()}
}

// wrong counts the texts whose signature is not that of the specification, of the first n.
func (s *signing) wrong(n int) (int, error) {
	p := s.kernels.Params()
	ref, err := lsh.NewReference(p)
	if err != nil {
		return 0, err
	}
	bad := 0
	slots := mem.Uint32s(s.signatures)
	for i := range min(n, s.texts.Rows) {
		for j, want := range ref.Sign(s.texts.At(i)) {
			if uint64(slots[i*p.NumHashes()+j]) != want {
				bad++
				break
			}
		}
	}
	return bad, nil
}

// signWorkload is signatures on one core.
func signWorkload(ctx context.Context, e *Env) (*Workload, error) {
	docs, from, err := e.texts(ctx, "code", 64<<20)
	if err != nil {
		return nil, err
	}
	n := 4000
	if e.Quick {
		n = 50
	}
	texts := pieces(docs, n)
	col, err := column(texts)
	if err != nil {
		return nil, err
	}
	curator, err := newSigning(lsh.Curator32, col)
	if err != nil {
		return nil, err
	}
	fast, err := newSigning(lsh.Fast, col)
	if err != nil {
		return nil, err
	}
	w := &Workload{
		Name: "sign", Data: fmt.Sprintf("%s: %d documents of %d bytes", from, len(texts), docBytes),
		Sides: []Side{
			{Name: "curator32", About: "sketch curator32, one thread", Run: curator.run},
			{Name: "fast", About: "sketch fast, one thread", Run: fast.run},
			{Name: "instructions", About: "only the multiplies, adds and minima", Run: instructionBound},
			{Name: "scalar", About: "the formula of curator32 in C, cc -O2 -fno-tree-vectorize", Run: scalarSide(e, texts)},
			{Name: "rensa-kernel", About: "rensa's R-MinHash from windows hashed before", Run: rensaSide(e, texts, "kernel")},
			{Name: "rensa-text", About: "rensa's R-MinHash from text", Run: rensaSide(e, texts, "text")},
		},
		Ratios: []Ratio{
			{What: "sign, Curator-compatible, per core, of the instruction bound", Of: "curator32", By: "instructions", Unit: PerCPU,
				Target: Target{AtLeast: 0.8}},
			{What: "sign, Curator-compatible, per core, against the same formula in scalar C", Of: "curator32", By: "scalar", Unit: PerCPU,
				Target: Target{AtLeast: 9}},
			{What: "sign, default sketch, against Curator-compatible", Of: "fast", By: "curator32", Unit: PerCPU, Target: Target{AtLeast: 8},
				Short: "the front end of the processor limits this one, two ports the other, so that neighbours on the core cost this one more: 8.4 to 9.5 on " +
					"a quiet machine. Places and keys from vectors, stores under branches, and windows and slots in one loop were slower " +
					"(docs/design/20261127-simd.md)"},
			{What: "sign, default sketch, against rensa's kernel", Of: "fast", By: "rensa-kernel", Unit: PerCPU,
				Target: Target{AtLeast: 10}, Note: "rensa is given hashed windows of 24 characters, Dovetail text",
				Short: "decoding and hashing windows, which the kernel of rensa is spared, is 1.2 of the 1.7 ns that a window takes; with the slots alone, one " +
					"product for each hash, the bound would be some 20 times. What was tried is in docs/design/20261127-simd.md; from text see the row below"},
			{What: "sign, default sketch, against rensa from text", Of: "fast", By: "rensa-text", Unit: PerCPU, Target: Target{AtLeast: 90}},
		},
		Quality: func(context.Context) (string, error) { return signQuality(curator, fast) },
		Close: func() {
			curator.signatures.Release()
			fast.signatures.Release()
			col.Release()
		},
	}
	return w, nil
}

// signQuality says that the signatures are those of the specification.
func signQuality(all ...*signing) (string, error) {
	const look = 200
	var parts []string
	for _, s := range all {
		bad, err := s.wrong(look)
		if err != nil {
			return "", err
		}
		n := min(look, s.texts.Rows)
		parts = append(parts, fmt.Sprintf("%s: %d of %d signatures equal the reference's", s.kernels.Params().Sketch, n-bad, n))
	}
	return strings.Join(parts, "; "), nil
}

// instructionBound is what the instructions of a signature take at least, as if each window were a byte of text.
func instructionBound(context.Context) (Sample, error) {
	const windows = 2_000_000
	kind := ""
	took, err := onThread(func() error {
		kind = limit.Instructions(windows)
		return nil
	})
	if kind == "" {
		return nil, unavailable("no loop of vector instructions for this machine")
	}
	return perCPU(windows, took), err
}

// scalarSide signs some of the texts by the C program. Its time is the best of some runs, which is to its advantage.
func scalarSide(e *Env, texts []string) func(context.Context) (Sample, error) {
	text := strings.Join(texts[:min(len(texts), 100)], "")
	return func(ctx context.Context) (Sample, error) {
		s, err := limit.NewScalar(ctx, e.Scratch)
		if errors.Is(err, limit.ErrNoCompiler) {
			return nil, unavailable("%s", err)
		}
		if err != nil {
			return nil, err
		}
		_, took, err := s.Sign(ctx, text)
		return perCPU(int64(len(text)), took), err
	}
}

// rensaSide runs rensa's kernel on some of the texts in its own process.
func rensaSide(e *Env, texts []string, which string) func(context.Context) (Sample, error) {
	docs := make([]data.Doc, min(len(texts), 1000))
	for i := range docs {
		docs[i].Text = texts[i]
	}
	kernel := rivals.Rival{Name: "rensa", Env: "rensa", Script: "kernel_rensa.py"}
	return func(ctx context.Context) (Sample, error) {
		in, err := e.temp("rensa")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(in)
		c, err := kernel.Command(e.Rivals, e.Scratch, in, in)
		if errors.Is(err, rivals.ErrMissing) {
			return nil, unavailable("%s", err)
		}
		if err != nil {
			return nil, err
		}
		if err := data.WriteDocs(filepath.Join(in, "x.parquet"), docs); err != nil {
			return nil, err
		}
		_, out, err := process.Run(ctx, c)
		if err != nil {
			return nil, err
		}
		var rates map[string]float64
		if err := json.Unmarshal(out, &rates); err != nil {
			return nil, fmt.Errorf("%s printed %q: %w", kernel.Script, out, err)
		}
		return Sample{PerCPU: rates[which]}, nil
	}
}
