package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// shapes runs inputs of which something is far too large for a part of the memory limit: the documents of one
// compressed file, and those of one component.
func (s *soak) shapes() error {
	rng := rand.New(rand.NewPCG(s.seed, 2))
	page := strings.Repeat("every page of a certain site repeats this below its content, ", 2)
	for _, c := range []struct {
		name string
		docs int
		text func(i int) string
		args []string
	}{
		{"tiny", 4 * s.docs, func(int) string { return fmt.Sprintf("%010d", rng.IntN(3*s.docs)) }, []string{"--num-bands", "5"}},
		{"one", s.docs, func(i int) string { return fmt.Sprintf("%s%07d", page, i) }, []string{"--num-bands", "4"}},
	} {
		in, out := filepath.Join(s.dir, c.name), filepath.Join(s.dir, "out")
		if err := writeLines(filepath.Join(in, "a.jsonl.gz"), c.docs, c.text); err != nil {
			return err
		}
		const limit = 256
		args := append(c.args, "--workers", "2", "--memory-limit", fmt.Sprintf("%dMiB", limit))
		if err := s.command(context.Background(), in, out, args...).Run(); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		r, err := s.result(out)
		if err != nil {
			return err
		}
		s.check(r.PeakMemory <= limit<<20 && r.Steps.Removed > 0, "%s: %d documents in one file, %v: %.1f s, peak %d MiB, %d removed",
			c.name, r.Steps.Documents, args, r.WallSeconds, r.PeakMemory>>20, r.Steps.Removed)
		if err := errors.Join(os.RemoveAll(out), os.RemoveAll(in)); err != nil {
			return err
		}
	}
	return nil
}

// writeLines writes documents as compressed JSON Lines.
func writeLines(name string, docs int, text func(i int) string) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w := bufio.NewWriterSize(z, 1<<20)
	for i := range docs {
		if _, err := io.WriteString(w, "{\"text\":\""+text(i)+"\"}\n"); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(w.Flush(), z.Close(), f.Close())
}
