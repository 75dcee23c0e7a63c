package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dovetail-dedup/dovetail/bench"
	"github.com/dovetail-dedup/dovetail/bench/data"
)

// benchEnv are the flags that say where benchmarks find things.
type benchEnv struct {
	dir     string
	program string
	cold    bool
}

func (f *benchEnv) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.dir, "dir", ".bench", "folder with data sets and rivals; what is measured writes there too, some GB")
	fl.StringVar(&f.program, "program", "", "dovetail that is measured as a program (default: this one)")
	fl.BoolVar(&f.cold, "cold", false, "drop input files from the page cache before every run of a program")
}

// make returns the environment, and what removes its scratch folder. Notes go to w.
func (f *benchEnv) make(w io.Writer) (*bench.Env, func(), error) {
	if err := os.MkdirAll(f.dir, 0o777); err != nil {
		return nil, nil, err
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return nil, nil, err
	}
	e := &bench.Env{Dir: dir, Rivals: filepath.Join(dir, "rivals"), Program: f.program, Cold: f.cold, Version: version()}
	if e.Program == "" {
		if e.Program, err = os.Executable(); err != nil {
			return nil, nil, err
		}
	}
	if e.Scratch, err = os.MkdirTemp(dir, "scratch-*"); err != nil {
		return nil, nil, err
	}
	start := time.Now()
	e.Note = func(s string) { fmt.Fprintf(w, "%6.0f s  %s\n", time.Since(start).Seconds(), s) }
	return e, func() { _ = os.RemoveAll(e.Scratch) }, nil // what stays is named scratch-*
}

func benchDataCommand() *cobra.Command {
	var dir, size string
	var sets []string
	cmd := &cobra.Command{
		Use:   "data --dir DIR",
		Short: "Make the texts that `bench run` measures on, from Debian packages",
		Long: `Make the texts that ` + "`bench run`" + ` measures on, from Debian packages.

Packages are fetched with apt-get download and read where they lie; nothing is installed. A set that is there already stays,
unless it has another size. Beside each set is a manifest with the versions and SHA-256 of what it is made of.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sizes, ok := map[string]data.Sizes{"small": data.Small, "full": data.Full}[size]
			if !ok {
				return usageError{fmt.Errorf("--size %s: must be small or full", size)}
			}
			return data.Make(cmd.Context(), dir, sets, sizes, func(s string) { fmt.Fprintln(cmd.OutOrStdout(), s) })
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&dir, "dir", ".bench", "folder for packages and data sets")
	fl.StringVar(&size, "size", "small", "small: 200 MB each of code and prose; full: 600 and 400 MB")
	fl.StringSliceVar(&sets, "sets", data.Names(), "the sets to make")
	return cmd
}

func benchRunCommand() *cobra.Command {
	f := &benchEnv{}
	var only, jsonPath, markdownPath, goPath string
	var rounds int
	var quick, patient, alone, shared bool
	cmd := &cobra.Command{
		Use:   "run --dir DIR",
		Short: "Measure against limits of this machine and other programs, and print one table",
		Long: `Measure against limits of this machine and other programs, and print one table.

What is compared is run in turn, --rounds times, and the ratio of each turn counts. Texts come from ` + "`bench data`" + `; where there
are none, the sources of the Go distribution stand in. Other programs have Python environments in DIR/rivals, which
` + "`make bench-rivals-env`" + ` makes; what is not there is left out, and the table says so.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := regexp.Compile("^(" + only + ")$")
			if err != nil {
				return usageError{fmt.Errorf("--only: %w", err)}
			}
			if rounds < 1 {
				return usageError{fmt.Errorf("--rounds %d: must be at least 1", rounds)}
			}
			e, done, err := f.make(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer done()
			if e.Quick, e.Patient = quick, patient; alone {
				e.Rivals = ""
			}
			t := &bench.Table{}
			if jsonPath != "" {
				if t, err = bench.ReadTable(jsonPath); err != nil {
					return err
				}
			}
			t.Machine = bench.ThisMachine()
			t.Machine.Shared = shared
			if err := t.PutSets(e.Dir); err != nil {
				return err
			}
			any := false
			for _, m := range bench.Workloads() {
				if only != "" && !chosen.MatchString(m.Name) {
					continue
				}
				any = true
				r, err := bench.Run(cmd.Context(), m, e, rounds)
				if err != nil {
					return err
				}
				t.Put(r)
				// Written after each, so that hours of work are not lost to the last one.
				if err := errors.Join(writeTo(jsonPath, t.JSON), writeTo(markdownPath, benchPage(t))); err != nil {
					return err
				}
				if err := appendTo(goPath, r.GoBench); err != nil {
					return err
				}
			}
			if !any {
				return usageError{fmt.Errorf("--only %s: there is no such workload; there are %v", only, workloadNames())}
			}
			return t.Markdown(cmd.OutOrStdout())
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&only, "only", "", "regular expression of the workloads to measure (default: all)")
	fl.IntVar(&rounds, "rounds", 5, "turns of each workload; what is slow has fewer")
	fl.BoolVar(&patient, "patient", false, "run slow programs in every turn too: hours")
	fl.BoolVar(&quick, "quick", false, "everything small: to see that it works")
	fl.BoolVar(&alone, "without-rivals", false, "leave other programs out")
	fl.BoolVar(&shared, "shared", false, "say in the table that other work shares the machine")
	fl.StringVar(&jsonPath, "json", "", "file for all values; of one that exists, the workloads that are not measured stay")
	fl.StringVar(&markdownPath, "markdown", "", "file for the table")
	fl.StringVar(&goPath, "gobench", "", "file to which every turn is appended in the format of Go benchmarks, for benchstat")
	return cmd
}

func workloadNames() (names []string) {
	for _, m := range bench.Workloads() {
		names = append(names, m.Name)
	}
	return slices.Clip(names)
}

func benchScaleCommand() *cobra.Command {
	f := &benchEnv{}
	var o bench.ScaleOptions
	var jsonPath, markdownPath string
	var shared bool
	cmd := &cobra.Command{
		Use:   "scale --dir DIR",
		Short: "Time and memory as the number of documents doubles, until time or disk runs out",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.First < 1 {
				return usageError{fmt.Errorf("--first %d: must be at least 1", o.First)}
			}
			e, done, err := f.make(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer done()
			s, err := bench.Scale(cmd.Context(), e, o)
			if err != nil {
				return err
			}
			s.Machine.Shared = shared
			page := func(w io.Writer) error {
				_, err := fmt.Fprint(w, "# Latest result of `make bench-scale`\n\n![Time and memory by the number of documents](bench-scale.svg)\n\n")
				return errors.Join(err, s.Markdown(w))
			}
			if err := errors.Join(writeTo(jsonPath, s.JSON), writeTo(markdownPath, page)); err != nil {
				return err
			}
			return s.Markdown(cmd.OutOrStdout())
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.IntVar(&o.First, "first", 62_500, "documents of the first size")
	fl.IntVar(&o.Most, "most", 0, "documents to stop at (default: no bound)")
	fl.IntVar(&o.Turns, "turns", 3, "runs of each size, of which the middle one counts")
	fl.DurationVar(&o.For, "for", time.Hour, "when to stop")
	fl.StringVar(&o.Limit, "memory-limit", "256MiB", "the limit of the limited runs")
	fl.BoolVar(&shared, "shared", false, "say in the table that other work shares the machine")
	fl.StringVar(&jsonPath, "json", "", "file for all values")
	fl.StringVar(&markdownPath, "markdown", "", "file for the table")
	return cmd
}

func benchTableCommand() *cobra.Command {
	var jsonPath, markdownPath string
	cmd := &cobra.Command{
		Use:   "table --json FILE",
		Short: "Print the table of an earlier bench run again",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if jsonPath == "" {
				return usageError{errors.New("--json: name the file that bench run wrote")}
			}
			if _, err := os.Stat(jsonPath); err != nil {
				return err
			}
			t, err := bench.ReadTable(jsonPath)
			if err != nil {
				return err
			}
			return errors.Join(writeTo(markdownPath, benchPage(t)), t.Markdown(cmd.OutOrStdout()))
		},
	}
	cmd.Flags().StringVar(&jsonPath, "json", "", "file that bench run wrote")
	cmd.Flags().StringVar(&markdownPath, "markdown", "", "file for the table")
	return cmd
}

// benchPage is the table as a page of its own.
func benchPage(t *bench.Table) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := fmt.Fprint(w, "# Latest result of `make bench`\n\n![How far targets are reached, and the whole job beside other programs](bench.svg)\n\n")
		return errors.Join(err, t.Markdown(w))
	}
}

// writeTo writes a file at once; "" is none.
func writeTo(path string, f func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	w, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	if err := errors.Join(f(w), w.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// appendTo appends to a file; "" is none.
func appendTo(path string, f func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	w, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	return errors.Join(f(w), w.Close())
}
