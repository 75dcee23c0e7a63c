package dedup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// meddling is the local disk on which something happens when a file is opened for the n-th time.
type meddling struct {
	corpus.FS
	left atomic.Int64
	do   func()
}

func (m *meddling) Open(ctx context.Context, name string) (corpus.Object, error) {
	if m.left.Add(-1) == 0 {
		m.do()
	}
	return m.FS.Open(ctx, name)
}

// A file that changes or vanishes at any moment of a run is noticed before the result is in place, and named; or else
// the result is that of the file as it was.
func TestFilesThatChange(t *testing.T) {
	c := makeCorpus(rand.New(rand.NewPCG(9, 9)), 3, 60)
	s := smallSpec()
	s.OnBadFile, s.OnBadRecord = OnBadSkip, OnBadSkip // none of which is a reason to leave it out
	want, _ := c.expected(t, s)
	for what, meddle := range map[string]func(path string) error{
		"gone": os.Remove,
		"longer": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("{\"text\":\"more\"}\n")
			return errors.Join(err, f.Close())
		},
		"shorter": func(path string) error { return os.Truncate(path, 10) },
		"other": func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[len(data)/2] ^= 1
			// As large as before, and in good time.
			return errors.Join(os.WriteFile(path, data, 0o666), os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			step := int64(1)
			if testing.Short() {
				step = 3
			}
			for n, noticed := int64(1), 0; ; n += step {
				dir := t.TempDir()
				c.write(t, dir)
				path := filepath.Join(dir, "sub1", "f001.jsonl")
				m := &meddling{FS: corpus.Local(), do: func() {
					if err := meddle(path); err != nil {
						t.Error(err)
					}
				}}
				m.left.Store(n)
				out := filepath.Join(t.TempDir(), "out")
				res, err := Run(t.Context(), Options{Spec: s, Exec: Exec{Workers: 1, SplitBytes: 3000}, Inputs: []string{dir}, Output: out, FS: m})
				if m.left.Load() > 0 {
					if noticed < 3 {
						t.Errorf("noticed %d times of %d", noticed, n)
					}
					return // it ended before anything happened
				}
				if err == nil {
					if res.Digest != want && n > 3 { // the files are opened once each before the run begins
						t.Fatalf("opening %d: a digest of neither", n)
					}
					continue
				}
				noticed++
				if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
					t.Errorf("opening %d: %q", n, err)
				}
				if what == "gone" && !errors.Is(err, fs.ErrNotExist) || what != "gone" && !errors.Is(err, corpus.ErrChanged) && !strings.Contains(err.Error(), "changed during the run") {
					t.Errorf("opening %d: %v", n, err)
				}
				if _, err := os.Stat(out); err == nil {
					t.Error("there is an output")
				}
			}
		})
	}
}

// A document of 200 MB is one like others, and where memory is too small for it the error says how much it takes.
func TestHugeDocument(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds and a gigabyte")
	}
	dir := t.TempDir()
	var b strings.Builder
	rng := rand.New(rand.NewPCG(8, 8))
	for b.Len() < 200<<20 {
		fmt.Fprintf(&b, "%x ", rng.Uint64())
	}
	for i, tail := range []string{"", "", "and more"} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.jsonl", i)), []byte(`{"text":"`+b.String()+tail+"\"}\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Run(t.Context(), Options{
		Spec: DefaultSpec(), Exec: Exec{MemoryLimit: 256 << 20}, Inputs: []string{dir}, Output: filepath.Join(t.TempDir(), "out"),
	})
	if err == nil || !strings.Contains(err.Error(), "the smallest --memory-limit that works") || !strings.Contains(err.Error(), filepath.Join(dir, "")) {
		t.Error(err)
	}
	_, res := testRun(t, dir, DefaultSpec(), Exec{Workers: 1})
	if res.Steps.Removed != 2 || res.Steps.RemovedExact != 1 {
		t.Errorf("%+v", res.Steps)
	}
}
