package executor

import (
	"context"
	"time"
)

// Task describes a piece of work: small, immutable, and free of pointers into the process, so that it
// can be written to the log and handed to another process. Bulk data travels in files or through a shuffle.
type Task struct {
	// ID names the task among the tasks of its stage. It becomes part of file names: 1 to 128 of the
	// characters A-Z a-z 0-9 . _ - and not starting with a dot. A result whose ID is empty takes the ID of the
	// task it came from, followed by "-" and its position if there are several.
	ID string
	// Data says what to do. It is opaque to the executor, which only copies and hashes it. At most 16 MiB.
	Data []byte
	// Size is the expected amount of work in bytes, for scheduling (larger ones are started first) and
	// progress. It never changes a result.
	Size int64
}

// EmptyTask is what [Executor.Execute] gives to the first stage when there are no initial tasks.
var EmptyTask = Task{ID: "0"}

// Stage is a kind of work. One value serves all actors of a process at once. A stage may also implement
// [BatchSizer], [WorkerCounter], [InputValidator], [Deadliner], [TaskDescriber] and [NodeSetup].
type Stage interface {
	// Name names the stage in messages and its folder in the work folder: unique among the stages an
	// executor runs, with the characters allowed in [Task.ID], and none of "lock", "log" and "spill".
	Name() string
	// Resources says what one actor occupies.
	Resources() Resources
	// NewActor sets up one actor. The goroutine that calls it makes all calls to the actor it returns. ctx ends
	// when the stage ends. If it fails, the stage fails and the actors already set up are closed.
	NewActor(ctx context.Context, env *Env) (Actor, error)
}

// Actor does the work of a stage, one call at a time. A panic in Process ends the actor, not the process (a panic in a
// goroutine the actor started does): it is closed, another is set up in its place, and the task is given to another actor. If
// that one dies of it too, the stage fails with a [PanicError].
type Actor interface {
	// Process does task and returns the tasks it leads to, which must depend on task alone (but for names of
	// files made through out): not on the actor, on what it did before, or on the attempt. Everything out
	// gave is committed when Process returns nil and discarded when it returns an error. It should return soon
	// after ctx ends. The executor takes over the slice returned and the Data of its tasks.
	Process(ctx context.Context, task Task, out *Attempt) ([]Task, error)
	// Close tears the actor down. It is called exactly once, also after a failure, and always after the last
	// Process has returned.
	Close() error
}

// BatchActor is an [Actor] that takes several tasks in one call. Stages that return one also implement
// [BatchSizer], or every batch holds one task.
type BatchActor interface {
	Actor
	// ProcessBatch does tasks; outs[i] is the attempt of tasks[i], and result i the tasks it leads to. How
	// tasks are put together changes from run to run and must not change a result. An error fails all of them.
	ProcessBatch(ctx context.Context, tasks []Task, outs []*Attempt) ([][]Task, error)
}

// BatchSizer is implemented by stages whose actors take more than one task at a time.
type BatchSizer interface {
	// BatchSize is the largest number of tasks handed to an actor at once; less than 1 means 1.
	BatchSize() int
}

// WorkerCounter is implemented by stages that want a certain number of actors.
type WorkerCounter interface {
	// NumWorkers is the number of actors wanted; less than 1 leaves it to [ActorCount].
	NumWorkers() int
}

// Deadliner is implemented by stages whose tasks must not take for ever.
type Deadliner interface {
	// TaskDeadline is how long an actor may take for one task; 0 is for ever. After that its context ends, the actor is
	// replaced, and the task is given to another, once. An actor that does not return then is left behind: what it does
	// counts for nothing, but in this process nothing can stop it.
	TaskDeadline() time.Duration
}

// TaskDescriber is implemented by stages that can say what a task is about, for people.
type TaskDescriber interface {
	// DescribeTask names what the task works on, such as its files, in a few words. It is called when the task
	// has failed, and for the slowest tasks of a stage; for partitions of a shuffle stage, too, whose Data is empty.
	DescribeTask(task Task) string
}

// InputValidator is implemented by stages that can tell a wrong task before work begins.
type InputValidator interface {
	// ValidateInput returns what is wrong with task, or nil. [Executor.Execute] and [Executor.Shuffle] ask
	// about every task before the first is started.
	ValidateInput(task Task) error
}

// NodeSetup is implemented by stages that need something done once per machine, such as loading a
// library or warming a cache, before any actor of theirs is set up.
type NodeSetup interface {
	// SetupOnNode is called once, before the first stage of the same [Executor.Execute] starts. env has no
	// meaningful Worker.
	SetupOnNode(ctx context.Context, env *Env) error
}
