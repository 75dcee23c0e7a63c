package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Command is a program to run.
type Command struct {
	// Args are the program and its arguments.
	Args []string
	// Dir is the working folder; "" is that of the caller.
	Dir string
	// Env is added to the caller's environment, or takes from it: "NAME=value" sets, "NAME" alone removes.
	Env []string
	// Timeout ends the program and all that it started; 0 is no limit.
	Timeout time.Duration
}

// Usage is what a run cost.
type Usage struct {
	Wall time.Duration
	// CPU is user and system time of the program and of all processes that it waited for, or, if that is more, of all
	// that were seen: servers that a program starts may outlive their parents.
	CPU time.Duration
	// PeakBytes is the most memory that the tree of processes held. Of one process it is the kernel's count of its largest
	// resident set, read fifty times a second. Of several it is the largest sum of proportional set sizes (shared pages are
	// shared out) that was seen, five times a second, or the largest resident set of the first if that is more. 0 means that
	// the system does not tell.
	PeakBytes int64
	// Others is the share of the machine's processor time that was used by other programs meanwhile, 0 to 1: how much to
	// trust the clock. It is negative where the system does not tell.
	Others float64
}

// How often the program, and the tree of its processes, is looked at.
const (
	lookEvery = 20 * time.Millisecond
	treeEvery = 10 // looks
)

// seen is what was seen of a tree of processes.
type seen struct {
	peak int64 // bytes
	cpu  time.Duration
}

// lastOutput is how much of what a failed program said an error repeats.
const lastOutput = 600

// Run runs a program to its end and returns what it cost and what it wrote to its standard output. It ends the whole group
// of processes when ctx does or time is up. The error of a program that fails has the end of what it said.
func Run(ctx context.Context, c Command) (Usage, []byte, error) {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("stopped after %v", c.Timeout))
		defer cancel()
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.Dir, environment(c.Env), &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second
	ownGroup(cmd)
	before := machineBusy()
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Usage{}, nil, err
	}
	stop, watched := make(chan struct{}), make(chan seen)
	go func() { watched <- watch(cmd.Process.Pid, stop) }()
	err := cmd.Wait()
	u := Usage{Wall: time.Since(start)}
	close(stop)
	s := <-watched
	u.PeakBytes = s.peak
	u.CPU = max(s.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	u.Others = before.others(machineBusy(), u)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return u, stdout.Bytes(), fmt.Errorf("%s: %w%s", name(c.Args), err, said(stderr.String(), stdout.String()))
	}
	return u, stdout.Bytes(), nil
}

// name is what errors call a command: the program, and the script if it is an interpreter.
func name(args []string) string {
	if len(args) > 1 && !strings.HasPrefix(args[1], "-") {
		return args[0] + " " + args[1]
	}
	return args[0]
}

func said(outputs ...string) string {
	for _, s := range outputs {
		if s = strings.TrimSpace(s); s != "" {
			return ": " + strings.Join(strings.Fields(s[max(0, len(s)-lastOutput):]), " ")
		}
	}
	return ""
}

// environment applies changes to the caller's environment.
func environment(changes []string) []string {
	env := os.Environ()
	for _, c := range changes {
		key, _, set := strings.Cut(c, "=")
		env = deletePrefix(env, key+"=")
		if set {
			env = append(env, c)
		}
	}
	return env
}

func deletePrefix(env []string, prefix string) []string {
	out := env[:0]
	for _, e := range env {
		if !strings.HasPrefix(e, prefix) {
			out = append(out, e)
		}
	}
	return out
}

// busy is how much processor time the machine has used, or lost to other machines on its host, since it started.
type busy struct {
	seconds float64
	cores   int
	known   bool
}

// others returns the share of the time since b that was used by others than a program.
func (b busy) others(now busy, u Usage) float64 {
	if !b.known || !now.known || u.Wall <= 0 {
		return -1
	}
	return max(0, now.seconds-b.seconds-u.CPU.Seconds()) / (u.Wall.Seconds() * float64(now.cores))
}

// errGone means that a process ended while it was looked at.
var errGone = errors.New("process ended")
