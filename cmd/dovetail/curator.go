package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dovetail-dedup/dovetail/dedup/curator"
	"github.com/dovetail-dedup/dovetail/executor"
)

// The commands that do what a stage or a workflow of NeMo Curator does, with its parameters, on its files.

func curatorCommands() []*cobra.Command {
	return []*cobra.Command{minhashCommand(), lshCommand(), componentsCommand(), exactCommand(), removeCommand()}
}

// execFlags are flags of all these commands; none changes a result.
type execFlags struct {
	exec curator.Exec
	machineFlags
	job     jobFlags
	devices *deviceFlags // nil for commands that compute no signatures
}

func (f *execFlags) add(fl *pflag.FlagSet) {
	e := &f.exec
	addWork(fl, "the folder that is written", &e.Work, &e.KeepWork, &e.Restart)
	fl.BoolVar(&e.Overwrite, "overwrite", false, "replace folders that hold the result of other options or another input, as Curator does")
	f.machineFlags.add(fl, &e.Workers, &e.Ranks)
	if f.devices != nil {
		f.devices.add(fl)
	}
	f.job.add(fl)
}

// run calls work with what the flags say and prints what it returns.
func (f *execFlags) run(cmd *cobra.Command, work func(e curator.Exec) (lines []string, err error)) error {
	n, err := f.limit()
	if err != nil {
		return usageError{err}
	}
	f.exec.MemoryLimit = n
	if f.exec.TaskTimeout, err = f.stuckAfter(); err != nil {
		return usageError{err}
	}
	if f.devices != nil {
		f.job.stay = f.devices.stay
	}
	jc, err := f.job.join(cmd, f.exec.Workers, nil)
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
	limitHeap(f.exec.MemoryLimit)
	e := f.exec
	e.Version = version()
	e.Progress = rep
	e.Note = func(line string) { rep.Note("", line) }
	var lines []string
	run := func() error {
		return f.job.runIn(cmd, jc, e.Note, func(j *executor.Job) (err error) {
			e.Job = j
			lines, err = work(e)
			return err
		})
	}
	if f.devices == nil {
		err = run()
	} else {
		f.devices.share = f.job.place.GPUs
		err = f.devices.with(e.MemoryLimit, false, e.Note, func(u deviceUse) error {
			e.Devices, e.CheckDevice, e.DeviceMemory, e.Backend = u.Devices, u.CheckDevice, u.DeviceMemory, u.Backend
			return run()
		})
	}
	stop()
	rep.close()
	if errors.Is(err, curator.ErrOptions) {
		return usageError{err}
	}
	if err != nil || rep.machine || jc != nil && jc.Rank > 0 {
		return err
	}
	_, err = io.WriteString(cmd.OutOrStdout(), strings.Join(lines, "\n")+"\n")
	return err
}

// row is a line of a summary.
func row(name, format string, args ...any) string {
	return fmt.Sprintf("%-10s %s", name, fmt.Sprintf(format, args...))
}

// already says that there was nothing to do.
func already(lines []string, done bool, where string) []string {
	if done {
		lines = append(lines, row("already", "%s held the result of the same options and input", where))
	}
	return lines
}

// addInputs are the flags of commands that read documents.
func addInputs(fl *pflag.FlagSet, o *curator.InputOptions) {
	fl.StringArrayVarP(&o.Inputs, "input", "i", nil, "file, folder or glob with the documents; may be repeated, and several may follow")
	fl.StringVar(&o.InputFiletype, "input-filetype", "", "parquet or jsonl (default: by the file names)")
	fl.StringVar(&o.IDField, "id-field", "", "column that holds the documents' ids (default: generated, file << 32 | row, both counted from 0)")
}

func addText(fl *pflag.FlagSet, o *curator.InputOptions) {
	fl.StringVar(&o.TextField, "text-field", "text", "column that holds the text")
	fl.StringVar(&o.InputBlocksize, "input-blocksize", o.InputBlocksize, "size of the groups of files that Curator would have worked on")
}

// documents says how many of a number.
func documents(n int64) string { return humanize.Comma(n) + " documents" }

func minhashCommand() *cobra.Command {
	f, o := &execFlags{devices: new(deviceFlags)}, curator.DefaultMinHashOptions()
	o.InputBlocksize = curator.DefaultFuzzyOptions().InputBlocksize
	cmd := &cobra.Command{
		Use:   "minhash --input PATH... --output CACHE [flags]",
		Short: "Curator's MinHashStage: the signature of every document",
		Long: `Computes the signatures that NeMo Curator's MinHashStage computes, bit for bit, and writes them where it does:
CACHE/MinHashStage, a file for each group of input files, with _curator_dedup_id and _minhash_signature. The
signature of a null text is null, that of an empty one all zeros.`,
		Example: "  dovetail minhash --input data --output cache --char-ngrams 24 --num-hashes 260",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Inputs = append(o.Inputs, args...)
			return f.run(cmd, func(e curator.Exec) ([]string, error) {
				o.Exec = e
				res, err := curator.MinHash(cmd.Context(), o)
				if err != nil {
					return nil, err
				}
				dir := filepath.Join(o.Output, curator.MinHashDir)
				return already([]string{
					row("read", "%s, %s of them null and %s empty", documents(res.Documents), humanize.Comma(res.Null), humanize.Comma(res.Empty)),
					row("result", "%s, %d files", dir, res.Files),
				}, res.AlreadyDone, dir), nil
			})
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	addInputs(fl, &o.InputOptions)
	fl.StringVarP(&o.Output, "output", "o", "", "cache folder, in which MinHashStage is made")
	fl.StringVar(&o.IDGenerator, "id-generator", "", "file for the state of the id generator (default: none)")
	addText(fl, &o.InputOptions)
	fl.IntVar(&o.CharNgrams, "char-ngrams", o.CharNgrams, "width of a window in Unicode code points")
	fl.IntVar(&o.NumHashes, "num-hashes", o.NumHashes, "hashes in a signature")
	fl.Uint64Var(&o.Seed, "seed", o.Seed, "seed of the permutations")
	fl.BoolVar(&o.Use64BitHash, "use-64bit-hash", false, "64-bit hashes")
	f.add(fl)
	return cmd
}

func lshCommand() *cobra.Command {
	f, o := &execFlags{}, curator.DefaultLSHOptions()
	cmd := &cobra.Command{
		Use:   "lsh --input CACHE/MinHashStage --output CACHE [flags]",
		Short: "Curator's LSHStage: documents whose signatures agree in a band",
		Long: `Finds the buckets that NeMo Curator's LSHStage finds, in its partitions: CACHE/LSHStage/band_<lo>-band_<hi>/part.<n>.parquet
with _bucket_id and the ids of its documents. Buckets of one document are left out. --bands-per-iteration decides
folders, names of buckets and partitions.`,
		Example: "  dovetail lsh --input cache/MinHashStage --output cache --num-bands 20 --minhashes-per-band 13",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Inputs = append(o.Inputs, args...)
			return f.run(cmd, func(e curator.Exec) ([]string, error) {
				o.Exec = e
				res, err := curator.LSH(cmd.Context(), o)
				if err != nil {
					return nil, err
				}
				dir := filepath.Join(o.Output, curator.LSHDir)
				return already([]string{
					row("found", "%s buckets of %s together, the largest of %s", humanize.Comma(res.Buckets), documents(res.Members), humanize.Comma(res.Largest)),
					row("result", "%s, %d iterations of %d partitions", dir, res.Iterations, res.Partitions),
				}, res.AlreadyDone, dir), nil
			})
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringArrayVarP(&o.Inputs, "input", "i", nil, "folder or file of signatures; may be repeated, and several may follow")
	fl.StringVarP(&o.Output, "output", "o", "", "cache folder, in which LSHStage is made")
	fl.StringVar(&o.IDField, "id-field", o.IDField, "column of the ids")
	fl.StringVar(&o.MinhashField, "minhash-field", o.MinhashField, "column of the signatures")
	fl.IntVar(&o.NumBands, "num-bands", o.NumBands, "number of bands")
	fl.IntVar(&o.MinhashesPerBand, "minhashes-per-band", o.MinhashesPerBand, "rows per band")
	fl.IntVar(&o.BandsPerIteration, "bands-per-iteration", o.BandsPerIteration, "bands that share a folder")
	fl.IntVar(&o.TotalNparts, "total-nparts", 0, "partitions of an iteration (default: the largest power of two not above the groups of the input)")
	fl.StringVar(&o.InputBlocksize, "input-blocksize", o.InputBlocksize, "size of the groups that --total-nparts goes by")
	f.add(fl)
	return cmd
}

func componentsCommand() *cobra.Command {
	f, o := &execFlags{}, curator.DefaultComponentsOptions()
	cmd := &cobra.Command{
		Use:   "components --input CACHE/LSHStage --cache CACHE --output DIR [flags]",
		Short: "Curator's edges, connected components and duplicates: buckets in, ids to remove out",
		Long: `Does what NeMo Curator's BucketsToEdgesStage, ConnectedComponentsStage and IdentifyDuplicatesStage do: an edge between
neighbours in a bucket, the connected components of all edges, and of every component all ids but the smallest, in
DIR/FuzzyDuplicateIds. Nothing is verified: what is connected through others is a duplicate.`,
		Example: "  dovetail components --input cache/LSHStage --cache cache --output out",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Inputs = append(o.Inputs, args...)
			return f.run(cmd, func(e curator.Exec) ([]string, error) {
				o.Exec = e
				res, err := curator.Components(cmd.Context(), o)
				if err != nil {
					return nil, err
				}
				dir := filepath.Join(o.Output, curator.FuzzyIDsDir)
				return already(componentsLines(res, dir), res.AlreadyDone, dir), nil
			})
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringArrayVarP(&o.Inputs, "input", "i", nil, "folder or file of buckets; may be repeated, and several may follow")
	fl.StringVar(&o.Cache, "cache", "", "cache folder, in which BucketsToEdgesStage and ConnectedComponentsStage are made")
	fl.StringVarP(&o.Output, "output", "o", "", "folder in which FuzzyDuplicateIds is made")
	fl.StringVar(&o.IDField, "id-field", o.IDField, "column of the lists of ids")
	addComponentsFiles(fl, &o.Files)
	fl.IntVar(&o.TotalNparts, "total-nparts", 0, "files of FuzzyDuplicateIds (default: as many as of ConnectedComponentsStage)")
	f.add(fl)
	return cmd
}

func addComponentsFiles(fl *pflag.FlagSet, n *int) {
	fl.IntVar(n, "components-files", 1, "files of ConnectedComponentsStage: as many as Curator would have had GPUs")
}

func componentsLines(res *curator.ComponentsResult, dir string) []string {
	if res.Edges == 0 {
		return []string{row("found", "no two documents share a bucket, so nothing is written")}
	}
	how := "in memory"
	if res.Rounds > 0 {
		how = fmt.Sprintf("in %d rounds on disk", res.Rounds)
	}
	return []string{
		row("found", "%s groups of %s together, from %s edges, %s", humanize.Comma(res.Groups), documents(res.Documents), humanize.Comma(res.Edges), how),
		row("duplicates", "%s", humanize.Comma(res.NumDuplicates)),
		row("result", "%s", dir),
	}
}

func exactCommand() *cobra.Command {
	f, o := &execFlags{}, curator.DefaultExactOptions()
	cmd := &cobra.Command{
		Use:   "exact --input PATH... --output DIR [flags]",
		Short: "Curator's exact deduplication: the ids of documents whose text another has",
		Long: `Does what NeMo Curator's ExactDeduplicationWorkflow does: documents with one MD5 of the text are one, null and empty
texts too, and of each group all ids but the smallest are written to DIR/ExactDuplicateIds. DIR/exact_id_generator.json
is the state of Curator's id generator.`,
		Example: "  dovetail exact --input data --output out && dovetail remove --input data --ids-to-remove out/ExactDuplicateIds --output clean",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Inputs = append(o.Inputs, args...)
			return f.run(cmd, func(e curator.Exec) ([]string, error) {
				o.Exec = e
				res, err := curator.Exact(cmd.Context(), o)
				if err != nil {
					return nil, err
				}
				dir := filepath.Join(o.Output, curator.ExactIDsDir)
				return already([]string{
					row("read", "%s", documents(res.Documents)), row("found", "%s groups of identical texts", humanize.Comma(res.Groups)),
					row("duplicates", "%s", humanize.Comma(res.NumDuplicates)), row("result", "%s, %d partitions", dir, res.Partitions),
				}, res.AlreadyDone, dir), nil
			})
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	addInputs(fl, &o.InputOptions)
	fl.StringVarP(&o.Output, "output", "o", "", "folder in which ExactDuplicateIds is made")
	addText(fl, &o.InputOptions)
	fl.IntVar(&o.TotalNparts, "total-nparts", 0, "partitions (default: a third of the groups of files)")
	f.add(fl)
	return cmd
}

func removeCommand() *cobra.Command {
	f, o := &execFlags{}, curator.RemoveOptions{}
	cmd := &cobra.Command{
		Use:   "remove --input PATH... --ids-to-remove DIR --output DIR [flags]",
		Short: "Curator's removal: the documents without those whose ids are given",
		Long: `Does what NeMo Curator's TextDuplicatesRemovalWorkflow does: copies the documents whose ids are not to be removed. Without
--id-field ids are those that minhash, exact and dedup --compat curator generate, so the input must be the same; an id that
it does not have is an error. There is a file for each input file, of the same name and format, other columns unchanged.`,
		Example: "  dovetail remove --input data --ids-to-remove out/FuzzyDuplicateIds --output clean",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Inputs = append(o.Inputs, args...)
			return f.run(cmd, func(e curator.Exec) ([]string, error) {
				o.Exec = e
				res, err := curator.Remove(cmd.Context(), o)
				if err != nil {
					return nil, err
				}
				lines := []string{row("read", "%s", documents(res.Documents)), row("removed", "%s", humanize.Comma(res.NumRemoved))}
				if res.Unmatched > 0 {
					lines = append(lines, row("unmatched", "%s ids to remove that no document has", humanize.Comma(res.Unmatched)))
				}
				return already(append(lines, row("kept", "%s", documents(res.Kept)), row("result", "%s", o.Output)), res.AlreadyDone, o.Output), nil
			})
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	addInputs(fl, &o.InputOptions)
	fl.StringVar(&o.TextField, "text-field", "text", "column that holds the text")
	fl.StringArrayVar(&o.IDsToRemove, "ids-to-remove", nil, "folder or file of ids, FuzzyDuplicateIds or ExactDuplicateIds; may be repeated")
	fl.StringVar(&o.DuplicateIDField, "duplicate-id-field", "", "column of these ids (default: --id-field, or _curator_dedup_id)")
	fl.StringVarP(&o.Output, "output", "o", "", "folder for the documents that stay")
	f.add(fl)
	return cmd
}

// compatFlags are the flags of dedup that mean something with --compat curator only.
type compatFlags struct {
	compat string
	opts   curator.FuzzyOptions
	exec   execFlags
}

func (c *compatFlags) add(fl *pflag.FlagSet) {
	c.opts = curator.DefaultFuzzyOptions()
	fl.StringVar(&c.compat, "compat", "", "curator: do what NeMo Curator's FuzzyDeduplicationWorkflow does, and write its files")
	fl.StringVar(&c.opts.Cache, "cache", "", "with --compat: folder for what lies between documents and ids")
	fl.StringVar(&c.opts.InputFiletype, "input-filetype", "", "with --compat: parquet or jsonl")
	fl.StringVar(&c.opts.InputBlocksize, "input-blocksize", c.opts.InputBlocksize, "with --compat: size of the groups of files that Curator would have worked on")
	fl.BoolVar(&c.opts.Use64BitHash, "use-64bit-hash", false, "with --compat: 64-bit hashes")
	fl.IntVar(&c.opts.LSHNumOutputPartitions, "lsh-num-output-partitions", 0, "with --compat: partitions of an iteration of bands (default: by the size of the signatures)")
	addComponentsFiles(fl, &c.opts.ComponentsFiles)
	fl.Lookup("components-files").Usage = "with --compat: " + fl.Lookup("components-files").Usage
	fl.BoolVar(&c.exec.exec.Overwrite, "overwrite", false, "with --compat: replace folders that hold the result of other options, as Curator does")
}

// onlyCompat and notCompat are flags that mean something on one side of --compat only.
var (
	onlyCompat = []string{
		"cache", "input-filetype", "input-blocksize", "use-64bit-hash", "lsh-num-output-partitions", "components-files", "overwrite",
	}
	withCompat = []string{
		"compat", "input", "output", "work", "keep-work", "restart", "text-field", "id-field", "num-bands", "minhashes-per-band", "char-ngrams",
		"seed", "memory-limit", "workers", "ranks", "bands-per-iteration", "progress",
		"device", "sim-gpus", "rmm-pool-size", "spill-memory-limit", "bind", "cpu", "launcher", "root-port", "transport", "metrics-addr", "event-log", "rank", "size", "root", "secret-file", "data-host", "data-ports", "listen-public", "on-rank-loss", "rank-timeout", "join-timeout", "task-timeout",
	}
)

// check refuses flags that contradict --compat, or its absence.
func (c *compatFlags) check(fl *pflag.FlagSet) error {
	var errs []error
	if c.compat != "" && c.compat != "curator" {
		errs = append(errs, fmt.Errorf("--compat %q: must be curator", c.compat))
	}
	fl.Visit(func(f *pflag.Flag) {
		only := slices.Contains(onlyCompat, f.Name)
		switch {
		case c.compat == "" && only:
			errs = append(errs, fmt.Errorf("--%s has a meaning only with --compat curator", f.Name))
		case c.compat != "" && !only && !slices.Contains(withCompat, f.Name):
			errs = append(errs, fmt.Errorf("--%s has no meaning with --compat curator: Curator decides that", f.Name))
		}
	})
	return errors.Join(errs...)
}

// run runs the workflow with the flags of dedup.
func (c *compatFlags) run(cmd *cobra.Command, f *dedupFlags) error {
	s, d, o := &f.opts.Spec, &f.opts, &c.opts
	o.Inputs, o.TextField, o.IDField, o.Output = d.Inputs, s.TextField, s.IDField, d.Output
	o.Seed, o.CharNgrams, o.NumBands, o.MinhashesPerBand = s.Seed, s.CharNgrams, s.NumBands, s.MinhashesPerBand
	o.BandsPerIteration = d.Exec.BandsPerIteration
	if !cmd.Flags().Changed("bands-per-iteration") {
		o.BandsPerIteration = max(1, min(o.BandsPerIteration, o.NumBands))
	}
	c.exec.machineFlags, c.exec.job, c.exec.devices = f.machineFlags, f.job, &f.devices
	e := &c.exec.exec
	e.Work, e.KeepWork, e.Restart, e.Workers, e.Ranks = d.Work, d.KeepWork, d.Restart, d.Exec.Workers, d.Exec.Ranks
	return c.exec.run(cmd, func(e curator.Exec) ([]string, error) {
		o.Exec = e
		res, err := curator.Fuzzy(cmd.Context(), *o)
		if err != nil {
			return nil, err
		}
		lines := []string{
			row("read", "%s, %s of them null and %s empty", documents(res.MinHash.Documents), humanize.Comma(res.MinHash.Null), humanize.Comma(res.MinHash.Empty)),
			row("buckets", "%s of %s together, the largest of %s", humanize.Comma(res.LSH.Buckets), documents(res.LSH.Members), humanize.Comma(res.LSH.Largest)),
		}
		lines = append(lines, componentsLines(res.Components, filepath.Join(o.Output, curator.FuzzyIDsDir))...)
		return append(lines, row("took", "%.1f s: %.1f s signatures, %.1f s buckets, %.1f s components", res.TotalTime, res.MinhashTime, res.LSHTime,
			res.ComponentsTime)), nil
	})
}
