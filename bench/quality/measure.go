package quality

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// Mode is a way to deduplicate.
type Mode struct {
	Name string     `json:"name"`
	Spec dedup.Spec `json:"spec"`
}

// Modes returns every sketch with and without verification, all with the bands of spec.
func Modes(spec dedup.Spec) []Mode {
	var out []Mode
	for _, verify := range []string{dedup.VerifyExact, dedup.VerifyNone} {
		for _, sketch := range lsh.Sketches() {
			s := spec
			s.Sketch, s.Verify, s.IDField = string(sketch), verify, "id"
			out = append(out, Mode{fmt.Sprintf("%s, verify %s", sketch, verify), s})
		}
	}
	return out
}

// Bin is the pairs whose similarities lie in [From, To), or up to 1 for the last.
type Bin struct {
	From, To  float64
	Pairs     int
	Found     int     // at most one document of the pair is kept
	Predicted float64 // sum of what the S-curve gives for each pair
}

// Result is what one mode made of a corpus.
type Result struct {
	Mode
	Bins      []Bin   // those at the threshold or above
	Below     Bin     // pairs below the threshold
	Pairs     int     // at the threshold or above
	Recall    float64 // of those, the share that was found
	Predicted float64 // by the S-curve
	Removed   int
	Precision float64 // share of the removed whose kept document is at the threshold or above
	Seconds   float64
	Digest    string
}

// edges of the bins, from the default threshold on.
var edges = []float64{0.8, 0.82, 0.85, 0.9, 0.95, 1}

// Measure runs a mode over a corpus, which stands in a JSON Lines file, and compares. Intermediate results go to a
// folder below temp.
func Measure(ctx context.Context, c *Corpus, path, temp string, m Mode) (*Result, error) {
	dir, err := os.MkdirTemp(temp, "quality-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "out")
	start := time.Now()
	run, err := dedup.Run(ctx, dedup.Options{Spec: m.Spec, Inputs: []string{path}, Output: out})
	if err != nil {
		return nil, fmt.Errorf("quality: %s: %w", m.Name, err)
	}
	r := &Result{Mode: m, Seconds: time.Since(start).Seconds(), Digest: run.Digest}
	keptFor, err := removals(filepath.Join(out, "removed"))
	if err != nil {
		return nil, err
	}
	t, err := lsh.ParseThreshold(m.Spec.Threshold)
	if err != nil {
		return nil, err
	}
	r.recall(c, t.Float(), keptFor)
	return r, r.precision(c, t, keptFor)
}

// recall counts the pairs of which at most one document was kept.
func (r *Result) recall(c *Corpus, threshold float64, keptFor map[int64]int64) {
	for i := range len(edges) - 1 {
		if edges[i] >= threshold {
			r.Bins = append(r.Bins, Bin{From: edges[i], To: edges[i+1]})
		}
	}
	r.Below.To = threshold
	found := 0
	for _, p := range c.Pairs {
		bin := &r.Below
		for i := range r.Bins {
			if p.Jaccard >= r.Bins[i].From {
				bin = &r.Bins[i]
			}
		}
		_, a := keptFor[p.Original]
		_, b := keptFor[p.Copy]
		bin.Pairs++
		if a || b {
			bin.Found++
		}
		bin.Predicted += lsh.CandidateProbability(p.Jaccard, r.Spec.NumBands, r.Spec.MinhashesPerBand)
	}
	for _, b := range r.Bins {
		r.Pairs += b.Pairs
		found += b.Found
		r.Predicted += b.Predicted
	}
	if r.Pairs > 0 {
		r.Recall, r.Predicted = float64(found)/float64(r.Pairs), r.Predicted/float64(r.Pairs)
	}
}

// precision computes the similarity of every removed document with the one it was removed for.
func (r *Result) precision(c *Corpus, t lsh.Threshold, keptFor map[int64]int64) error {
	windows, err := lsh.NewWindows(c.Ngram)
	if err != nil {
		return err
	}
	right := 0
	var a, b []uint64
	for removed, kept := range keptFor {
		a, b = windows.Distinct(a[:0], []byte(c.Texts[removed])), windows.Distinct(b[:0], []byte(c.Texts[kept]))
		if _, ok := t.AtLeast(a, b); ok {
			right++
		}
	}
	r.Removed, r.Precision = len(keptFor), 1
	if r.Removed > 0 {
		r.Precision = float64(right) / float64(r.Removed)
	}
	return nil
}

// removals reads id and kept_id of every removed document.
func removals(dir string) (map[int64]int64, error) {
	names, err := filepath.Glob(filepath.Join(dir, "part-*.parquet"))
	if err != nil {
		return nil, err
	}
	out := make(map[int64]int64)
	for _, name := range names {
		r, err := file.OpenParquetFile(name, false)
		if err != nil {
			return nil, err
		}
		for g := range r.NumRowGroups() {
			n := r.RowGroup(g).NumRows()
			ids, kept := make([]int64, n), make([]int64, n)
			for col, values := range [][]int64{ids, kept} {
				c, err := r.RowGroup(g).Column(col)
				if err != nil {
					return nil, err
				}
				ints, ok := c.(*file.Int64ColumnChunkReader)
				if !ok {
					return nil, fmt.Errorf("quality: %s: column %d is not of integers", name, col)
				}
				if got, _, err := ints.ReadBatch(n, values, nil, nil); err != nil || got != n {
					return nil, fmt.Errorf("quality: %s: %d of %d ids: %w", name, got, n, err)
				}
			}
			for i, id := range ids {
				out[id] = kept[i]
			}
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Markdown writes the results, of one corpus and with the same bands, as a table: recall in all and by similarity,
// under what the S-curve predicts.
func Markdown(w io.Writer, results []*Result) error {
	if len(results) == 0 {
		return nil
	}
	percent := func(of float64, n int) string {
		if n == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f %%", 100*of/float64(n))
	}
	first := results[0]
	var b strings.Builder
	fmt.Fprintf(&b, "| mode | removed | precision | recall of %d pairs |", first.Pairs)
	for _, bin := range first.Bins {
		fmt.Fprintf(&b, " %.2f-%.2f, %d pairs |", bin.From, bin.To, bin.Pairs)
	}
	b.WriteString("\n|---|---|---|---|" + strings.Repeat("---|", len(first.Bins)) + "\n")
	fmt.Fprintf(&b, "| the S-curve predicts | | | %.1f %% |", 100*first.Predicted)
	for _, bin := range first.Bins {
		fmt.Fprintf(&b, " %s |", percent(bin.Predicted, bin.Pairs))
	}
	b.WriteString("\n")
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %d | %.2f %% | %.1f %% |", r.Name, r.Removed, 100*r.Precision, 100*r.Recall)
		for _, bin := range r.Bins {
			fmt.Fprintf(&b, " %s |", percent(float64(bin.Found), bin.Pairs))
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
