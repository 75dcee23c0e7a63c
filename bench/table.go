package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/dovetail-dedup/dovetail/bench/data"
)

// Table is all results, with what they were measured on.
type Table struct {
	Machine Machine     `json:"machine"`
	Sets    []*data.Set `json:"sets,omitempty"`
	Results []*Result   `json:"results"`
}

// ReadTable reads a table that was written as JSON; of a file that does not exist it returns an empty one.
func ReadTable(path string) (*Table, error) {
	t := &Table{}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(text, t)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Put adds a result, or replaces the one of the same workload, and keeps the order of Workloads.
func (t *Table) Put(r *Result) {
	t.Results = slices.DeleteFunc(t.Results, func(o *Result) bool { return o.Workload == r.Workload })
	t.Results = append(t.Results, r)
	order := make(map[string]int)
	for i, m := range Workloads() {
		order[m.Name] = i
	}
	slices.SortStableFunc(t.Results, func(a, b *Result) int { return order[a.Workload] - order[b.Workload] })
}

// PutSets adds the manifests of the sets below dir.
func (t *Table) PutSets(dir string) error {
	for _, name := range data.Names() {
		s, err := data.Open(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		t.Sets = slices.DeleteFunc(t.Sets, func(o *data.Set) bool { return o.Name == name })
		t.Sets = append(t.Sets, s)
	}
	return nil
}

// JSON writes the table with all values.
func (t *Table) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(t)
}

// Markdown writes the table for people.
func (t *Table) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", t.Machine)
	b.WriteString("Ratios are min / median / max over the turns, of values that were measured one after the other; the median counts.\n\n")
	t.verdict(&b)
	t.targets(&b)
	t.others(&b)
	for _, r := range t.Results {
		r.markdown(&b)
	}
	t.missing(&b)
	t.manifest(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict says how many targets are met, which are not, and why: rows with one reason are one entry.
func (t *Table) verdict(b *strings.Builder) {
	met, missed := 0, 0
	var reasons []string
	rows := make(map[string][]string)
	for _, r := range t.Results {
		for _, row := range r.Rows {
			switch {
			case row.Target == (Target{}) || row.Spread.N == 0:
			case row.Met:
				met++
			default:
				missed++
				if !slices.Contains(reasons, row.Short) {
					reasons = append(reasons, row.Short)
				}
				rows[row.Short] = append(rows[row.Short], fmt.Sprintf("%s: %s, wanted %s", row.What, number(row.Spread.Median), row.Target))
			}
		}
	}
	fmt.Fprintf(b, "%d of %d targets are met.", met, met+missed)
	if missed > 0 {
		b.WriteString(" These are not:\n")
	}
	for _, why := range reasons {
		fmt.Fprintf(b, "\n- %s.", strings.Join(rows[why], "; "))
		if why != "" {
			fmt.Fprintf(b, " *%s.*", why)
		}
	}
	b.WriteString("\n\n")
}

// targets writes the rows that have one.
func (t *Table) targets(b *strings.Builder) {
	b.WriteString("## Against targets\n\n| what | target | measured | | values | data |\n|---|---|---|---|---|---|\n")
	for _, r := range t.Results {
		for _, row := range r.Rows {
			if row.Target == (Target{}) {
				continue
			}
			verdict := "**not met**"
			if row.Met {
				verdict = "met"
			} else if row.Spread.N == 0 {
				verdict = "-"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", row.What, row.Target, row.Spread, verdict, row.values(), r.Workload)
		}
	}
	for _, r := range t.Results {
		if r.Missing != "" {
			fmt.Fprintf(b, "| %s | | - | - | %s | |\n", r.Workload, escape(r.Missing))
		}
	}
}

// values are the medians of the two sides.
func (r Row) values() string {
	switch {
	case r.Spread.N == 0:
		return escape(r.Missing)
	case r.By == "":
		return ""
	}
	return fmt.Sprintf("%s by %s %s", number(r.OfMed), number(r.ByMed), r.Unit)
}

// others writes the rows without a target.
func (t *Table) others(b *strings.Builder) {
	b.WriteString("\n## Without a target\n\n| what | measured | values | data |\n|---|---|---|---|\n")
	for _, r := range t.Results {
		for _, row := range r.Rows {
			if row.Target == (Target{}) && row.Spread.N > 0 {
				fmt.Fprintf(b, "| %s | %s | %s | %s |\n", row.What, row.Spread, row.values(), r.Workload)
			}
		}
	}
}

// unitOrder are the units that a list of sides has, in this order.
var unitOrder = []Unit{Rate, PerCPU, Seconds, Memory, Nanos, Bytes, variance, score, rmse, shareUnit, percentUnit, Others}

// markdown writes what the sides of a workload gave, and its quality.
func (r *Result) markdown(b *strings.Builder) {
	if r.Missing != "" {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\nOn %s; %s, %s.", r.Workload, r.Data, r.Made.Format("2006-01-02"), r.Version)
	if r.Quality != "" {
		fmt.Fprintf(b, " Quality: %s.", r.Quality)
	}
	b.WriteString("\n\n| |")
	var units []Unit
	for _, u := range unitOrder {
		if slices.ContainsFunc(r.Sides, func(m Measured) bool { return len(m.Values[u]) > 0 }) {
			units = append(units, u)
			fmt.Fprintf(b, " %s |", u)
		}
	}
	b.WriteString(" turns | what it is |\n|---|" + strings.Repeat("---|", len(units)) + "---|---|\n")
	for _, m := range r.Sides {
		fmt.Fprintf(b, "| %s |", m.Side)
		turns := 0
		for _, u := range units {
			s := Summarize(m.Values[u])
			turns = max(turns, s.N)
			fmt.Fprintf(b, " %s |", s)
		}
		about := m.About
		if m.Missing != "" {
			about = m.Missing
		}
		fmt.Fprintf(b, " %d | %s |\n", turns, escape(about))
	}
	notes := make(map[string]bool)
	for _, row := range r.Rows {
		if row.Note != "" && !notes[row.Note] && !strings.Contains(r.about(), row.Note) {
			notes[row.Note] = true
			if row.By == "" || !strings.HasPrefix(row.Note, row.By+":") {
				fmt.Fprintf(b, "\n%s: %s.\n", row.What, row.Note)
			}
		}
	}
	if len(r.Scores) > 0 {
		scores(b, r.Scores)
	}
}

func (r *Result) about() string {
	var all []string
	for _, m := range r.Sides {
		all = append(all, m.About)
	}
	return strings.Join(all, "\n")
}

func scores(b *strings.Builder, all []Score) {
	b.WriteString("\nTrue pairs are those with an exact Jaccard similarity of 0.8 or more, found by comparing all with all. A pair is found if " +
		"at most one of its documents was kept; a removal is right if the document is in a pair.\n\n" +
		"| | window | true pairs | recall | removed | precision |\n|---|---|---|---|---|---|\n")
	for _, s := range all {
		fmt.Fprintf(b, "| %s | %s | %d | %.2f %% | %d | %.2f %% |\n", s.Side, s.Window, s.Pairs, 100*s.Recall, s.Removed, 100*s.Precision)
	}
}

// missing lists the sides that did not run, once each.
func (t *Table) missing(b *strings.Builder) {
	seen := make(map[string]bool)
	for _, r := range t.Results {
		for _, m := range r.Sides {
			if m.Missing != "" && !seen[m.Side] {
				if len(seen) == 0 {
					b.WriteString("\n## Left out\n\n")
				}
				seen[m.Side] = true
				fmt.Fprintf(b, "- %s: %s\n", m.Side, m.Missing)
			}
		}
	}
}

// manifest lists the sets and what they were made of.
func (t *Table) manifest(b *strings.Builder) {
	if len(t.Sets) == 0 {
		return
	}
	b.WriteString("\n## Data\n\nThe versions and SHA-256 of all packages and files are in the JSON beside this.\n\n" +
		"| set | recipe | documents | MB | made of |\n|---|---|---|---|---|\n")
	for _, s := range t.Sets {
		of := "made up"
		if n := len(s.Packages); n > 0 {
			of = fmt.Sprintf("%d packages, %s %s and others", n, s.Packages[0].Name, s.Packages[0].Version)
			if n == 2 {
				of = fmt.Sprintf("%s %s, %s %s", s.Packages[0].Name, s.Packages[0].Version, s.Packages[1].Name, s.Packages[1].Version)
			}
		}
		if len(s.Missing) > 0 {
			of += "; could not be had: " + strings.Join(s.Missing, ", ")
		}
		fmt.Fprintf(b, "| %s | %s | %d | %s | %s |\n", s.Name, s.Recipe, s.Documents, number(float64(s.TextBytes)/1e6), of)
	}
}

func escape(s string) string { return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s) }

// GoBench writes a result in the format of Go benchmarks, a line for every turn, for benchstat: what sides gave, and ratios.
func (r *Result) GoBench(w io.Writer) error {
	var b strings.Builder
	for _, m := range r.Sides {
		for turn := 0; ; turn++ {
			line := ""
			for _, u := range unitOrder {
				if v := m.Values[u]; turn < len(v) && u != Others {
					line += fmt.Sprintf(" %g %s", v[turn], u)
				}
			}
			if line == "" {
				break
			}
			fmt.Fprintf(&b, "BenchmarkWorkloads/%s/%s 1%s\n", r.Workload, m.Side, line)
		}
	}
	for _, row := range r.Rows {
		for _, v := range row.Turns {
			if row.By != "" {
				// Not in the unit, which benchstat would scale as the one it begins with.
				unit := strings.ReplaceAll(string(row.Unit), "/", "-per-")
				fmt.Fprintf(&b, "BenchmarkRatios/%s/%s-by-%s/unit=%s 1 %g ratio\n", r.Workload, row.Of, row.By, unit, v)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
