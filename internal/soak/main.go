// Command soak runs the long checks of `make soak` with the real binary: a million documents under a memory limit,
// the same result from every way of running, and kill -9 at random moments.
//
//	go run ./internal/soak -bin bin/dovetail -dir run/soak -docs 1000000
//
// It prints one line per check and exits with 1 if one fails. What is random comes from -seed, which it prints.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

type soak struct {
	bin, dir string
	docs     int
	seed     uint64
	rng      *rand.Rand
	failed   bool
}

func run() error {
	s := &soak{}
	flag.StringVar(&s.bin, "bin", "bin/dovetail", "the program to test")
	flag.StringVar(&s.dir, "dir", "run/soak", "folder for data and results, which is emptied")
	flag.IntVar(&s.docs, "docs", 1_000_000, "documents of the large corpus, about 1 KB each")
	kills := flag.Int("kills", 100, "runs to kill")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "seed of everything random")
	flag.Parse()
	fmt.Printf("seed %d\n", s.seed)
	s.rng = rand.New(rand.NewPCG(s.seed, 0))
	if err := os.RemoveAll(s.dir); err != nil {
		return err
	}
	large, small := filepath.Join(s.dir, "large"), filepath.Join(s.dir, "small")
	if err := errors.Join(s.generate(large, s.docs), s.generate(small, 20_000)); err != nil {
		return err
	}
	if err := s.limits(large); err != nil {
		return err
	}
	if err := s.shapes(); err != nil {
		return err
	}
	if err := s.kills(small, *kills); err != nil {
		return err
	}
	if err := s.curator(small, *kills/4); err != nil {
		return err
	}
	if s.failed {
		return errors.New("a check failed")
	}
	return os.RemoveAll(s.dir)
}

// generate writes documents of about 1 KB as JSON Lines: half of them new, the others copies, edited copies and
// copies of one boilerplate, so that classes, clusters and a bucket of many occur.
func (s *soak) generate(dir string, docs int) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(s.seed, uint64(docs)))
	words := make([]string, 20_000)
	for i := range words {
		b := make([]byte, 2+rng.IntN(9))
		for k := range b {
			b[k] = byte('a' + rng.IntN(26))
		}
		words[i] = string(b)
	}
	text := func() []string {
		t := make([]string, 80+rng.IntN(140))
		for i := range t {
			t[i] = words[int(float64(len(words))*rng.Float64()*rng.Float64())]
		}
		return t
	}
	edited := func(t []string) []string {
		t = append([]string(nil), t...)
		for range 1 + rng.IntN(4) {
			t[rng.IntN(len(t))] = words[rng.IntN(len(words))]
		}
		return t
	}
	boilerplate := text()
	recent := [][]string{boilerplate}
	const perFile = 50_000
	for n, file := 0, 0; n < docs; file++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("part-%04d.jsonl", file)))
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(f, 1<<20)
		for i := 0; i < perFile && n < docs; i++ {
			var t []string
			switch k := rng.IntN(100); {
			case k < 55:
				t = text()
			case k < 65:
				t = recent[rng.IntN(len(recent))]
			case k < 95:
				t = edited(recent[rng.IntN(len(recent))])
			default:
				t = edited(boilerplate)
			}
			if len(recent) < 5000 {
				recent = append(recent, t)
			} else {
				recent[rng.IntN(len(recent))] = t
			}
			fmt.Fprintf(w, "{\"n\":%d,\"text\":%q}\n", n, strings.Join(t, " "))
			n++
		}
		if err := errors.Join(w.Flush(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// outcome is what the checks need of run.json.
type outcome struct {
	Digest      string  `json:"digest"`
	PeakMemory  int64   `json:"peak_memory"`
	WallSeconds float64 `json:"wall_seconds"`
	TasksReused int64   `json:"tasks_reused"`
	Steps       struct {
		Documents int64 `json:"documents"`
		TextBytes int64 `json:"text_bytes"`
		Removed   int64 `json:"removed"`
	} `json:"steps"`
	Ledger struct {
		SpilledBytes int64 `json:"spilled_bytes"`
	} `json:"ledger"`
}

// command starts a run; its output folder must not exist.
func (s *soak) command(ctx context.Context, in, out string, args ...string) *exec.Cmd {
	args = append([]string{"dedup", "--input", in, "--output", out, "--progress", "none"}, args...)
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Stderr = os.Stderr
	return cmd
}

func (s *soak) result(out string) (r outcome, err error) {
	data, err := os.ReadFile(filepath.Join(out, "run.json"))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

func (s *soak) check(ok bool, format string, args ...any) {
	verdict := "ok  "
	if !ok {
		verdict, s.failed = "FAIL", true
	}
	fmt.Printf("%s %s\n", verdict, fmt.Sprintf(format, args...))
}

// limits runs the large corpus in several ways.
func (s *soak) limits(in string) error {
	var digest string
	for _, c := range []struct {
		limit int64 // MiB
		args  []string
	}{
		{1024, []string{"--workers", "2"}},
		{0, []string{"--workers", "2"}},
		{256, []string{"--workers", "2"}},
		{512, []string{"--ranks", "8", "--workers", "4", "--bands-per-iteration", "20"}},
	} {
		out := filepath.Join(s.dir, "out")
		args := c.args
		if c.limit > 0 {
			args = append(args, "--memory-limit", fmt.Sprintf("%dMiB", c.limit))
		}
		if err := s.command(context.Background(), in, out, args...).Run(); err != nil {
			return fmt.Errorf("%v: %w", args, err)
		}
		r, err := s.result(out)
		if err != nil {
			return err
		}
		if digest == "" {
			digest = r.Digest
		}
		s.check(r.Digest == digest && (c.limit == 0 || r.PeakMemory <= c.limit<<20),
			"%d documents, %.0f MB, %v: %.1f s, peak %d MiB, %d MiB spilled, %d removed, digest %s",
			r.Steps.Documents, float64(r.Steps.TextBytes)/1e6, args, r.WallSeconds, r.PeakMemory>>20, r.Ledger.SpilledBytes>>20,
			r.Steps.Removed, r.Digest)
		if err := os.RemoveAll(out); err != nil {
			return err
		}
	}
	return nil
}

// kills kills runs at random moments and goes on with them until they finish.
func (s *soak) kills(in string, kills int) error {
	var want outcome
	killed, finished, reused := 0, 0, int64(0)
	for killed < kills {
		out := filepath.Join(s.dir, "killed")
		for try := 0; ; try++ {
			ctx, cancel := context.WithCancel(context.Background())
			cmd := s.command(ctx, in, out,
				"--ranks", fmt.Sprint(1+s.rng.IntN(4)), "--workers", fmt.Sprint(1+s.rng.IntN(4)), "--memory-limit", "256MiB")
			if want.Digest != "" && killed < kills && try < 20 {
				time.AfterFunc(time.Duration(s.rng.Float64()*want.WallSeconds*float64(time.Second)), cancel)
			}
			err := cmd.Run()
			wasKilled := ctx.Err() != nil
			cancel()
			if err == nil {
				break
			}
			if !wasKilled {
				return err
			}
			killed++
		}
		r, err := s.result(out)
		if err != nil {
			return err
		}
		if want.Digest == "" {
			want = r
		}
		if r.Digest != want.Digest {
			s.check(false, "after %d kills: digest %s, want %s", killed, r.Digest, want.Digest)
		}
		finished++
		reused += r.TasksReused
		if err := os.RemoveAll(out); err != nil {
			return err
		}
	}
	left, err := filepath.Glob(filepath.Join(s.dir, "killed*"))
	s.check(err == nil && len(left) == 0, "%d runs killed, %d finished with digest %s, %d tasks reused, nothing left behind", killed, finished, want.Digest, reused)
	return err
}
