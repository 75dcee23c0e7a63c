package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// curator runs NeMo Curator's workflow in several ways and kills it at random moments: its files are always the same, byte for
// byte.
func (s *soak) curator(in string, kills int) error {
	root := filepath.Join(s.dir, "curator") // one folder for all runs, because paths are in names of files
	run := func(ctx context.Context, args ...string) error {
		cmd := exec.CommandContext(ctx, s.bin, append([]string{
			"dedup", "--compat", "curator", "--input", in, "--cache", filepath.Join(root, "cache"), "--output", filepath.Join(root, "out"),
			"--lsh-num-output-partitions", "4", "--components-files", "2", "--progress", "none",
		}, args...)...)
		cmd.Stderr = os.Stderr
		return cmd.Run()
	}
	want := ""
	var wall time.Duration
	killed, finished := 0, 0
	for killed < kills {
		for try := 0; ; try++ {
			ctx, cancel := context.WithCancel(context.Background())
			if want != "" && killed < kills && try < 20 {
				time.AfterFunc(time.Duration(s.rng.Float64()*float64(wall)), cancel)
			}
			start := time.Now()
			err := run(ctx, "--ranks", fmt.Sprint(1+s.rng.IntN(4)), "--workers", fmt.Sprint(1+s.rng.IntN(4)), "--memory-limit", "256MiB")
			wasKilled := ctx.Err() != nil
			cancel()
			if err == nil {
				if want == "" {
					wall = time.Since(start)
				}
				break
			}
			if !wasKilled {
				return err
			}
			killed++
		}
		got, err := contents(root)
		if err != nil {
			return err
		}
		if want == "" {
			want = got
		}
		if got != want {
			s.check(false, "curator: after %d kills the files are others", killed)
		}
		finished++
		if err := os.RemoveAll(root); err != nil {
			return err
		}
	}
	s.check(true, "curator: %d runs killed, %d finished with the same files, %.16s, and nothing left behind", killed, finished, want)
	return nil
}

// contents is a hash of all files below a folder and of their names, without manifests, which have versions in them.
func contents(root string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".manifest") {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n", path, len(data))
		h.Write(data)
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)), err
}
