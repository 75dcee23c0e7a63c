package executor

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
)

// Errors to compare with errors.Is.
var (
	// ErrNoTasks is wrapped when a stage is left without tasks.
	ErrNoTasks = errors.New("no tasks to process")
	// ErrNoResources is wrapped when there is not enough for one actor of a stage.
	ErrNoResources = errors.New("not enough resources")
	// ErrClosed is wrapped by calls on a closed executor or work folder.
	ErrClosed = errors.New("closed")
	// ErrLocked is wrapped when another run holds the work folder.
	ErrLocked = errors.New("work folder is in use")
	// ErrForeign is wrapped when a folder to work in holds what is not a run's.
	ErrForeign = errors.New("not a work folder")
	// ErrLogDamaged is wrapped when the commit log is damaged where it was known to be on disk.
	ErrLogDamaged = errors.New("commit log is damaged")
	// ErrFileDamaged is wrapped when a committed file is missing or not what was committed.
	ErrFileDamaged = errors.New("committed file is damaged")
	// ErrPanic is what every [PanicError] is.
	ErrPanic = errors.New("panic")
)

// TaskError says which task failed and where.
type TaskError struct {
	Stage   string
	Task    string
	Rank    int
	Worker  int    // index of the actor in its rank
	Attempt uint32 // from 0
	// About says what the task is about, such as the names of its files, if the stage is a [TaskDescriber]. Error has it where
	// actors died of the task.
	About string
	// Kills is how many actors died of the task.
	Kills int
	Err   error
}

// Error is one line: stage, task and the cause.
func (e *TaskError) Error() string {
	s := fmt.Sprintf("executor: stage %q, task %q", e.Stage, e.Task)
	if e.About != "" && e.Kills > 0 { // other errors say themselves what they are about
		s += " (" + e.About + ")"
	}
	if p, ok := e.Err.(*PanicError); ok && p.Task == e.Task && p.Stage == e.Stage {
		s += ": panic in " + p.Call + p.what()
	} else {
		s += ": " + strings.TrimPrefix(e.Err.Error(), "executor: ")
	}
	if e.Kills > 1 {
		s += fmt.Sprintf("; %d actors died of it, one after the other", e.Kills)
	}
	return s
}

// Unwrap returns the cause.
func (e *TaskError) Unwrap() error { return e.Err }

// PanicError is a panic in a stage or an actor. [PanicError.Detail] has the stack.
type PanicError struct {
	Stage string
	Task  string // empty outside a task
	Call  string // the method that panicked, such as "Process"
	Value any    // what was passed to panic, or nil for runtime.Goexit
	Stack []byte
}

// Error is one line without the stack.
func (e *PanicError) Error() string {
	s := fmt.Sprintf("executor: panic in %s of stage %q", e.Call, e.Stage)
	if e.Task != "" {
		s += fmt.Sprintf(", task %q", e.Task)
	}
	return s + e.what()
}

func (e *PanicError) what() string {
	if e.Value == nil {
		return ": the goroutine was ended by runtime.Goexit"
	}
	return fmt.Sprintf(": %v", e.Value)
}

// Detail is the message followed by the stack of the goroutine that panicked.
func (e *PanicError) Detail() string { return e.Error() + "\n" + string(e.Stack) }

// Is makes errors.Is(err, ErrPanic) true.
func (e *PanicError) Is(target error) bool { return target == ErrPanic }

// Unwrap returns the value passed to panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// guard calls f and returns what it returns, or a [PanicError] if it panics. If f ends the goroutine with
// runtime.Goexit, which nothing can stop, exited is told before the goroutine goes.
func guard(stage, task, call string, exited func(error), f func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := &PanicError{Stage: stage, Task: task, Call: call, Value: recover(), Stack: debug.Stack()}
		err = p
		if p.Value == nil && exited != nil {
			exited(p)
		}
	}()
	err = f()
	returned = true
	return err
}

// Transient marks err as one that may not happen again, such as a lost connection: the task is tried again up
// to [Config.MaxAttempts] times. Errors that are not marked are taken to be properties of the task. A nil
// err stays nil.
func Transient(err error) error {
	if err == nil {
		return nil
	}
	return &transient{err}
}

// IsTransient reports whether err or an error it wraps was marked by [Transient].
func IsTransient(err error) bool {
	var t *transient
	return errors.As(err, &t)
}

type transient struct{ err error }

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }
