package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/executor"
)

// errNotVerified is what a result gets that is not what its run said it is; the reasons are printed.
var errNotVerified = errors.New("the result is not what run.json says it is")

func verifyCommand() *cobra.Command {
	var o dedup.VerifyOptions
	var sample string
	var m machineFlags
	var job jobFlags
	cmd := &cobra.Command{
		Use:   "verify DIR [flags]",
		Short: "Check a result against its input: nothing lost, and the evidence of removals",
		Long: `Check a result against its input. DIR is the output folder of dovetail dedup.

Every document of the input is read again and its text must be in its place in kept/, unchanged, or in removed/
for a document that was kept; no two kept documents may have the same text; the tables must agree with each
other; ledger, digest, counts and findings must come out as run.json has them. The similarity of a sample of
the removals is computed again from both texts. What --write annotate left must say what the tables say.

Other columns must be what they are in the input, too: in every line of JSON Lines, and in as many Parquet
files as it takes for a sample of rows, or in all with --sample all.

Exit code 0 says that all of it holds; 1 that something does not, with a line for each.`,
		Example: `  dovetail verify clean
  dovetail verify clean --sample all
  dovetail verify clean --input /mnt/copy/of/data`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("verify: name one output folder; see dovetail verify --help")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			var err error
			if o.Sample, err = parseSample(sample); err != nil {
				return usageError{err}
			}
			if o.Exec.MemoryLimit, err = m.limit(); err != nil {
				return usageError{err}
			}
			jc, err := job.join(cmd, o.Exec.Workers, args)
			if err != nil {
				return usageError{err}
			}
			if jc != nil && jc.Rank > 0 {
				m.progress = "none" // rank 0 speaks for all
			}
			if o.Exec.TaskTimeout, err = m.stuckAfter(); err != nil {
				return usageError{err}
			}
			rep, err := newReporter(m.progress, cmd.ErrOrStderr())
			if err != nil {
				return usageError{err}
			}
			stop, err := m.watch.start(rep)
			if err != nil {
				return err
			}
			limitHeap(o.Exec.MemoryLimit)
			o.Progress = rep
			var v *dedup.Verification
			err = job.runIn(cmd, jc, func(line string) { rep.Note("", line) }, func(j *executor.Job) (err error) {
				o.Job = j
				v, err = dedup.Verify(cmd.Context(), o)
				return err
			})
			stop()
			rep.close()
			if err != nil {
				return err
			}
			if o.Job.Root() {
				if err := printVerification(cmd.OutOrStdout(), v); err != nil {
					return err
				}
			}
			if !v.OK() {
				return errNotVerified
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&sample, "sample", "1000", "removals whose similarity is computed again, and Parquet rows whose other columns are compared: a number, or all")
	fl.Uint64Var(&o.Seed, "seed", 0, "chooses the sample")
	fl.StringArrayVarP(&o.Inputs, "input", "i", nil, "where the input is now (default: where it was)")
	fl.StringArrayVar(&o.Against, "against", nil, "where the reference set is now, if there was one (default: where it was)")
	m.add(fl, &o.Exec.Workers, nil)
	job.add(fl)
	return cmd
}

func parseSample(s string) (int64, error) {
	if s == "all" {
		return -1, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("--sample %q: give a number, or all", s)
	}
	return n, nil
}

func printVerification(w io.Writer, v *dedup.Verification) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	for _, p := range v.Problems {
		row("wrong", "%s", p)
	}
	if v.More > 0 {
		row("", "and %s more", humanize.Comma(v.More))
	}
	of := ""
	if v.References > 0 {
		of = fmt.Sprintf(", %s of the reference set", humanize.Comma(v.References))
	}
	row("documents", "%s read again: %s kept, %s removed%s", humanize.Comma(v.Documents), humanize.Comma(v.Kept), humanize.Comma(v.Removed), of)
	if v.OK() {
		row("kept", "every text that was not removed is in its place, unchanged; no two are identical")
		if v.Whole > 0 {
			row("columns", "%s rows are as in the input in all other columns", humanize.Comma(v.Whole))
		}
		if v.Annotated > 0 {
			row("annotated", "%s rows say what the tables say", humanize.Comma(v.Annotated))
		}
		row("removed", "every one is for a document that was kept")
	}
	evidence := fmt.Sprintf("%s of %s removals computed again, %s wrong", humanize.Comma(v.Replayed), humanize.Comma(v.Removed), humanize.Comma(v.Wrong))
	if v.Bound > 0 {
		evidence += fmt.Sprintf(": with 95 %% confidence at most %.2g %% of all are", 100*v.Bound)
	}
	if v.Unverifiable > 0 {
		evidence += fmt.Sprintf("; %s were made without evidence (--verify none)", humanize.Comma(v.Unverifiable))
	}
	row("evidence", "%s", evidence)
	if v.Digest == v.Recorded {
		row("digest", "%s, as in run.json", v.Digest)
	} else {
		row("digest", "%s, run.json has %s", v.Digest, v.Recorded)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
