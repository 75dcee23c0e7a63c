package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// Charts are drawn twice, wide and narrow, because text in a picture shrinks with it: the style sheet shows one.

// chart is a picture for the template. All numbers are in units of its view box.
type chart struct {
	ID, Title, Desc string
	Narrow          bool
	W, H            float64
	Plot            rect
	Bars            []bar
	Curve           string // of an SVG path
	Lines           []line
	Texts           []label
}

type rect struct{ X, Y, W, H string }

type bar struct {
	rect
	Class, Tip string
}

type line struct{ X1, Y1, X2, Y2, Class string }

type label struct {
	X, Y, Text, Anchor, Class string
}

func num(v float64) string { return fmt.Sprintf("%.1f", v) }

// frame maps the values of a chart to its units.
type frame struct {
	chart
	left, top, width, height float64
	x0, x1, y1               float64 // ranges of values; y begins at 0
}

func newFrame(id, title string, narrow bool, left, right, top, bottom float64) *frame {
	f := &frame{left: left, top: top}
	f.ID, f.Title, f.Narrow, f.W, f.H = id, title, narrow, 760, 300
	if narrow {
		f.ID, f.W, f.H = id+"-narrow", 360, 250
	}
	f.width, f.height = f.W-left-right, f.H-top-bottom
	f.Plot = rect{num(left), num(top), num(f.width), num(f.height)}
	return f
}

func (f *frame) x(v float64) float64 { return f.left + (v-f.x0)/(f.x1-f.x0)*f.width }
func (f *frame) y(v float64) float64 { return f.top + f.height - v/f.y1*f.height }

func (f *frame) text(x, y float64, anchor, class, text string) {
	f.Texts = append(f.Texts, label{num(x), num(y), text, anchor, class})
}

func (f *frame) line(x1, y1, x2, y2 float64, class string) {
	f.Lines = append(f.Lines, line{num(x1), num(y1), num(x2), num(y2), class})
}

// bar adds a bar from y value a to b.
func (f *frame) bar(x, w, a, b float64, class, tip string) {
	top := f.y(b)
	f.Bars = append(f.Bars, bar{rect{num(x), num(top), num(w), num(f.y(a) - top)}, class, tip})
}

// ticks returns round values from 0 to at least most, about n of them.
func ticks(most float64, n int) []float64 {
	step := math.Pow(10, math.Floor(math.Log10(max(most, 1)/float64(n))))
	for _, k := range []float64{1, 2, 5, 10} {
		if most/(k*step) <= float64(n) {
			step *= k
			break
		}
	}
	step = max(step, 1)
	out := []float64{0}
	for v := step; v < most+step; v += step {
		out = append(out, v)
	}
	return out
}

// similarityChart draws the similarities of what was compared, and over them the chance that the bands make a pair
// of that similarity a candidate. It is nil where nothing was compared.
func similarityChart(d *Data, narrow bool) *chart {
	removed, rejected := d.Findings.Similarities.Removed, d.Findings.Similarities.Rejected
	n := max(len(removed), len(rejected))
	if !d.Verified || n == 0 || n > 10_000 || d.Bands < 1 || d.RowsPerBand < 1 {
		return nil
	}
	at := func(h []int64, i int) int64 {
		if i < len(h) {
			return max(0, h[i])
		}
		return 0
	}
	chance := func(j float64) float64 { return lsh.CandidateProbability(j, d.Bands, d.RowsPerBand) }
	// The axis begins where something begins: the first pair or the rise of the curve.
	from := 0
	for from < n && at(removed, from)+at(rejected, from) == 0 && chance(float64(from)/float64(n)) < 0.005 {
		from++
	}
	tenth := max(1, n/10)
	from = min(from/tenth*tenth, n-tenth)
	bars := 60
	if narrow {
		bars = 30
	}
	merge := 1
	for (n-from)/merge > bars || from%merge != 0 {
		merge++
	}
	f := newFrame("similarity", "Similarity of compared pairs", narrow, 52, 48, 46, 46)
	if narrow {
		f = newFrame("similarity", "Similarity of compared pairs", narrow, 40, 46, 46, 44)
	}
	f.x0, f.x1 = float64(from)/float64(n), 1
	most := int64(1)
	total, totalRejected := int64(0), int64(0)
	for lo := from; lo < n; lo += merge {
		sum := int64(0)
		for i := lo; i < min(lo+merge, n); i++ {
			sum += at(removed, i) + at(rejected, i)
			total += at(removed, i)
			totalRejected += at(rejected, i)
		}
		most = max(most, sum)
	}
	grid := ticks(float64(most), 4)
	f.y1 = grid[len(grid)-1]
	for _, v := range grid {
		f.line(f.left, f.y(v), f.left+f.width, f.y(v), "grid")
		f.text(f.left-6, f.y(v)+4, "end", "", compact(v))
	}
	w := f.width / (float64(n-from) / float64(merge))
	for lo := from; lo < n; lo += merge {
		hi := min(lo+merge, n)
		var yes, no int64
		for i := lo; i < hi; i++ {
			yes, no = yes+at(removed, i), no+at(rejected, i)
		}
		x := f.x(float64(lo) / float64(n))
		where := fmt.Sprintf("similarity %.4g to %.4g", float64(lo)/float64(n), float64(hi)/float64(n))
		if no > 0 {
			f.bar(x+w*0.08, w*0.84, 0, float64(no), "rejected", fmt.Sprintf("%s: %s rejected", where, humanize.Comma(no)))
		}
		if yes > 0 {
			f.bar(x+w*0.08, w*0.84, float64(no), float64(no+yes), "near", fmt.Sprintf("%s: %s removed", where, humanize.Comma(yes)))
		}
	}
	for k := int(math.Round(f.x0 * 10)); k <= 10; k++ {
		x := f.x(float64(k) / 10)
		f.line(x, f.top+f.height, x, f.top+f.height+4, "axis")
		f.text(x, f.top+f.height+18, "middle", "", fmt.Sprintf("%.1f", float64(k)/10))
	}
	f.line(f.left, f.top+f.height, f.left+f.width, f.top+f.height, "axis")
	f.text(f.left+f.width/2, f.H-8, "middle", "name", "exact Jaccard similarity")
	f.text(4, 14, "start", "name", "pairs")
	right := f.left + f.width
	for _, p := range []float64{0, 0.5, 1} {
		f.text(right+6, f.top+f.height*(1-p)+4, "start", "curve", fmt.Sprintf("%.0f %%", 100*p))
	}
	f.text(f.W-4, 14, "end", "curve", "chance of being compared")
	var path strings.Builder
	const steps = 120
	for i := range steps + 1 {
		j := f.x0 + (f.x1-f.x0)*float64(i)/steps
		verb := "L"
		if i == 0 {
			verb = "M"
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", verb, f.x(j), f.top+f.height*(1-chance(j)))
	}
	f.Curve = path.String()
	if t := d.Threshold; t >= f.x0 && t <= 1 {
		x := f.x(t)
		f.line(x, f.top-6, x, f.top+f.height, "threshold")
		anchor, dx := "middle", 0.0
		if t > f.x0+0.85*(1-f.x0) {
			anchor, dx = "end", 4
		}
		f.text(x+dx, f.top-11, anchor, "threshold", "threshold "+d.thresholdName())
	}
	f.Desc = fmt.Sprintf("Histogram of exact similarities: %s removed documents at %s or more, %s pairs rejected below. The curve is the "+
		"chance 1-(1-J^%d)^%d that the bands make a pair of similarity J a candidate: %.1f %% at the threshold.",
		humanize.Comma(total), d.thresholdName(), humanize.Comma(totalRejected), d.RowsPerBand, d.Bands, 100*chance(d.Threshold))
	return &f.chart
}

// thresholdName is the threshold in a few characters.
func (d *Data) thresholdName() string {
	if len(d.ThresholdText) <= 10 {
		return d.ThresholdText
	}
	return fmt.Sprintf("%.6g", d.Threshold)
}

// sizeChart draws how many clusters there are of each size. It is nil where there are none.
func sizeChart(bins []SizeBin, narrow bool) *chart {
	if len(bins) == 0 || len(bins) > 64 {
		return nil
	}
	f := newFrame("sizes", "Clusters by size", narrow, 12, 12, 50, 46)
	if narrow {
		f = newFrame("sizes", "Clusters by size", narrow, 6, 6, 50, 44)
	}
	most := int64(0)
	for _, b := range bins {
		most = max(most, b.Clusters)
	}
	if most == 0 {
		return nil
	}
	height := func(n int64) float64 { return math.Log10(1 + float64(n)) }
	f.x0, f.x1, f.y1 = 0, float64(len(bins)), height(most)
	f.line(f.left, f.top+f.height, f.left+f.width, f.top+f.height, "axis")
	var desc []string
	w := min(f.width/float64(len(bins)), 90)
	for i, b := range bins {
		size := fmt.Sprint(b.From)
		if b.To > b.From {
			size = compact(float64(b.From)) + "–" + compact(float64(b.To))
		}
		class := ""
		if len(bins) > 6 && narrow || len(bins) > 12 {
			class = "small"
		}
		x := f.left + w*float64(i)
		if b.Clusters == 0 {
			f.text(x+w/2, f.top+f.height+18, "middle", class, size)
			continue
		}
		f.bar(x+w*0.1, w*0.8, 0, height(b.Clusters), "cluster", fmt.Sprintf("%s clusters of %s documents", humanize.Comma(b.Clusters), size))
		f.text(x+w/2, f.y(height(b.Clusters))-5, "middle", "value "+class, compact(float64(b.Clusters)))
		f.text(x+w/2, f.top+f.height+18, "middle", class, size)
		desc = append(desc, fmt.Sprintf("%s of %s", humanize.Comma(b.Clusters), size))
	}
	f.text(f.left+f.width/2, f.H-8, "middle", "name", "documents in the cluster")
	f.text(4, 14, "start", "name", "clusters (height: logarithm)")
	f.Desc = "Clusters by number of documents: " + strings.Join(desc, ", ") + "."
	return &f.chart
}

// compact writes a count in a few characters: 950, 1.2k, 15M.
func compact(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}} {
		size := u.size
		if u.name == "k" {
			size = 1e3
		}
		if v >= u.size {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", v/size), ".0") + u.name
		}
	}
	return humanize.Comma(int64(v))
}
