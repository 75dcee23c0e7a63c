package curator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/executor"
)

// Every mistake is refused with one line that says what to do, and leaves nothing.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	s := "some text that is long enough"
	in := filepath.Join(dir, "in")
	writeJSONL(t, filepath.Join(in, "a.jsonl"), []*string{&s, &s})
	cache := filepath.Join(dir, "cache")
	minhash := func(f func(o *MinHashOptions)) func() error {
		return func() error {
			o := DefaultMinHashOptions()
			o.Inputs, o.Output = []string{in}, cache
			f(&o)
			_, err := MinHash(t.Context(), o)
			return err
		}
	}
	sigs := filepath.Join(dir, "sigs")
	writeTable(t, filepath.Join(sigs, "a.parquet"), 3, func(tb *table, i int) {
		tb.int(0, int64(i))
		tb.signature(1, make([]byte, 8))
	}, field{IDColumn, kindInt64}, field{MinhashColumn, kindSig32})
	lsh := func(f func(o *LSHOptions)) func() error {
		return func() error {
			o := DefaultLSHOptions()
			o.Inputs, o.Output, o.NumBands, o.MinhashesPerBand, o.BandsPerIteration = []string{sigs}, cache, 2, 1, 2
			f(&o)
			_, err := LSH(t.Context(), o)
			return err
		}
	}
	broken := filepath.Join(dir, "broken", "a.parquet")
	writeFile(t, broken, []byte("PAR1 and no more PAR1"))
	for i, c := range []struct {
		call func() error
		says string
	}{
		{minhash(func(o *MinHashOptions) { o.CharNgrams = 1 }), "--char-ngrams 1"},
		{minhash(func(o *MinHashOptions) { o.NumHashes = 0 }), "--num-hashes 0"},
		{minhash(func(o *MinHashOptions) { o.Seed = 1 << 32 }), "--seed"},
		{minhash(func(o *MinHashOptions) { o.InputBlocksize = "lots" }), `"lots"`},
		{minhash(func(o *MinHashOptions) { o.InputFiletype = "csv" }), `"csv"`},
		{minhash(func(o *MinHashOptions) { o.MemoryLimit = 1 << 20 }), "--memory-limit"},
		{minhash(func(o *MinHashOptions) { o.Inputs = []string{filepath.Join(dir, "nowhere")} }), "nowhere"},
		{minhash(func(o *MinHashOptions) { o.Output = in }), "outside of the input"},
		{minhash(func(o *MinHashOptions) { o.Inputs = nil }), "--input"},
		{lsh(func(o *LSHOptions) { o.BandsPerIteration = 0 }), "--bands-per-iteration 0"},
		{lsh(func(o *LSHOptions) { o.BandsPerIteration = 3 }), "--bands-per-iteration 3"},
		{lsh(func(o *LSHOptions) { o.BandsPerIteration = -1 }), "--bands-per-iteration -1"},
		{lsh(func(o *LSHOptions) { o.NumBands, o.BandsPerIteration = 3, 3 }), "2 hashes, and 3 bands of 1 need 3"},
		{lsh(func(o *LSHOptions) { o.MinhashField = "sig" }), `no column "sig"`},
		{lsh(func(o *LSHOptions) { o.IDField = MinhashColumn }), "is not a column of plain 64-bit integers"},
		{lsh(func(o *LSHOptions) { o.Inputs = []string{broken} }), broken},
		{lsh(func(o *LSHOptions) { o.Inputs = []string{in} }), "no Parquet files"},
	} {
		err := c.call()
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("mistake %d: %v, want %q", i, err, c.says)
		}
		if left := files(t, cache); len(left) > 0 {
			t.Fatalf("mistake %d left %v", i, left)
		}
		if left, _ := filepath.Glob(filepath.Join(cache, "*")); len(left) > 0 {
			t.Fatalf("mistake %d left %v", i, left)
		}
	}
	if _, err := Fuzzy(t.Context(), FuzzyOptions{}); !errors.Is(err, ErrOptions) {
		t.Errorf("no options at all: %v", err)
	}
}

// An output that is there is refused, unless it is this call's or may be overwritten; and never anything that no stage made.
func TestOverwrite(t *testing.T) {
	dir := t.TempDir()
	s := "some text that is long enough"
	in := filepath.Join(dir, "in")
	writeJSONL(t, filepath.Join(in, "a.jsonl"), []*string{&s, &s})
	o := DefaultMinHashOptions()
	o.Inputs, o.Output = []string{in}, filepath.Join(dir, "cache")
	if _, err := MinHash(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.Seed = 7
	_, err := MinHash(t.Context(), o)
	if !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), "--seed was 42 and is now 7") {
		t.Errorf("another seed: %v", err)
	}
	o.Overwrite = true
	if res, err := MinHash(t.Context(), o); err != nil || res.AlreadyDone {
		t.Errorf("overwriting: %+v (%v)", res, err)
	}
	o.Seed = 8
	precious := filepath.Join(o.Output, MinHashDir, "thesis.tex")
	writeFile(t, precious, nil)
	if _, err := MinHash(t.Context(), o); !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("overwriting what is not ours: %v", err)
	}
	if err := os.Remove(precious); err != nil {
		t.Fatal(err)
	}
	o.Seed, o.Overwrite = 7, false
	writeJSONL(t, filepath.Join(in, "b.jsonl"), []*string{&s})
	if _, err := MinHash(t.Context(), o); !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), "the input") {
		t.Errorf("another input: %v", err)
	}
}

// TestTidy calls a stage again whose result is there, and what a call left that was killed in its last moment, too: while its work folder
// was being removed, or before, and before what it replaced was.
func TestTidy(t *testing.T) {
	dir := t.TempDir()
	s := "some text that is long enough"
	in := filepath.Join(dir, "in")
	writeJSONL(t, filepath.Join(in, "a.jsonl"), []*string{&s, &s})
	o := DefaultMinHashOptions()
	o.Inputs, o.Output, o.KeepWork = []string{in}, filepath.Join(dir, "cache"), true
	work := filepath.Join(o.Output, MinHashDir+".work")
	left := func() bool { _, err := os.Stat(work); return err == nil }
	for _, c := range []struct {
		what     string
		spoil    func()
		removed  bool
		keepWork bool
	}{
		{"all of it", func() {}, true, false},
		{"half of it", func() {
			if err := os.Remove(filepath.Join(work, "log")); err != nil {
				t.Error(err)
			}
		}, true, false},
		{"with --keep-work", func() {}, false, true},
		{"what is no run's", func() {
			if err := os.Remove(filepath.Join(work, "log")); err != nil {
				t.Error(err)
			}
			writeFile(t, filepath.Join(work, "thesis.tex"), nil)
		}, false, false},
	} {
		if err := os.RemoveAll(o.Output); err != nil {
			t.Fatal(err)
		}
		o.KeepWork = true
		if _, err := MinHash(t.Context(), o); err != nil || !left() {
			t.Fatalf("%s: %v, work folder left %v", c.what, err, left())
		}
		c.spoil()
		o.KeepWork = c.keepWork
		if res, err := MinHash(t.Context(), o); err != nil || !res.AlreadyDone || left() == c.removed {
			t.Errorf("%s: %+v, %v, work folder left: %v", c.what, res, err, left())
		}
	}
	if err := os.RemoveAll(o.Output); err != nil {
		t.Fatal(err)
	}
	// What stepped aside for the result goes with the work folder, which knows its name.
	o.KeepWork = true
	if _, err := MinHash(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	w, err := executor.OpenWork(work, nil)
	if err != nil {
		t.Fatal(err)
	}
	old := fmt.Sprintf("%s.%016x.old", filepath.Join(o.Output, MinHashDir), w.RunID())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(old, "part"), nil)
	o.KeepWork = false
	if _, err := MinHash(t.Context(), o); err != nil || left() {
		t.Errorf("%v, work folder left: %v", err, left())
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was replaced is there: %v", err)
	}
}

// Tables come from anywhere: whatever is done to one, reading it is a result or an error that names the file.
func TestDamagedTables(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.parquet")
	writeTable(t, good, 50, func(tb *table, i int) {
		tb.int(0, int64(i))
		if i%7 == 0 {
			tb.null(1)
		} else {
			tb.signature(1, bytes.Repeat([]byte{byte(i), 0, 0, 0}, 4))
		}
	}, field{IDColumn, kindInt64}, field{MinhashColumn, kindSig32})
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 5
	}
	for i := 0; i < len(data); i += step {
		bad := bytes.Clone(data)
		bad[i] ^= byte(1 << (i % 8))
		path := filepath.Join(dir, "bad.parquet")
		if i%2 == 0 {
			bad = bad[:i]
		}
		writeFile(t, path, bad)
		if err := readAll(path); err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

func readAll(path string) error {
	f, err := openTable(context.Background(), path)
	if err != nil {
		return err
	}
	defer f.close()
	return f.guarded(func() error {
		id, err := f.column("--id-field", IDColumn, 2) // parquet.Types.Int64
		if err != nil {
			return err
		}
		sig, err := f.list("--minhash-field", MinhashColumn)
		if err != nil {
			return err
		}
		for g := range f.groups() {
			ids, err := f.open(g, id)
			if err != nil {
				return err
			}
			sigs, err := f.open(g, sig)
			if err != nil {
				return err
			}
			for range f.groupRows(g) {
				if _, err := ids.int(); err != nil {
					return fmt.Errorf("id: %w", err)
				}
				if _, err := sigs.each(func(uint64) error { return nil }); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func FuzzTable(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed.parquet")
	writeTable(f, path, 9, func(tb *table, i int) {
		tb.int(0, int64(i))
		if i == 3 {
			tb.null(1)
		} else {
			tb.signature(1, []byte{byte(i), 0, 0, 0, 1, 2, 3, 4})
		}
	}, field{IDColumn, kindInt64}, field{MinhashColumn, kindSig32})
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "t.parquet")
		writeFile(t, path, data)
		if err := readAll(path); err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%v does not name the file", err)
		}
	})
}

// A document larger than an actor's share is read with more memory, one at a time, and one that cannot be is refused with the
// limit that would do.
func TestLargeDocument(t *testing.T) {
	in := filepath.Join(t.TempDir(), "in")
	large := strings.Repeat("a large document, ", 1_000_000)
	for i := range 3 {
		s := large[i:]
		writeJSONL(t, filepath.Join(in, fmt.Sprintf("%d.jsonl", i)), []*string{&s, &large})
	}
	o := DefaultMinHashOptions()
	o.Inputs, o.NumHashes, o.Workers, o.MemoryLimit = []string{in}, 1, 3, 400<<20
	o.Output = t.TempDir()
	res, err := MinHash(t.Context(), o)
	if err != nil || res.Documents != 6 {
		t.Fatalf("%+v (%v)", res, err)
	}
	e := DefaultExactOptions()
	e.Inputs, e.Workers, e.MemoryLimit, e.Output = []string{in}, 3, 400<<20, t.TempDir()
	if res, err := Exact(t.Context(), e); err != nil || res.NumDuplicates != 3 {
		t.Errorf("%+v (%v)", res, err)
	}
	o.MemoryLimit, o.Output = 128<<20, t.TempDir()
	if _, err := MinHash(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--memory-limit that works is") {
		t.Errorf("%v", err)
	}
	if left := files(t, o.Output); len(left) > 0 {
		t.Errorf("%v is left", len(left))
	}
}
