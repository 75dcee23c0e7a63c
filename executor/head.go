package executor

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Environment variables that mean the same as [Config].IgnoreHeadNode, if they are 1, true or yes. The second is NeMo Curator's.
var headNodeVariables = []string{"DOVETAIL_IGNORE_HEAD_NODE", "CURATOR_IGNORE_RAY_HEAD_NODE"}

// ignoresHeadNode says what asks for the head node to be left alone, or "".
func (c *Config) ignoresHeadNode(getenv func(string) string) string {
	if c.IgnoreHeadNode {
		return "IgnoreHeadNode"
	}
	for _, name := range headNodeVariables {
		if slices.Contains([]string{"1", "true", "yes"}, strings.ToLower(getenv(name))) {
			return name
		}
	}
	return ""
}

// checkHeadNode refuses to run where only the head node could.
func (c *Config) checkHeadNode() error {
	if who := c.ignoresHeadNode(os.Getenv); who != "" && c.Job.Root() {
		return fmt.Errorf("executor: %w: %s leaves out the head node, and this process is the head node and always runs actors; unset it",
			ErrNoResources, who)
	}
	return nil
}
