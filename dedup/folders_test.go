package dedup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEmptyOutputFolderMayExist(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	makeCorpus(rand.New(rand.NewPCG(5, 5)), 2, 30).write(t, dir)
	if _, err := Run(t.Context(), Options{Spec: smallSpec(), Inputs: []string{dir}, Output: out}); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadResult(out); err != nil {
		t.Error(err)
	}
}

func TestFoldersInOneAnother(t *testing.T) {
	dir, base := t.TempDir(), t.TempDir()
	makeCorpus(rand.New(rand.NewPCG(5, 5)), 2, 30).write(t, dir)
	out := filepath.Join(base, "out")
	for _, o := range []Options{
		{Output: filepath.Join(dir, "out")},
		{Output: out, Work: filepath.Join(dir, "work")},
		{Output: out, Work: out},
		{Output: out, Work: filepath.Join(out, "work")},
		{Output: filepath.Join(base, "work", "out"), Work: filepath.Join(base, "work")},
	} {
		o.Spec, o.Inputs = smallSpec(), []string{dir}
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrOutput) {
			t.Errorf("output %s, work %s: %v", o.Output, o.Work, err)
		}
	}
}

// What lies beside the output and is not this run's is neither used nor touched.
func TestForeignFoldersBesideTheOutput(t *testing.T) {
	dir, base := t.TempDir(), t.TempDir()
	c := makeCorpus(rand.New(rand.NewPCG(6, 6)), 3, 60)
	c.write(t, dir)
	out := filepath.Join(base, "out")
	for _, foreign := range []string{"out.partial", "out.0123456789abcdef.partial"} {
		if err := os.MkdirAll(filepath.Join(base, foreign, "kept"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, foreign, "kept", "precious"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	// Two runs with other options race for one output. One wins whole; the other says so.
	other := smallSpec()
	other.Threshold = "0.3"
	specs := []Spec{smallSpec(), other}
	errs := make([]error, 2)
	done := make(chan int)
	for i, s := range specs {
		go func() {
			_, errs[i] = Run(t.Context(), Options{Spec: s, Inputs: []string{dir}, Output: out, Work: filepath.Join(base, fmt.Sprint("work", i))})
			done <- i
		}()
	}
	<-done
	<-done
	won, lost := 0, 1
	if errs[0] != nil {
		won, lost = 1, 0
	}
	if errs[won] != nil || !errors.Is(errs[lost], ErrOutput) {
		t.Fatalf("%v, %v", errs[0], errs[1])
	}
	res, err := ReadResult(out)
	if err != nil {
		t.Fatal(err)
	}
	want, verdicts := c.expected(t, specs[won])
	if res.Digest != want {
		t.Errorf("digest %s, want %s", res.Digest, want)
	}
	checkOutput(t, c, out, verdicts)
	for _, foreign := range []string{"out.partial", "out.0123456789abcdef.partial"} {
		if _, err := os.Stat(filepath.Join(base, foreign, "kept", "precious")); err != nil {
			t.Error(err)
		}
	}
}

// Documents that are large for the limit are compared one pair at a time, or refused with the limit that works;
// nobody waits for ever.
func TestLargeDocumentsUnderALimit(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	var b strings.Builder
	for b.Len() < 1_000_000 {
		fmt.Fprintf(&b, "%x ", rng.Uint64())
	}
	c := testCorpus{nil, nil}
	for i := range 6 {
		text := b.String()[i*1000:] + strings.Repeat("x", i)
		c[i%2] = append(c[i%2], testDoc{Text: &text, ID: int64(i)})
	}
	dir := t.TempDir()
	c.write(t, dir)
	s := DefaultSpec()
	_, unlimited := testRun(t, dir, s, Exec{Workers: 2})
	if unlimited.Steps.Removed == 0 {
		t.Error("nothing was removed: the test shows little")
	}
	ways := []Exec{
		{Workers: 4, MemoryLimit: 128 << 20}, {Workers: 1, MemoryLimit: 128 << 20},
		{Workers: 1, MemoryLimit: 192 << 20}, {Workers: 4, MemoryLimit: 256 << 20},
	}
	if testing.Short() {
		ways = ways[:2]
	}
	for _, e := range ways {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		res, err := Run(ctx, Options{Spec: s, Exec: e, Inputs: []string{dir}, Output: filepath.Join(t.TempDir(), "out")})
		cancel()
		switch {
		case err != nil && strings.Contains(err.Error(), "the smallest --memory-limit that works"):
			t.Logf("%d workers, %d MiB: %v", e.Workers, e.MemoryLimit>>20, err)
		case err != nil:
			t.Errorf("%d workers, %d MiB: %v", e.Workers, e.MemoryLimit>>20, err)
		case res.Digest != unlimited.Digest:
			t.Errorf("%d workers, %d MiB: digest %s, want %s", e.Workers, e.MemoryLimit>>20, res.Digest, unlimited.Digest)
		}
	}
}

// Text files that stay are the same files: bytes, permissions, time of the last change.
func TestTextFilesKeepTheirAttributes(t *testing.T) {
	dir := t.TempDir()
	mtime := time.Date(2001, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	modes := map[string]os.FileMode{"a.sh": 0o750, "b.txt": 0o444, "sub/c": 0o606}
	for name, mode := range modes {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("this is "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chmod(path, mode), os.Chtimes(path, mtime, mtime)); err != nil {
			t.Fatal(err)
		}
	}
	s := DefaultSpec()
	s.Format = "files"
	out, _ := testRun(t, dir, s, Exec{})
	for name, mode := range modes {
		st, err := os.Stat(filepath.Join(out, "kept", filepath.FromSlash(name)))
		if err != nil || st.Mode() != mode || !st.ModTime().Equal(mtime) {
			t.Errorf("%s: %v, want %v and %v (%v)", name, st, mode, mtime, err)
		}
	}
}
