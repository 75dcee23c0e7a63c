// Command dovetail removes near-duplicate documents from text collections of any size.
//
//	dovetail dedup --input data --output clean
//
// `dovetail --help` lists the commands, `dovetail dedup --help` every option with its default.
//
// Exit codes: 0 the work is done; 1 it is not, and one line on standard error says why; 2 the command line
// is wrong; 3 the work is done, but bad files or records were left out, as the options allow; 130 and 143
// interrupted by SIGINT or SIGTERM; if anything was finished, the same command goes on from there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// usageError is an error in the command line rather than in the work.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// run executes a command line and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	signals := make(chan os.Signal, 2)
	if executor.Isolated() {
		// A terminal interrupts all its processes: it is for the parent to say what happens, and to end this one.
		signal.Ignore(os.Interrupt, syscall.SIGTERM)
	} else {
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	}
	defer signal.Stop(signals)
	caught := os.Signal(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case caught = <-signals:
			stop(interrupted{sig: caught})
		case <-done:
			return
		}
		select {
		case <-signals: // asked twice: do not wait for anything
			fmt.Fprintln(stderr, "dovetail: stopped at once")
			os.Exit(exitCode(interrupted{sig: caught}))
		case <-done:
		}
	}()

	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.As(err, new(told)) {
		return 1
	}
	var in interrupted
	if cause := context.Cause(ctx); errors.As(cause, &in) {
		in.saved = errors.Is(err, dedup.ErrSaved) // which is that of all commands
		if errors.Is(err, context.Canceled) || errors.As(err, new(interrupted)) {
			err = in
		} else { // what went wrong meanwhile is no less wrong
			err = fmt.Errorf("%w; and %w", in, err)
		}
	}
	fmt.Fprintf(stderr, "dovetail: %s\n", oneLine(err))
	var p *executor.PanicError
	if errors.As(err, &p) {
		fmt.Fprintf(stderr, "This is a fault of dovetail's. Please report it with what follows.\n%s\n", p.Detail())
	}
	return exitCode(err)
}

// interrupted says that a signal ended the run.
type interrupted struct {
	sig   os.Signal
	saved bool // there is something to go on from
}

func (i interrupted) Error() string {
	if i.saved {
		return fmt.Sprintf("stopped by %v; the same command goes on from here", i.sig)
	}
	return fmt.Sprintf("stopped by %v before anything new was saved", i.sig)
}

func exitCode(err error) int {
	var in interrupted
	if errors.As(err, &in) {
		if s, ok := in.sig.(syscall.Signal); ok {
			return 128 + int(s)
		}
	}
	var l leftOut
	if errors.As(err, &l) {
		return 3
	}
	var u usageError
	if errors.As(err, &u) || strings.HasPrefix(err.Error(), "unknown command ") {
		return 2
	}
	return 1
}

// inside is what errors say about the inside of the program: packages, and which task of which stage it was.
//
// What a task is about is said, unless the error names a file itself, as those of package corpus do.
var (
	named  = regexp.MustCompile(`stage "[^"]*", task "[^"]*" \(.*?\): (corpus: )`)
	about  = regexp.MustCompile(`stage "[^"]*", task "[^"]*" \((.*?)\): `)
	inside = regexp.MustCompile(`(^|: )((dedup|curator|corpus|executor|shuffle|lsh|mem|cuda): |stage "[^"]*", task "[^"]*": )+`)
)

// oneLine puts an error that may consist of several on one line, in the words of whoever started the program. What several
// of them say, such as what to do, stands there once, after all of them.
func oneLine(err error) string {
	var parts []string
	for line := range strings.Lines(err.Error()) {
		line = about.ReplaceAllString(named.ReplaceAllString(line, "$1"), "$1: ")
		line = inside.ReplaceAllString(strings.TrimSpace(line), "$1")
		for part := range strings.SplitSeq(line, "; ") {
			if part == "" {
				continue
			}
			parts = slices.DeleteFunc(parts, func(p string) bool { return p == part })
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

func rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dovetail",
		Short: "Remove near-duplicate documents from text collections of any size",
		Long: `dovetail removes near-duplicate documents from text collections of any size.

A document is removed only against a kept one whose exact Jaccard similarity was computed and reaches
the threshold. The result depends on the input and the options that decide results, and on nothing
else: not on workers, ranks, memory, or how often the run was interrupted.`,
		Example:       "  dovetail dedup --input data --output clean",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	var path string
	cmd.PersistentFlags().StringVar(&path, "cpu", "", "instructions that signatures are computed with: auto, avx512, avx2 or generic "+
		"(default: "+lsh.PathVariable+" of the environment, or auto); no result depends on it")
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if path != "" {
			if err := lsh.UsePath(path); err != nil {
				return usageError{fmt.Errorf("--cpu: %w", err)}
			}
		}
		if _, err := lsh.Path(); err != nil {
			return usageError{err}
		}
		if err := shareCPUs(cmd.Flags()); err != nil {
			return usageError{err}
		}
		return nil
	}
	cmd.AddCommand(curatorCommands()...)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(dedupCommand(), verifyCommand(), reportCommand(), shuffleCommand(), benchCommand(), infoCommand())
	return cmd
}

// version returns the version of this build: set by the linker, or what Go recorded.
func version() string {
	if buildVersion != "" {
		return buildVersion
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// buildVersion is set with -ldflags "-X main.buildVersion=...".
var buildVersion string
