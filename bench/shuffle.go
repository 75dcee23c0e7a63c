package bench

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/dovetail-dedup/dovetail/bench/data"
	"github.com/dovetail-dedup/dovetail/bench/process"
	"github.com/dovetail-dedup/dovetail/bench/rivals"
)

// tableParts is the number of partitions that tables are cut into.
const tableParts = 256

// newTableJob is a table of numbers and strings that is partitioned by key, from files to files.
func newTableJob(e *Env, name string) (*job, string, error) {
	if e.Program == "" {
		return nil, "", unavailable("needs the program")
	}
	s, err := e.set(name)
	if e.Quick {
		s, err = data.MakeTable(e.Scratch, name, 20_000)
	}
	if err != nil {
		return nil, "", err
	}
	j := &job{e: e, input: s.Dir(), bytes: s.TextBytes, outs: make(map[string]string)}
	return j, s.String() + " as Arrow arrays, " + e.Cache() + " cache", nil
}

// shuffle is Dovetail as a program, with some options more.
func (j *job) shuffle(side string, options ...string) func(context.Context) (Sample, error) {
	return j.into(side, func(ctx context.Context, out string) (Sample, error) {
		u, _, err := process.Run(ctx, process.Command{Args: append([]string{j.e.Program, "shuffle", "--progress", "none", "--input", j.input,
			"--on", "key", "--compression", "none", "--total-nparts", fmt.Sprint(tableParts), "--output", filepath.Join(out, "parts")}, options...)})
		return j.sample(u), err
	})
}

// tableWorkload is partitioning a table, by Dovetail and by others.
func tableWorkload(ctx context.Context, e *Env) (*Workload, error) {
	j, from, err := newTableJob(e, "table")
	if err != nil {
		return nil, err
	}
	w := &Workload{Name: "table", Data: from, Close: j.close,
		Sides: []Side{{Name: "dovetail", About: "dovetail shuffle, uncompressed, ledger", Run: j.shuffle("dovetail")}}}
	for _, r := range rivals.Shuffle(tableParts) {
		w.Sides = append(w.Sides, Side{Name: r.Name, About: r.Differs, Run: j.rival(r)})
		w.Ratios = append(w.Ratios,
			Ratio{What: "table into 256 files, against " + r.Name, Of: "dovetail", By: r.Name, Unit: Rate, Note: r.Name + ": " + r.Differs},
			Ratio{What: "table into 256 files, against " + r.Name + ", for each second of processor time", Of: "dovetail", By: r.Name, Unit: PerCPU},
			Ratio{What: "memory of it, by that of " + r.Name, Of: "dovetail", By: r.Name, Unit: Memory})
	}
	return w, nil
}

// skewWorkload is what one key with a tenth of all rows costs two ranks, of which one gets it.
func skewWorkload(ctx context.Context, e *Env) (*Workload, error) {
	even, _, err := newTableJob(e, "table")
	if err != nil {
		return nil, err
	}
	skewed, from, err := newTableJob(e, "skewed")
	if err != nil {
		return nil, err
	}
	return &Workload{Name: "skew", Data: from, Close: func() { even.close(); skewed.close() },
		Sides: []Side{
			{Name: "even", About: "two ranks, keys at random", Run: even.shuffle("even", "--ranks", "2")},
			{Name: "skewed", About: "two ranks, a tenth of the rows have one key", Run: skewed.shuffle("skewed", "--ranks", "2")},
		},
		Ratios: []Ratio{{What: "one key with a tenth of all rows, of keys at random", Of: "skewed", By: "even", Unit: Rate,
			Note: "two ranks in one process"}}}, nil
}
