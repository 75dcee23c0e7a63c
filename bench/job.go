package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/bench/process"
	"github.com/dovetail-dedup/dovetail/bench/rivals"
	"github.com/dovetail-dedup/dovetail/dedup"
)

// job is one set that Dovetail and others deduplicate, from files to files.
type job struct {
	e     *Env
	input string
	bytes int64
	outs  map[string]string // the last output of each side
	// keep says that outputs are to be judged, so that each side's last one stays.
	keep bool
}

// output returns a new folder for a side and removes its last.
func (j *job) output(side string) (string, error) {
	if err := os.RemoveAll(j.outs[side]); err != nil {
		return "", err
	}
	dir, err := j.e.temp("out-" + side)
	j.outs[side] = dir
	return dir, err
}

// drop removes what a side wrote, unless it is to be judged.
func (j *job) drop(side string) {
	if !j.keep {
		_ = os.RemoveAll(j.outs[side]) // or with the scratch folder
	}
}

func (j *job) close() {
	for _, dir := range j.outs {
		_ = os.RemoveAll(dir) // or with the scratch folder
	}
}

// dovetail is Dovetail as a program with its defaults and some options more, or the library where there is no program.
func (j *job) dovetail(side string, env []string, options ...string) func(context.Context) (Sample, error) {
	return j.into(side, func(ctx context.Context, out string) (Sample, error) {
		if j.e.Program == "" {
			return j.library(ctx, out)
		}
		args := append([]string{j.e.Program, "dedup", "--progress", "none", "--input", j.input, "--output", filepath.Join(out, "clean")}, options...)
		u, _, err := process.Run(ctx, process.Command{Args: args, Env: env})
		return j.sample(u), err
	})
}

// into has run write into a new folder of a side, with the input as it is to be in the cache, and drops the folder.
func (j *job) into(side string, run func(ctx context.Context, out string) (Sample, error)) func(context.Context) (Sample, error) {
	return func(ctx context.Context) (Sample, error) {
		if err := j.e.settle(j.input); err != nil {
			return nil, err
		}
		out, err := j.output(side)
		if err != nil {
			return nil, err
		}
		defer j.drop(side)
		return run(ctx, out)
	}
}

func (j *job) library(ctx context.Context, out string) (Sample, error) {
	start := time.Now()
	_, err := dedup.Run(ctx, dedup.Options{Spec: dedup.DefaultSpec(), Inputs: []string{j.input}, Output: filepath.Join(out, "clean")})
	s := rate(j.bytes, time.Since(start))
	s[Seconds] = time.Since(start).Seconds()
	return s, err
}

// rival is another program.
func (j *job) rival(r rivals.Rival) func(context.Context) (Sample, error) {
	return func(ctx context.Context) (Sample, error) {
		out, err := j.output(r.Name)
		if err != nil {
			return nil, err
		}
		defer j.drop(r.Name)
		c, err := r.Command(j.e.Rivals, j.e.Scratch, j.input, out)
		if errors.Is(err, rivals.ErrMissing) {
			return nil, unavailable("%s", err)
		}
		if err != nil {
			return nil, err
		}
		if err := j.e.settle(j.input); err != nil {
			return nil, err
		}
		u, _, err := process.Run(ctx, c)
		if err != nil && ctx.Err() == nil {
			// Which is a result too. Where things are on this machine is nobody's business.
			said := strings.NewReplacer(j.e.Scratch+"/", "", j.e.Dir+"/", "").Replace(err.Error())
			return nil, unavailable("it failed after %.0f s: %s", u.Wall.Seconds(), said)
		}
		return j.sample(u), err
	}
}

func (j *job) sample(u process.Usage) Sample {
	s := ofProgram(j.bytes, u)
	if u.Others >= 0 {
		s[Others] = u.Others
	}
	return s
}

// Others is the share of the machine that other programs used while a program ran.
const Others Unit = "others"

// raceWorkload is the whole job on a set, by Dovetail and by the others that are quick enough for it.
func raceWorkload(name, set string) Maker {
	return Maker{Name: name, Make: func(ctx context.Context, e *Env) (*Workload, error) {
		j, from, err := newJob(ctx, e, set)
		if err != nil {
			return nil, err
		}
		w := &Workload{Name: name, Data: from + ", " + e.Cache() + " cache", Close: j.close,
			Sides: []Side{{Name: "dovetail", About: "dovetail dedup, defaults", Run: j.dovetail("dovetail", nil)}}}
		for _, r := range rivals.Dedup() {
			if !r.Slow {
				w.add(r, j, set, Target{AtLeast: 10}, Target{AtMost: 0.5})
			}
		}
		return w, nil
	}}
}

// sampleWorkload is the same on a small set, by all, and judges what each removed.
func sampleWorkload(name, set string) Maker {
	return Maker{Name: name, Make: func(ctx context.Context, e *Env) (*Workload, error) {
		j, from, err := newJob(ctx, e, set)
		if err != nil {
			return nil, err
		}
		j.keep = true
		w := &Workload{Name: name, Data: from + ", " + e.Cache() + " cache", Close: j.close,
			Sides: []Side{{Name: "dovetail", About: "dovetail dedup, defaults", Run: j.dovetail("dovetail", nil)}}}
		for _, r := range rivals.Dedup() {
			w.add(r, j, set, Target{}, Target{})
		}
		w.Judge = func(ctx context.Context) ([]Score, error) { return j.judge(ctx, set) }
		return w, nil
	}}
}

// raceShort is why the whole job is not ten times as fast as all.
const raceShort = "on prose decompressing what is read, signing it and compressing what is kept alone take 1.65 s of processor time, 0.8 s by the clock on " +
	"two cores, which is ten times Daft without anything else. Texts are decoded once, compared by runs, and what loses nothing is copied; what else was " +
	"tried is in docs/design/20261127-one-decode.md and -verify-speed.md"

// add adds a rival, with the rows about it.
func (w *Workload) add(r rivals.Rival, j *job, set string, speed, memory Target) {
	if j.e.Patient {
		r.Rounds = 0
	}
	w.Sides = append(w.Sides, Side{Name: r.Name, About: r.Window.String() + "; " + r.Differs, Run: j.rival(r), Rounds: r.Rounds})
	w.Ratios = append(w.Ratios,
		Ratio{What: fmt.Sprintf("whole job, %s, against %s", set, r.Name), Of: "dovetail", By: r.Name, Unit: Rate, Target: speed, Short: raceShort,
			Note: r.Name + ": " + r.Window.String() + "; " + r.Differs},
		Ratio{What: fmt.Sprintf("whole job, %s, against %s, for each second of processor time", set, r.Name), Of: "dovetail", By: r.Name,
			Unit: PerCPU},
		Ratio{What: fmt.Sprintf("memory of the whole job, %s, by that of %s", set, r.Name), Of: "dovetail", By: r.Name, Unit: Memory,
			Target: memory})
}

func newJob(ctx context.Context, e *Env, set string) (*job, string, error) {
	input, from, bytes, _, err := e.input(ctx, set)
	return &job{e: e, input: input, bytes: bytes, outs: make(map[string]string)}, from, err
}

// coresWorkload is the whole job with one core and with two.
func coresWorkload(ctx context.Context, e *Env) (*Workload, error) {
	if e.Program == "" {
		return nil, unavailable("needs the program, which is told how many cores to use")
	}
	j, from, err := newJob(ctx, e, "code")
	if err != nil {
		return nil, err
	}
	one := []string{"GOMAXPROCS=1"}
	two := []string{"GOMAXPROCS=2"}
	return &Workload{Name: "cores", Data: from + ", " + e.Cache() + " cache", Close: j.close,
		Sides: []Side{
			{Name: "two", About: "two workers", Run: j.dovetail("two", two, "--workers", "2")},
			{Name: "one", About: "one worker, GOMAXPROCS=1", Run: j.dovetail("one", one, "--workers", "1")},
			{Name: "apart", About: "two runs at once that share nothing, each with one worker, GOMAXPROCS=1",
				Run: j.apart(one, "--workers", "1")},
		},
		Ratios: []Ratio{
			{What: "1 -> 2 cores", Of: "two", By: "one", Unit: Rate, Target: Target{AtLeast: 1.8},
				Short: "the bound is what the machine gives two runs that share nothing, in the row after this",
				Note:  "by the clock on the wall: other programs on the machine take from two cores more than from one"},
			{What: "1 -> 2 cores, by two runs that share nothing: what the machine gives", Of: "apart", By: "one", Unit: Rate},
			{What: "two cores, of two runs that share nothing", Of: "two", By: "apart", Unit: Rate},
		}}, nil
}

// apart is two runs at once, of which neither waits for the other.
func (j *job) apart(env []string, options ...string) func(context.Context) (Sample, error) {
	return func(ctx context.Context) (Sample, error) {
		start := time.Now()
		var errs [2]error
		var runs sync.WaitGroup
		for i := range errs {
			run := (&job{e: j.e, input: j.input, bytes: j.bytes, outs: make(map[string]string)}).dovetail(fmt.Sprint("apart-", i), env, options...)
			runs.Go(func() { _, errs[i] = run(ctx) })
		}
		runs.Wait()
		return rate(int64(len(errs))*j.bytes, time.Since(start)), errors.Join(errs[:]...)
	}
}

// stressWorkload is the set with all that programs stumble over.
func stressWorkload(ctx context.Context, e *Env) (*Workload, error) {
	j, from, err := newJob(ctx, e, "stress")
	if err != nil {
		return nil, err
	}
	w := &Workload{Name: "stress", Data: from + ", " + e.Cache() + " cache", Close: j.close,
		Sides: []Side{{Name: "dovetail", About: "dovetail dedup, defaults", Run: j.dovetail("dovetail", nil), Rounds: 2}}}
	for _, r := range rivals.Dedup() {
		if r.Name == "daft" || r.Name == "duckdb" {
			r.Rounds = 1
			w.add(r, j, "stress", Target{}, Target{})
		}
	}
	return w, nil
}
