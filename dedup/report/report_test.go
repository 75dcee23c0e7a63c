package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/html"
)

// fill puts s into every string and a few elements into every slice that v leads to.
func fill(v reflect.Value, s string, n int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Int, reflect.Int64:
		v.SetInt(math.MaxInt64 / 4)
	case reflect.Float64:
		v.SetFloat(0.8)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), s, n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), s, n)
			}
		}
	}
}

// hostile is data in which every string is s and every list has n elements.
func hostile(s string, n int) *Data {
	d := new(Data)
	fill(reflect.ValueOf(d).Elem(), s, n)
	d.Verified, d.Bands, d.RowsPerBand = true, 20, 13
	ops := []string{OpSame, OpRemoved, OpKept, OpGap}
	set := func(pairs []Pair) {
		for i := range pairs {
			pairs[i].Evidence = []string{"exact", "jaccard", "candidate"}[i%3]
			for k := range pairs[i].Diff.Segments {
				pairs[i].Diff.Segments[k].Op = ops[k%4]
			}
		}
	}
	set(d.Samples)
	for i := range d.Clusters {
		set(d.Clusters[i].Pairs)
	}
	return d
}

func render1(t *testing.T, d *Data) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Render(&b, d); err != nil {
		t.Fatal(err)
	}
	if b.Len() > MaxBytes {
		t.Errorf("a page of %d bytes", b.Len())
	}
	return b.Bytes()
}

// example is data of an ordinary run.
func example() *Data {
	d := &Data{
		Version: "1.2.3", Digest: "0123456789abcdef0123456789abcdef", WallSeconds: 12.5, PeakMemory: 100 << 20, Verified: true,
		Started: time.Date(2026, 11, 27, 1, 2, 3, 0, time.UTC), Threshold: 0.8, ThresholdText: "0.8", Bands: 20, RowsPerBand: 13,
		Counts:  Counts{Files: 4, Documents: 1000, Kept: 900, Identical: 40, Near: 60, Bytes: 1e6, Clusters: 70, LargestCluster: 9, Tests: 100, Rejected: 40},
		Options: []Option{{"num-bands", "20", true}, {"workers", "2", false}},
		Ledger:  []Row{{"documents", "1,000 read"}}, Stages: []Stage{{Name: "sign", WallSeconds: 3}, {Name: "write", WallSeconds: 6}},
		TaskTimes: []TaskTimes{{
			Stage: "exact", Kind: "inserts", Tasks: 4321, Total: Spread{1, 2, 77}, Slowest: SlowTask{Name: "split-000007", About: "a/<b>.jsonl", Rank: 3},
		}},
	}
	d.Findings.Similarities = Similarities{Removed: make([]int64, 200), Rejected: make([]int64, 200)}
	d.Findings.Similarities.Removed[170] = 60
	d.Findings.Similarities.Rejected[140] = 40
	d.Findings.ClusterSizes = []SizeBin{{2, 2, 50, 100}, {3, 4, 10, 30}, {5, 8, 0, 0}, {9, 16, 1, 9}}
	d.Findings.Sources = Sources{Kind: "folder", Total: 2, Rows: []Source{{"a", 500, 80, 30, 5e5, 8e4}, {"b", 500, 20, 10, 5e5, 2e4}}}
	p := Pair{
		Removed: Doc{"7", "a/x.jsonl", 3, 20}, Kept: Doc{"2", "b/y.jsonl", 0, 22}, Evidence: "jaccard", Intersection: 9, Union: 10,
		Diff: Compare([]byte("the quick brown fox"), []byte("the slow brown fox")),
	}
	d.Samples = []Pair{p, {Removed: p.Removed, Kept: p.Kept, Evidence: "exact", Diff: Compare([]byte("same"), []byte("same"))}}
	d.Clusters = []Cluster{{Size: 9, Kept: p.Kept, Pairs: []Pair{p}}}
	return d
}

func TestPageSaysWhatItIsGiven(t *testing.T) {
	page := string(render1(t, example()))
	for _, want := range []string{
		"100 of 1,000 documents removed (10.0 %)", "0123456789abcdef0123456789abcdef", "<del>quick</del>", "<ins>slow</ins>",
		"9 of 10 distinct windows in common", "a/x.jsonl", "threshold 0.8", "num-bands", "exact, inserts", "4,321",
		"77.0 s", "split-000007 (a/&lt;b&gt;.jsonl) on rank 3", "1,000 read", "40 of them were rejected",
		"67.7 % at the threshold", "0.9000", `<title>similarity 0.85 to 0.86: 60 removed</title>`, `content="default-src &#39;none&#39;`,
	} {
		if !strings.Contains(page, want) && !strings.Contains(page, strings.ReplaceAll(want, "&#39;", "'")) {
			t.Errorf("the page does not say %q", want)
		}
	}
	d := example()
	d.Verified = false
	if page := string(render1(t, d)); !strings.Contains(page, "Nothing was verified") || strings.Contains(page, `id="similarity-t"`) {
		t.Error("a run that verified nothing looks like one that did")
	}
	if page := string(render1(t, new(Data))); !strings.Contains(page, "0 of 0 documents removed") {
		t.Error("the page of an empty run")
	}
}

// allowed elements and attributes: nothing that runs, loads or moves.
var (
	elements = strings.Fields("html head meta title style body main div section h1 h2 h3 p span b i ul li dl dt dd small code svg desc rect path line text " +
		"details summary figure figcaption pre del ins table thead tbody tr th td footer")
	attributes = strings.Fields("lang charset http-equiv content name class id aria-labelledby aria-label aria-hidden role viewbox preserveaspectratio x y width " +
		"height x1 y1 x2 y2 d text-anchor scope tabindex open")
)

// checkMarkup parses a page as a browser does and makes sure that it holds nothing but the template's markup.
func checkMarkup(t *testing.T, page []byte) (text string) {
	t.Helper()
	if !utf8.Valid(page) {
		t.Error("the page is not UTF-8")
	}
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	var all strings.Builder
	var walk func(n *html.Node)
	walk = func(n *html.Node) {
		switch n.Type {
		case html.ElementNode:
			if !slices.Contains(elements, n.Data) {
				t.Errorf("the page has an element <%.80s>", n.Data)
			}
			for _, a := range n.Attr {
				if !slices.Contains(attributes, strings.ToLower(a.Key)) {
					t.Errorf("<%s> has an attribute %.80q", n.Data, a.Key)
				}
				if a.Key == "id" {
					if ids[a.Val] {
						t.Errorf("two elements have the id %q", a.Val)
					}
					ids[a.Val] = true
				}
			}
		case html.TextNode:
			all.WriteString(n.Data)
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(root)
	return all.String()
}

func TestHostileStringsAreHarmless(t *testing.T) {
	if text := checkMarkup(t, render1(t, example())); !strings.Contains(text, "quick") {
		t.Error("the text is not found")
	}
	for _, s := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'onload='alert(1)`, `</pre></section><style>*{display:none}</style>`,
		`</title><script src=//evil>`, `--><script>`, dataStart, `javascript:alert(1)`, `<!-- `, `{{.}}`, "\x00\x01\x1b[31m\x7f\x9f", "\xff\xfe\xc3(\xed\xa0\x80",
		"\u202egnp.exe\u2066", "\ufeff\u200b\u00ad\u2028", "عربي עברית", strings.Repeat("z\u0301\u0302\u0303", 50), "🏳️‍🌈", "",
	} {
		page := render1(t, hostile(s, 3))
		text := checkMarkup(t, page)
		for _, r := range text {
			if r != '\ufffd' && needsMark(r) {
				t.Errorf("%q left %U in the page", s, r)
				break
			}
		}
		if strings.HasPrefix(s, "<") && !strings.Contains(text, s) {
			t.Errorf("%q is not shown as text", s)
		}
		if _, err := Read(page); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// Whatever the data, the page is small. Quotes are the text that grows most when it is escaped.
func TestPageIsBounded(t *testing.T) {
	for _, c := range []struct {
		s string
		n int
	}{{strings.Repeat(`"`, 1<<22), 10}, {strings.Repeat("\u202e", 300), 12}, {strings.Repeat("\x00'<&", 3000), 12}, {"x", 30}} {
		d := hostile(c.s, c.n) // all strings share their bytes
		d.Findings.Sources.Rows = make([]Source, 100_000)
		for i := range d.Findings.Sources.Rows {
			d.Findings.Sources.Rows[i] = Source{Name: fmt.Sprint(i, c.s[:min(len(c.s), 100)]), Documents: 2, Removed: 1}
		}
		d.Findings.Similarities.Removed = make([]int64, 2000)
		render1(t, d)
	}
	d := example()
	for range 400 { // segments that nothing but the bound of the page cuts
		d.Samples[0].Diff.Segments = append(d.Samples[0].Diff.Segments, Segment{Op: OpSame, Text: strings.Repeat(`"`, 3000)})
	}
	d.Samples = slices.Repeat(d.Samples[:1], 40)
	if page := render1(t, d); !bytes.Contains(page, []byte("pairs of texts were left out to keep this page below 5 MB")) {
		t.Error("the page does not say what it leaves out")
	}
}

func TestRestOfSources(t *testing.T) {
	d := example()
	d.Findings.Sources.Rows = nil
	for i := range 30 {
		d.Findings.Sources.Rows = append(d.Findings.Sources.Rows, Source{Name: fmt.Sprint("s", i), Documents: 10, Removed: 5})
	}
	d.Findings.Sources.Rest, d.Findings.Sources.Total = Source{Documents: 1000, Removed: 7}, 130
	page := string(render1(t, d))
	if !strings.Contains(page, "110 others") || !strings.Contains(page, "<td>57</td>") {
		t.Error("the rest is not 110 sources with 57 removals")
	}
	if len(d.Findings.Sources.Rows) != 30 || d.Findings.Sources.Rest.Removed != 7 {
		t.Error("Render changed its argument")
	}
}

func TestReadGivesTheDataBack(t *testing.T) {
	page := render1(t, example())
	got, err := Read(page)
	if err != nil {
		t.Fatal(err)
	}
	want := example()
	want.Format = pageFormat
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) {
		t.Errorf("got\n%s, want\n%s", a, b)
	}
	if again := render1(t, got); !bytes.Equal(again, page) {
		t.Error("the page of a page's data is another")
	}
	hard, err := Read(render1(t, hostile("\u202e<\xff"+strings.Repeat("x", 9999), 3)))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Read(render1(t, hard)); err != nil || !reflect.DeepEqual(hard, again) {
		t.Errorf("cleaning twice differs from cleaning once (%v)", err)
	}
	for _, bad := range [][]byte{nil, []byte("<html>"), page[:len(page)-20], bytes.Replace(page, []byte(dataStart), []byte(dataStart+"AAAA"), 1)} {
		if _, err := Read(bad); !errors.Is(err, ErrNoReport) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestRenderPassesErrorsOn(t *testing.T) {
	if err := Render(failing{}, example()); !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
	d := example()
	d.Threshold = math.NaN()
	if err := Render(io.Discard, d); err == nil {
		t.Error("a threshold that is no number is shown")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// The bars of the histogram hold every pair once, however they are merged.
func TestSimilarityChartLosesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	count := regexp.MustCompile(`: ([\d,]+) (removed|rejected)$`)
	for range 50 {
		d := example()
		want := map[string]int64{}
		for i := range 200 {
			if rng.IntN(3) == 0 {
				n, m := rng.Int64N(9), rng.Int64N(1000)
				d.Findings.Similarities.Removed[i], d.Findings.Similarities.Rejected[i] = n, m
			}
			want["removed"] += d.Findings.Similarities.Removed[i]
			want["rejected"] += d.Findings.Similarities.Rejected[i]
		}
		for _, narrow := range []bool{false, true} {
			got := map[string]int64{}
			for _, b := range similarityChart(d, narrow).Bars {
				var n int64
				m := count.FindStringSubmatch(b.Tip)
				fmt.Sscan(strings.ReplaceAll(m[1], ",", ""), &n)
				got[m[2]] += n
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("narrow %v: the bars hold %v of %v", narrow, got, want)
			}
		}
	}
}

func FuzzTidy(f *testing.F) {
	f.Add("plain", 100)
	f.Add("\xff\u202e\x00"+strings.Repeat("\u00ad", 100), 240)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = min(max(most, 60), 5000)
		got := tidy(s, most)
		if len(got) > most || !utf8.ValidString(got) || tidy(got, most) != got {
			t.Fatalf("%q became %q", s, got)
		}
		for _, r := range got {
			if r != utf8.RuneError && needsMark(r) {
				t.Fatalf("%q keeps %U", s, r)
			}
		}
	})
}

func FuzzRead(f *testing.F) {
	small, err := pack(&Data{Format: pageFormat, Digest: "d"}) // what is before it in a page is passed over
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Add([]byte(dataStart + dataEnd))
	f.Fuzz(func(t *testing.T, page []byte) {
		d, err := Read(page)
		if err != nil {
			if !errors.Is(err, ErrNoReport) {
				t.Fatal(err)
			}
			return
		}
		render1(t, d)
	})
}
