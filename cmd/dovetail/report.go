package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dovetail-dedup/dovetail/dedup"
)

func reportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "report DIR",
		Short: "Draw the report of a finished output folder anew",
		Long: `Draw the report of a finished output folder anew, in the form that this version gives it. report.html carries
its own data, so neither the input nor the run is needed.`,
		Example: "  dovetail report clean",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("report: name one output folder, not %d", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := dedup.RenderReport(args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "report     %s\n", filepath.Join(args[0], "report.html"))
			return err
		},
	}
}
