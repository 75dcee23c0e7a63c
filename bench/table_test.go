package bench

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/bench/data"
	"github.com/dovetail-dedup/dovetail/bench/process"
)

func exampleTable(t *testing.T) *Table {
	t.Helper()
	side := func(name string, v float64) Side {
		return Side{Name: name, About: "what | it is", Run: func(context.Context) (Sample, error) { return Sample{Rate: v}, nil }}
	}
	gone := Side{Name: "gone", Run: func(context.Context) (Sample, error) { return nil, unavailable("no such program") }}
	r, err := Run(t.Context(), Maker{"sign", func(context.Context, *Env) (*Workload, error) {
		return &Workload{Name: "sign", Data: "nothing", Sides: []Side{side("a", 30), side("b", 10), gone},
			Ratios: []Ratio{
				{What: "a by b", Of: "a", By: "b", Unit: Rate, Target: Target{AtLeast: 2}, Short: "never, as it is met"},
				{What: "b by a", Of: "b", By: "a", Unit: Rate, Target: Target{AtLeast: 2}, Short: "a is the bound"},
				{What: "d", Of: "b", Unit: Rate, Target: Target{AtLeast: 20}},
				{What: "c by a", Of: "b", By: "a", Unit: Rate, Target: Target{AtLeast: 3}, Short: "a is the bound"},
				{What: "seen", Of: "a", By: "b", Unit: Rate},
				{What: "no other", Of: "a", By: "gone", Unit: Rate, Target: Target{AtLeast: 1}},
			},
			Judge: func(context.Context) ([]Score, error) {
				return []Score{{Side: "a", Window: "5 words", Pairs: 7, Recall: 0.5, Removed: 3, Precision: 1}}, nil
			},
		}, nil
	}}, &Env{Scratch: t.TempDir(), Version: "v1"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	tab := &Table{Machine: Machine{CPU: "X", Cores: 2, Vector: "AVX2", Shared: true},
		Sets: []*data.Set{{Name: "code", Recipe: "1", Documents: 5, TextBytes: 3e6, Missing: []string{"p"}}}}
	tab.Put(&Result{Workload: "gpu", Missing: "there are none"})
	tab.Put(&Result{Workload: "sign", Missing: "replaced below"})
	tab.Put(r)
	return tab
}

func TestMarkdown(t *testing.T) {
	tab := exampleTable(t)
	var b bytes.Buffer
	if err := tab.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"X, 2 cores, AVX2", "shared with other work",
		"1 of 4 targets are met. These are not:\n\n- b by a: 0.333, wanted >= 2; c by a: 0.333, wanted >= 3. *a is the bound.*\n- d: 10.0, wanted >= 20.\n\n",
		"| a by b | >= 2 | 3.00 / 3.00 / 3.00 | met | 30.0 by 10.0 MB/s | sign |",
		"| b by a | >= 2 | 0.333 / 0.333 / 0.333 | **not met** | 10.0 by 30.0 MB/s | sign |",
		"| no other | >= 1 | - | - | not measured: no such program | sign |",
		"| seen | 3.00 / 3.00 / 3.00 | 30.0 by 10.0 MB/s | sign |",
		"| gpu | | - | - | there are none | |",
		`| a | 30.0 / 30.0 / 30.0 | 2 | what \| it is |`,
		"| a | 5 words | 7 | 50.00 % | 3 | 100.00 % |",
		"- gone: not measured: no such program",
		"| code | 1 | 5 | 3.00 | made up; could not be had: p |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "never") {
		t.Error("a target that is met is excused")
	}
	if strings.Contains(b.String(), "replaced below") {
		t.Error("a result was not replaced")
	}
}

// What is written as JSON is what is read.
func TestJSON(t *testing.T) {
	tab := exampleTable(t)
	path := filepath.Join(t.TempDir(), "t.json")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := tab.JSON(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTable(path)
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	if err := tab.Markdown(&a); err != nil {
		t.Fatal(err)
	}
	if err := got.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() {
		t.Errorf("it was\n%s\nand is\n%s", a.String(), b.String())
	}
	if none, err := ReadTable(path + "x"); err != nil || len(none.Results) > 0 {
		t.Errorf("%v, %v", none, err)
	}
}

func TestGoBench(t *testing.T) {
	tab := exampleTable(t)
	var b bytes.Buffer
	if err := tab.Results[0].GoBench(&b); err != nil {
		t.Fatal(err)
	}
	want := []string{"BenchmarkWorkloads/sign/a 1 30 MB/s", "BenchmarkWorkloads/sign/a 1 30 MB/s", "BenchmarkWorkloads/sign/b 1 10 MB/s",
		"BenchmarkWorkloads/sign/b 1 10 MB/s", "BenchmarkRatios/sign/a-by-b/unit=MB-per-s 1 3 ratio"}
	if got := strings.Split(b.String(), "\n"); !reflect.DeepEqual(got[:5], want) {
		t.Errorf("%q", got)
	}
}

func TestScaling(t *testing.T) {
	s := &Scaling{Limit: "1GiB", Stopped: "it was enough"}
	for i, sec := range []float64{1, 3, 4, 9} {
		s.Points = append(s.Points, Point{Documents: 1000 << i, Seconds: sec, LimitedPeakMB: 100})
	}
	// From 1 s to 3 s is mostly the start.
	if worst, ok := s.Doubling(func(p Point) float64 { return p.Seconds }); !ok || worst != 2.25 {
		t.Errorf("%v, %v", worst, ok)
	}
	var b bytes.Buffer
	if err := s.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| time as documents double | <= 2.1 | 2.25 | **not met** |", "| memory as documents double, with --memory-limit 1GiB | <= 1.1 | 1.00 | met |", "it was enough", "| largest memory with --memory-limit 1GiB, by the limit | <= 1 | 0.0931 | met |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if _, ok := (&Scaling{}).Doubling(func(p Point) float64 { return p.Seconds }); ok {
		t.Error("no sizes, and a ratio")
	}
}

// The run in the middle counts, and the most memory of any.
func TestMiddle(t *testing.T) {
	u, peak := middle([]process.Usage{{Wall: 9, CPU: 1, PeakBytes: 5}, {Wall: 3, CPU: 2, PeakBytes: 7}, {Wall: 4, CPU: 3, PeakBytes: 6}})
	if u.Wall != 4 || u.CPU != 3 || peak != 7 {
		t.Errorf("%+v, %d", u, peak)
	}
}

func TestStop(t *testing.T) {
	o := ScaleOptions{For: time.Hour, Most: 1000, Turns: 1}
	dir := t.TempDir()
	if s := o.stop(dir, 1000, time.Now(), nil); s != "" {
		t.Error(s)
	}
	if s := o.stop(dir, 2000, time.Now(), nil); !strings.Contains(s, "enough") {
		t.Error(s)
	}
	if s := o.stop(dir, 1000, time.Now(), []Point{{Seconds: 1000, LimitedSeconds: 1000}}); !strings.Contains(s, "left of 1h") {
		t.Error(s)
	}
	if s := (ScaleOptions{For: time.Hour}).stop(dir, 1<<50, time.Now(), nil); !strings.Contains(s, "disk") {
		t.Error(s)
	}
}
