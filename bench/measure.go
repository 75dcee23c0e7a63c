package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Measured is what a side gave, turn by turn.
type Measured struct {
	Side  string `json:"side"`
	About string `json:"about,omitempty"`
	// Values has one of each unit for each turn.
	Values map[Unit][]float64 `json:"values,omitempty"`
	// Missing says why the side has no values, or no more of them.
	Missing string `json:"missing,omitempty"`
}

// Row is a line of the table.
type Row struct {
	What   string `json:"what"`
	Of     string `json:"of"`
	By     string `json:"by,omitempty"`
	Unit   Unit   `json:"unit"`
	Target Target `json:"target,omitzero"`
	// Spread is of the ratios, or of the values where there is nothing to divide by; Turns are all of them.
	Spread  Summary   `json:"ratio"`
	Turns   []float64 `json:"turns,omitempty"`
	OfMed   float64   `json:"of_median"`
	ByMed   float64   `json:"by_median,omitempty"`
	Met     bool      `json:"met"`
	Note    string    `json:"note,omitempty"`
	Short   string    `json:"short,omitempty"` // why the target is not met
	Missing string    `json:"missing,omitempty"`
}

// Result is what a workload gave.
type Result struct {
	Workload string     `json:"workload"`
	Made     time.Time  `json:"made"`
	Version  string     `json:"version"` // of the program, by git
	Cache    string     `json:"cache"`   // in what state files were before a run
	Data     string     `json:"data"`
	Sides    []Measured `json:"sides,omitempty"`
	Rows     []Row      `json:"rows,omitempty"`
	Quality  string     `json:"quality,omitempty"`
	Scores   []Score    `json:"scores,omitempty"`
	Missing  string     `json:"missing,omitempty"` // why nothing was measured
}

// Run makes a workload and measures it. What cannot be measured here is a result that says why.
func Run(ctx context.Context, m Maker, e *Env, rounds int) (*Result, error) {
	w, err := m.Make(ctx, e)
	if errors.Is(err, ErrUnavailable) {
		return &Result{Workload: m.Name, Made: time.Now(), Version: e.Version, Missing: err.Error()}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", m.Name, err)
	}
	r, err := Measure(ctx, w, rounds, func(s string) { e.note("%s", s) })
	if err != nil {
		return nil, err
	}
	r.Made, r.Version, r.Cache = time.Now().UTC().Truncate(time.Second), e.Version, e.Cache()
	return r, nil
}

// Measure runs the sides of a workload in turn, rounds times, and closes it. A side that fails with ErrUnavailable is
// left out from then on, and what needs it is said to be missing; any other error ends the measurement.
func Measure(ctx context.Context, w *Workload, rounds int, note func(string)) (*Result, error) {
	if w.Close != nil {
		defer w.Close()
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	r := &Result{Workload: w.Name, Data: w.Data, Sides: make([]Measured, len(w.Sides))}
	for i, s := range w.Sides {
		r.Sides[i] = Measured{Side: s.Name, About: s.About, Values: make(map[Unit][]float64)}
	}
	for round := range rounds {
		for i, s := range w.Sides {
			m := &r.Sides[i]
			if m.Missing != "" || s.Rounds > 0 && round >= s.Rounds {
				continue
			}
			sample, err := s.Run(ctx)
			if errors.Is(err, ErrUnavailable) {
				m.Missing = err.Error()
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("bench: %s: %s: %w", w.Name, s.Name, err)
			}
			for unit, v := range sample {
				m.Values[unit] = append(m.Values[unit], v)
			}
			note(fmt.Sprintf("%s: %s, %d of %d: %s", w.Name, s.Name, round+1, rounds, sample))
		}
	}
	if w.Quality != nil {
		q, err := w.Quality(ctx)
		if err != nil && !errors.Is(err, ErrUnavailable) {
			return nil, fmt.Errorf("bench: %s: quality: %w", w.Name, err)
		}
		if r.Quality = q; err != nil {
			r.Quality = err.Error()
		}
	}
	if w.Judge != nil {
		var err error
		if r.Scores, err = w.Judge(ctx); err != nil {
			return nil, fmt.Errorf("bench: %s: quality: %w", w.Name, err)
		}
	}
	for _, ratio := range w.Ratios {
		r.Rows = append(r.Rows, r.row(ratio))
	}
	return r, nil
}

func (r *Result) side(name string) *Measured {
	for i := range r.Sides {
		if r.Sides[i].Side == name {
			return &r.Sides[i]
		}
	}
	return &Measured{}
}

// row computes a line from what was measured.
func (r *Result) row(a Ratio) Row {
	of, by := r.side(a.Of), r.side(a.By)
	row := Row{What: a.What, Of: a.Of, By: a.By, Unit: a.Unit, Target: a.Target, Note: a.Note, Missing: of.Missing}
	values := of.Values[a.Unit]
	row.OfMed = Summarize(values).Median
	if a.By != "" {
		row.ByMed = Summarize(by.Values[a.Unit]).Median
		if values = ratios(values, by.Values[a.Unit]); a.Inverse {
			values = ratios(by.Values[a.Unit], of.Values[a.Unit])
		}
		if row.Missing == "" {
			row.Missing = by.Missing
		}
	}
	row.Spread, row.Turns = Summarize(values), values
	if row.Spread.N > 0 {
		row.Missing = ""
	} else if row.Missing == "" {
		row.Missing = "no value in " + string(a.Unit)
	}
	row.Met = row.Spread.N > 0 && a.Target.Met(row.Spread)
	if row.Spread.N > 0 && !row.Met {
		row.Short = a.Short
	}
	return row
}
