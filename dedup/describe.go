package dedup

import (
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
)

// Stages that read files of the user say which, where one of their tasks takes an actor with it.
var (
	_ executor.TaskDescriber = signStage{}
	_ executor.TaskDescriber = decideStage{}
	_ executor.TaskDescriber = writeStage{}
	_ executor.TaskDescriber = samplesStage{}
)

// DescribeTask implements executor.TaskDescriber.
func (s signStage) DescribeTask(t executor.Task) string {
	split, err := flow.DecodeTask[int](t)
	return s.aboutSplit(split, err)
}

// DescribeTask implements executor.TaskDescriber. Partitions are of no file.
func (s decideStage) DescribeTask(t executor.Task) string {
	in, err := flow.DecodeTask[routeResult](t)
	return s.aboutSplit(in.Split, err)
}

// DescribeTask implements executor.TaskDescriber.
func (s samplesStage) DescribeTask(t executor.Task) string {
	in, err := flow.DecodeTask[samplesInput](t)
	return s.aboutSplit(in.Split, err)
}

// DescribeTask implements executor.TaskDescriber.
func (s writeStage) DescribeTask(t executor.Task) string {
	in, err := flow.DecodeTask[writeInput](t)
	if err != nil {
		return ""
	}
	return s.aboutFiles(in.First, in.Last)
}

// aboutSplit names what a split is of, or nothing if the task is none of one.
func (r *run) aboutSplit(split int, err error) string {
	if err != nil || split < 0 || split >= len(r.splits) {
		return ""
	}
	sp := &r.splits[split]
	s := r.aboutFiles(sp.First, sp.Last)
	switch {
	case sp.EndGroup > 0:
		s += fmt.Sprintf(", row groups %d to %d", sp.FirstGroup, sp.EndGroup-1)
	case sp.End > 0:
		s += fmt.Sprintf(", from line %d on", sp.Row+1)
	}
	return s
}

// aboutFiles names files first to last of the input.
func (r *run) aboutFiles(first, last int) string {
	if first < 0 || last >= len(r.set.Files) || first > last {
		return ""
	}
	s := r.set.Files[first].Name
	if n := last - first + 1; n > 1 {
		s = fmt.Sprintf("%d files, %s to %s", n, s, r.set.Files[last].Name)
	}
	return s
}
