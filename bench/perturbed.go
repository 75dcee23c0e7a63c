package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dovetail-dedup/dovetail/bench/data"
	"github.com/dovetail-dedup/dovetail/bench/quality"
	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// shareUnit is a share of 1.
const shareUnit Unit = "share"

// perturbedWorkload is recall and precision of the default mode on texts of which each has an edited copy, beside what the
// S-curve of the bands predicts. It gives the same each time, so one round is enough.
func perturbedWorkload(ctx context.Context, e *Env) (*Workload, error) {
	n := 4000
	if e.Quick {
		n = 100
	}
	c, from, err := perturbed(ctx, e, n)
	if err != nil {
		return nil, err
	}
	dir, err := e.temp("perturbed")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "corpus.jsonl")
	if err := c.Write(path); err != nil {
		return nil, err
	}
	var r *quality.Result
	spec := dedup.DefaultSpec()
	spec.IDField = "id"
	run := func(ctx context.Context) (_ Sample, err error) {
		r, err = quality.Measure(ctx, c, path, dir, quality.Mode{Name: "default", Spec: spec})
		if err != nil {
			return nil, err
		}
		return Sample{shareUnit: r.Recall}, nil
	}
	predicted := func(context.Context) (Sample, error) { return Sample{shareUnit: r.Predicted}, nil }
	return &Workload{
		Name: "perturbed", Data: fmt.Sprintf("%s: %d texts and an edited copy of each", from, len(c.Pairs)),
		Sides: []Side{
			{Name: "dedup", About: "share of the pairs at 0.8 or above that were found", Run: run, Rounds: 1},
			{Name: "s-curve", About: "1-(1-J^13)^20 of each pair", Run: predicted, Rounds: 1},
		},
		Ratios: []Ratio{{What: "recall of labelled pairs, of what the S-curve predicts", Of: "dedup", By: "s-curve", Unit: shareUnit,
			Target: Target{AtLeast: 0.99}, Note: "the target is one percent of sampling error"}},
		Quality: func(context.Context) (string, error) {
			return fmt.Sprintf("%d pairs at %s or above, recall %.2f %%, predicted %.2f %%, precision %.2f %%", r.Pairs, spec.Threshold,
				100*r.Recall, 100*r.Predicted, 100*r.Precision), nil
		},
		Close: func() { _ = os.RemoveAll(dir) }, // or with the scratch folder
	}, nil
}

func perturbed(ctx context.Context, e *Env, n int) (*quality.Corpus, string, error) {
	set, err := e.set("prose")
	if err == nil && !e.Quick {
		c, err := data.Perturb(set, n)
		return c, set.Name, err
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return nil, "", err
	}
	docs, from, err := e.texts(ctx, "prose", 64<<20)
	if err != nil {
		return nil, "", err
	}
	var texts []string
	for _, d := range docs {
		if len(d.Text) >= 1000 && len(d.Text) <= 40_000 && len(texts) < n {
			texts = append(texts, d.Text)
		}
	}
	c, err := quality.FromTexts(texts, lsh.DefaultParams().CharNgrams, 1)
	return c, from, err
}
