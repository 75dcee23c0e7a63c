package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/dovetail-dedup/dovetail/bench/data"
	"github.com/dovetail-dedup/dovetail/bench/process"
)

// ScaleOptions say how far doubling goes.
type ScaleOptions struct {
	First int           // documents of the first size
	For   time.Duration // when to stop
	Limit string        // the --memory-limit of the limited side
	// Most is the number of documents to stop at; 0 is no bound.
	Most int
	// Turns is how often each size is run; less than 1 means 1.
	Turns int
}

// Point is one size: times are those of the run that took the middle time of all turns, memory is the most of all.
type Point struct {
	Documents int     `json:"documents"`
	Bytes     int64   `json:"text_bytes"`
	Seconds   float64 `json:"seconds"`
	CPU       float64 `json:"cpu_seconds"`
	PeakMB    float64 `json:"peak_mb"`
	// LimitedSeconds and LimitedPeakMB are those of a run with --memory-limit.
	LimitedSeconds float64 `json:"limited_seconds"`
	LimitedCPU     float64 `json:"limited_cpu_seconds"`
	LimitedPeakMB  float64 `json:"limited_peak_mb"`
	Others         float64 `json:"others"`
}

// Scaling is time and memory by the number of documents.
type Scaling struct {
	Machine Machine   `json:"machine"`
	Made    time.Time `json:"made"`
	Version string    `json:"version"`
	Limit   string    `json:"memory_limit"`
	Turns   int       `json:"turns"` // of each size
	Points  []Point   `json:"points"`
	Stopped string    `json:"stopped"` // why there is no larger size
}

// Bytes of a document, and how many times the text the disk must have room for: input, work files and output, and what was
// there before.
const (
	scaleDocBytes = 1000
	scaleDisk     = 4
	scaleFile     = 100_000 // documents in a file
)

// Scale deduplicates more and more documents until time, disk or Most says stop, twice as many each time: the earlier ones
// and as many new ones.
func Scale(ctx context.Context, e *Env, o ScaleOptions) (*Scaling, error) {
	o.Turns = max(1, o.Turns)
	s := &Scaling{Machine: ThisMachine(), Made: time.Now().UTC().Truncate(time.Second), Version: e.Version, Limit: o.Limit, Turns: o.Turns}
	dir, err := e.temp("scale")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o777); err != nil {
		return nil, err
	}
	start, made, bytes := time.Now(), 0, int64(0)
	for n := o.First; ; n *= 2 {
		if s.Stopped = o.stop(dir, n, start, s.Points); s.Stopped != "" {
			return s, nil
		}
		for made < n {
			k := min(scaleFile, n-made)
			b, err := writeScaled(filepath.Join(in, fmt.Sprintf("part-%09d.parquet", made)), made, k)
			if err != nil {
				return nil, err
			}
			made, bytes = made+k, bytes+b
		}
		p, err := e.point(ctx, in, dir, n, bytes, o)
		if err != nil {
			return nil, err
		}
		s.Points = append(s.Points, p)
		e.note("%d documents: %.1f s, %.0f MB; with --memory-limit %s %.1f s, %.0f MB", n, p.Seconds, p.PeakMB, o.Limit, p.LimitedSeconds, p.LimitedPeakMB)
	}
}

// stop says why a size is not measured, or "".
func (o ScaleOptions) stop(dir string, n int, start time.Time, points []Point) string {
	if o.Most > 0 && n > o.Most {
		return fmt.Sprintf("%d documents were enough", o.Most)
	}
	if free, ok := freeDisk(dir); ok && free < int64(n)*scaleDocBytes*scaleDisk {
		return fmt.Sprintf("%d documents take more disk than is free", n)
	}
	if len(points) > 0 {
		last := points[len(points)-1]
		need := time.Duration(2.2 * float64(o.Turns) * (last.Seconds + last.LimitedSeconds) * float64(time.Second))
		if time.Since(start)+need > o.For {
			return fmt.Sprintf("%d documents take more than is left of %v", n, o.For)
		}
	}
	return ""
}

func (e *Env) point(ctx context.Context, in, dir string, n int, bytes int64, o ScaleOptions) (Point, error) {
	p := Point{Documents: n, Bytes: bytes}
	run := func(options ...string) (process.Usage, error) {
		out := filepath.Join(dir, "out")
		if err := os.RemoveAll(out); err != nil {
			return process.Usage{}, err
		}
		if err := e.settle(in); err != nil {
			return process.Usage{}, err
		}
		args := append([]string{e.Program, "dedup", "--progress", "none", "--input", in, "--output", out}, options...)
		u, _, err := process.Run(ctx, process.Command{Args: args})
		return u, err
	}
	var all, limited []process.Usage
	for range o.Turns {
		u, err := run()
		if err != nil {
			return p, err
		}
		all = append(all, u)
		if u, err = run("--memory-limit", o.Limit); err != nil {
			return p, err
		}
		limited = append(limited, u)
	}
	u, peak := middle(all)
	p.Seconds, p.CPU, p.PeakMB, p.Others = u.Wall.Seconds(), u.CPU.Seconds(), float64(peak)/1e6, u.Others
	u, peak = middle(limited)
	p.LimitedSeconds, p.LimitedCPU, p.LimitedPeakMB = u.Wall.Seconds(), u.CPU.Seconds(), float64(peak)/1e6
	return p, nil
}

// middle returns the run that took the middle time, and the most memory of all.
func middle(all []process.Usage) (u process.Usage, peak int64) {
	for _, u := range all {
		peak = max(peak, u.PeakBytes)
	}
	slices.SortFunc(all, func(a, b process.Usage) int { return cmp.Compare(a.Wall, b.Wall) })
	return all[len(all)/2], peak
}

// writeScaled writes documents first to first+n, of about scaleDocBytes: of three, two are new, and one is an earlier one of
// the file with a few words changed. It returns the bytes of text.
func writeScaled(path string, first, n int) (bytes int64, err error) {
	words := make([]string, 50_000)
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range words {
		words[i] = fmt.Sprintf("%x", rng.Uint32()>>(4*rng.IntN(6)))
	}
	rng = rand.New(rand.NewPCG(5, uint64(first)))
	docs := make([]data.Doc, n)
	for i := range docs {
		var w []string
		if i > 0 && i%3 == 0 {
			w = strings.Fields(docs[rng.IntN(i)].Text)
			for range rng.IntN(4) {
				w[rng.IntN(len(w))] = words[rng.IntN(len(words))]
			}
		} else {
			for size := 0; size < scaleDocBytes; size += len(w[len(w)-1]) + 1 {
				w = append(w, words[rng.IntN(len(words))])
			}
		}
		docs[i] = data.Doc{Source: fmt.Sprint(first + i), Text: strings.Join(w, " ")}
		bytes += int64(len(docs[i].Text))
	}
	return bytes, data.WriteDocs(path, docs)
}

// Doubling is the largest of the ratios of each size to the one before, from sizes on that take at least some seconds, since
// to start takes time too. ok is false if there is no such pair.
func (s *Scaling) Doubling(value func(Point) float64) (worst float64, ok bool) {
	const least = 3 // seconds
	for i := 1; i < len(s.Points); i++ {
		if s.Points[i-1].Seconds >= least {
			worst, ok = max(worst, value(s.Points[i])/value(s.Points[i-1])), true
		}
	}
	return worst, ok
}

// JSON writes all values.
func (s *Scaling) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(s)
}

// Markdown writes the sizes as a table, and the two rows that have targets.
func (s *Scaling) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s. %s.\n\nDocuments of about 1 kB, made up, a third of them edited copies; warm cache; of %d runs of each size the one that took the middle time, and the most memory of all. It ended because %s.\n\n",
		s.Made.Format("2006-01-02"), s.Version, s.Machine, s.Turns, s.Stopped)
	row := func(what string, target Target, value func(Point) float64) {
		v, ok := s.Doubling(value)
		verdict := "-"
		if ok {
			verdict = map[bool]string{true: "met", false: "**not met**"}[target.Met(Summary{Median: v, N: 1})]
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", what, target, number(v), verdict)
	}
	b.WriteString("| largest ratio of a size to half of it | target | measured | |\n|---|---|---|---|\n")
	row("time as documents double", Target{AtMost: 2.1}, func(p Point) float64 { return p.Seconds })
	row("processor time as documents double", Target{AtMost: 2.1}, func(p Point) float64 { return p.CPU })
	row("memory as documents double, with --memory-limit "+s.Limit, Target{AtMost: 1.1}, func(p Point) float64 { return p.LimitedPeakMB })
	if limit, err := humanize.ParseBytes(s.Limit); err == nil && limit > 0 {
		peak := 0.0
		for _, p := range s.Points {
			peak = max(peak, p.LimitedPeakMB*1e6/float64(limit))
		}
		verdict := map[bool]string{true: "met", false: "**not met**"}[peak <= 1]
		fmt.Fprintf(&b, "| largest memory with --memory-limit %s, by the limit | <= 1 | %s | %s |\n", s.Limit, number(peak), verdict)
		b.WriteString("\nMemory grows with the documents until it comes near the limit, and is flat from there on: a run that ended before says nothing about it.\n")
	}
	fmt.Fprintf(&b, "\n| documents | MB | s | cpu s | peak MB | others | s, limit %s | cpu s | peak MB |\n|---|---|---|---|---|---|---|---|---|\n", s.Limit)
	for _, p := range s.Points {
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %.2f | %s | %s | %s |\n", p.Documents, number(float64(p.Bytes)/1e6), number(p.Seconds), number(p.CPU),
			number(p.PeakMB), p.Others, number(p.LimitedSeconds), number(p.LimitedCPU), number(p.LimitedPeakMB))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
