package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/klauspost/cpuid/v2"
	"github.com/spf13/cobra"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/internal/engine"
	"github.com/dovetail-dedup/dovetail/lsh"
)

func infoCommand() *cobra.Command {
	var paths bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Say what this build can do on this machine",
		Long: `Say what this build can do on this machine: version, processor, what computes signatures and how, what
ranks can talk through, and which formats are read.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if paths {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(lsh.Paths(), "\n"))
				return err
			}
			var b strings.Builder
			row := func(name, format string, args ...any) {
				fmt.Fprintf(&b, "%-11s %s\n", name, fmt.Sprintf(format, args...))
			}
			row("version", "dovetail %s, %s, %s/%s", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			row("processor", "%s, %d threads used", cpuid.CPU.BrandName, runtime.GOMAXPROCS(0))
			path, err := lsh.Path()
			if err != nil {
				return err
			}
			row("devices", "cpu: signatures with %s, of %s (--cpu or %s chooses)", path, strings.Join(lsh.Paths(), ", "), lsh.PathVariable)
			for _, line := range gpus(cuda.Open, cuda.Options{}) {
				row("", "%s", line)
			}
			for _, line := range engine.Describe() {
				row("", "%s", line)
			}
			var sketches []string
			for _, s := range lsh.Sketches() {
				p := lsh.DefaultParams()
				p.Sketch = s
				sketches = append(sketches, p.Format())
			}
			row("sketches", "%s", strings.Join(sketches, ", "))
			speeds, err := signingSpeeds()
			if err != nil {
				return err
			}
			row("signing", "MB/s of text on one thread, measured just now with documents of 2.5 KB:")
			for _, line := range speeds {
				row("", "%s", line)
			}
			row("ranks", "in this process (--ranks), or processes (--size) that are connected by TCP or UCX (--transport)")
			for _, line := range append(engine.DescribeTransports(), launchers()...) {
				row("", "%s", line)
			}
			row("formats", "parquet (.parquet .pq), jsonl (.jsonl .json .ndjson, also .gz and .zst), files (one document per file)")
			row("zstd", "Parquet pages and JSON Lines are compressed %s", corpus.ZstdImplementation)
			_, err = fmt.Fprint(cmd.OutOrStdout(), b.String())
			return err
		},
	}
	cmd.Flags().BoolVar(&paths, "paths", false, "print what --cpu can choose here, the best first, and nothing else")
	return cmd
}
