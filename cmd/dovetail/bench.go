package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dovetail-dedup/dovetail/bench/quality"
	"github.com/dovetail-dedup/dovetail/dedup"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure dovetail on this machine",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(benchRunCommand(), benchTableCommand(), benchDataCommand(), benchScaleCommand(), benchQualityCommand())
	return cmd
}

func benchQualityCommand() *cobra.Command {
	var text string
	var docs int
	var seed uint64
	spec := dedup.DefaultSpec()
	cmd := &cobra.Command{
		Use:   "quality --text DIR",
		Short: "Precision and recall of every mode on real text with known near-duplicates",
		Long: `Precision and recall of every mode on real text with known near-duplicates.

Takes files of DIR as documents, makes a perturbed copy of each, and runs every sketch with and without
verification, and NeMo Curator's workflow (--compat curator). Recall is the share of the pairs at the threshold or above of which at most one document is kept; beside
it stands what the S-curve of the bands predicts. Precision is the share of the removed documents whose exact
similarity to the one they were removed for is at the threshold or above.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if text == "" {
				return usageError{errors.New("--text: name a folder with text files")}
			}
			if docs < 1 {
				return usageError{fmt.Errorf("--docs %d: must be at least 1", docs)}
			}
			if err := spec.Validate(); err != nil {
				return usageError{err}
			}
			c, err := quality.Make(text, docs, spec.CharNgrams, seed)
			if err != nil {
				return err
			}
			temp, err := os.MkdirTemp("", "dovetail-quality-*")
			if err != nil {
				return err
			}
			defer os.RemoveAll(temp)
			path := filepath.Join(temp, "corpus.jsonl")
			if err := c.Write(path); err != nil {
				return err
			}
			var results []*quality.Result
			for _, m := range quality.Modes(spec) {
				r, err := quality.Measure(cmd.Context(), c, path, temp, m)
				if err != nil {
					return err
				}
				results = append(results, r)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%d documents and a perturbed copy of each, %d bands of %d rows, windows of %d characters, threshold %s, seed %d\n\n",
				docs, spec.NumBands, spec.MinhashesPerBand, spec.CharNgrams, spec.Threshold, seed)
			if err := quality.Markdown(w, results); err != nil {
				return err
			}
			_, err = io.WriteString(w, qualityNotes)
			return err
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&text, "text", "", "folder whose files are the documents")
	fl.IntVar(&docs, "docs", 4000, "number of documents")
	fl.Uint64Var(&seed, "seed", 1, "chooses documents and perturbations")
	fl.IntVar(&spec.NumBands, "num-bands", spec.NumBands, "number of bands")
	fl.IntVar(&spec.MinhashesPerBand, "minhashes-per-band", spec.MinhashesPerBand, "rows per band")
	fl.IntVar(&spec.CharNgrams, "char-ngrams", spec.CharNgrams, "width of a shingle in Unicode code points")
	fl.StringVar(&spec.Threshold, "threshold", spec.Threshold, "least Jaccard similarity of a near-duplicate")
	return cmd
}

// qualityNotes says how far the figures hold, and why two modes that decide alike differ.
const qualityNotes = `
All figures are a function of the texts and the options: another machine gives the same.

"--verify none" and "--compat curator" find the same clusters with the same signatures, and remove what is connected
through others. They differ in which document of a cluster stays: the first in the input, or the one with the smallest id.
So they differ in the pairs that lie in two clusters, found if either was removed for a third, and in the precision.
And to Curator all empty texts are duplicates, where dedup keeps them.
`
