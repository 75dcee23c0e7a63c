package report

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// MaxBytes bounds the size of a page.
const MaxBytes = 5_000_000

// What a page shows at most. Render cuts lists that are longer.
const (
	MaxClusters     = 20
	MaxClusterPairs = 3
	MaxSamples      = 50
	MaxSources      = 20 // rows of each table of sources
	MaxFiles        = 50
	// LeastDocuments is how many documents a source must have to be listed by its share.
	LeastDocuments = 10

	maxSegments  = 400
	maxPairBytes = 16 << 10 // of text; those of Compare have much less
	maxList      = 100      // of everything else
)

const pageFormat = 1

//go:embed templates
var templates embed.FS

var page = template.Must(template.New("page.tmpl").Funcs(template.FuncMap{
	"comma": humanize.Comma, "bytes": bytesText, "binary": binaryText, "percent": percent, "seconds": secondsText,
	"meter": newMeter, "two": twoMeters, "table": newSourceTable, "plural": plural,
	"opened": func(p Pair, open bool) pairView { return pairView{p, open} },
	"some": func(n int64) string {
		if n == 0 {
			return "–"
		}
		return humanize.Comma(n)
	},
	"someBytes": func(n int64) string {
		if n == 0 {
			return "–"
		}
		return bytesText(n)
	},
}).ParseFS(templates, "templates/page.tmpl"))

// view is what the template is given.
type view struct {
	*Data
	CSS               template.CSS
	Headline, Lead    string
	NearName          string
	NearTile          string
	SavedBytes        int64
	SourceTotal       int64
	Shares            *shares
	Similarity, Sizes []*chart
	Sources           *sourceTable
	LongestStage      float64
	LeastDocuments    int
	LeftOut           string
}

type shares struct{ Identical, Near, Label string }

// Render writes the page. It changes nothing in d and takes strings of any size and content.
func Render(w io.Writer, d *Data) error {
	d = prepare(d)
	leftOut := 0
	for {
		out, err := render(d, leftOut)
		if err != nil {
			return err
		}
		if len(out) <= MaxBytes {
			_, err = w.Write(out)
			return err
		}
		n := d.halve()
		if n == 0 {
			return fmt.Errorf("report: a page of %d bytes without texts, more than %d", len(out), MaxBytes)
		}
		leftOut += n
	}
}

// prepare returns a copy of d whose lists and strings are bounded and can be shown.
func prepare(d *Data) *Data {
	c := *d
	c.Format = pageFormat
	c.Options, c.Stages, c.TaskTimes = head(c.Options, maxList), head(c.Stages, maxList), head(c.TaskTimes, maxList)
	c.Ledger, c.Warnings = head(c.Ledger, maxList), head(c.Warnings, maxList)
	c.ByShare, c.Files = head(c.ByShare, MaxSources), head(c.Files, MaxFiles)
	f := &c.Findings
	f.ClusterSizes = head(f.ClusterSizes, maxList)
	f.Similarities.Removed, f.Similarities.Rejected = head(f.Similarities.Removed, 1000), head(f.Similarities.Rejected, 1000)
	if rows := f.Sources.Rows; len(rows) > MaxSources {
		f.Sources.Rows = rows[:MaxSources]
		for _, r := range rows[MaxSources:] {
			f.Sources.Rest.Add(r)
		}
	}
	c.Samples = cutPairs(c.Samples, MaxSamples)
	c.Clusters = slices.Clone(head(c.Clusters, MaxClusters))
	for i := range c.Clusters {
		c.Clusters[i].Pairs = cutPairs(c.Clusters[i].Pairs, MaxClusterPairs)
	}
	cleanAll(&c, windowBytes)
	return &c
}

func head[T any](s []T, n int) []T { return s[:min(len(s), n)] }

func cutPairs(pairs []Pair, n int) []Pair {
	pairs = slices.Clone(head(pairs, n))
	for i := range pairs {
		segments, size := pairs[i].Diff.Segments, 0
		for k := range segments {
			if size += min(len(segments[k].Text), windowBytes); k == maxSegments || size > maxPairBytes {
				segments = segments[:k]
				break
			}
		}
		pairs[i].Diff.Segments = segments
	}
	return pairs
}

// halve drops half of the pairs of texts and returns how many it dropped.
func (d *Data) halve() int {
	n := 0
	half := func(pairs []Pair) []Pair {
		keep := len(pairs) / 2
		n += len(pairs) - keep
		return pairs[:keep]
	}
	d.Samples = half(d.Samples)
	for i := range d.Clusters {
		d.Clusters[i].Pairs = half(d.Clusters[i].Pairs)
	}
	return n
}

func render(d *Data, leftOut int) ([]byte, error) {
	css, err := templates.ReadFile("templates/style.css")
	if err != nil {
		return nil, err
	}
	c := &d.Counts
	v := &view{
		Data: d, CSS: template.CSS(css), SavedBytes: c.IdenticalBytes + c.NearBytes, SourceTotal: int64(d.Findings.Sources.Total),
		LeastDocuments: LeastDocuments, NearName: "similar", NearTile: "Similar, removed",
	}
	if !d.Verified {
		v.NearName, v.NearTile = "candidates, not verified", "Candidates, removed"
	}
	v.Headline = fmt.Sprintf("%s of %s %s removed (%s)", humanize.Comma(c.Removed()), humanize.Comma(c.Documents),
		plural(c.Documents, "document", "documents"), percent(c.Removed(), c.Documents))
	near := fmt.Sprintf("%s at an exact similarity of %s or more to a kept document", humanize.Comma(c.Near), d.ThresholdText)
	if !d.Verified {
		near = fmt.Sprintf("%s as unverified candidates", humanize.Comma(c.Near))
	}
	v.Lead = fmt.Sprintf("%s for having the same text as a kept document, %s: %s of text from %s %s, and %s remain.",
		humanize.Comma(c.Identical), near, bytesText(v.SavedBytes), humanize.Comma(c.Files), plural(c.Files, "file", "files"), humanize.Comma(c.Kept))
	if c.Removed() == 0 {
		v.Lead = fmt.Sprintf("No two of the documents in %s %s have the same text or are similar enough.", humanize.Comma(c.Files), plural(c.Files, "file", "files"))
	}
	if c.Documents > 0 {
		v.Shares = &shares{
			Identical: num(1000 * ratio(c.Identical, c.Documents)), Near: num(1000 * ratio(c.Near, c.Documents)),
			Label: fmt.Sprintf("%s identical, %s %s, %s kept", percent(c.Identical, c.Documents), percent(c.Near, c.Documents), v.NearName,
				percent(c.Kept, c.Documents)),
		}
	}
	for _, narrow := range []bool{false, true} {
		if ch := similarityChart(d, narrow); ch != nil {
			v.Similarity = append(v.Similarity, ch)
		}
		if ch := sizeChart(d.Findings.ClusterSizes, narrow); ch != nil {
			v.Sizes = append(v.Sizes, ch)
		}
	}
	if s := &d.Findings.Sources; len(s.Rows) > 0 {
		v.Sources = newSourceTable(s.Rows, v.NearName)
		if rest := s.Total - len(s.Rows); rest > 0 {
			r := s.Rest
			r.Name = fmt.Sprintf("%s others", humanize.Comma(int64(rest)))
			v.Sources.Rest = &r
		}
	}
	for _, s := range d.Stages {
		v.LongestStage = max(v.LongestStage, s.WallSeconds)
	}
	if leftOut > 0 {
		v.LeftOut = fmt.Sprintf("%d pairs of texts were left out to keep this page below %s.", leftOut, bytesText(MaxBytes))
	}
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	data, err := pack(d)
	return append(b.Bytes(), data...), err
}

// The data follow the page as a comment. Nothing in a page can look like it: what is not the template's is escaped.
const (
	dataStart = "<!-- dovetail-report-data "
	dataEnd   = " -->\n"
)

func pack(d *Data) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(dataStart)
	enc := base64.NewEncoder(base64.StdEncoding, &b)
	z := gzip.NewWriter(enc)
	if err := errors.Join(json.NewEncoder(z).Encode(d), z.Close(), enc.Close()); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	b.WriteString(dataEnd)
	return b.Bytes(), nil
}

// ErrNoReport is wrapped when a page is not one of [Render]'s.
var ErrNoReport = errors.New("not a report of dovetail's")

// Read returns the data of a page that [Render] wrote.
func Read(page []byte) (*Data, error) {
	bad := func(err error) (*Data, error) { return nil, fmt.Errorf("report: %w: %w", ErrNoReport, err) }
	_, text, ok := bytes.Cut(page, []byte(dataStart))
	if !ok {
		return bad(errors.New("it holds no data"))
	}
	text, _, ok = bytes.Cut(text, []byte(dataEnd))
	if !ok {
		return bad(io.ErrUnexpectedEOF)
	}
	z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text)))
	if err != nil {
		return bad(err)
	}
	const most = 16 * MaxBytes // of what compresses well
	data, err := io.ReadAll(io.LimitReader(z, most))
	if err != nil {
		return bad(err)
	}
	d := new(Data)
	if err := json.Unmarshal(data, d); err != nil {
		return bad(err)
	}
	if d.Format != pageFormat {
		return bad(fmt.Errorf("format %d, this version knows %d", d.Format, pageFormat))
	}
	return d, nil
}

// Similarity is Intersection / Union.
func (p Pair) Similarity() float64 { return ratio(p.Intersection, p.Union) }

// Removed is how many documents of the cluster were removed, as text.
func (c Cluster) Removed() string { return humanize.Comma(c.Size - 1) }

// pairView is a pair whose texts are shown at once, or when it is opened.
type pairView struct {
	Pair
	Open bool
}

type sourceTable struct {
	Rows  []Source
	Other string // what removals that are not identical are called
	Most  int64
	Rest  *Source
}

func newSourceTable(rows []Source, other string) *sourceTable {
	t := &sourceTable{Rows: rows, Other: other}
	for _, r := range rows {
		t.Most = max(t.Most, r.Removed)
	}
	return t
}

// meterView is a bar of up to two parts, in hundredths of its width.
type meterView struct{ Width, Class, Width2, Class2 string }

func newMeter(v, most float64, class string) meterView {
	if !(most > 0) {
		most = 1
	}
	return meterView{Width: num(100 * min(1, max(0, v/most))), Class: class}
}

func twoMeters(identical, removed, most int64) meterView {
	m := newMeter(float64(identical), float64(most), "identical")
	near := newMeter(float64(removed-identical), float64(most), "near")
	m.Width2, m.Class2 = near.Width, near.Class
	return m
}

func plural(n int64, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

func percent(a, b int64) string {
	p := 100 * ratio(a, b)
	switch {
	case a > 0 && p < 0.05:
		return "below 0.1 %"
	case p > 99.95 && a < b:
		return "above 99.9 %"
	}
	return fmt.Sprintf("%.1f %%", p)
}

func bytesText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", max(0, n))
	}
	return humanize.SIWithDigits(float64(n), 1, "B")
}

func binaryText(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

func secondsText(s float64) string {
	switch {
	case math.IsNaN(s) || s < 0:
		return "–"
	case s < 0.9995:
		return fmt.Sprintf("%.0f ms", 1000*s)
	case s < 100:
		return fmt.Sprintf("%.1f s", s)
	}
	return strings.TrimSuffix(time.Duration(min(s, 1e9)*float64(time.Second)).Round(time.Second).String(), "0s")
}
