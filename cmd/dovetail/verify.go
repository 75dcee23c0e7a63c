package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/dovetail-dedup/dovetail/dedup"
)

// errNotVerified is what a result gets that is not what its run said it is; the reasons are printed.
var errNotVerified = errors.New("the result is not what run.json says it is")

func verifyCommand() *cobra.Command {
	var o dedup.VerifyOptions
	var sample, memoryLimit, progress string
	var watch watchFlags
	cmd := &cobra.Command{
		Use:   "verify DIR [flags]",
		Short: "Check a result against its input: nothing lost, and the evidence of removals",
		Long: `Check a result against its input. DIR is the output folder of dovetail dedup.

Every document of the input is read again and its text must be in its place in kept/, unchanged, or in removed/
for a document that was kept (other columns are not compared); no two kept documents may have the same text; the tables must agree with each
other; ledger and digest must come out as run.json has them. The similarity of a sample of the removals is
computed again from both texts.

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
			if o.Exec.MemoryLimit, err = parseMemoryLimit(memoryLimit); err != nil {
				return usageError{err}
			}
			rep, err := newReporter(progress, cmd.ErrOrStderr())
			if err != nil {
				return usageError{err}
			}
			stop, err := watch.start(rep)
			if err != nil {
				return err
			}
			limitHeap(o.Exec.MemoryLimit)
			o.Progress = rep
			v, err := dedup.Verify(cmd.Context(), o)
			stop()
			rep.close()
			if err != nil {
				return err
			}
			if err := printVerification(cmd.OutOrStdout(), v); err != nil {
				return err
			}
			if !v.OK() {
				return errNotVerified
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&sample, "sample", "1000", "removals whose similarity is computed again: a number, or all")
	fl.Uint64Var(&o.Seed, "seed", 0, "chooses the sample")
	fl.StringArrayVarP(&o.Inputs, "input", "i", nil, "where the input is now (default: where it was)")
	fl.StringArrayVar(&o.Against, "against", nil, "where the reference set is now, if there was one (default: where it was)")
	fl.StringVar(&memoryLimit, "memory-limit", "", "bound on resident memory, such as 8GiB (default: none)")
	fl.IntVar(&o.Exec.Workers, "workers", 0, "tasks worked on at a time (default: one per CPU)")
	fl.StringVar(&progress, "progress", "auto", "auto, plain, json or none")
	watch.add(fl)
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

// parseMemoryLimit reads a size; an empty one is no limit.
func parseMemoryLimit(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, fmt.Errorf("--memory-limit %q: give a size such as 512MiB or 8GiB", s)
	}
	return int64(n), nil
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
