package executor

import (
	"context"

	"github.com/dovetail-dedup/dovetail/shuffle/collective"
)

// CollectiveStage is a stage whose ranks work on all of its tasks together: one actor on each rank, each with its share of
// the tasks, which talk to each other. It may also implement [InputValidator] and [NodeSetup].
type CollectiveStage interface {
	// Name and Resources are as in [Stage].
	Name() string
	Resources() Resources
	// NewCollectiveActor sets up the actor of a rank. All ranks are set up at the same time, so that it can make calls of
	// group, which is that rank's; the executor closes it.
	NewCollectiveActor(ctx context.Context, env *Env, group *collective.Group) (CollectiveActor, error)
}

// CollectiveActor is the actor of one rank.
type CollectiveActor interface {
	// Process does the rank's share of the tasks in one call: consecutive ones, as many as on any other rank or one more
	// or less. It is called on every rank, without tasks if there are fewer tasks than ranks. outs[i] is the attempt of
	// tasks[i], and result i the tasks it leads to. Results may depend on all tasks of the stage, but not on the number
	// of ranks nor on which has which task.
	//
	// All ranks make the same calls of their groups in the same order. What one rank returns too early, or with an error,
	// or does in a panic, ends the calls of the others with an error. Nothing is tried again: an error, be it [Transient],
	// ends the stage.
	//
	// In a job, if nothing happens on any rank for twice [Config].TaskTimeout, all ranks are told to stop and begin again: those that
	// do not stop are lost. What takes long and makes no calls says so by [Meter.Alive].
	Process(ctx context.Context, tasks []Task, outs []*Attempt) ([][]Task, error)
	// Close tears the actor down, as [Actor].Close does. The group is closed by then.
	Close() error
}
