package dedup

import (
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
)

// DescribeTask names the files of a split.
func (s signStage) DescribeTask(t executor.Task) string {
	split, err := flow.DecodeTask[int](t)
	if err != nil || split < 0 || split >= len(s.splits) {
		return ""
	}
	sp := &s.splits[split]
	return filesText(s.set, sp.First, sp.Last)
}

// DescribeTask names the files that the task writes.
func (s writeStage) DescribeTask(t executor.Task) string {
	in, err := flow.DecodeTask[writeInput](t)
	if err != nil {
		return ""
	}
	return filesText(s.set, in.First, in.Last)
}

// filesText names the files first to last of a set.
func filesText(set *corpus.Set, first, last int) string {
	if first < 0 || last < first || last >= len(set.Files) {
		return ""
	}
	if first == last {
		return set.Files[first].Path
	}
	return fmt.Sprintf("%s to %s, %d files", set.Files[first].Path, set.Files[last].Path, last-first+1)
}
