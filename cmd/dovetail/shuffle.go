package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dovetail-dedup/dovetail/dedup/table"
	"github.com/dovetail-dedup/dovetail/executor"
)

// shuffleFlags are the flags of the shuffle command that are not fields of a Spec or an Exec as they stand.
type shuffleFlags struct {
	opts table.Options
	machineFlags
	job          jobFlags
	rowGroupSize string
}

func shuffleCommand() *cobra.Command {
	f := &shuffleFlags{}
	cmd := &cobra.Command{
		Use:   "shuffle --input PATH... --on COLUMN[,COLUMN] --total-nparts N --output DIR [flags]",
		Short: "Shuffle Parquet tables of any size: rows with equal keys into one file of N",
		Long: `Shuffle Parquet tables of any size: rows with equal keys into one file of N.

Input is Parquet: files, folders and globs, all with the same columns; nested ones and dictionaries pass through. The output
folder appears when the run is complete and holds
  part.<n>.parquet  the rows of partition n, in the order of the input; all N files, empty ones too
  run.json          options, inputs, rows and sizes of each partition, times, peak memory and the digest of the result

--partition hash puts a row where cuDF's hash_partition, and so NeMo Curator's shuffle, puts it. --partition range
puts keys in order from file to file (nulls last), about as many rows in each; with --sort the whole is sorted.

A run that was interrupted goes on where it was when the same command is given again.`,
		Example: `  dovetail shuffle --input data --on user --total-nparts 256 --output shuffled
  dovetail shuffle --input 'logs/**/*.parquet' --on day,host --total-nparts 64 --partition range --sort --output sorted --memory-limit 4GiB`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.opts.Inputs = append(f.opts.Inputs, args...) // what a shell made of --input *.parquet
			return f.run(cmd)
		},
	}
	f.add(cmd)
	return cmd
}

func (f *shuffleFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	o := &f.opts
	o.Spec = table.DefaultSpec()
	s, e := &o.Spec, &o.Exec
	fl.StringArrayVarP(&o.Inputs, "input", "i", nil, "Parquet file, folder or glob to read; may be repeated, and several may follow")
	fl.StringSliceVar(&s.On, "on", nil, "key columns, with commas between them")
	fl.IntVar(&s.TotalParts, "total-nparts", 0, "number of partitions, and of files")
	fl.StringVarP(&o.Output, "output", "o", "", "folder for the result, which must not exist or be empty")
	fl.StringVar(&s.Partition, "partition", s.Partition, "hash (as cuDF does) or range (keys in order from file to file)")
	fl.BoolVar(&s.Sort, "sort", false, "sort the rows of each partition by the key; otherwise they keep the order of the input")
	fl.StringVar(&s.Compression, "compression", s.Compression, "of the files written: snappy, zstd or none")
	fl.StringVar(&f.rowGroupSize, "row-group-size", "", "bytes of rows in a row group (default: 8MiB); larger ones need more memory")
	addWork(fl, "the output folder", &o.Work, &o.KeepWork, &o.Restart)
	f.machineFlags.add(fl, &e.Workers, &e.Ranks)
	f.job.add(fl)
}

func (f *shuffleFlags) run(cmd *cobra.Command) error {
	if err := f.resolve(); err != nil {
		return usageError{err}
	}
	jc, err := f.job.join(cmd, f.opts.Exec.Workers, nil)
	if err != nil {
		return usageError{err}
	}
	if jc != nil && jc.Rank > 0 {
		f.progress = "none" // rank 0 speaks for all
	}
	rep, err := newReporter(f.progress, cmd.ErrOrStderr())
	if err != nil {
		return usageError{err}
	}
	stop, err := f.watch.start(rep)
	if err != nil {
		return err
	}
	limitHeap(f.opts.Exec.MemoryLimit)
	f.opts.Version = version()
	f.opts.Progress = rep
	f.opts.Note = func(line string) { rep.Note("", line) }
	var res *table.Result
	err = f.job.runIn(cmd, jc, f.opts.Note, func(j *executor.Job) (err error) {
		f.opts.Job = j
		res, err = table.Run(cmd.Context(), f.opts)
		return err
	})
	stop()
	rep.close()
	if err != nil || rep.machine || !f.opts.Job.Root() {
		return err
	}
	return shuffleSummary(cmd.OutOrStdout(), res, f.opts.Output)
}

// resolve turns the flags into options and reports every fault.
func (f *shuffleFlags) resolve() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(f.opts.Inputs) > 0, "--input: name a file, folder or glob to read")
	check(f.opts.Output != "", "--output: name the folder for the result")
	var err error
	if f.opts.Exec.MemoryLimit, err = f.limit(); err != nil {
		errs = append(errs, err)
	}
	if f.opts.Exec.TaskTimeout, err = f.stuckAfter(); err != nil {
		errs = append(errs, err)
	}
	if f.rowGroupSize != "" {
		if f.opts.Spec.RowGroupBytes, err = parseSizeFlag("row-group-size", f.rowGroupSize); err != nil {
			errs = append(errs, err)
		}
	}
	if err := f.opts.Spec.Validate(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		f.opts.Exec.EnsureDefaults()
		return f.opts.Exec.Validate(&f.opts.Spec)
	}
	return errors.Join(errs...)
}

// shuffleSummary prints what was done.
func shuffleSummary(w io.Writer, r *table.Result, output string) error {
	if r.AlreadyDone {
		_, err := fmt.Fprintf(w, "already done: %s holds the result of the same options and input, digest %s\n", output, r.Digest)
		return err
	}
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	l := &r.Ledger
	empty, most := 0, int64(0)
	for _, p := range r.Partitions {
		most = max(most, p.Rows)
		if p.Rows == 0 {
			empty++
		}
	}
	row("read", "%s rows, %s files", humanize.Comma(l.Read), humanize.Comma(int64(len(r.Inputs))))
	row("written", "%s rows, %s files (%s empty, %s rows in the largest), %.1f MB", humanize.Comma(l.Written),
		humanize.Comma(int64(len(r.Partitions))), humanize.Comma(int64(empty)), humanize.Comma(most), float64(l.OutputBytes)/1e6)
	row("shuffled", "%.1f MB, of which %.1f MB went to disk", float64(l.ShuffledBytes)/1e6, float64(l.SpilledBytes)/1e6)
	wall := time.Duration(r.WallSeconds * float64(time.Second)).Round(10 * time.Millisecond)
	row("took", "%v, %.1f MB/s, %d MiB of memory at most, %d tasks reused", wall, float64(l.ShuffledBytes)/1e6/max(r.WallSeconds, 1e-9), r.PeakMemory>>20, r.TasksReused)
	row("digest", "%s", r.Digest)
	row("result", "%s", output)
	_, err := io.WriteString(w, b.String())
	return err
}
