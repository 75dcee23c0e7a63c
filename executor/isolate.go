package executor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// Isolation says how actors get processes of their own on this machine.
type Isolation struct {
	// Actors is the number of processes, each with one actor.
	Actors int
	// Name and Spec are compared, as those of [JobConfig]: they must be the same in all processes.
	Name, Spec string
	// Command makes a command that starts the process of an actor, whose number from 1 it is given. It is called from several
	// goroutines, again for every process that takes the place of another. What it has in Env, or else the environment of
	// this process, is the base for [ActorEnviron]. Its standard streams belong to the job. nil stands for this
	// program with the arguments and the working directory of this process.
	Command func(actor int) *exec.Cmd
	// Environ are variables for the processes of actors, beside or instead of those of this process; see [ActorEnviron].
	Environ map[string]string
	// Devices are dealt out: actor i, from 1, owns Devices[(i-1) % len(Devices)] and sees no other.
	Devices []Device
	// Fabric is as in [JobConfig].
	Fabric Fabric
	// Silence and JoinTimeout are as in [JobConfig].
	Silence, JoinTimeout time.Duration
	// MaxDeaths is how often in a row the process of one actor may end without having finished a task; 0 means 5. Between
	// them there is a pause that doubles, 50 ms at first. One more ends the job.
	MaxDeaths int
	// Errors is as in [JobConfig].
	Errors ErrorCodec
	// Note, if not nil, is given lines for people: what actors' processes write to their standard output and standard error, which
	// of them was lost and why. It is called from several goroutines.
	Note func(line string)
}

// actorVariable marks the process of an actor, which finds a [handover] on its standard input. It is not inherited further.
const actorVariable = "DOVETAIL_ACTOR_PROCESS"

// handover is what a parent tells the process of an actor, on a pipe: no one else can read the secret there, and nothing is
// left if either dies.
type handover struct {
	Rank, Size           int
	Process              uint64 // tells the processes of one rank apart
	Root                 string
	Secret               []byte
	Silence, JoinTimeout time.Duration
	Device               *Device
}

var isActor = sync.OnceValue(func() bool { return os.Getenv(actorVariable) != "" })

// Isolated reports whether this process is that of an actor, started by [Isolate]. Such a process should leave
// SIGINT and SIGTERM to its parent, and what there is to say to people, too.
func Isolated() bool { return isActor() }

var (
	parented atomic.Bool // this process has started itself as actors
	joined   atomic.Bool // this process has joined its parent
)

// Isolate gives every actor a process of its own, which can be killed, run out of memory or go silent and take no other with it:
// another takes its place, its uncommitted tasks run again, and a task under which two died ends its stage.
//
// This process becomes rank 0 of a job and starts the others; rank 0 hands out tasks and commits, and has no actors of its own. The
// processes of actors are ranks 1 and up, and [Isolate] joins them to the job when they call it. So all run the same program, as in
// any job: it calls Isolate with the same Name and Spec, gives the job to [New], makes the same calls of [Executor.Execute]
// and [Executor.Shuffle] in the same order, and ends with [Job.Close] and by leaving. A process that comes in the place of
// another begins at the beginning: stages that are done give it their results at once, and it takes part in the one that runs,
// or, if that is a shuffle, from its next round. [Config].Workers and [Config].Devices are those of the Isolation.
//
// Processes end with their parent, however that ends: when their connection to it breaks, and on Linux at once. ctx ends the waiting
// for the first processes, not the job; the caller calls [Job.Close]. Without a Command it can be called once in a process.
func Isolate(ctx context.Context, cfg Isolation) (*Job, error) {
	if Isolated() {
		return joinParent(ctx, &cfg)
	}
	if cfg.MaxDeaths == 0 {
		cfg.MaxDeaths = 5
	}
	if cfg.Actors < 1 || cfg.Actors >= maxRanks {
		return nil, fmt.Errorf("executor: isolation: Actors is %d, want 1 to %d", cfg.Actors, maxRanks-1)
	}
	if cfg.MaxDeaths < 0 {
		return nil, fmt.Errorf("executor: isolation: MaxDeaths is %d, want 0 or more", cfg.MaxDeaths)
	}
	if cfg.Command == nil {
		if parented.Swap(true) {
			return nil, errors.New("executor: isolation: this process has started itself as actors before; give a Command")
		}
		cfg.Command = thisProgram
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // which never fails
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("executor: isolation: no address for the processes of actors: %w", err)
	}
	return join(ctx, JobConfig{
		Size: 1 + cfg.Actors, Listener: l, Name: cfg.Name, Spec: cfg.Spec, Secret: secret, Workers: cfg.Actors, Silence: cfg.Silence,
		JoinTimeout: cfg.JoinTimeout, Errors: cfg.Errors, Note: cfg.Note, Fabric: cfg.Fabric,
	}, func(j *Job) {
		j.children = newChildren(j, cfg)
		j.children.start(handover{
			Size: j.cfg.Size, Root: l.Addr().String(), Secret: secret, Silence: j.cfg.Silence, JoinTimeout: j.cfg.JoinTimeout,
		})
	})
}

// thisProgram starts this program again.
func thisProgram(int) *exec.Cmd {
	cmd := exec.Command(programPath(), os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	return cmd
}

// joinParent makes the process of an actor a rank of its parent's job.
func joinParent(ctx context.Context, cfg *Isolation) (*Job, error) {
	if joined.Swap(true) {
		return nil, errors.New("executor: isolation: the process of an actor is part of one job, and has joined it before")
	}
	_ = os.Unsetenv(actorVariable) // what this process starts is no actor
	var h handover
	data, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<16))
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil || h.Rank < 1 || h.Rank >= h.Size {
		return nil, fmt.Errorf("executor: isolation: $%s is for processes that a job starts for its actors: unset it", actorVariable)
	}
	return join(ctx, JobConfig{
		Rank: h.Rank, Size: h.Size, Root: h.Root, Name: cfg.Name, Spec: cfg.Spec, Secret: h.Secret, Workers: 1, Silence: h.Silence,
		JoinTimeout: h.JoinTimeout, Errors: cfg.Errors, Note: cfg.Note, Fabric: cfg.Fabric,
	}, func(j *Job) { j.parent = &h })
}

// Isolated reports whether the actors of this job have processes of their own, of [Isolate]. It is false for a nil job.
func (j *Job) Isolated() bool { return j != nil && (j.children != nil || j.parent != nil) }

// configure makes the workers and devices of an executor those of its isolated job.
func (j *Job) configure(c *Config) {
	switch {
	case j == nil:
	case j.children != nil:
		c.Workers, c.Devices = j.children.cfg.Actors, j.children.cfg.Devices
	case j.parent != nil:
		// It has one actor, which may ask for as many CPUs as all together have: rank 0 counts.
		c.Workers, c.Devices = j.parent.Size-1, nil
		if d := j.parent.Device; d != nil {
			c.Devices = []Device{*d}
		}
	}
}
