package quality

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// Mode is a way to deduplicate.
type Mode struct {
	Name string     `json:"name"`
	Spec dedup.Spec `json:"spec"`
	// Curator runs the workflow of package curator instead, with the bands, width, seed and hashes of Spec; nothing
	// else of it has a meaning there.
	Curator bool `json:"curator,omitempty"`
}

// Modes returns every sketch with and without verification, and Curator's workflow with both widths of its hashes, all
// with the bands of spec.
func Modes(spec dedup.Spec) []Mode {
	var out []Mode
	for _, verify := range []string{dedup.VerifyExact, dedup.VerifyNone} {
		for _, sketch := range lsh.Sketches() {
			s := spec
			s.Sketch, s.Verify, s.IDField = string(sketch), verify, "id"
			out = append(out, Mode{Name: fmt.Sprintf("%s, verify %s", sketch, verify), Spec: s})
		}
	}
	for _, sketch := range []lsh.Sketch{lsh.Curator32, lsh.Curator64} {
		s := spec
		s.Sketch, s.IDField = string(sketch), "id"
		out = append(out, Mode{Name: fmt.Sprintf("--compat curator, %s", sketch), Spec: s, Curator: true})
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
	Digest    string // empty of Curator's workflow, which has none

	keptFor map[int64]int64 // the kept document of every removed one
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
	r := &Result{Mode: m}
	run := r.dedup
	if m.Curator {
		run = r.curator
	}
	start := time.Now()
	removed, err := run(ctx, path, dir)
	if err != nil {
		return nil, fmt.Errorf("quality: %s: %w", m.Name, err)
	}
	r.Seconds = time.Since(start).Seconds()
	if r.keptFor, err = removed(); err != nil {
		return nil, fmt.Errorf("quality: %s: %w", m.Name, err)
	}
	t, err := lsh.ParseThreshold(m.Spec.Threshold)
	if err != nil {
		return nil, err
	}
	r.recall(c, t.Float())
	return r, r.precision(c, t)
}

// recall counts the pairs of which at most one document was kept.
func (r *Result) recall(c *Corpus, threshold float64) {
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
		_, a := r.keptFor[p.Original]
		_, b := r.keptFor[p.Copy]
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
func (r *Result) precision(c *Corpus, t lsh.Threshold) error {
	windows, err := lsh.NewWindows(c.Ngram)
	if err != nil {
		return err
	}
	right := 0
	var hashes []uint64
	for removed, kept := range r.keptFor {
		windows.Set([]byte(c.Texts[removed]))
		hashes = windows.Hashes(hashes[:0])
		windows.Set([]byte(c.Texts[kept]))
		if t.Reached(windows.Overlap(hashes)) {
			right++
		}
	}
	r.Removed, r.Precision = len(r.keptFor), 1
	if r.Removed > 0 {
		r.Precision = float64(right) / float64(r.Removed)
	}
	return nil
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
