package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// dedupFlags are the flags of the dedup command that are not fields of a Spec or an Exec as they stand.
type dedupFlags struct {
	opts dedup.Options
	machineFlags
	devices          deviceFlags
	jaccardThreshold string
	textMemory       string
	recall           float64
	sourceLimit      string
	report           bool
	compat           compatFlags
	job              jobFlags
}

func dedupCommand() *cobra.Command {
	f := &dedupFlags{}
	cmd := &cobra.Command{
		Use:   "dedup --input PATH... --output DIR [flags]",
		Short: "Deduplicate documents: a folder of text in, a deduplicated folder and its evidence out",
		Long: `Deduplicate documents: a folder of text in, a deduplicated folder and its evidence out.

Input is Parquet, JSON Lines (plain, .gz, .zst) or text files: files, folders and globs. Other columns
go to the output unchanged. The output folder appears when the run is complete and holds
  kept/        one file for each input file, of the same name and format, without what was removed
  annotated/   with --write annotate instead of kept/: the same files with all documents, and the columns
               dovetail_removed, _kept_id, _cluster_size, _similarity and _evidence at their end
  removed/     what was removed, for which kept document, and on what evidence
  clusters/    which documents belong together
  report.html  a page that shows what was found; open it in a browser
  run.json     options, inputs, row counts at each step, times, peak memory and the digest of the result

A run that was interrupted goes on where it was when the same command is given again.

Exit codes: 0 done; 1 not done, and one line says why; 2 the command line is wrong; 3 done, but files or
records were left out, as --on-bad-file skip and --on-bad-record skip allow, and run.json names them.
Only what is wrong with the contents of a file is ever a reason to leave it out; if a disk, memory or a
permission fails the run stops.`,
		Example: `  dovetail dedup --input data --output clean
  dovetail dedup --input 'crawl/**/*.jsonl.gz' --output clean --text-field content --memory-limit 8GiB
  dovetail dedup --input src --format files --output clean --threshold 0.9
  dovetail dedup --input crawl --output marked --write annotate
  dovetail dedup --input november --against october/kept --output november-new
  dovetail dedup --input a.parquet b.parquet --output clean --jaccard-threshold 0.7 --keep longest`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.opts.Inputs = append(f.opts.Inputs, args...) // what a shell made of --input *.parquet
			return f.run(cmd)
		},
	}
	f.add(cmd)
	return cmd
}

func (f *dedupFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	o := &f.opts
	o.Spec = dedup.DefaultSpec()
	s, e := &o.Spec, &o.Exec
	fl.StringArrayVarP(&o.Inputs, "input", "i", nil, "file, folder or glob to read; may be repeated, and several may follow")
	fl.StringArrayVar(&o.Against, "against", nil, "reference set, such as benchmarks or a corpus deduplicated before: what is in it is removed from the input, and it is never written; may be repeated")
	fl.StringVarP(&o.Output, "output", "o", "", "folder for the result, which must not exist or be empty")
	addWork(fl, "the output folder", &o.Work, &o.KeepWork, &o.Restart)

	fl.StringVar(&s.Format, "format", "", "parquet, jsonl, or files: one document per file (default: by the file names)")
	fl.StringVar(&s.TextField, "text-field", s.TextField, "column that holds the text")
	fl.StringVar(&s.IDField, "id-field", "", "column that holds the documents' ids (default: generated, file << 32 | row, both counted from 0)")

	fl.StringVar(&e.OnDuplicateID, "on-duplicate-id", dedup.OnDuplicateError, "two documents with one id: error, or warn and go on")

	fl.StringVar(&s.Sketch, "sketch", s.Sketch, "fast, curator32 or curator64 (the last two bit-equal to NeMo Curator's)")
	fl.IntVar(&s.NumBands, "num-bands", s.NumBands, "number of bands")
	fl.IntVar(&s.MinhashesPerBand, "minhashes-per-band", s.MinhashesPerBand, "rows per band")
	fl.IntVar(&s.CharNgrams, "char-ngrams", s.CharNgrams, "width of a shingle in Unicode code points")
	fl.Uint64Var(&s.Seed, "seed", s.Seed, "seed of the permutations")
	fl.StringVar(&f.jaccardThreshold, "jaccard-threshold", "", "choose the bands for this similarity, and remove from it on")
	fl.Float64Var(&f.recall, "recall", 0.95, "with --jaccard-threshold: chance wanted of catching a pair at it")

	fl.StringVar(&s.Verify, "verify", s.Verify, "exact: compute the similarity of every removal; none: trust the bands, as NeMo Curator does")
	fl.StringVar(&s.Threshold, "threshold", s.Threshold, "least Jaccard similarity of a removal, as 0.8 or 4/5")
	fl.StringVar(&s.Keep, "keep", s.Keep, "which of several to prefer: first, longest, or field:NAME for the largest value")
	fl.StringVar(&s.Empty, "empty", s.Empty, "null and empty texts: keep all, or dedup to one")
	fl.StringVar(&s.Normalize, "normalize", s.Normalize, "before comparing: none, or some of nfc, nfkc, lower, punct, whitespace, with commas")

	fl.StringVar(&s.Write, "write", s.Write, "kept: the input without what was removed; annotate: all of it, with columns that say what became of each document; ids: only the tables of what was removed and for what")
	fl.StringVar(&f.sourceLimit, "limit-removed-per-source", "", "share of its documents that a folder (or file) may lose: more is a warning that names it, and with =error behind the share a stop, as 0.5=error")

	fl.StringVar(&s.OnBadFile, "on-bad-file", s.OnBadFile, "a file that is damaged or lacks a column: error, or skip to leave it out as a whole")
	fl.StringVar(&s.OnBadRecord, "on-bad-record", s.OnBadRecord, "a line or row that cannot be used: error, or skip to leave it out")

	f.machineFlags.add(fl, &e.Workers, &e.Ranks)
	f.devices.add(fl)
	fl.StringVar(&f.textMemory, "text-memory", "auto", "texts that stay in memory from pass to pass, so that they are read and decompressed once: a size, none, or auto: what --memory-limit leaves, or without one as long as half of the machine's memory is available")
	fl.IntVar(&e.BandsPerIteration, "bands-per-iteration", dedup.DefaultBandsPerIteration, "bands shuffled at a time: fewer take less disk, more take fewer passes")
	fl.BoolVar(&f.report, "report", true, "leave report.html in the output folder")
	f.job.add(fl)
	f.job.addIsolation(fl)
	f.compat.add(fl)
}

func (f *dedupFlags) run(cmd *cobra.Command) error {
	if err := f.compat.check(cmd.Flags()); err != nil {
		return usageError{err}
	}
	if f.compat.compat != "" {
		return f.compat.run(cmd, f)
	}
	if err := f.resolve(cmd); err != nil {
		return usageError{err}
	}
	stderr := cmd.ErrOrStderr()
	jc, err := f.job.config(cmd, f.opts.Exec.Workers)
	if err != nil {
		return usageError{err}
	}
	isolated := f.opts.Exec.Isolation == dedup.IsolationProcess
	fabric, err := f.job.fabric(cmd.Flags(), jc != nil || isolated, func(line string) { f.opts.Note(line) })
	if err != nil {
		return usageError{err}
	}
	if jc != nil && jc.Rank > 0 {
		f.progress = "none" // rank 0 speaks for all
	}
	if executor.Isolated() {
		f.progress, f.watch = "none", watchFlags{} // and does all that is done once
	}
	rep, err := newReporter(f.progress, stderr)
	if err != nil {
		return usageError{err}
	}
	stop, err := f.watch.start(rep)
	if err != nil {
		return err
	}
	limitHeap(f.opts.Exec.ProcessLimit())
	f.opts.Version = version()
	f.opts.Exec.NoReport = !f.report
	f.opts.Progress = rep
	f.opts.Note = func(line string) { rep.Note("", line) }
	if !rep.machine {
		f.opts.Note(f.chance())
	}
	var res *dedup.Result
	f.devices.share = f.job.place.GPUs
	err = f.devices.with(f.opts.Exec.ProcessLimit(), isolated, f.opts.Note, func(u deviceUse) (err error) {
		e := &f.opts.Exec
		e.Devices, e.CheckDevice, e.DeviceMemory, e.Backend, e.Device = u.Devices, u.CheckDevice, u.DeviceMemory, u.Backend, u.Name
		e.DeviceBatch, e.Pairs, e.DeviceUse = u.DeviceBatch, u.Pairs, u.Use
		e.EnsureDefaults() // as many workers as devices
		res, err = f.inJob(cmd, jc, fabric)
		return err
	})
	stop()
	rep.close()
	if err != nil || !f.opts.Job.Root() {
		return err
	}
	if !rep.machine {
		if err := summary(cmd.OutOrStdout(), res, f.opts.Output); err != nil {
			return err
		}
	}
	if s := &res.Steps; s.SkippedFiles > 0 || s.SkippedRecords > 0 {
		return leftOut{s.SkippedFiles, s.SkippedRecords}
	}
	return nil
}

// inJob runs as a rank of a job, if there is one.
func (f *dedupFlags) inJob(cmd *cobra.Command, jc *executor.JobConfig, fabric executor.Fabric) (res *dedup.Result, err error) {
	isolated := f.opts.Exec.Isolation == dedup.IsolationProcess
	if jc == nil && !isolated {
		return dedup.Run(cmd.Context(), f.opts)
	}
	// What depends on the input and the output is compared when the work folder is opened.
	name, spec := f.job.name("dedup"), f.opts.Spec.Hash()+" "+f.opts.Version
	if isolated {
		c := f.job.isolate(f.opts.Exec.Workers, f.opts.Note)
		c.Devices, c.Fabric = f.opts.Exec.Devices, fabric
		c.Name, c.Spec, c.Errors = name, spec, dedup.RankErrors{}
		f.opts.Job, err = executor.Isolate(cmd.Context(), c)
	} else {
		jc.Name, jc.Spec, jc.Errors, jc.Fabric = name, spec, dedup.RankErrors{}, fabric
		f.job.speak(jc, f.opts.Note)
		f.opts.Job, err = executor.Join(cmd.Context(), *jc)
		err = notJoined(jc, err)
	}
	if err != nil {
		return nil, err
	}
	res, err = dedup.Run(cmd.Context(), f.opts)
	why := err
	if err != nil && cmd.Context().Err() != nil {
		why = context.Cause(cmd.Context()) // and not what was being read at that moment
	}
	f.opts.Job.Close(why)
	if err != nil && executor.Isolated() {
		err = told{err}
	}
	return res, err
}

// told is an error of a worker's process that its parent has been told.
type told struct{ error }

func (t told) Unwrap() error { return t.error }

// leftOut says that a result is complete but for what was bad.
type leftOut struct {
	files   int
	records int64
}

func (l leftOut) Error() string {
	return fmt.Sprintf("done, but %s bad files and %s bad records were left out; run.json names them",
		humanize.Comma(int64(l.files)), humanize.Comma(l.records))
}

// resolve turns the flags into options and refuses those that contradict each other.
func (f *dedupFlags) resolve(cmd *cobra.Command) error {
	s, set := &f.opts.Spec, cmd.Flags().Changed
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(f.opts.Inputs) > 0, "--input: name a file, folder or glob to read")
	check(f.opts.Output != "", "--output: name the folder for the result")
	check(!(s.Format == "files" && set("text-field")), "--text-field has no meaning with --format files: the whole file is the text")
	check(!(s.Format == "files" && set("id-field")), "--id-field has no meaning with --format files: a file has no columns")
	check(!(s.IDField == "" && set("on-duplicate-id")), "--on-duplicate-id has a meaning only with --id-field")
	check(!(s.Format == "files" && s.KeepField() != ""), "--keep %s has no meaning with --format files: a file has no columns", s.Keep)
	check(!(s.Verify == dedup.VerifyNone && set("threshold")), "--threshold has no meaning with --verify none: nothing is compared; "+
		"--jaccard-threshold chooses the bands")
	n, err := f.limit()
	if err != nil {
		errs = append(errs, err)
	}
	f.opts.Exec.MemoryLimit = n
	switch f.textMemory {
	case "auto":
	case "none":
		f.opts.Exec.TextMemory = -1
	default:
		if f.opts.Exec.TextMemory, err = parseSizeFlag("text-memory", f.textMemory); err != nil {
			errs = append(errs, fmt.Errorf("%w, auto or none", err))
		}
	}
	if f.job.isolation != dedup.IsolationGoroutine {
		f.opts.Exec.Isolation = f.job.isolation
	}
	if f.opts.Exec.TaskTimeout, err = f.stuckAfter(); err != nil {
		errs = append(errs, err)
	}
	if f.opts.Exec.SourceLimit, err = dedup.ParseSourceLimit(f.sourceLimit); err != nil {
		errs = append(errs, err)
	}
	if f.jaccardThreshold == "" {
		check(!set("recall"), "--recall has a meaning only with --jaccard-threshold")
	} else {
		for _, other := range []string{"num-bands", "minhashes-per-band"} {
			check(!set(other), "--%s and --jaccard-threshold: both choose the bands; give one of them", other)
		}
		check(!set("threshold"), "--threshold and --jaccard-threshold: both name the similarity; give one of them")
		if err := f.chooseBands(); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		f.opts.Exec.EnsureDefaults()
		if !set("bands-per-iteration") {
			f.opts.Exec.BandsPerIteration = min(f.opts.Exec.BandsPerIteration, max(1, s.NumBands))
		}
		if err := s.Validate(); err != nil {
			return err
		}
		return f.opts.Exec.Validate(s.NumBands)
	}
	return errors.Join(errs...)
}

// chooseBands sets bands, rows and threshold from --jaccard-threshold.
func (f *dedupFlags) chooseBands() error {
	t, err := lsh.ParseThreshold(f.jaccardThreshold)
	if err != nil {
		return fmt.Errorf("--jaccard-threshold: %w", err)
	}
	const maxHashes = 260 // as many as the default takes
	b, err := lsh.ChooseBands(t.Float(), f.recall, maxHashes)
	if err != nil {
		return fmt.Errorf("--jaccard-threshold: %w", err)
	}
	s := &f.opts.Spec
	s.NumBands, s.MinhashesPerBand, s.Threshold = b.Bands, b.Rows, f.jaccardThreshold
	return nil
}

// chance says what the bands catch. The Spec is valid.
func (f *dedupFlags) chance() string {
	s := &f.opts.Spec
	t, err := lsh.ParseThreshold(s.Threshold)
	if err != nil {
		return err.Error()
	}
	at := func(j float64) float64 { return 100 * lsh.CandidateProbability(j, s.NumBands, s.MinhashesPerBand) }
	j := t.Float()
	line := fmt.Sprintf("%d bands of %d rows: a pair at similarity %s is compared with probability %.1f %%",
		s.NumBands, s.MinhashesPerBand, s.Threshold, at(j))
	if high := (1 + j) / 2; j < 1 {
		line += fmt.Sprintf(", at %.3g with %.1f %%", high, at(high))
	}
	return line
}

// summary prints what was found.
func summary(w io.Writer, r *dedup.Result, output string) error {
	s := &r.Steps
	if r.AlreadyDone {
		_, err := fmt.Fprintf(w, "already done: %s holds the result of the same options and input, digest %s; dovetail verify checks it\n", output, r.Digest)
		return err
	}
	share := func(n int64) string {
		if s.Documents == 0 {
			return ""
		}
		return fmt.Sprintf(" (%.1f %%)", 100*float64(n)/float64(s.Documents))
	}
	mb := float64(s.TextBytes) / 1e6
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("read", "%s documents, %.1f MB of text, %s files", humanize.Comma(s.Documents), mb, humanize.Comma(int64(s.Files)))
	if s.References > 0 {
		row("against", "%s of them from the reference set, none of which is written", humanize.Comma(s.References))
	}
	row("identical", "%s removed%s: another document has the same text", humanize.Comma(s.RemovedExact), share(s.RemovedExact))
	near := s.Removed - s.RemovedExact
	how := fmt.Sprintf("similar at %s or more to a kept document", r.Spec.Threshold)
	if r.Spec.Verify == dedup.VerifyNone {
		how = "connected by candidate pairs, not verified"
	}
	row("near", "%s removed%s: %s", humanize.Comma(near), share(near), how)
	row("kept", "%s documents%s, %s empty among all", humanize.Comma(s.Kept), share(s.Kept), humanize.Comma(s.Empty))
	row("clusters", "%s of two or more, the largest of %s", humanize.Comma(s.Clusters), humanize.Comma(s.LargestCluster))
	row("compared", "%s pairs exactly, of %s candidate pairs among %s documents", humanize.Comma(s.Tests), humanize.Comma(s.Pairs), humanize.Comma(s.Candidates))
	row("saved", "%.1f MB of text", float64(s.RemovedTextBytes)/1e6)
	wall := time.Duration(r.WallSeconds * float64(time.Second)).Round(10 * time.Millisecond)
	row("took", "%v, %.1f MB/s, %d MiB of memory at most, %d tasks reused", wall, mb/max(r.WallSeconds, 1e-9), r.PeakMemory>>20, r.TasksReused)
	row("digest", "%s", r.Digest)
	row("result", "%s", output)
	if !r.Exec.NoReport {
		row("report", "%s", filepath.Join(output, "report.html"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// limitHeap makes the garbage collector keep to its part of a memory limit: what shuffles and what is no memory of Go's leave. Shuffles have
// half of what is above 64 MiB, outside of the Go heap; code takes some 45 MiB, and buffers that are kept for reuse a little. Of a small limit it
// is more than that, for the collector would do nothing but collect.
func limitHeap(limit int64) {
	if limit > 0 {
		debug.SetMemoryLimit(max(limit/2-24<<20, limit/8*3))
	}
}
