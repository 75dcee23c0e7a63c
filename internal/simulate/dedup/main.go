// Command dedup is the guest of the simulator that runs the main job: the deduplication of a few documents.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/simulate/scene"
	"github.com/dovetail-dedup/dovetail/internal/simulate/world"
)

func main() { world.Main(map[string]world.Workload{"dedup": &workload{}}) }

type workload struct {
	opts dedup.Options
	want dedupResult
	left atomic.Bool // rank 0 said that it could not remove its work folder
}

// dedupResult is what must be the same whatever happens.
type dedupResult struct {
	digest string
	steps  string // as in run.json
}

func resultOf(r *dedup.Result) (d dedupResult, err error) {
	b, err := json.Marshal(r.Steps)
	return dedupResult{r.Digest, string(b)}, err
}

// MaxRanks keeps the time of a seed bearable.
func (*workload) MaxRanks() int { return 8 }

// Prepare writes documents, some of which are copies of others with a few words changed.
func (l *workload) Prepare(rng *rand.Rand) error {
	l.opts = dedup.Options{
		Spec: dedup.DefaultSpec(), Inputs: []string{scene.Input}, Output: scene.Output + "/result",
		Exec: dedup.Exec{Workers: 2, BandsPerIteration: 1 + rng.IntN(20), SplitBytes: 2000 + rng.Int64N(20000), NoReport: rng.IntN(2) == 0},
	}
	if rng.IntN(2) == 0 {
		l.opts.Spec.Write = dedup.WriteAnnotate
	}
	if err := errors.Join(os.MkdirAll(scene.Input, 0o777), os.MkdirAll(scene.Output, 0o777)); err != nil {
		return err
	}
	var texts []string
	for f := range 1 + rng.IntN(4) {
		var b strings.Builder
		for range 5 + rng.IntN(30) {
			words := make([]string, 20+rng.IntN(60))
			for i := range words {
				words[i] = fmt.Sprintf("word%d", rng.IntN(500))
			}
			if len(texts) > 0 && rng.IntN(2) == 0 {
				words = strings.Fields(texts[rng.IntN(len(texts))])
				for range rng.IntN(3) {
					words[rng.IntN(len(words))] = "changed"
				}
			}
			texts = append(texts, strings.Join(words, " "))
			line, err := json.Marshal(map[string]string{"text": texts[len(texts)-1]})
			if err != nil {
				return err
			}
			b.Write(append(line, '\n'))
		}
		path := filepath.Join(scene.Input, fmt.Sprintf("%d.jsonl", f))
		if old, err := os.ReadFile(path); err == nil && string(old) == b.String() {
			continue // an earlier life has made it
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
			return err
		}
	}
	o := l.opts
	o.Output = scene.Reference
	if err := os.RemoveAll(scene.Reference); err != nil {
		return err
	}
	r, err := dedup.Run(context.Background(), o)
	if err != nil {
		return fmt.Errorf("the run without a job: %w", err)
	}
	l.want, err = resultOf(r)
	return err
}

// Run is one rank's part.
func (l *workload) Run(ctx context.Context, _ *world.World, j *executor.Job) error {
	o := l.opts
	o.Job = j
	o.Note = func(line string) {
		if strings.Contains(line, "the work folder could not be removed") {
			l.left.Store(true)
		}
	}
	_, err := dedup.Run(ctx, o)
	return err
}

// Check compares run.json with the run without a job, and looks at what is on the disk.
func (l *workload) Check() error {
	r, err := dedup.ReadResult(l.opts.Output)
	if err != nil {
		return err
	}
	if got, err := resultOf(r); err != nil || got != l.want {
		return fmt.Errorf("%+v, without a job %+v (%v)", got, l.want, err)
	}
	if l.left.Load() {
		// Whoever gives the command once more has it removed.
		if again, err := dedup.Run(context.Background(), l.opts); err != nil || again.Digest != r.Digest {
			return fmt.Errorf("once more: %v", err)
		}
	}
	if _, err := os.Stat(l.opts.Output + ".work"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the work folder is left (%v)", err)
	}
	var want, got []string
	for dir, list := range map[string]*[]string{scene.Reference: &want, l.opts.Output: &got} {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				*list = append(*list, strings.TrimPrefix(p, dir))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if a, b := strings.Join(got, " "), strings.Join(want, " "); a != b {
		return fmt.Errorf("the result has files %s, without a job %s", a, b)
	}
	return nil
}
