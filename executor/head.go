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
	who := c.ignoresHeadNode(os.Getenv)
	if who == "" || !c.Job.Root() {
		return nil
	}
	if c.Job.Size() == 1 || c.Job.children != nil {
		return fmt.Errorf("executor: %w: %s leaves out the head node, and this process is on the head node, as all actors are; unset it",
			ErrNoResources, who)
	}
	return nil
}

// leave reports whether rank 0 leaves the work to others: to the processes of its actors, or because the head node is left out.
func (j *Job) leave(c *Config) (bool, error) {
	if !j.Root() || j.children == nil && (j.Size() == 1 || c.ignoresHeadNode(os.Getenv) == "") {
		return false, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.needs = true
	if len(j.links) == 0 && j.children == nil {
		return true, fmt.Errorf("executor: %w: all but rank 0, which has no actors as the head node is left out", ErrRankLost)
	}
	return true, nil
}
