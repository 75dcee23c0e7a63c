package bench

import (
	"context"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
)

// env is where tests and benchmarks find data and other programs: what DOVETAIL_BENCH_DIR has, or nothing. With -short
// everything is small.
func env(tb testing.TB) *Env {
	e := &Env{Scratch: tb.TempDir(), Quick: testing.Short()}
	if dir := os.Getenv("DOVETAIL_BENCH_DIR"); dir != "" {
		e.Dir, e.Rivals = dir, dir+"/rivals"
	}
	return e
}

// BenchmarkWorkloads measures the sides of all workloads, without the program: `make bench` does the rest.
func BenchmarkWorkloads(b *testing.B) {
	for _, m := range Workloads() {
		b.Run(m.Name, func(b *testing.B) {
			w, err := m.Make(b.Context(), env(b))
			if errors.Is(err, ErrUnavailable) {
				b.Skip(err)
			}
			if err != nil {
				b.Fatal(err)
			}
			if w.Close != nil {
				defer w.Close()
			}
			for _, s := range w.Sides {
				b.Run(s.Name, func(b *testing.B) { benchmarkSide(b, s) })
			}
			if w.Quality != nil {
				q, err := w.Quality(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				b.Log(q)
			}
		})
	}
}

func benchmarkSide(b *testing.B, s Side) {
	sums := make(Sample)
	for b.Loop() {
		sample, err := s.Run(b.Context())
		if errors.Is(err, ErrUnavailable) {
			b.Skip(err)
		}
		if err != nil {
			b.Fatal(err)
		}
		for unit, v := range sample {
			sums[unit] += v
		}
	}
	for unit, v := range sums {
		b.ReportMetric(v/float64(b.N), string(unit))
	}
}

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Summary
		text   string
	}{
		{nil, Summary{}, "-"},
		{[]float64{2}, Summary{2, 2, 2, 1}, "2.00"},
		{[]float64{3, 1, 2}, Summary{1, 2, 3, 3}, "1.00 / 2.00 / 3.00"},
		{[]float64{4, 100, 0.125, 20}, Summary{0.125, 12, 100, 4}, "0.125 / 12.0 / 100"},
	} {
		if got := Summarize(c.values); got != c.want || got.String() != c.text {
			t.Errorf("%v: %+v, %q", c.values, got, got)
		}
	}
}

func TestTarget(t *testing.T) {
	s := Summary{Min: 1, Median: 2, Max: 3, N: 3}
	for _, c := range []struct {
		target Target
		met    bool
		text   string
	}{{Target{}, true, ""}, {Target{AtLeast: 2}, true, ">= 2"}, {Target{AtLeast: 2.5}, false, ">= 2.5"}, {Target{AtMost: 2}, true, "<= 2"}, {Target{AtMost: 0.5}, false, "<= 0.5"}} {
		if c.target.Met(s) != c.met || c.target.String() != c.text {
			t.Errorf("%+v: %v, %q", c.target, c.target.Met(s), c.target)
		}
	}
}

// TestMeasure checks the turns, the ratios of each, and what happens to a side that cannot run.
func TestMeasure(t *testing.T) {
	var order []string
	side := func(name string, values ...float64) Side {
		return Side{Name: name, Run: func(context.Context) (Sample, error) {
			order = append(order, name)
			if len(values) == 0 {
				return nil, unavailable("no such program")
			}
			v := values[0]
			values = values[1:]
			return Sample{Rate: v}, nil
		}}
	}
	slow := side("slow", 5)
	slow.Rounds = 1
	w := &Workload{
		Name:  "w",
		Sides: []Side{side("a", 10, 20, 60), side("b", 5, 5, 20), side("c"), slow},
		Ratios: []Ratio{
			{What: "a by b", Of: "a", By: "b", Unit: Rate, Target: Target{AtLeast: 3}},
			{What: "a by c", Of: "a", By: "c", Unit: Rate, Target: Target{AtLeast: 3}},
			{What: "a by slow", Of: "a", By: "slow", Unit: Rate},
			{What: "b by a", Of: "a", By: "b", Unit: Rate, Inverse: true},
			{What: "a alone", Of: "a", Unit: Rate, Target: Target{AtMost: 20}},
		},
	}
	r, err := Measure(t.Context(), w, 3, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "a b c slow a b a b" {
		t.Errorf("order %s", got)
	}
	want := []struct {
		s   Summary
		met bool
	}{{Summary{2, 3, 4, 3}, true}, {Summary{}, false}, {Summary{2, 2, 2, 1}, true}, {Summary{0.25, 1.0 / 3, 0.5, 3}, true}, {Summary{10, 20, 60, 3}, true}}
	for i, row := range r.Rows {
		close := math.Abs(row.Spread.Median-want[i].s.Median) < 1e-9
		if want[i].s.Median = row.Spread.Median; !close || row.Spread != want[i].s || row.Met != want[i].met {
			t.Errorf("%s: %+v", row.What, row)
		}
	}
	if !strings.Contains(r.Rows[1].Missing, "no such program") {
		t.Errorf("%+v", r.Rows[1])
	}
	w.Ratios = []Ratio{{What: "x", Of: "d"}}
	if _, err := Measure(t.Context(), w, 1, func(string) {}); err == nil {
		t.Error("a row about no side is no error")
	}
}

// Every row of every workload that runs here is about sides that there are, and has a name of its own.
func TestWorkloads(t *testing.T) {
	e := env(t)
	e.Quick = true
	names := make(map[string]bool)
	for _, m := range Workloads() {
		w, err := m.Make(t.Context(), e)
		if errors.Is(err, ErrUnavailable) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := w.check(); err != nil {
			t.Error(err)
		}
		for _, r := range w.Ratios {
			if names[r.What] {
				t.Errorf("two rows are called %q", r.What)
			}
			names[r.What] = true
		}
		if w.Close != nil {
			w.Close()
		}
	}
	if len(names) < 20 {
		t.Errorf("only %d rows", len(names))
	}
}
