package dedup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/report"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// readReport returns the data of the page in an output folder.
func readReport(t *testing.T, out string) *report.Data {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(out, reportName))
	if err != nil {
		t.Fatal(err)
	}
	if len(page) > report.MaxBytes {
		t.Errorf("a page of %d bytes", len(page))
	}
	d, err := report.Read(page)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// timeless leaves out of a report what may differ from run to run.
func timeless(d *report.Data) string {
	c := *d
	c.Started, c.WallSeconds, c.PeakMemory, c.MemoryLimit, c.Stages, c.Ledger, c.Warnings = time.Time{}, 0, 0, 0, nil, d.Ledger[:2], nil
	c.TaskTimes = nil
	c.Options = slices.DeleteFunc(slices.Clone(c.Options), func(o report.Option) bool { return !o.Decides })
	text, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// However a run is done, its report shows the same.
func TestReportIsTheSameForEveryRun(t *testing.T) {
	c := makeCorpus(rand.New(rand.NewPCG(31, 1)), 8, 700)
	dir := t.TempDir()
	c.write(t, dir)
	s := smallSpec()
	s.Threshold = "0.5"
	s.IDField = "id"
	want := ""
	for _, e := range []Exec{
		{Workers: 1}, {Ranks: 3, Workers: 4, SplitBytes: 3000, BatchBytes: 100}, {Workers: 2, SplitBytes: 500, onDisk: true, BandsPerIteration: 1},
		{Workers: 2, MemoryLimit: flow.MinMemoryLimit(2), SplitBytes: 20_000},
	} {
		out, _ := testRun(t, dir, s, e)
		got := timeless(readReport(t, out))
		if want == "" {
			want = got
		} else if got != want {
			t.Errorf("%+v: the report differs\n%s\n%s", e, got, want)
		}
	}
}

// The report and the findings in run.json are those that the reference's verdicts give.
func TestReportAgainstReference(t *testing.T) {
	for _, verify := range []string{VerifyExact, VerifyNone} {
		rng := rand.New(rand.NewPCG(32, 1))
		c := makeCorpus(rng, 7, 600)
		dir := t.TempDir()
		c.write(t, dir)
		s := smallSpec()
		s.Threshold, s.Verify = "0.5", verify
		_, verdicts := c.expected(t, s)
		out, res := testRun(t, dir, s, Exec{Workers: 2, SplitBytes: 4000})
		d := readReport(t, out)
		docs := c.ordered()

		var similar [similarityBins]int64
		sizes := make(map[uint64]int64)
		sources := make(map[string]report.Source)
		identical := int64(0)
		for ord, v := range verdicts {
			sizes[v.Kept]++
			file, _ := corpus.SplitOrdinal(ord)
			name := path.Dir(res.Inputs[file].Path)
			src := sources[name]
			src.Name = name
			src.Documents++
			if docs[ord].Text != nil {
				src.Bytes += int64(len(*docs[ord].Text))
			}
			if v.Kept != ord {
				src.Removed++
				src.RemovedBytes += int64(len(*docs[ord].Text))
				if *docs[ord].Text == *docs[v.Kept].Text {
					src.Identical++
					identical++
				} else if verify == VerifyExact {
					similar[int(lsh.Overlap{Intersection: v.Intersection, Union: v.Union}.Jaccard()*similarityBins*(1+1e-12))]++
				}
			}
			sources[name] = src
		}
		bins := make(map[int]report.SizeBin)
		for _, n := range sizes {
			if n > 1 {
				b := bits.Len64(uint64(n - 1))
				bins[b] = report.SizeBin{From: 1<<(b-1) + 1, To: 1 << b, Clusters: bins[b].Clusters + 1, Documents: bins[b].Documents + n}
			}
		}
		f := res.Findings
		if verify == VerifyExact {
			if !slices.Equal(f.Similarities.Removed, similar[:]) {
				t.Errorf("similarities %v, want %v", f.Similarities.Removed, similar)
			}
			rejected := int64(0)
			for bin, n := range f.Similarities.Rejected {
				rejected += n
				if n > 0 && bin >= similarityBins/2 {
					t.Errorf("%d pairs in bin %d are said to be below the threshold", n, bin)
				}
			}
			if rejected == 0 || d.Counts.Rejected != rejected || rejected >= res.Steps.Tests {
				t.Errorf("%d of %d pairs rejected", rejected, res.Steps.Tests)
			}
		} else if len(f.Similarities.Removed)+len(f.Similarities.Rejected) != 0 || d.Verified {
			t.Error("a run that compares nothing tells similarities")
		}
		for _, b := range f.ClusterSizes {
			if b.Clusters > 0 && b != bins[bits.Len64(uint64(b.To-1))] {
				t.Errorf("sizes %v, want %v", b, bins)
			}
			delete(bins, bits.Len64(uint64(b.To-1)))
		}
		if len(bins) > 0 {
			t.Errorf("sizes %v are missing", bins)
		}
		if f.Sources.Kind != "folder" || f.Sources.Total != len(sources) || len(f.Sources.Rows) != len(sources) {
			t.Errorf("sources %+v", f.Sources)
		}
		for _, row := range f.Sources.Rows {
			if row != sources[row.Name] {
				t.Errorf("source %+v, want %+v", row, sources[row.Name])
			}
		}
		if d.Counts.Identical != identical || d.Counts.Removed() != res.Steps.Removed {
			t.Errorf("%+v", d.Counts)
		}
		checkPairs(t, d, docs, verdicts, sizes)
	}
}

// checkPairs makes sure that what the page shows of documents is what they are.
func checkPairs(t *testing.T, d *report.Data, docs map[uint64]testDoc, verdicts map[uint64]Verdict, sizes map[uint64]int64) {
	t.Helper()
	check := func(p report.Pair) {
		var ord, kept uint64
		if _, err := fmt.Sscan(p.Removed.ID, &ord); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(p.Kept.ID, &kept); err != nil {
			t.Fatal(err)
		}
		v := verdicts[ord]
		if v.Kept != kept || v.Kept == ord || uint64(p.Intersection) != v.Intersection || uint64(p.Union) != v.Union {
			t.Errorf("%+v, the verdict is %+v", p, v)
		}
		_, row := corpus.SplitOrdinal(ord)
		if p.Removed.Row != row || p.Removed.Bytes != int64(len(*docs[ord].Text)) || p.Kept.Bytes != int64(len(*docs[kept].Text)) {
			t.Errorf("%+v", p.Removed)
		}
		var a, b strings.Builder
		for _, s := range p.Diff.Segments {
			if s.Op == report.OpGap {
				return
			}
			if s.Op != report.OpKept {
				a.WriteString(s.Text)
			}
			if s.Op != report.OpRemoved {
				b.WriteString(s.Text)
			}
		}
		if a.String() != *docs[ord].Text || b.String() != *docs[kept].Text {
			t.Errorf("%s: the texts shown are not the documents'", p.Removed.ID)
		}
	}
	if len(d.Samples) < 30 || len(d.Clusters) != report.MaxClusters {
		t.Errorf("%d samples and %d clusters: the test shows little", len(d.Samples), len(d.Clusters))
	}
	seen := make(map[string]bool)
	for _, p := range d.Samples {
		check(p)
		if seen[p.Removed.ID] {
			t.Errorf("%s is shown twice", p.Removed.ID)
		}
		seen[p.Removed.ID] = true
	}
	var all []int64
	for _, n := range sizes {
		all = append(all, n)
	}
	slices.Sort(all)
	slices.Reverse(all)
	for i, c := range d.Clusters {
		if c.Size != all[i] || len(c.Pairs) == 0 {
			t.Errorf("cluster %d has %d documents, want %d", i, c.Size, all[i])
		}
		for _, p := range c.Pairs {
			if p.Kept.ID != c.Kept.ID {
				t.Errorf("a removal for %s in the cluster of %s", p.Kept.ID, c.Kept.ID)
			}
			check(p)
		}
	}
}

// What tasks find adds up to the same however documents are dealt out to them and in whatever order.
func TestFoundMerges(t *testing.T) {
	rng := rand.New(rand.NewPCG(seedOf(t, 33), 1))
	const files = 30
	var docs []outcome
	sizes := make([]uint64, 200)
	for i := range 3000 {
		o := outcome{ord: corpus.Ordinal(rng.IntN(files), int64(i)), bytes: uint64(rng.IntN(1000))}
		if k := rng.IntN(400); k < len(sizes) {
			kept := corpus.Ordinal(k%files, int64(100_000+k))
			sizes[k]++
			union := 1 + rng.Uint64N(1000)
			o.clustered = true
			o.member = member{doc: o.ord, kept: kept, inter: rng.Uint64N(union + 1), union: union, evidence: 1 + rng.Uint64N(2)}
		}
		docs = append(docs, o)
	}
	for i := range docs {
		if m := &docs[i].member; docs[i].clustered {
			_, row := corpus.SplitOrdinal(m.kept)
			m.size = sizes[row-100_000] + 1
		}
	}
	for k, n := range sizes {
		if n > 0 {
			kept := corpus.Ordinal(k%files, int64(100_000+k))
			docs = append(docs, outcome{ord: kept, clustered: true, member: member{doc: kept, kept: kept, size: n + 1}})
		}
	}
	gather := func(groups int) *found {
		parts := make([]*found, groups)
		for i := range parts {
			parts[i] = newFound(0, files)
		}
		for _, i := range rng.Perm(len(docs)) {
			file, _ := corpus.SplitOrdinal(docs[i].ord)
			parts[rng.IntN(groups)].document(&docs[i], file)
		}
		all := newFound(0, files)
		for _, i := range rng.Perm(groups) {
			// The way through a work file is part of it.
			data, err := json.Marshal(parts[i])
			if err != nil {
				t.Fatal(err)
			}
			var p found
			if err := json.Unmarshal(data, &p); err != nil {
				t.Fatal(err)
			}
			if err := all.merge(&p); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	want := gather(1)
	if len(want.Clusters) != report.MaxClusters || len(want.Near) != maxNear || len(want.Exact) != maxExact {
		t.Fatal("the test shows little")
	}
	for _, groups := range []int{2, 7, 50} {
		if got := gather(groups); !reflect.DeepEqual(got, want) {
			t.Errorf("%d parts: %+v, want %+v", groups, got, want)
		}
	}
	for _, bad := range []found{{}, {Similar: want.Similar, First: 29, Files: make([]fileCounts, 2)}, {Similar: want.Similar, First: -1}} {
		if err := newFound(0, files).merge(&bad); err == nil {
			t.Errorf("%+v is merged", bad)
		}
	}
}

func TestSimilarityBin(t *testing.T) {
	for _, c := range []struct {
		inter, union uint64
		want         int
	}{
		{0, 0, 0}, {0, 1, 0}, {1, 1, 199}, {4, 5, 160}, {799_999, 1_000_000, 159}, {1, 2, 100}, {1 << 63, 1<<63 + 1, 199}, {1 << 62, 1 << 63, 100}, {3, 2, 199},
	} {
		if got := similarityBin(c.inter, c.union); got != c.want {
			t.Errorf("%d/%d is in bin %d, want %d", c.inter, c.union, got, c.want)
		}
	}
}

// Sources are exact however many there are; run.json and the page list the first and sum up the rest.
func TestManySources(t *testing.T) {
	const n = 100_000
	r := &run{set: &corpus.Set{}, found: newFound(0, n), spec: &Spec{Verify: VerifyExact}}
	for i := range n {
		r.set.Files = append(r.set.Files, corpus.File{Path: fmt.Sprintf("folder%06d/%s/doc", i, strings.Repeat("x", 200))})
		r.found.Files[i] = fileCounts{Documents: 20, Removed: int64(i % 10), Bytes: 100, RemovedBytes: int64(i % 10)}
	}
	kind, rows := r.sources()
	if kind != "folder" || len(rows) != n || !slices.IsSortedFunc(rows, func(a, b report.Source) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatalf("%d %s", len(rows), kind)
	}
	f := r.findings(kind, rows)
	sum := f.Sources.Rest
	for _, s := range f.Sources.Rows {
		sum.Add(s)
	}
	if len(f.Sources.Rows) != maxSourceRows || f.Sources.Total != n || sum.Documents != 20*n || sum.Removed != 450_000 || f.Sources.Rows[0].Removed != 9 {
		t.Errorf("%+v", sum)
	}
	var page bytes.Buffer
	if err := report.Render(&page, &report.Data{Findings: f, ByShare: byShare(rows)}); err != nil || page.Len() > 100<<10 {
		t.Errorf("a page of %d bytes (%v)", page.Len(), err)
	}
	r.set.Files = r.set.Files[:2]
	r.set.Files[0].Path, r.set.Files[1].Path = "a.jsonl", "b.jsonl"
	r.found.Files = r.found.Files[:2]
	if kind, rows := r.sources(); kind != "file" || len(rows) != 2 || rows[0].Name != "a.jsonl" {
		t.Errorf("%s %+v", kind, rows)
	}
}

// run.json and the page say how long tasks took, and what the slowest of those that read were about.
func TestTaskTimesAreReported(t *testing.T) {
	dir := t.TempDir()
	makeCorpus(rand.New(rand.NewPCG(36, 1)), 3, 100).write(t, dir)
	out, res := testRun(t, dir, smallSpec(), Exec{})
	var stages []string
	for _, st := range res.Stages.Stages {
		if st.TaskTimes == nil || st.TaskTimes.Tasks != st.Tasks || st.Kind == "shuffle" && st.InsertTimes.Tasks != st.Inserts {
			t.Errorf("%s: %+v, %+v", st.Name, st.TaskTimes, st.InsertTimes)
		}
		stages = append(stages, st.Name)
	}
	sign := res.Stages.Stages[0]
	if about := sign.TaskTimes.Slowest[0].About; !strings.Contains(about, ".") || sign.ReadSeconds <= 0 {
		t.Errorf("the slowest task of %s is about %q, and all of them read for %v s", sign.Name, about, sign.ReadSeconds)
	}
	page := readReport(t, out)
	if len(page.TaskTimes) < len(stages) || page.TaskTimes[0].Slowest.About != sign.TaskTimes.Slowest[0].About {
		t.Errorf("the page has %+v of the stages %q", page.TaskTimes, stages)
	}
}

func TestNoReport(t *testing.T) {
	dir := t.TempDir()
	makeCorpus(rand.New(rand.NewPCG(34, 1)), 3, 100).write(t, dir)
	out, res := testRun(t, dir, smallSpec(), Exec{NoReport: true})
	if _, err := os.Stat(filepath.Join(out, reportName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a report (%v)", err)
	}
	for _, st := range res.Stages.Stages {
		if st.Name == "samples" {
			t.Error("documents were reread for it")
		}
	}
	if len(res.Findings.Sources.Rows) == 0 {
		t.Error("run.json does without findings")
	}
}

// Documents and files that are made to do harm do none, and huge ones make no huge page.
func TestReportOfHostileInput(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(35, 1))
	var filler strings.Builder
	for filler.Len() < 3_000_000 {
		fmt.Fprintf(&filler, "%x ", rng.Uint64())
	}
	bad := []string{
		"<script>alert(document.domain)</script>", "</pre><img src=x onerror=alert(1)>", "\xff\xfe\x00\x01\x1b[2J", "\u202e gnp.exe", "<!-- dovetail-report-data AAAA -->",
	}
	names := []string{"<script>alert(1)<", "\u202ertl", "\"'><b>", "\xff\xfe", "new\nline", strings.Repeat("long", 50)}
	for i, name := range names {
		for k, extra := range []string{"", "one more word"} {
			text := bad[i%len(bad)] + strings.Repeat(bad[i%len(bad)]+fmt.Sprint(" words that are only in ", i, " "), 40) + extra
			if i == 0 {
				text = filler.String() + text + filler.String()[:1000*k]
			}
			p := filepath.Join(dir, name, fmt.Sprint(k)+".txt")
			if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := smallSpec()
	s.Format, s.Threshold = "files", "0.5"
	out, res := testRun(t, dir, s, Exec{Workers: 2})
	if res.Steps.Removed != int64(len(names)) {
		t.Errorf("%d removed, want one of each pair", res.Steps.Removed)
	}
	d := readReport(t, out)
	if len(d.Samples) != len(names) {
		t.Errorf("%d samples", len(d.Samples))
	}
	page, err := os.ReadFile(filepath.Join(out, reportName))
	if err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{"<script", "<img", "<b>\n", "\x00", "\x1b", "\u202e", "\xff"} {
		if bytes.Contains(page, []byte(never)) {
			t.Errorf("the page holds %q", never)
		}
	}
	for _, want := range []string{"&lt;script&gt;alert(document.domain)", "⟨U&#43;202E⟩", "Only the first 1.0 MiB of each text"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	if bytes.Count(page, []byte("<!-- dovetail-report-data ")) != 1 {
		t.Error("a document can pass for the page's data")
	}
}
