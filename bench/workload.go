package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Unit names what a value counts. Rates ("MB/s", 10^6 bytes) are better if larger, the others if smaller.
type Unit string

// The units in use.
const (
	Rate    Unit = "MB/s"     // bytes of text, or of rows, for each second
	PerCPU  Unit = "MB/cpu-s" // the same for each second of processor time
	Seconds Unit = "s"
	Nanos   Unit = "ns/op"
	Memory  Unit = "MB" // 10^6 bytes, at most
	Bytes   Unit = "B/doc"
	One     Unit = "x" // a ratio that a side computed by itself
)

// Sample is what one measurement gave, by unit.
type Sample map[Unit]float64

// Side is one of the things that a workload measures in turn.
type Side struct {
	// Name is unique in the workload and has no spaces.
	Name string
	// About says what it is, for the table; "" is the name.
	About string
	// Run measures once.
	Run func(ctx context.Context) (Sample, error)
	// Rounds bounds how often a side that is slow is measured; 0 is no bound.
	Rounds int
}

// Target is what a ratio should reach. The zero Target is none: the ratio is there to be seen.
type Target struct {
	AtLeast float64 `json:"at_least,omitempty"`
	AtMost  float64 `json:"at_most,omitempty"`
}

// String returns ">= 0.8" or "<= 20", or "" for none.
func (t Target) String() string {
	switch {
	case t.AtLeast > 0:
		return fmt.Sprintf(">= %g", t.AtLeast)
	case t.AtMost > 0:
		return fmt.Sprintf("<= %g", t.AtMost)
	}
	return ""
}

// Met says whether the median reaches the target. Without a target or values it is true.
func (t Target) Met(s Summary) bool {
	switch {
	case s.N == 0:
		return true
	case t.AtLeast > 0:
		return s.Median >= t.AtLeast
	case t.AtMost > 0:
		return s.Median <= t.AtMost
	}
	return true
}

// Ratio is a row of the table: a value of one side divided by one of another, turn by turn.
type Ratio struct {
	What string // the row's name
	Of   string // side
	By   string // side; "" leaves the value as it is, in its unit
	Unit Unit   // of both
	// Inverse divides By by Of: of times, how many times as fast Of is.
	Inverse bool
	Target  Target
	// Short is for the table when the target is not met: what stands in the way, the bound, what was tried, and where more is said.
	Short string
	// Note says what differs between the two, or what the figure rests on.
	Note string
}

// Workload is something to measure: sides that run in turn, and the ratios between them that matter.
type Workload struct {
	// Name has no spaces.
	Name string
	// Data says on what it is measured: a data set of the manifest, or how the data was made.
	Data   string
	Sides  []Side
	Ratios []Ratio
	// Quality is measured once, after the rest, and says in a few words what the result is worth; nil is nothing to say.
	Quality func(ctx context.Context) (string, error)
	// Judge scores what the sides last gave by the true pairs; nil is nothing to judge.
	Judge func(ctx context.Context) ([]Score, error)
	// Close gives back what the workload holds; nil is nothing.
	Close func()
}

// Score is how well a side found the true pairs of a set.
type Score struct {
	Side      string  `json:"side"`
	Window    string  `json:"window"`
	Pairs     int     `json:"pairs"`
	Recall    float64 `json:"recall"`    // share of the pairs of which at most one document was kept
	Removed   int     `json:"removed"`   // documents
	Precision float64 `json:"precision"` // share of the removed that are in a pair
}

// ErrUnavailable is wrapped by the error of a workload, or of one side, that cannot run here, and says why. The table has a
// line about it.
var ErrUnavailable = errors.New("not measured")

func unavailable(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrUnavailable, fmt.Sprintf(format, a...))
}

// check finds mistakes in how a workload is put together.
func (w *Workload) check() error {
	has := func(name string) bool {
		return slices.ContainsFunc(w.Sides, func(s Side) bool { return s.Name == name })
	}
	for _, r := range w.Ratios {
		for _, name := range []string{r.Of, r.By} {
			if name != "" && !has(name) {
				return fmt.Errorf("bench: %s: row %q is about %q, which is none of the sides", w.Name, r.What, name)
			}
		}
	}
	return nil
}

// Maker makes a workload when its turn comes, so that the data of one is in memory at a time.
type Maker struct {
	Name string
	Make func(ctx context.Context, e *Env) (*Workload, error)
}

// Workloads lists all workloads, in the order of the table.
func Workloads() []Maker {
	return []Maker{
		{"sign", signWorkload},
		{"estimator", estimatorWorkload},
		{"read", readWorkload},
		{"group", groupWorkload},
		{"partition", partitionWorkload},
		{"tcp", tcpWorkload},
		{"perturbed", perturbedWorkload},
		sampleWorkload("sample-code", "code-sample"),
		sampleWorkload("sample-prose", "prose-sample"),
		raceWorkload("job-code", "code"),
		raceWorkload("job-prose", "prose"),
		{"cores", coresWorkload},
		{"table", tableWorkload},
		{"skew", skewWorkload},
		{"stress", stressWorkload},
		later("scale", "time and memory as documents double: make bench-scale, docs/bench-scale.md"),
		{"ucx", ucxWorkload},
		later("gpu", "GPU kernels: calculated in docs/kernels.md, and to be measured by make test-gpu where there is a GPU"),
	}
}

// later is a row of what is to come.
func later(name, what string) Maker {
	return Maker{name, func(context.Context, *Env) (*Workload, error) { return nil, unavailable("%s", what) }}
}
